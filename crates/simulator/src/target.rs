//! The target's side: portals, target sessions and the array, wired as the engine's array server wires them.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use array::{Array, NexusId, UnitOptions};
use clock::Instant;
use iscsi::chap::{CHALLENGE_LENGTH, Challenge};
use iscsi::initiator::PORT_DEFAULT;
use iscsi::negotiation::Offers;
use iscsi::pdu::LoginStatus;
use iscsi::target::{
    Action, Admission, Command, CommandTag, Event, Options, Portal, Portals, Session, SessionKey, Sessions,
    Target as PortalTarget, TaskManagement, TaskManagementResponse, TaskManagementTag,
};
use scsi::Lun;

use crate::check::{Effect, Rule};
use crate::fault::{group_of, port_id};
use crate::link::{self, Arrived, ConnectionId, Door, End, Wire};
use crate::log::Part;
use crate::plan::Plan;
use crate::scene::{Scene, Source};
use crate::store::WatchedStore;

pub(crate) const TARGET_NAME: &str = "iqn.2026-01.example:array";
/// Connections at the same time; far more than a run has.
const SESSIONS_MAX: usize = 1024;
/// A nexus of another host, whose answers nobody waits for.
pub(crate) const FOREIGN: NexusId = NexusId(u32::MAX);

/// How a portal treats connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Portalling {
    #[default]
    Open,
    /// Its controller is down: connection requests are refused.
    Down,
    /// Connections are accepted, and nothing is read from the new ones.
    Mute,
    Rejecting(LoginStatus),
}

#[derive(Debug)]
struct Connection {
    session: Session,
    port: usize,
    nexus: Option<NexusId>,
    tsih: Option<u16>,
    is_mute: bool,
}

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) array: Array,
    pub(crate) ports: Vec<Portalling>,
    ports_per_controller: u16,
    portals: Arc<Portals>,
    connections: BTreeMap<ConnectionId, Connection>,
    sessions: Sessions<ConnectionId>,
    nexuses: BTreeMap<NexusId, ConnectionId>,
    /// Logins that wait until the nexus that they replace is drained: connection and TSIH.
    reinstating: BTreeMap<NexusId, (ConnectionId, u16)>,
    effects: Receiver<Effect>,
    offers: Offers,
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
}

impl Target {
    pub(crate) fn new(plan: &Plan) -> Self {
        let (sender, effects) = channel();
        let units = plan.units.iter().zip(0..).map(|(unit, number)| {
            let size = u64::from(unit.blocks) * u64::from(unit.block_size);
            let mut options = UnitOptions::memory(u16::try_from(number).expect("few units"), size);
            options.store = Box::new(WatchedStore::new(size, number, unit.block_size, sender.clone()));
            options.block_size = unit.block_size;
            options.owner = unit.owner;
            options.provisioning =
                if unit.thin { array::Provisioning::Thin } else { array::Provisioning::Full };
            options.write_cache =
                if unit.write_back { array::WriteCache::Back } else { array::WriteCache::Through };
            options
        });
        let mut array = Array::new(array::Options {
            controllers: plan.controllers,
            ports_per_controller: plan.ports_per_controller,
            units: units.collect(),
            seed: plan.seed,
            ..array::Options::default()
        });
        let other_host = String::from("iqn.2026-01.example:other-host");
        let opened = array::Event::NexusOpened { nexus: FOREIGN, port: port_id(0), initiator: other_host };
        array.handle(Instant::START, opened);
        Self {
            array,
            ports: vec![Portalling::Open; plan.ports()],
            ports_per_controller: plan.ports_per_controller,
            portals: Arc::new(portals(plan)),
            connections: BTreeMap::new(),
            sessions: Sessions::new(SESSIONS_MAX),
            nexuses: BTreeMap::new(),
            reinstating: BTreeMap::new(),
            effects,
            offers: Offers {
                initial_r2t: plan.initial_r2t,
                max_burst_length: 1 << 20,
                max_outstanding_r2t: 4,
                ..Offers::default()
            },
        }
    }

    /// Something came for a connection, or it may send again.
    pub(crate) fn wake(&mut self, scene: &mut Scene, id: ConnectionId) {
        match scene.network.arrived(scene.now, id, End::Far) {
            Arrived::Open => self.accept(scene, id),
            Arrived::Finish | Arrived::Reset => {
                scene.network.take_signal(scene.now, id, End::Far);
                self.hang_up(scene, id);
            }
            Arrived::Bytes | Arrived::Nothing => {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                if !connection.is_mute {
                    link::receive(&mut scene.network, scene.now, id, End::Far, &mut connection.session);
                }
            }
        }
        scene.touched.add(Source::Target(id));
    }

    fn accept(&mut self, scene: &mut Scene, id: ConnectionId) {
        scene.network.take_signal(scene.now, id, End::Far);
        let Some(Door::Port(port)) = scene.network.door(id) else { return };
        let treatment = self.ports[port];
        if treatment == Portalling::Down {
            scene.network.reset(scene.now, id, End::Far);
            return;
        }
        scene.network.accept(scene.now, id);
        let mut bytes = [0; CHALLENGE_LENGTH];
        bytes.iter_mut().for_each(|byte| *byte = scene.random.next().to_le_bytes()[0]);
        let challenge = Challenge { identifier: 0, bytes };
        let group = group_of(port, self.ports_per_controller).0;
        let mut options = Options::new(self.portals.clone(), group, challenge);
        options.offers = self.offers;
        let session = Session::new(scene.now, options);
        let is_mute = treatment == Portalling::Mute;
        self.connections.insert(id, Connection { session, port, nexus: None, tsih: None, is_mute });
    }

    fn hang_up(&mut self, scene: &mut Scene, id: ConnectionId) {
        match self.connections.get_mut(&id) {
            Some(connection) => connection.session.handle(scene.now, Event::Closed),
            None => scene.network.reset(scene.now, id, End::Far),
        }
    }

    pub(crate) fn expire(&mut self, scene: &mut Scene, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.session.handle(scene.now, Event::Timeout);
            scene.touched.add(Source::Target(id));
        }
    }

    pub(crate) fn expire_array(&mut self, scene: &mut Scene) {
        self.tell_array(scene, array::Event::Timeout);
    }

    /// Whatever is told to the array, the medium is looked at, and its answers are passed on.
    pub(crate) fn tell_array(&mut self, scene: &mut Scene, event: array::Event) {
        self.array.handle(scene.now, event);
        while let Ok(effect) = self.effects.try_recv() {
            scene.note(Part::Medium, effect_numbers(&effect), || format!("{effect:?}"));
            let checks = &mut scene.checks;
            let finding = checks.medium.effect(&checks.ledger, &effect);
            checks.found(scene.now, Rule::Ghost, finding);
        }
        self.drain_array(scene);
        scene.timers.arm(Source::Array, self.array.poll_timeout());
    }

    pub(crate) fn drain(&mut self, scene: &mut Scene, id: ConnectionId) {
        while let Some(action) = self.connections.get_mut(&id).and_then(|it| it.session.poll_action()) {
            match action {
                Action::Admit { key, tsih } => self.admit(scene, id, key, tsih),
                Action::LoggedIn(admitted) => {
                    if admitted.target_name.is_some() {
                        self.open_nexus(scene, id, admitted.initiator_name);
                    }
                }
                Action::Command(command) => self.execute(scene, id, command),
                Action::TaskManagement { tag, function, lun, referenced } => {
                    self.manage(scene, id, tag, function, lun, referenced);
                }
                Action::LoggedOut => {}
                Action::Disconnect(reason) => {
                    scene.note(Part::Target, [1, id.0.into(), 0], || {
                        format!("connection {} ends: {reason}", id.0)
                    });
                    self.flush(scene, id);
                    self.close(scene, id);
                }
            }
        }
    }

    fn admit(&mut self, scene: &mut Scene, id: ConnectionId, key: SessionKey, tsih: u16) {
        let Some(port) = self.connections.get(&id).map(|connection| connection.port) else { return };
        if let Portalling::Rejecting(status) = self.ports[port] {
            return self.tell(scene, id, Event::Refused(status));
        }
        match self.sessions.admit(key, tsih, id) {
            Admission::New { tsih } => self.admitted(scene, id, tsih),
            Admission::Reinstates { tsih, previous, .. } => self.reinstate(scene, id, tsih, previous),
            Admission::Refused(status) => self.tell(scene, id, Event::Refused(status)),
        }
    }

    /// The old session's commands must be dead before the new one is told that it is in (RFC 7143, 6.3.5).
    fn reinstate(&mut self, scene: &mut Scene, id: ConnectionId, tsih: u16, previous: ConnectionId) {
        let nexus = self.connections.get(&previous).and_then(|connection| connection.nexus);
        match nexus {
            Some(nexus) => {
                self.reinstating.insert(nexus, (id, tsih));
                self.close(scene, previous);
            }
            None => {
                self.close(scene, previous);
                self.admitted(scene, id, tsih);
            }
        }
    }

    fn admitted(&mut self, scene: &mut Scene, id: ConnectionId, tsih: u16) {
        match self.connections.get_mut(&id) {
            Some(connection) => {
                connection.tsih = Some(tsih);
                self.tell(scene, id, Event::Admitted { tsih });
            }
            // It gave up while it waited.
            None => self.sessions.ended(tsih),
        }
    }

    pub(crate) fn tell(&mut self, scene: &mut Scene, id: ConnectionId, event: Event) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.session.handle(scene.now, event);
            scene.touched.add(Source::Target(id));
        }
    }

    fn open_nexus(&mut self, scene: &mut Scene, id: ConnectionId, initiator: String) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let nexus = NexusId(id.0);
        connection.nexus = Some(nexus);
        let port = port_id(connection.port);
        self.nexuses.insert(nexus, id);
        self.tell_array(scene, array::Event::NexusOpened { nexus, port, initiator });
    }

    fn execute(&mut self, scene: &mut Scene, id: ConnectionId, command: Command) {
        let Some(nexus) = self.connections.get(&id).and_then(|connection| connection.nexus) else { return };
        let operation = command.cdb.operation_code();
        scene.note(Part::Target, [2, nexus.0.into(), command.tag.0], || {
            format!("nexus {} command {} {operation:02x} at LUN {}", nexus.0, command.tag.0, command.lun)
        });
        let event = array::Event::Command {
            nexus,
            tag: command.tag.0,
            lun: command.lun,
            cdb: command.cdb,
            attribute: command.attribute,
            data: command.data,
            expected: command.expected_length,
        };
        self.tell_array(scene, event);
    }

    fn manage(
        &mut self,
        scene: &mut Scene,
        id: ConnectionId,
        tag: TaskManagementTag,
        function: TaskManagement,
        lun: Lun,
        referenced: Option<CommandTag>,
    ) {
        let Some(nexus) = self.connections.get(&id).and_then(|connection| connection.nexus) else { return };
        scene.note(Part::Target, [3, nexus.0.into(), tag.0], || format!("nexus {} {function:?}", nexus.0));
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
        self.tell_array(scene, array::Event::TaskManagement { nexus, tag: tag.0, function, lun, referenced });
    }

    fn drain_array(&mut self, scene: &mut Scene) {
        while let Some(action) = self.array.poll_action() {
            let (nexus, event) = match action {
                array::Action::Reply { nexus, tag, reply, data } => {
                    (nexus, Event::Reply { tag: CommandTag(tag), reply, data })
                }
                array::Action::NexusDrained { nexus } => {
                    if let Some((id, tsih)) = self.reinstating.remove(&nexus) {
                        self.admitted(scene, id, tsih);
                    }
                    continue;
                }
                array::Action::Aborted { nexus, tag } => (nexus, Event::Aborted { tag: CommandTag(tag) }),
                array::Action::TaskManagementReply { nexus, tag, response } => {
                    let event =
                        Event::TaskManagementDone { tag: TaskManagementTag(tag), response: answer(response) };
                    (nexus, event)
                }
            };
            if let Some(id) = self.nexuses.get(&nexus).copied() {
                self.tell(scene, id, event);
            }
        }
    }

    pub(crate) fn flush(&mut self, scene: &mut Scene, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        // Room in the queue of answers may be what reading had waited for.
        loop {
            link::flush(&mut scene.network, scene.now, id, End::Far, &mut connection.session);
            while let Some(buffer) = connection.session.reclaim() {
                self.array.recycle(buffer);
            }
            let session = &mut connection.session;
            if connection.is_mute || !link::receive(&mut scene.network, scene.now, id, End::Far, session) {
                break;
            }
            scene.touched.add(Source::Target(id));
        }
        scene.timers.arm(Source::Target(id), connection.session.poll_timeout());
    }

    /// Ends a connection from this side, with a reset.
    pub(crate) fn close(&mut self, scene: &mut Scene, id: ConnectionId) {
        scene.network.reset(scene.now, id, End::Far);
        scene.timers.forget(Source::Target(id));
        let Some(connection) = self.connections.remove(&id) else { return };
        if let Some(tsih) = connection.tsih {
            self.sessions.ended(tsih);
        }
        if let Some(nexus) = connection.nexus {
            self.nexuses.remove(&nexus);
            self.tell_array(scene, array::Event::NexusClosed { nexus });
        }
    }

    /// Connections through a port that are logged in.
    pub(crate) fn live(&self, port: usize) -> Vec<ConnectionId> {
        let live = self.connections.iter().filter(|(_, it)| it.port == port && it.nexus.is_some());
        live.map(|(id, _)| *id).collect()
    }

    /// All connections through a port.
    pub(crate) fn connections(&self, port: usize) -> Vec<ConnectionId> {
        self.connections.iter().filter(|(_, it)| it.port == port).map(|(id, _)| *id).collect()
    }
}

fn answer(response: array::Response) -> TaskManagementResponse {
    match response {
        array::Response::Complete | array::Response::Succeeded => TaskManagementResponse::Complete,
        array::Response::TaskDoesNotExist => TaskManagementResponse::TaskDoesNotExist,
        array::Response::LunDoesNotExist => TaskManagementResponse::LunDoesNotExist,
        array::Response::NotSupported => TaskManagementResponse::NotSupported,
        array::Response::Rejected => TaskManagementResponse::Rejected,
    }
}

/// Where a port is reached.
pub(crate) fn portal_address(port: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, u8::try_from(port + 1).unwrap_or(u8::MAX)], PORT_DEFAULT))
}

/// The port that is reached there.
pub(crate) fn port_at(address: SocketAddr) -> Option<usize> {
    match address {
        SocketAddr::V4(address) => usize::from(address.ip().octets()[3]).checked_sub(1),
        SocketAddr::V6(_) => None,
    }
}

fn portals(plan: &Plan) -> Portals {
    let portals = (0..plan.ports()).map(|port| Portal {
        address: portal_address(port),
        group: group_of(port, plan.ports_per_controller).0,
    });
    let target =
        PortalTarget { name: String::from(TARGET_NAME), alias: None, portals: portals.collect(), chap: None };
    Portals { targets: vec![target], discovery_chap: None }
}

fn effect_numbers(effect: &Effect) -> [u64; 3] {
    match effect {
        Effect::Written { unit, first, contents } => {
            let whose = contents.first().map_or(0, |content| match content {
                crate::stamp::Content::Zero => 0,
                crate::stamp::Content::Write(id) => id.0.into(),
                crate::stamp::Content::Garbage => u64::MAX,
            });
            [u64::from(*unit) << 32 | u64::from(*first), contents.len() as u64, whose]
        }
        Effect::Deallocated { unit, first, blocks } => {
            [u64::from(*unit) << 32 | u64::from(*first), u64::from(*blocks), 1 << 40]
        }
    }
}
