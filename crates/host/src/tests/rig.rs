//! A host, a network without delay, target sessions and an array, in virtual time.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;

use array::{Array, NexusId, PortId, UnitOptions};
use block::{Buffer, Completion, Durability, Geometry, Operation, Request, Tag};
use clock::{Duration, Instant};
use iscsi::chap::{CHALLENGE_LENGTH, Challenge};
use iscsi::initiator;
use iscsi::target::{
    self, Admission, CommandTag, Portal, Portals, Sessions, TaskManagement, TaskManagementResponse,
    TaskManagementTag,
};
use multipath::{NoPath, PathId, PathState, Policy};
use scsi::Lun;
use scsi_multipath::{Disk, Proof};

use crate::config::{Digests, DiskConfig, EarlyData, Filter, Initiator, Layer, Options, PortalConfig};
use crate::state::State;
use crate::verbs::Outcome;
use crate::{
    Action, DiskIndex, DiskView, Event, Host, Loss, NexusIndex, Notice, Parting, Ticket, Trace, Verb,
};

pub(super) const TARGET_NAME: &str = "iqn.2026-01.example:array";
/// Events without any progress in time; a test that has more of them turns in circles.
const ROUNDS_MAX: usize = 100_000;

/// How a portal treats connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Door {
    #[default]
    Open,
    /// Nothing comes through, in either direction.
    Dark,
    /// Nobody listens.
    Refusing,
    /// New connections are accepted, and nothing is read from them.
    Mute,
    /// Whoever logs in is sent to this port (RFC 7143, 11.13.5: target moved temporarily).
    Sends(usize),
}

/// What the target sees and what the host says, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A connection of a nexus to a port was asked for.
    Connect {
        nexus: u32,
        port: usize,
    },
    /// A login that is about to succeed, by the nexus whose ISID it has.
    Login {
        nexus: u32,
        port: usize,
    },
    Reset {
        nexus: u32,
        lun: u64,
    },
    AbortTaskSet {
        nexus: u32,
        lun: u64,
    },
    /// VPD page 83h was asked for.
    Identity {
        nexus: u32,
        lun: u64,
    },
    LoggedOut {
        nexus: u32,
        port: usize,
    },
    Fenced {
        path: PathId,
        proof: Proof,
    },
}

/// A task management function that the target has not done yet.
struct Draining {
    due: Instant,
    connection: u32,
    tag: u64,
    function: array::Function,
    lun: Lun,
    referenced: Option<u64>,
}

struct Connection {
    nexus: u32,
    port: usize,
    session: target::Session,
    /// The host's end is there.
    is_held: bool,
    tsih: Option<u16>,
    is_open: bool,
    is_mute: bool,
}

pub(super) struct Rig {
    pub(super) now: Instant,
    pub(super) host: Host,
    pub(super) doors: Vec<Door>,
    /// So many resets are refused before one is done.
    pub(super) refused_resets: usize,
    /// What the target takes for a task management function. As tgt, it answers only the last one of those that
    /// meet: a reset of one logical unit another one's, and any function one of the same nexus or of a reset.
    pub(super) function_time: Duration,
    /// So many functions are never answered, because one of somebody else met them.
    pub(super) lost_functions: usize,
    draining: Vec<Draining>,
    /// Another logical unit is behind LUN 0 than the one that was there.
    pub(super) is_remapped: bool,
    pub(super) seen: Vec<Seen>,
    pub(super) notices: Vec<Notice>,
    pub(super) ended: Option<bool>,
    /// What became of verbs, and of requests.
    pub(super) answers: BTreeMap<u64, Outcome>,
    pub(super) completed: BTreeMap<Tag, Completion>,
    /// What exports were told, in order.
    pub(super) geometries: Vec<Geometry>,
    pub(super) gone: usize,
    pub(super) credentials_refused: usize,
    next_tag: u64,
    next_ticket: u64,
    /// What was given to be stored, in order.
    pub(super) stored: Vec<State>,
    /// It is stored only when a test says so.
    pub(super) is_storing_slowly: bool,
    array: Array,
    portals: Arc<Portals>,
    sessions: Sessions<u32>,
    connections: BTreeMap<u32, Connection>,
    next_connection: u32,
    reinstating: BTreeMap<u32, (u32, u16)>,
}

pub(super) fn address(port: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, u8::try_from(port + 1).unwrap()], 3260))
}

pub(super) fn options(ports: usize) -> Options {
    let second = Duration::from_secs(1);
    Options {
        initiator: Initiator {
            name: String::from("iqn.2026-01.example:host"),
            chap: None,
            digests: Digests::None,
            login_timeout: Duration::from_secs(15),
            nop_interval: second,
            nop_timeout: second,
            command_timeout: Duration::from_secs(30),
            early_data: EarlyData::On,
        },
        portals: (0..ports)
            .map(|port| PortalConfig::Target {
                portal: address(port),
                target_name: TARGET_NAME.to_owned(),
                lun: None,
            })
            .collect(),
        disks: DiskConfig {
            policy: Policy::RoundRobin,
            no_path: NoPath::Queue,
            delayed_removal: Duration::from_secs(60),
            layer: Layer::Multipath,
            slow_paths: multipath::SlowPaths::Demote,
            hedging: multipath::Hedging::Off,
            multipath: crate::config::Multipath::Always,
            sharing: scsi_multipath::Sharing::default(),
            fence: scsi_multipath::FencePolicy::default(),
            alua: scsi_multipath::Alua::Implicit,
            path_check: None,
        },
        filter: Filter::default(),
        salt: Vec::new(),
        seed: 1,
        inherited: None,
    }
}

impl Rig {
    /// One controller with so many ports, all in one portal group, and two logical units; everything is up.
    pub(super) fn new(ports: usize) -> Self {
        let mut rig = Self::with(options(ports), ports);
        rig.advance(Duration::from_millis(1));
        assert!((0..ports).all(|port| rig.is_up(port)), "{:?}", rig.notices);
        rig.seen.clear();
        rig
    }

    /// Nothing has happened but the start.
    pub(super) fn with(options: Options, ports: usize) -> Self {
        Self::with_units(options, ports, 2)
    }

    /// The same with so many logical units.
    pub(super) fn with_units(options: Options, ports: usize, units: u16) -> Self {
        Self::with_controllers(options, 1, ports, units)
    }

    /// The same with so many controllers, each of them a port group with so many ports.
    pub(super) fn with_controllers(
        options: Options,
        controllers: usize,
        ports_per_controller: usize,
        units: u16,
    ) -> Self {
        let ports = controllers * ports_per_controller;
        let units = (0..units).map(|lun| UnitOptions::memory(lun, 1 << 20)).collect();
        let array = Array::new(array::Options {
            controllers: u16::try_from(controllers).unwrap(),
            ports_per_controller: u16::try_from(ports_per_controller).unwrap(),
            units,
            ..array::Options::default()
        });
        let group = |port: usize| u16::try_from(port / ports_per_controller + 1).unwrap();
        let portals = (0..ports).map(|port| Portal { address: address(port), group: group(port) }).collect();
        let target = target::Target { name: TARGET_NAME.to_owned(), alias: None, portals, chap: None };
        let mut host = Host::new(options);
        host.set_trace(true);
        host.handle(Instant::START, Event::Start);
        Self {
            now: Instant::START,
            host,
            doors: vec![Door::Open; ports],
            refused_resets: 0,
            function_time: Duration::ZERO,
            lost_functions: 0,
            draining: Vec::new(),
            is_remapped: false,
            seen: Vec::new(),
            notices: Vec::new(),
            ended: None,
            answers: BTreeMap::new(),
            completed: BTreeMap::new(),
            geometries: Vec::new(),
            gone: 0,
            credentials_refused: 0,
            next_tag: 0,
            next_ticket: 0,
            stored: Vec::new(),
            is_storing_slowly: false,
            array,
            portals: Arc::new(Portals { targets: vec![target], discovery_chap: None }),
            sessions: Sessions::new(64),
            connections: BTreeMap::new(),
            next_connection: 0,
            reinstating: BTreeMap::new(),
        }
    }

    /// The process dies, and another one takes its place with what was stored last.
    pub(super) fn restart(&mut self, mut options: Options, inherited: State) {
        options.inherited = Some(inherited);
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            let connection = self.connections.get_mut(&id).unwrap();
            connection.is_held = false;
        }
        self.host = Host::new(options);
        self.host.set_trace(true);
        self.host.handle(self.now, Event::Start);
        self.seen.clear();
        self.stored.clear();
        self.ended = None;
    }

    pub(super) fn is_up(&self, nexus: usize) -> bool {
        self.host.nexus(NexusIndex(u32::try_from(nexus).unwrap())).is_some_and(|nexus| nexus.is_up)
    }

    /// Commands that came through a port and were executed.
    pub(super) fn commands(&self, port: usize) -> u64 {
        self.array.ports().nth(port).map_or(0, |(_, _, counters)| counters.commands)
    }

    /// Reads that came through a port and were executed.
    pub(super) fn reads(&self, port: usize) -> u64 {
        self.array.ports().nth(port).map_or(0, |(_, _, counters)| counters.reads)
    }

    /// REPORT TARGET PORT GROUPS that the array has seen.
    pub(super) fn group_reports(&self) -> u64 {
        self.array.ports().map(|(_, _, counters)| counters.group_reports).sum()
    }

    /// All groups of all units are in this state from now on, and every nexus is to be told.
    pub(super) fn set_access(&mut self, state: array::AccessState) {
        let groups: Vec<array::GroupId> = self.array.ports().map(|(_, group, _)| group).collect();
        for group in groups {
            self.array.handle(self.now, array::Event::SetAccess { group, state });
        }
    }

    /// The path of the disk behind a LUN over a nexus.
    pub(super) fn path(&self, nexus: u32, lun: u16) -> PathId {
        let disks = self.host.disks().filter_map(|view| view.disk);
        let mut paths = disks.flat_map(Disk::paths).map(|path| path.status.id);
        let is_it = |path: &PathId| {
            let view = self.host.path(*path).unwrap();
            view.nexus.0 == nexus && view.lun == Lun::from(lun)
        };
        paths.find(is_it).expect("the path has joined")
    }

    /// The connection of a nexus breaks, and both ends know it.
    pub(super) fn cut(&mut self, nexus: u32) {
        let ids: Vec<u32> = self.held(nexus).collect();
        for id in ids {
            self.connections.get_mut(&id).unwrap().is_held = false;
            self.close_at_target(id);
        }
        let why = String::from("cut");
        self.host.handle(self.now, Event::Closed { nexus: NexusIndex(nexus), loss: Loss::Broken, why });
    }

    /// An operator says something, and everything happens that is due at once.
    pub(super) fn say(&mut self, verb: Verb) -> u64 {
        self.next_ticket += 1;
        self.host.handle(self.now, Event::Verb { ticket: Ticket(self.next_ticket), verb });
        self.advance(Duration::ZERO);
        self.next_ticket
    }

    /// The same, for a verb that is answered at once.
    pub(super) fn said(&mut self, verb: Verb) -> Result<String, String> {
        let ticket = self.say(verb);
        self.answers[&ticket].clone().map_err(|error| error.to_string())
    }

    /// The array is told something.
    pub(super) fn tell_array(&mut self, event: array::Event) {
        self.array.handle(self.now, event);
        self.advance(Duration::ZERO);
    }

    /// The target sends an asynchronous message on the session of a nexus.
    pub(super) fn notify(&mut self, nexus: u32, notification: target::Notification) {
        let id = self.held(nexus).next().expect("it is connected");
        let session = &mut self.connections.get_mut(&id).unwrap().session;
        session.handle(self.now, target::Event::Notify(notification));
        self.advance(Duration::ZERO);
    }

    /// From now on the target knows so many of its portals, and wants these credentials.
    pub(super) fn set_portals(&mut self, ports: usize, chap: Option<target::Chap>) {
        let portals = (0..ports).map(|port| Portal { address: address(port), group: 1 }).collect();
        let target =
            target::Target { name: TARGET_NAME.to_owned(), alias: None, portals, chap: chap.clone() };
        self.portals = Arc::new(Portals { targets: vec![target], discovery_chap: chap });
    }

    pub(super) fn disk(&self, lun: u16) -> DiskIndex {
        let path = self.path(0, lun);
        let has_it = |view: &DiskView<'_>| view.disk.unwrap().paths().any(|known| known.status.id == path);
        self.host.disks().find(has_it).unwrap().index
    }

    pub(super) fn submit(&mut self, disk: DiskIndex, operation: Operation) -> Tag {
        self.next_tag += 1;
        let tag = Tag(self.next_tag);
        let length = operation.extent().map_or(0, |(_, length)| length as usize);
        let buffer = Buffer::zeroed(length);
        self.host.handle(self.now, Event::Block { disk, request: Request { tag, operation, buffer } });
        self.advance(Duration::ZERO);
        tag
    }

    pub(super) fn read(&mut self, disk: DiskIndex, offset: u64) -> Tag {
        self.submit(disk, Operation::Read { offset, length: 512 })
    }

    pub(super) fn write(&mut self, disk: DiskIndex, offset: u64) -> Tag {
        let durability = Durability::Volatile;
        self.submit(disk, Operation::Write { offset, length: 512, durability })
    }

    /// The state of a path, as its disk sees it.
    pub(super) fn state(&self, path: PathId) -> PathState {
        let mut paths = self.host.disks().filter_map(|view| view.disk).flat_map(Disk::paths);
        paths.find(|known| known.status.id == path).expect("the path is a disk's").status.state
    }

    /// The codes of the events since the one with this number.
    pub(super) fn codes(&self, since: u64) -> Vec<&'static str> {
        self.host.events(since).map(|entry| entry.what.code()).collect()
    }

    /// A disk asks for a proof.
    pub(super) fn fence(&mut self, path: PathId) {
        self.settle();
        self.host.fence(path);
    }

    pub(super) fn run_until(&mut self, condition: impl Fn(&Self) -> bool) {
        let limit = self.now + Duration::from_secs(600);
        while !condition(self) {
            assert!(self.now < limit, "{:#?}", self.seen);
            self.advance(Duration::from_millis(20));
        }
    }

    pub(super) fn fenced(&self) -> Vec<(PathId, Proof)> {
        let proof = |seen: &Seen| match seen {
            Seen::Fenced { path, proof } => Some((*path, *proof)),
            _ => None,
        };
        self.seen.iter().filter_map(proof).collect()
    }

    /// Lets time pass, and everything happen that is due.
    pub(super) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        for _ in 0..ROUNDS_MAX {
            let host = self.host.poll_timeout();
            // Whoever reads nothing from a connection does not end it either.
            let awake = self.connections.values().filter(|it| !it.is_mute);
            let sessions = awake.filter_map(|it| it.session.poll_timeout());
            let functions = self.draining.iter().map(|function| function.due);
            let due = sessions.chain(host).chain(functions).chain(self.array.poll_timeout()).min();
            let Some(due) = due.filter(|due| *due <= end) else {
                self.now = end;
                return self.settle();
            };
            self.now = self.now.max(due);
            if host.is_some_and(|at| at <= self.now) {
                self.host.handle(self.now, Event::Timeout);
            }
            for connection in self.connections.values_mut().filter(|it| !it.is_mute) {
                if connection.session.poll_timeout().is_some_and(|at| at <= self.now) {
                    connection.session.handle(self.now, target::Event::Timeout);
                }
            }
            self.drain_functions();
            self.array.handle(self.now, array::Event::Timeout);
            self.settle();
        }
        panic!("time does not pass: {:#?}", self.seen);
    }

    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if !self.round() {
                return;
            }
        }
        panic!("no rest: {:#?}", self.seen);
    }

    /// Everybody says once what there is to say, and hears what was said before. False if there was nothing.
    pub(super) fn round(&mut self) -> bool {
        let mut any = false;
        while let Some(action) = self.host.poll_action() {
            any = true;
            self.take(action);
        }
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            any |= self.drain_target(id);
            any |= self.deliver_to_host(id);
        }
        any | self.drain_array()
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Connect { nexus, address } => self.connect(nexus, address),
            Action::Disconnect { nexus, how } => {
                let ids: Vec<u32> = self.held(nexus.0).collect();
                for id in ids {
                    let connection = self.connections.get_mut(&id).unwrap();
                    if how == Parting::Orderly {
                        self.seen.push(Seen::LoggedOut { nexus: nexus.0, port: connection.port });
                    }
                    connection.is_held = false;
                    // Through a dark door the target does not learn of it.
                    if self.doors[connection.port] != Door::Dark {
                        self.close_at_target(id);
                    }
                }
            }
            Action::Flush { nexus } => self.flush(nexus),
            Action::Notice(notice) => self.notices.push(notice),
            Action::Trace(Trace::Fenced { path, proof }) => self.seen.push(Seen::Fenced { path, proof }),
            Action::Persist(state) => {
                self.stored.push(state);
                if !self.is_storing_slowly {
                    self.host.handle(self.now, Event::Persisted);
                }
            }
            Action::Ended { clean } => self.ended = Some(clean),
            Action::CredentialsRefused => self.credentials_refused += 1,
            Action::Answer { ticket, outcome } => {
                assert!(self.answers.insert(ticket.0, outcome).is_none(), "a verb is answered once");
            }
            Action::Complete(request, completion) => {
                self.completed.insert(request.tag, completion);
            }
            Action::Resized { geometry, .. } => self.geometries.push(geometry),
            Action::Gone { .. } => self.gone += 1,
            Action::Ready { .. } | Action::Trace(_) => {}
        }
    }

    fn connect(&mut self, nexus: NexusIndex, to: SocketAddr) {
        let port = (0..self.doors.len()).find(|port| address(*port) == to).expect("a port of the array");
        assert_eq!(self.held(nexus.0).count(), 0, "nexus {} has a connection already", nexus.0);
        self.seen.push(Seen::Connect { nexus: nexus.0, port });
        match self.doors[port] {
            Door::Dark => return,
            Door::Refusing => {
                let why = String::from("refused");
                return self.host.handle(self.now, Event::ConnectFailed { nexus, why });
            }
            Door::Open | Door::Mute | Door::Sends(_) => {}
        }
        let challenge = Challenge { identifier: 0, bytes: [7; CHALLENGE_LENGTH] };
        let session =
            target::Session::new(self.now, target::Options::new(self.portals.clone(), 1, challenge));
        let id = self.next_connection;
        self.next_connection += 1;
        let is_mute = matches!(self.doors[port], Door::Mute | Door::Sends(_));
        let connection =
            Connection { nexus: nexus.0, port, session, is_held: true, tsih: None, is_open: false, is_mute };
        self.connections.insert(id, connection);
        self.host.handle(self.now, Event::Connected { nexus, challenge: None });
    }

    fn held(&self, nexus: u32) -> impl Iterator<Item = u32> {
        self.connections.iter().filter(move |(_, it)| it.is_held && it.nexus == nexus).map(|(id, _)| *id)
    }

    fn flush(&mut self, nexus: NexusIndex) {
        let id = self.held(nexus.0).next();
        let mut redirects = Vec::new();
        if let Some(connection) = id.and_then(|id| self.connections.get_mut(&id))
            && let Some(session) = self.host.session_mut(nexus)
        {
            let is_heard = self.doors[connection.port] != Door::Dark && !connection.is_mute;
            loop {
                let mut slices = [IoSlice::new(&[]); 16];
                let count = session.transmit(&mut slices);
                let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                if bytes.is_empty() {
                    break;
                }
                session.handle(self.now, initiator::Event::Sent(bytes.len()));
                if is_heard {
                    give(&mut connection.session, self.now, &bytes);
                } else if let Door::Sends(port) = self.doors[connection.port] {
                    redirects.push(redirect(&bytes, port));
                }
            }
        }
        self.host.handle(self.now, Event::Flushed { nexus });
        redirects.iter().for_each(|bytes| self.give_to_host(nexus, bytes));
    }

    fn give_to_host(&mut self, nexus: NexusIndex, bytes: &[u8]) {
        let Some(session) = self.host.session_mut(nexus) else { return };
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut taken = 0;
            for slice in &mut session.receive_into() {
                let count = slice.len().min(rest.len() - taken);
                slice[..count].copy_from_slice(&rest[taken..taken + count]);
                taken += count;
            }
            if taken == 0 {
                break;
            }
            session.handle(self.now, initiator::Event::Received(taken));
            rest = &rest[taken..];
        }
        self.host.handle(self.now, Event::Touched { nexus });
    }

    fn deliver_to_host(&mut self, id: u32) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let mut slices = [IoSlice::new(&[]); 16];
        let count = connection.session.transmit(&mut slices);
        let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
        if bytes.is_empty() {
            return false;
        }
        connection.session.handle(self.now, target::Event::Sent(bytes.len()));
        let nexus = NexusIndex(connection.nexus);
        let is_heard = connection.is_held && self.doors[connection.port] != Door::Dark;
        if is_heard {
            self.give_to_host(nexus, &bytes);
        }
        true
    }

    fn drain_target(&mut self, id: u32) -> bool {
        let mut any = false;
        while let Some(action) = self.connections.get_mut(&id).and_then(|it| it.session.poll_action()) {
            any = true;
            match action {
                target::Action::Admit { key, tsih } => self.admit(id, key, tsih),
                target::Action::LoggedIn(admitted) => {
                    let connection = self.connections.get_mut(&id).unwrap();
                    connection.is_open = true;
                    let port = PortId(u16::try_from(connection.port + 1).unwrap());
                    let initiator = admitted.initiator_name;
                    let nexus = NexusId(id);
                    self.array.handle(self.now, array::Event::NexusOpened { nexus, port, initiator });
                }
                target::Action::Command(command) => self.execute(id, command),
                target::Action::TaskManagement { tag, function, lun, referenced } => {
                    self.manage(id, tag, function, lun, referenced);
                }
                target::Action::LoggedOut => {}
                target::Action::Disconnect(_) => {
                    while self.deliver_to_host(id) {}
                    self.close_at_target(id);
                }
            }
        }
        any
    }

    fn admit(&mut self, id: u32, key: target::SessionKey, tsih: u16) {
        let Connection { nexus, port, .. } = self.connections[&id];
        self.seen.push(Seen::Login { nexus, port });
        match self.sessions.admit(key, tsih, id) {
            Admission::New { tsih } => self.admitted(id, tsih),
            Admission::Reinstates { tsih, previous, .. } => {
                self.reinstating.insert(previous, (id, tsih));
                self.close_at_target(previous);
            }
            Admission::Refused(status) => panic!("{status:?}"),
        }
    }

    fn admitted(&mut self, id: u32, tsih: u16) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.tsih = Some(tsih);
            connection.session.handle(self.now, target::Event::Admitted { tsih });
        }
    }

    fn close_at_target(&mut self, id: u32) {
        let Some(connection) = self.connections.remove(&id) else { return };
        if let Some(tsih) = connection.tsih {
            self.sessions.ended(tsih);
        }
        if connection.is_open {
            self.array.handle(self.now, array::Event::NexusClosed { nexus: NexusId(id) });
        }
        if connection.is_held {
            let why = String::from("the peer closed the connection");
            let nexus = NexusIndex(connection.nexus);
            self.host.handle(self.now, Event::Closed { nexus, loss: Loss::Broken, why });
        }
    }

    fn execute(&mut self, id: u32, command: target::Command) {
        let lun = if self.is_remapped && command.lun == Lun::from(0) { Lun::from(1) } else { command.lun };
        if let [0x12, 1, 0x83, ..] = command.cdb.as_slice() {
            let nexus = self.connections[&id].nexus;
            self.seen.push(Seen::Identity { nexus, lun: number(command.lun) });
        }
        let event = array::Event::Command {
            nexus: NexusId(id),
            tag: command.tag.0,
            lun,
            cdb: command.cdb,
            attribute: command.attribute,
            data: command.data,
            expected: command.expected_length,
        };
        self.array.handle(self.now, event);
    }

    fn manage(
        &mut self,
        id: u32,
        tag: TaskManagementTag,
        function: TaskManagement,
        lun: Lun,
        referenced: Option<CommandTag>,
    ) {
        let nexus = self.connections[&id].nexus;
        let function = match function {
            TaskManagement::LogicalUnitReset => {
                self.seen.push(Seen::Reset { nexus, lun: number(lun) });
                if self.refused_resets > 0 {
                    self.refused_resets -= 1;
                    let response = TaskManagementResponse::NotSupported;
                    let event = target::Event::TaskManagementDone { tag, response };
                    return self.connections.get_mut(&id).unwrap().session.handle(self.now, event);
                }
                array::Function::LogicalUnitReset
            }
            TaskManagement::AbortTaskSet => {
                self.seen.push(Seen::AbortTaskSet { nexus, lun: number(lun) });
                array::Function::AbortTaskSet
            }
            TaskManagement::AbortTask => array::Function::AbortTask,
            other => panic!("nobody asks for {other:?}"),
        };
        let due = self.now + self.function_time;
        let referenced = referenced.map(|tag| tag.0);
        let arriving = Draining { due, connection: id, tag: tag.0, function, lun, referenced };
        self.draining.retain(|earlier| !earlier.meets(&arriving));
        if self.lost_functions > 0 {
            self.lost_functions -= 1;
            return;
        }
        self.draining.push(arriving);
        self.drain_functions();
    }

    fn drain_functions(&mut self) {
        let now = self.now;
        for done in self.draining.extract_if(.., |function| function.due <= now).collect::<Vec<_>>() {
            let Draining { connection, tag, function, lun, referenced, .. } = done;
            let nexus = NexusId(connection);
            let event = array::Event::TaskManagement { nexus, tag, function, lun, referenced };
            self.array.handle(now, event);
        }
    }

    fn drain_array(&mut self) -> bool {
        let mut any = false;
        while let Some(action) = self.array.poll_action() {
            any = true;
            let (nexus, event) = match action {
                array::Action::Reply { nexus, tag, reply, data } => {
                    (nexus, target::Event::Reply { tag: CommandTag(tag), reply, data })
                }
                array::Action::Aborted { nexus, tag } => {
                    (nexus, target::Event::Aborted { tag: CommandTag(tag) })
                }
                array::Action::TaskManagementReply { nexus, tag, response } => {
                    let response = match response {
                        array::Response::Complete => TaskManagementResponse::Complete,
                        array::Response::TaskDoesNotExist => TaskManagementResponse::TaskDoesNotExist,
                        other => panic!("{other:?}"),
                    };
                    (nexus, target::Event::TaskManagementDone { tag: TaskManagementTag(tag), response })
                }
                array::Action::NexusDrained { nexus } => {
                    if let Some((id, tsih)) = self.reinstating.remove(&nexus.0) {
                        self.admitted(id, tsih);
                    }
                    continue;
                }
            };
            if let Some(connection) = self.connections.get_mut(&nexus.0) {
                connection.session.handle(self.now, event);
            }
        }
        any
    }
}

impl Draining {
    fn meets(&self, other: &Self) -> bool {
        let both_reset = [self, other].iter().all(|it| it.function == array::Function::LogicalUnitReset);
        let any_resets = [self, other].iter().any(|it| it.function == array::Function::LogicalUnitReset);
        if both_reset { self.lun == other.lun } else { any_resets || self.connection == other.connection }
    }
}

fn give(session: &mut target::Session, now: Instant, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut taken = 0;
        for slice in &mut session.receive_into() {
            let count = slice.len().min(rest.len() - taken);
            slice[..count].copy_from_slice(&rest[taken..taken + count]);
            taken += count;
        }
        assert!(taken > 0, "the target takes what a test sends");
        session.handle(now, target::Event::Received(taken));
        rest = &rest[taken..];
    }
}

/// A login response that sends whoever sent this request to another port.
fn redirect(request: &[u8], port: usize) -> Vec<u8> {
    let mut text = format!("TargetAddress={},1\0", address(port)).into_bytes();
    let mut response = vec![0; 48];
    response[0] = 0x23;
    response[7] = u8::try_from(text.len()).unwrap();
    response[8..16].copy_from_slice(&request[8..16]);
    response[16..20].copy_from_slice(&request[16..20]);
    (response[36], response[37]) = (1, 1);
    text.resize(text.len().next_multiple_of(4), 0);
    response.append(&mut text);
    response
}

fn number(lun: Lun) -> u64 {
    u64::from_be_bytes(lun.0) >> 48
}
