//! The connections of the array: one target session each.

use std::io::{IoSlice, IoSliceMut};

use array::{Array, NexusId};
use clock::Instant;
use iscsi::chap::{CHALLENGE_LENGTH, Challenge};
use iscsi::target::{
    Action, Admission, Command, CommandTag, Event, Options, Session, TaskManagement, TaskManagementResponse,
    TaskManagementTag,
};
use mio::Token;
use scsi::Lun;

use super::{CONNECTIONS_MAX, FIRST_CONNECTION, PortFault, Server, Source};
use crate::stream::{Intake, Stream, Turn, Wire};

#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    session: Session,
    port: usize,
    /// Set by a login to the target.
    nexus: Option<NexusId>,
    tsih: Option<u16>,
}

impl Wire for Session {
    fn receive_into(&mut self) -> [IoSliceMut<'_>; 2] {
        Self::receive_into(self)
    }

    fn received(&mut self, now: Instant, count: usize) {
        self.handle(now, Event::Received(count));
    }

    fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        Self::transmit(self, slices)
    }

    fn sent(&mut self, now: Instant, count: usize) {
        self.handle(now, Event::Sent(count));
    }

    fn closed(&mut self, now: Instant) {
        self.handle(now, Event::Closed);
    }
}

impl Server {
    pub(super) fn accept(&mut self, port: usize) {
        while let Ok((socket, _)) = self.ports[port].listener.accept() {
            let mut stream = Stream::tcp(socket);
            if self.ports[port].fault == PortFault::Reset || self.connections.len() >= CONNECTIONS_MAX {
                stream.reset_on_close();
                continue;
            }
            let id = self.next_connection;
            self.next_connection = self.next_connection.wrapping_add(1);
            let token = Token(FIRST_CONNECTION + id as usize);
            if stream.configure(None).and_then(|()| stream.register(self.poll.registry(), token)).is_err() {
                continue;
            }
            // Without randomness a challenge could be foreseen: let nobody in.
            let Ok(challenge) = fresh_challenge() else { continue };
            let options = Options::new(self.portals.clone(), self.ports[port].group, challenge);
            let session = Session::new(self.now, options);
            self.connections.insert(id, Connection { stream, session, port, nexus: None, tsih: None });
            self.touched.push_back(id);
        }
    }

    pub(super) fn note(&mut self, index: usize, event: &mio::event::Event) {
        let Ok(id) = u32::try_from(index) else { return };
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.stream.note(event);
            self.ready.push_back(id);
            self.dirty.insert(id);
        }
    }

    fn is_silent(&self, id: u32) -> bool {
        self.connections
            .get(&id)
            .is_none_or(|connection| self.ports[connection.port].fault == PortFault::BlackHole)
    }

    pub(super) fn read(&mut self, id: u32) {
        if self.is_silent(id) {
            return;
        }
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut turn = Turn::default();
        let outcome = loop {
            match connection.stream.receive(&mut connection.session, now, &mut turn) {
                Intake::Received => {}
                outcome => break outcome,
            }
        };
        if let Intake::Closed(_) = outcome {
            connection.session.closed(now);
        }
        self.touched.push_back(id);
    }

    pub(super) fn expire(&mut self, id: u32) {
        let now = self.now;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.session.handle(now, Event::Timeout);
            self.touched.push_back(id);
        }
    }

    pub(super) fn settle(&mut self) {
        while let Some(id) = self.touched.pop_front() {
            self.drain(id);
            self.drain_arrays();
            self.dirty.insert(id);
        }
    }

    fn drain(&mut self, id: u32) {
        while let Some(action) =
            self.connections.get_mut(&id).and_then(|connection| connection.session.poll_action())
        {
            match action {
                Action::Admit { key, tsih } => self.admit(id, key, tsih),
                Action::LoggedIn(admitted) => {
                    if admitted.target_name.is_some() {
                        self.open_nexus(id, admitted.initiator_name);
                    }
                }
                Action::Command(command) => self.execute(id, command),
                Action::TaskManagement { tag, function, lun, referenced } => {
                    self.manage(id, tag, function, lun, referenced);
                }
                Action::LoggedOut => {}
                Action::Disconnect(reason) => {
                    tracing::debug!("array: connection {id}: {reason}");
                    self.disconnect(id);
                }
            }
        }
    }

    fn admit(&mut self, id: u32, key: iscsi::target::SessionKey, tsih: u16) {
        match self.sessions.admit(key, tsih, id) {
            Admission::New { tsih } => self.admitted(id, tsih),
            Admission::Reinstates { tsih, previous, .. } => self.reinstate(id, tsih, previous),
            Admission::Refused(status) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.session.handle(self.now, Event::Refused(status));
                }
            }
        }
    }

    /// The old session's commands must be dead before the new one is told that it is in (RFC 7143, 6.3.5), unless
    /// the profile is one of a target that sees it otherwise.
    fn reinstate(&mut self, id: u32, tsih: u16, previous: u32) {
        let nexus = self.connections.get(&previous).and_then(|connection| connection.nexus);
        match nexus {
            Some(nexus) if self.profile.login_waits() => {
                self.reinstating.insert(nexus, (id, tsih));
                self.close(previous);
            }
            _ => {
                self.close(previous);
                self.admitted(id, tsih);
            }
        }
    }

    fn array_of(&mut self, connection: u32) -> Option<&mut Array> {
        let port = self.connections.get(&connection)?.port;
        self.arrays.get_mut(self.ports[port].array)
    }

    fn admitted(&mut self, id: u32, tsih: u16) {
        let now = self.now;
        match self.connections.get_mut(&id) {
            Some(connection) => {
                connection.tsih = Some(tsih);
                connection.session.handle(now, Event::Admitted { tsih });
                self.touched.push_back(id);
            }
            // It gave up while it waited.
            None => self.sessions.ended(tsih),
        }
    }

    fn open_nexus(&mut self, id: u32, initiator: String) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let nexus = NexusId(id);
        connection.nexus = Some(nexus);
        let port = &self.ports[connection.port];
        self.nexuses.insert(nexus, id);
        let event = array::Event::NexusOpened { nexus, port: port.id, initiator };
        self.arrays[port.array].handle(self.now, event);
    }

    fn execute(&mut self, id: u32, command: Command) {
        let Some(nexus) = self.connections.get(&id).and_then(|connection| connection.nexus) else { return };
        let fault = self.holder.as_mut().and_then(|holder| holder.strike(nexus, &command));
        let now = self.now;
        let Some(array) = self.array_of(id) else { return };
        if let Some(fault) = fault {
            array.handle(now, fault);
        }
        let event = array::Event::Command {
            nexus,
            tag: command.tag.0,
            lun: command.lun,
            cdb: command.cdb,
            attribute: command.attribute,
            data: command.data,
            expected: command.expected_length,
        };
        array.handle(now, event);
    }

    fn manage(
        &mut self,
        id: u32,
        tag: TaskManagementTag,
        function: TaskManagement,
        lun: Lun,
        referenced: Option<CommandTag>,
    ) {
        let Some(nexus) = self.connections.get(&id).and_then(|connection| connection.nexus) else { return };
        let function = match function {
            TaskManagement::AbortTask => array::Function::AbortTask,
            TaskManagement::AbortTaskSet => array::Function::AbortTaskSet,
            TaskManagement::ClearTaskSet => array::Function::ClearTaskSet,
            TaskManagement::LogicalUnitReset => array::Function::LogicalUnitReset,
            TaskManagement::TargetWarmReset => array::Function::TargetWarmReset,
            TaskManagement::TargetColdReset => array::Function::TargetColdReset,
            TaskManagement::ClearAca => array::Function::ClearAca,
        };
        let referenced = referenced.map(|tag| tag.0);
        let now = self.now;
        let Some(array) = self.array_of(id) else { return };
        array.handle(now, array::Event::TaskManagement { nexus, tag: tag.0, function, lun, referenced });
    }

    pub(super) fn drain_arrays(&mut self) {
        while let Some(action) = self.arrays.iter_mut().find_map(Array::poll_action) {
            let (nexus, event) = match action {
                array::Action::Reply { nexus, tag, reply, data } => {
                    (nexus, Event::Reply { tag: CommandTag(tag), reply, data })
                }
                array::Action::NexusDrained { nexus } => {
                    if let Some((id, tsih)) = self.reinstating.remove(&nexus) {
                        self.admitted(id, tsih);
                    }
                    continue;
                }
                array::Action::Aborted { nexus, tag } => (nexus, Event::Aborted { tag: CommandTag(tag) }),
                array::Action::TaskManagementReply { nexus, tag, response } => {
                    let response = match response {
                        array::Response::Complete | array::Response::Succeeded => {
                            TaskManagementResponse::Complete
                        }
                        array::Response::TaskDoesNotExist => TaskManagementResponse::TaskDoesNotExist,
                        array::Response::LunDoesNotExist => TaskManagementResponse::LunDoesNotExist,
                        array::Response::NotSupported => TaskManagementResponse::NotSupported,
                        array::Response::Rejected => TaskManagementResponse::Rejected,
                    };
                    (nexus, Event::TaskManagementDone { tag: TaskManagementTag(tag), response })
                }
            };
            let now = self.now;
            let Some(id) = self.nexuses.get(&nexus).copied() else { continue };
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.session.handle(now, event);
            self.touched.push_back(id);
        }
    }

    pub(super) fn flush(&mut self, id: u32) {
        if self.is_silent(id) {
            return;
        }
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.stream.flush(&mut connection.session, now).is_err() {
            connection.session.closed(now);
            self.drain(id);
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        // Memory of answers that are sent goes back to where the next ones take theirs from.
        let array = &mut self.arrays[self.ports[connection.port].array];
        while let Some(buffer) = connection.session.reclaim() {
            array.recycle(buffer);
        }
        if connection.stream.wants(&mut connection.session) {
            self.ready.push_back(id);
        }
        self.timers.arm(Source::Connection(id), connection.session.poll_timeout());
    }

    /// The session has said its last word: send it and close.
    fn disconnect(&mut self, id: u32) {
        let now = self.now;
        if let Some(connection) = self.connections.get_mut(&id) {
            // What cannot be sent at once is lost with the connection.
            let _ = connection.stream.flush(&mut connection.session, now);
        }
        self.forget(id);
    }

    /// Ends a connection from our side, with a reset.
    fn close(&mut self, id: u32) {
        if let Some(connection) = self.connections.get(&id) {
            connection.stream.reset_on_close();
        }
        self.forget(id);
    }

    fn forget(&mut self, id: u32) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.timers.forget(Source::Connection(id));
        if let Some(tsih) = connection.tsih {
            self.sessions.ended(tsih);
        }
        if let Some(nexus) = connection.nexus {
            self.nexuses.remove(&nexus);
            let array = self.ports[connection.port].array;
            self.arrays[array].handle(self.now, array::Event::NexusClosed { nexus });
        }
    }

    pub(super) fn break_port(&mut self, port: usize, fault: PortFault) {
        let Some(found) = self.ports.get_mut(port) else { return };
        let before = std::mem::replace(&mut found.fault, fault);
        // A port that comes out of a black hole has forgotten its connections, as one that was rebooted has.
        if fault == PortFault::Reset || before == PortFault::BlackHole {
            let connections: Vec<u32> = self
                .connections
                .iter()
                .filter(|(_, connection)| connection.port == port)
                .map(|(id, _)| *id)
                .collect();
            for id in connections {
                self.close(id);
            }
        }
    }
}

fn fresh_challenge() -> Result<Challenge, getrandom::Error> {
    let mut bytes = [0; CHALLENGE_LENGTH + 1];
    getrandom::fill(&mut bytes)?;
    let [identifier, bytes @ ..] = bytes;
    Ok(Challenge { identifier, bytes })
}
