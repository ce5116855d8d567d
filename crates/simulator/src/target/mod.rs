//! The target's side: portals, target sessions and the array, wired as the engine's array server wires them.

mod login;
mod profile;

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use array::{Array, NexusId, UnitId, UnitOptions};
use clock::{Duration, Instant};
use iscsi::chap::{CHALLENGE_LENGTH, Challenge};
use iscsi::initiator::PORT_DEFAULT;
use iscsi::negotiation::Offers;
use iscsi::pdu::LoginStatus;
use iscsi::target::{
    Action, Command, CommandTag, Event, Options, Portal, Portals, Session, SessionKey, Sessions,
    Target as PortalTarget, TaskManagement, TaskManagementResponse, TaskManagementTag,
};
use scsi::Lun;

use crate::check::{Arriving, EXTRA_UNITS, Effect};
use crate::fault::{group_of, port_id};
use crate::link::{self, Arrived, ConnectionId, Door, End, Wire};
use crate::log::Part;
use crate::plan::Plan;
use crate::scene::{Scene, Source};
use crate::store::WatchedStore;

pub(crate) use login::Logins;
pub use login::Successions;
pub use profile::TargetProfile;

/// What an initiator logs in to; a gateway has its number behind it.
const TARGET_NAME: &str = "iqn.2026-01.example:array";
/// Connections at the same time; far more than a run has.
const SESSIONS_MAX: usize = 1024;
/// Units that no client has: what LUNs are mapped to by mistake, and what looks like another unit.
pub(crate) const DECOY: u32 = 0;
pub(crate) const TWIN: u32 = 1;
/// A size of blocks that no other unit has: a name alone does not make the twin of a unit the unit.
const TWIN_BLOCK_SIZE: u32 = 2048;
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
    /// Logins are sent to another port.
    Redirecting(usize),
}

#[derive(Debug)]
struct Connection {
    session: Session,
    port: usize,
    nexus: Option<NexusId>,
    tsih: Option<u16>,
    key: Option<SessionKey>,
    parking: login::Parking,
    is_mute: bool,
}

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) array: Array,
    pub(crate) ports: Vec<Portalling>,
    pub(crate) logins: Vec<Logins>,
    /// Logins that [`Self::logins`] did something to.
    pub(crate) login_faults: u64,
    pub(crate) successions: Successions,
    /// How much later than they are done resets are answered.
    pub(crate) reset_delay: Duration,
    pub(crate) slow_resets: u64,
    /// SET TARGET PORT GROUPS that the array carried out, or had to refuse.
    pub(crate) group_changes: u64,
    units: u32,
    profile: TargetProfile,
    ports_per_controller: u16,
    portals: Arc<Portals>,
    connections: BTreeMap<ConnectionId, Connection>,
    sessions: Sessions<ConnectionId>,
    nexuses: BTreeMap<NexusId, ConnectionId>,
    succession: login::Succession,
    /// Resets that are not answered yet, and when they will be.
    slow_answers: BTreeMap<(Instant, u64), (NexusId, TaskManagementTag, TaskManagementResponse)>,
    /// The functions of nexuses that are resets.
    resets: std::collections::BTreeSet<(NexusId, u64)>,
    answers: u64,
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
            let store = WatchedStore::new(size, number, unit.block_size, sender.clone());
            let mut options = UnitOptions::memory(u16::try_from(number).expect("few units"), size);
            options.store = Box::new(store);
            options.block_size = unit.block_size;
            options.owner = unit.owner;
            options.provisioning =
                if unit.thin { array::Provisioning::Thin } else { array::Provisioning::Full };
            options.write_cache =
                if unit.write_back { array::WriteCache::Back } else { array::WriteCache::Through };
            options
        });
        let mut units: Vec<UnitOptions> = units.collect();
        units.extend([DECOY, TWIN].map(|number| extra_unit(plan, number, sender.clone())));
        let array = array_of(plan, units);
        Self {
            array,
            ports: vec![Portalling::Open; plan.ports()],
            logins: vec![Logins::Admitted; plan.ports()],
            login_faults: 0,
            successions: Successions::default(),
            reset_delay: Duration::ZERO,
            slow_resets: 0,
            group_changes: 0,
            units: u32::try_from(plan.units.len()).expect("few units"),
            profile: plan.target,
            ports_per_controller: plan.ports_per_controller,
            portals: Arc::new(portals(plan)),
            connections: BTreeMap::new(),
            sessions: Sessions::new(SESSIONS_MAX),
            nexuses: BTreeMap::new(),
            succession: login::Succession::default(),
            slow_answers: BTreeMap::new(),
            resets: std::collections::BTreeSet::new(),
            answers: 0,
            effects,
            offers: Offers {
                initial_r2t: plan.initial_r2t,
                immediate_data: plan.immediate_data,
                first_burst_length: plan.first_burst,
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
        let parking = login::Parking::default();
        let connection = Connection { session, port, nexus: None, tsih: None, key: None, parking, is_mute };
        self.connections.insert(id, connection);
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
        while let Some(entry) = self.slow_answers.first_entry()
            && entry.key().0 <= scene.now
        {
            let (nexus, tag, response) = entry.remove();
            self.answer_function(scene, nexus, tag, response);
        }
        self.tell_array(scene, array::Event::Timeout);
    }

    /// Whatever is told to the array, the medium is looked at, and its answers are passed on.
    pub(crate) fn tell_array(&mut self, scene: &mut Scene, event: array::Event) {
        self.array.handle(scene.now, event);
        let group_changes = self.array.ports().map(|(_, _, counters)| counters.group_changes).sum();
        if self.group_changes != group_changes {
            self.group_changes = group_changes;
            scene.checks.access.changed();
        }
        while let Ok(effect) = self.effects.try_recv() {
            scene.note(Part::Medium, effect_numbers(&effect), || format!("{effect:?}"));
            scene.checks.effect(scene.now, &effect);
        }
        self.drain_array(scene);
        let slow = self.slow_answers.first_key_value().map(|((at, _), _)| *at);
        scene.timers.arm(Source::Array, [self.array.poll_timeout(), slow].into_iter().flatten().min());
    }

    pub(crate) const fn extra_unit(&self, number: u32) -> UnitId {
        UnitId(self.units + number)
    }

    pub(crate) fn naa(&self, unit: UnitId) -> Option<[u8; 16]> {
        self.array.units().find(|view| view.id == unit).map(|view| view.identity().naa)
    }

    /// What a unit is exported as: its name as initiators print it.
    pub(crate) fn export_name(&self, unit: u32) -> Option<String> {
        let unit = self.array.units().find(|view| view.id.0 == unit)?;
        Some(unit.identity().naa.iter().fold(String::from("naa."), |name, byte| format!("{name}{byte:02x}")))
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
        self.look_at_write(scene, id, &command);
        self.look_at_stray(scene, id, &command);
        let event = array::Event::Command {
            nexus,
            tag: command.tag.0,
            lun: command.lun,
            cdb: command.cdb,
            attribute: command.attribute,
            data: command.data,
            expected: command.expected_length,
        };
        self.ask(scene, id, event);
    }

    /// Shows the checkers a WRITE(10) or WRITE(16), and what still runs of nexuses that are gone.
    fn look_at_write(&self, scene: &mut Scene, id: ConnectionId, command: &Command) {
        let Some(port) = self.connections.get(&id).map(|connection| connection.port) else { return };
        let Some(unit) = self.array.unit_behind(port_id(port), command.lun) else { return };
        let Some(view) = self.array.units().find(|view| view.id == unit) else { return };
        let block_size = view.block_size();
        let Some(first) = first_block(command.cdb.as_slice()) else { return };
        let number = if unit.0 < self.units { unit.0 } else { EXTRA_UNITS };
        let write = Arriving { unit: number, first, block_size, data: &command.data };
        let gone = self.array.held_writes(unit).filter(|held| !self.nexuses.contains_key(&held.nexus));
        let running =
            gone.map(|held| Arriving { unit: number, first: held.first, block_size, data: held.data });
        scene.checks.write_arrived(scene.now, &write, running);
    }

    /// Shows the checkers a command that changes blocks of a unit that is there to be confused with another.
    fn look_at_stray(&self, scene: &mut Scene, id: ConnectionId, command: &Command) {
        let Some(port) = self.connections.get(&id).map(|connection| connection.port) else { return };
        let unit = self.array.unit_behind(port_id(port), command.lun);
        if unit.is_some_and(|unit| unit.0 >= self.units) {
            for first in changed_from(command.cdb.as_slice(), &command.data) {
                scene.checks.came_astray(id, command.cdb.as_slice(), first);
            }
        }
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
        if function == array::Function::LogicalUnitReset {
            self.resets.insert((nexus, tag.0));
        }
        self.ask(scene, id, array::Event::TaskManagement { nexus, tag: tag.0, function, lun, referenced });
    }

    fn drain_array(&mut self, scene: &mut Scene) {
        while let Some(action) = self.array.poll_action() {
            let (nexus, event) = match action {
                array::Action::Reply { nexus, tag, reply, data } => {
                    (nexus, Event::Reply { tag: CommandTag(tag), reply, data })
                }
                array::Action::NexusDrained { nexus } => {
                    self.drained(scene, nexus);
                    continue;
                }
                array::Action::Aborted { nexus, tag } => (nexus, Event::Aborted { tag: CommandTag(tag) }),
                array::Action::TaskManagementReply { nexus, tag, response } => {
                    self.function_done(scene, nexus, TaskManagementTag(tag), answer(response));
                    continue;
                }
            };
            if let Some(id) = self.nexuses.get(&nexus).copied() {
                self.tell(scene, id, event);
            }
        }
    }

    fn function_done(
        &mut self,
        scene: &mut Scene,
        nexus: NexusId,
        tag: TaskManagementTag,
        response: TaskManagementResponse,
    ) {
        if self.resets.remove(&(nexus, tag.0)) && self.reset_delay > Duration::ZERO {
            self.answers += 1;
            self.slow_resets += 1;
            self.slow_answers.insert((scene.now + self.reset_delay, self.answers), (nexus, tag, response));
            return;
        }
        self.answer_function(scene, nexus, tag, response);
    }

    fn answer_function(
        &mut self,
        scene: &mut Scene,
        nexus: NexusId,
        tag: TaskManagementTag,
        response: TaskManagementResponse,
    ) {
        if let Some(id) = self.nexuses.get(&nexus).copied() {
            self.tell(scene, id, Event::TaskManagementDone { tag, response });
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
        self.abandon_login(scene, id);
        if let Some(nexus) = connection.nexus {
            self.nexuses.remove(&nexus);
            if let Some(key) = connection.key {
                self.succession.closed(nexus, key);
            }
            self.tell_array(scene, array::Event::NexusClosed { nexus });
            if self.profile == TargetProfile::ResetPassesBy {
                self.tell_array(scene, array::Event::Disown { nexus });
            }
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

/// The array behind the portals, as the behaviour of the target wants it, with another host logged in.
fn array_of(plan: &Plan, units: Vec<UnitOptions>) -> Array {
    let mut array = Array::new(array::Options {
        controllers: plan.controllers,
        ports_per_controller: plan.ports_per_controller,
        units,
        seed: plan.seed,
        nexus_loss: if plan.target.keeps_tasks() {
            array::NexusLoss::KeepTasks
        } else {
            array::NexusLoss::AbortTasks
        },
        coordination: if plan.target == TargetProfile::TwoGateways {
            array::Coordination::PerController
        } else {
            array::Coordination::Whole
        },
        remapping: array::Remapping::ToldUntilIdentified,
        access_changes: plan.ways.access_changes,
        ..array::Options::default()
    });
    let other_host = String::from("iqn.2026-01.example:other-host");
    let opened = array::Event::NexusOpened { nexus: FOREIGN, port: port_id(0), initiator: other_host };
    array.handle(Instant::START, opened);
    if plan.target == TargetProfile::LyingReset {
        let effect = array::Effect::Function(array::Treatment::AnswerEarly);
        let lie = array::Fault { scope: array::Scope::default(), when: array::When::ALWAYS, effect };
        array.handle(Instant::START, array::Event::SetFault(LIE, lie));
    }
    array
}

/// A unit that is nobody's. The decoy is like the first unit in everything but its name; the twin has other blocks.
fn extra_unit(plan: &Plan, number: u32, sender: std::sync::mpsc::Sender<Effect>) -> UnitOptions {
    let mut like = plan.units[0];
    if number == TWIN {
        like.block_size = TWIN_BLOCK_SIZE;
    }
    let blocks = like.blocks;
    let size = u64::from(blocks) * u64::from(like.block_size);
    let lun = u16::try_from(EXTRA_UNITS + number).expect("a number of two bytes");
    let store = WatchedStore::new(size, EXTRA_UNITS + number, like.block_size, sender);
    UnitOptions {
        lun: None,
        store: Box::new(store),
        block_size: like.block_size,
        ..UnitOptions::memory(lun, size)
    }
}

/// Where a WRITE(10) or WRITE(16) begins (SBC, 5.40 and 5.42).
fn first_block(cdb: &[u8]) -> Option<u64> {
    match cdb {
        [0x2a, _, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d]).into()),
        [0x8a, _, a, b, c, d, e, f, g, h, ..] => Some(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])),
        _ => None,
    }
}

/// The first blocks of what WRITE, WRITE SAME(16) and UNMAP change.
fn changed_from(cdb: &[u8], data: &[u8]) -> Vec<u64> {
    let address = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    match cdb {
        [0x93, _, address_bytes @ ..] => address(address_bytes).into_iter().collect(),
        // Descriptors of 16 bytes follow a header of 8 (SBC, UNMAP parameter list).
        [0x42, ..] => data.get(8..).unwrap_or_default().chunks(16).filter_map(address).collect(),
        _ => first_block(cdb).into_iter().collect(),
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
    let portals = (0..plan.ports()).map(|port| {
        let address = portal_address(port);
        (plan.target_of(port), Portal { address, group: group_of(port, plan.ports_per_controller).0 })
    });
    let mut targets: BTreeMap<u32, Vec<Portal>> = BTreeMap::new();
    for (target, portal) in portals {
        targets.entry(target).or_default().push(portal);
    }
    let targets = targets.into_iter().map(|(target, portals)| PortalTarget {
        name: target_name(target),
        alias: None,
        portals,
        chap: None,
    });
    Portals { targets: targets.collect(), discovery_chap: None }
}

/// The name of a target; see [`Plan::target_of`].
pub(crate) fn target_name(target: u32) -> String {
    if target == 0 { String::from(TARGET_NAME) } else { format!("{TARGET_NAME}-{target}") }
}

/// The rule that makes [`TargetProfile::LyingReset`]; faults of a plan count from zero.
const LIE: array::FaultId = array::FaultId(u32::MAX);

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
        Effect::Lost { unit, blocks } => {
            let first = blocks.first().map_or(0, |lost| lost.lba);
            [u64::from(*unit) << 32 | u64::from(first), blocks.len() as u64, 1 << 41]
        }
    }
}
