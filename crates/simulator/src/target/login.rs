//! Sessions that replace others: who waits for whom.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;

use array::NexusId;
use iscsi::pdu::{LoginRequest, LoginResponse, LoginStages, LoginStatus, StatusSerials};
use iscsi::target::{Admission, Event, SessionKey};

use super::profile::TargetProfile;
use super::{Portalling, Target, portal_address};
use crate::link::{ConnectionId, End};
use crate::log::Part;
use crate::scene::Scene;

/// Logins and the nexuses that they follow.
#[derive(Debug, Default)]
pub(super) struct Succession {
    /// Nexuses that are closed and not drained, by their session.
    draining: BTreeMap<NexusId, SessionKey>,
    waiting: Vec<Waiting>,
}

/// A login that is answered when nothing of these nexuses runs any more.
#[derive(Debug)]
struct Waiting {
    id: ConnectionId,
    tsih: u16,
    behind: BTreeSet<NexusId>,
}

/// What a session was asked while an older one had still to end.
#[derive(Debug, Default)]
pub(super) struct Parking {
    pub(super) behind: BTreeSet<NexusId>,
    pub(super) asked: VecDeque<array::Event>,
}

/// What happened to sessions in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Successions {
    /// Logins that replaced a session.
    pub reinstated: u64,
    /// Of these, logins that found commands of the old session running.
    pub found_running: u64,
    /// Logins that ended before they were answered.
    pub abandoned: u64,
}

impl Succession {
    pub(super) fn closed(&mut self, nexus: NexusId, key: SessionKey) {
        self.draining.insert(nexus, key);
    }

    /// What still runs of earlier sessions of the same initiator port.
    fn running(&self, key: &SessionKey) -> BTreeSet<NexusId> {
        self.draining.iter().filter(|(_, of)| *of == key).map(|(nexus, _)| *nexus).collect()
    }

    /// Logins that need not wait any longer.
    pub(super) fn drained(&mut self, nexus: NexusId) -> Vec<(ConnectionId, u16)> {
        self.draining.remove(&nexus);
        for waiting in &mut self.waiting {
            waiting.behind.remove(&nexus);
        }
        let done = self.waiting.extract_if(.., |waiting| waiting.behind.is_empty());
        done.map(|waiting| (waiting.id, waiting.tsih)).collect()
    }

    fn give_up(&mut self, id: ConnectionId) -> Option<Waiting> {
        let place = self.waiting.iter().position(|waiting| waiting.id == id)?;
        Some(self.waiting.remove(place))
    }

    fn forget(&mut self, nexus: NexusId) {
        self.draining.remove(&nexus);
        for waiting in &mut self.waiting {
            waiting.behind.remove(&nexus);
        }
    }
}

impl Target {
    pub(super) fn admit(&mut self, scene: &mut Scene, id: ConnectionId, key: SessionKey, tsih: u16) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.key = Some(key.clone());
        let port = connection.port;
        if let Portalling::Rejecting(status) = self.ports[port] {
            return self.tell(scene, id, Event::Refused(status));
        }
        if let Portalling::Redirecting(other) = self.ports[port] {
            self.login_faults += 1;
            return self.redirect(scene, id, &key, other);
        }
        let treatment = self.logins[port];
        match self.sessions.admit(key.clone(), tsih, id) {
            Admission::Refused(status) => return self.tell(scene, id, Event::Refused(status)),
            Admission::Reinstates { tsih, .. } if treatment == Logins::Duplicated => {
                self.login_faults += 1;
                self.admitted(scene, id, tsih);
            }
            Admission::Reinstates { tsih, previous, .. } => {
                self.successions.reinstated += 1;
                self.close(scene, previous);
                self.succeed(scene, id, tsih, &key);
            }
            Admission::New { tsih } => self.succeed(scene, id, tsih, &key),
        }
        if treatment == Logins::Severed {
            self.login_faults += 1;
            scene.network.sever(scene.now, id);
        }
    }

    /// Sends a login to another portal (RFC 7143, 11.13.5), past the session, which cannot do that; then closes.
    fn redirect(&mut self, scene: &mut Scene, id: ConnectionId, key: &SessionKey, other: usize) {
        let Some(request) = scene.network.last_login(id) else { return self.close(scene, id) };
        let request = LoginRequest::parse(&request);
        let text = format!("TargetAddress={},{}\0", portal_address(other), key.portal_group);
        let response = LoginResponse {
            stages: LoginStages { transit: false, more: false, ..request.stages },
            version_max: 0,
            version_active: 0,
            isid: key.isid,
            tsih: 0,
            initiator_task_tag: request.initiator_task_tag,
            serials: StatusSerials {
                stat_sn: request.serials.exp_stat_sn,
                exp_cmd_sn: request.serials.cmd_sn,
                max_cmd_sn: request.serials.cmd_sn,
            },
            status: LoginStatus::TargetMovedTemporarily,
        };
        let length = u32::try_from(text.len()).expect("a short text");
        let header = response.emit().with_data_length(length);
        let padding = [0; 3];
        let slices = [
            IoSlice::new(&header.0),
            IoSlice::new(text.as_bytes()),
            IoSlice::new(&padding[..iscsi::pdu::padding(text.len())]),
        ];
        scene.network.send(scene.now, id, End::Far, &slices);
        self.close(scene, id);
    }

    /// The old session's commands must be dead before the new one is told that it is in (RFC 7143, 6.3.5), however
    /// the old session ended.
    fn succeed(&mut self, scene: &mut Scene, id: ConnectionId, tsih: u16, key: &SessionKey) {
        let behind = self.succession.running(key);
        self.successions.found_running += u64::from(!behind.is_empty());
        scene.note(Part::Target, [4, id.0.into(), behind.len() as u64], || {
            format!("connection {} follows {} nexuses with running commands", id.0, behind.len())
        });
        if behind.is_empty() || self.profile.admits_at_once() {
            if self.profile == TargetProfile::OnlyTurAnswered
                && let Some(connection) = self.connections.get_mut(&id)
            {
                connection.parking.behind = behind;
            }
            return self.admitted(scene, id, tsih);
        }
        self.succession.waiting.push(Waiting { id, tsih, behind });
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

    /// A connection ended that may have waited to be let in.
    pub(super) fn abandon_login(&mut self, scene: &mut Scene, id: ConnectionId) {
        let Some(waiting) = self.succession.give_up(id) else { return };
        self.sessions.ended(waiting.tsih);
        self.successions.abandoned += 1;
        if self.profile == TargetProfile::HoleAfterAbandonedLogin {
            for nexus in waiting.behind {
                self.succession.forget(nexus);
                self.tell_array(scene, array::Event::Disown { nexus });
            }
        }
    }

    /// Nothing of a closed nexus runs any more.
    pub(super) fn drained(&mut self, scene: &mut Scene, nexus: NexusId) {
        for (id, tsih) in self.succession.drained(nexus) {
            self.admitted(scene, id, tsih);
        }
        let mut free = Vec::new();
        for (id, connection) in &mut self.connections {
            let parking = &mut connection.parking;
            if parking.behind.remove(&nexus) && parking.behind.is_empty() {
                free.push(*id);
            }
        }
        for id in free {
            let parked = self.connections.get_mut(&id).map(|it| std::mem::take(&mut it.parking.asked));
            for event in parked.into_iter().flatten() {
                self.tell_array(scene, event);
            }
        }
    }

    /// Hands something to the array, or keeps it until older sessions are over.
    pub(super) fn ask(&mut self, scene: &mut Scene, id: ConnectionId, event: array::Event) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let is_test =
            matches!(&event, array::Event::Command { cdb, .. } if cdb.operation_code() == TEST_UNIT_READY);
        if connection.parking.behind.is_empty() || is_test {
            return self.tell_array(scene, event);
        }
        connection.parking.asked.push_back(event);
    }
}

/// What a portal does with logins that are about to succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Logins {
    #[default]
    Admitted,
    /// The connection breaks before the answer is out.
    Severed,
    /// A second session of the same name is let in beside the first.
    Duplicated,
}

const TEST_UNIT_READY: u8 = 0x00;
