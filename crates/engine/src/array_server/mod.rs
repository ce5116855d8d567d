//! The embedded array on real sockets: iSCSI portals in front, one [`array::Array`] behind, on a thread of its own.

mod behaviour;
mod connections;
mod file_store;
mod shared_store;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration as StdDuration;

use array::{AccessState, Array, Counters, GroupId, NexusId, PortId};
use clock::Instant;
use host::Timers;
use iscsi::chap::{Credentials, Secret};
use iscsi::name::Name;
use iscsi::target::{Chap, Portal, Portals, Sessions, Target};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::config::ChapConfig;

pub use behaviour::{Behaviour, Profile, STUCK_MARKER, Slow, Sticking, Stuck};

use behaviour::Holder;
use connections::Connection;
use file_store::FileStore;
use shared_store::SharedStore;

/// Events taken from the kernel in one turn.
const EVENTS_PER_TURN: usize = 256;
/// Messages that wait for the array.
const MESSAGES_MAX: usize = 64;
/// Connections at the same time over all ports.
const CONNECTIONS_MAX: usize = 1024;
/// The token of the waker; ports and connections follow.
const WAKER: Token = Token(0);
/// Tokens below this are ports.
const FIRST_CONNECTION: usize = 1 << 16;

/// What an array is made of.
#[derive(Debug, Clone)]
pub struct ArrayConfig {
    /// One for each target port; port 0 takes any free one. An even number is split over two controllers.
    pub portals: Vec<SocketAddr>,
    pub target_name: String,
    pub units: Vec<UnitConfig>,
    pub chap: Option<ChapConfig>,
    pub behaviour: Behaviour,
}

/// One logical unit, at the LUN of its place in the list.
#[derive(Debug, Clone)]
pub struct UnitConfig {
    /// Bytes.
    pub size: u64,
    pub block_size: u32,
    /// In memory if not given.
    pub file: Option<PathBuf>,
    /// Made from the identity if not given.
    pub serial: Option<String>,
    /// The identity is made from this; the LUN plus one if not given.
    pub number: Option<u64>,
    pub thin: bool,
    pub read_only: bool,
    /// As VPD page B1h says it: 1 not rotating, else revolutions in a minute; 1 if not given.
    pub rotation_rate: Option<u16>,
    /// It shows no identity (VPD page 83h).
    pub is_nameless: bool,
    /// The controller whose group is optimized and preferred, counted from 0, while the others' are non-optimized;
    /// all are optimized if not given.
    pub owner: Option<u16>,
}

/// What is wrong with a port, from the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortFault {
    None,
    /// Its connections are reset, and so is every new one.
    Reset,
    /// Its connections stay, and nothing is read or written on them any more.
    BlackHole,
}

/// Why an array could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ArrayError {
    #[error("cannot listen on {address}: {reason}")]
    Listen { address: SocketAddr, reason: String },
    #[error("cannot open {path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("the CHAP secret is not usable: {0}")]
    Secret(String),
    #[error("the target name '{name}' is not an iSCSI name: {reason}")]
    Name { name: String, reason: String },
    #[error("there is no port {0} that could be slow or fail")]
    NoSuchPort(usize),
    #[error("an array needs at least one portal and one logical unit")]
    Empty,
    #[error("cannot create the event loop: {0}")]
    Poll(#[from] std::io::Error),
}

enum Message {
    Port(usize, PortFault),
    Array(Box<array::Event>),
    Status(SyncSender<ArrayStatus>),
    Shutdown,
}

/// How an array stands and what went through it. Of [`Profile::Gateways`], the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayStatus {
    /// With one access state for each port group, in the order of their numbers, from 1.
    pub units: Vec<UnitStatus>,
    pub ports: Vec<Counters>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitStatus {
    pub access: Vec<AccessState>,
    pub preferred: Option<u16>,
}

/// Reaches a running array from another thread.
#[derive(Debug, Clone)]
pub struct ArrayRemote {
    messages: SyncSender<Message>,
    waker: Arc<Waker>,
}

/// A running array.
#[derive(Debug)]
pub struct ArrayHandle {
    remote: ArrayRemote,
    thread: Option<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Port {
    listener: TcpListener,
    id: PortId,
    /// The portal group: one for each controller.
    group: u16,
    /// Which of the arrays it belongs to: one for all, or one for each controller.
    array: usize,
    fault: PortFault,
}

#[derive(Debug)]
struct Server {
    poll: Poll,
    started: std::time::Instant,
    now: Instant,
    /// One, or one for each of several gateways.
    arrays: Vec<Array>,
    profile: Profile,
    holder: Option<Holder>,
    portals: Arc<Portals>,
    ports: Vec<Port>,
    connections: HashMap<u32, Connection>,
    next_connection: u32,
    sessions: Sessions<u32>,
    /// Which connection a nexus is.
    nexuses: HashMap<NexusId, u32>,
    /// Logins that wait until the nexus that they replace is drained: connection and TSIH.
    reinstating: HashMap<NexusId, (u32, u16)>,
    timers: Timers<Source>,
    touched: VecDeque<u32>,
    dirty: HashSet<u32>,
    ready: VecDeque<u32>,
    messages: Receiver<Message>,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Source {
    Array,
    Connection(u32),
}

impl ArrayHandle {
    /// Starts the array; its ports are bound before this returns.
    ///
    /// # Errors
    /// If a port cannot be bound, a file cannot be opened, or there is nothing to serve.
    pub fn start(config: &ArrayConfig) -> Result<Self, ArrayError> {
        if config.portals.is_empty() || config.units.is_empty() {
            return Err(ArrayError::Empty);
        }
        if let Err(error) = config.target_name.parse::<Name>() {
            return Err(ArrayError::Name { name: config.target_name.clone(), reason: error.to_string() });
        }
        if let Some(port) = config.behaviour.unknown_port(config.portals.len()) {
            return Err(ArrayError::NoSuchPort(usize::from(port) + 1));
        }
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let ports = bind(config, &poll)?;
        let mut addresses = Vec::with_capacity(ports.len());
        for port in &ports {
            addresses.push(port.listener.local_addr()?);
        }
        let portals = portals(config, &addresses, &ports)?;
        let (messages, inbox) = sync_channel(MESSAGES_MAX);
        let server = Server {
            poll,
            started: std::time::Instant::now(),
            now: Instant::START,
            arrays: build(config)?,
            profile: config.behaviour.profile,
            holder: config.behaviour.sticking.map(Holder::new),
            portals: Arc::new(portals),
            ports,
            connections: HashMap::new(),
            next_connection: 0,
            sessions: Sessions::new(CONNECTIONS_MAX),
            nexuses: HashMap::new(),
            reinstating: HashMap::new(),
            timers: Timers::new(),
            touched: VecDeque::new(),
            dirty: HashSet::new(),
            ready: VecDeque::new(),
            messages: inbox,
            ended: false,
        };
        let thread = std::thread::Builder::new().name(String::from("array")).spawn(|| server.run())?;
        Ok(Self { remote: ArrayRemote { messages, waker }, thread: Some(thread), addresses })
    }

    /// Where the ports listen, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// See [`ArrayRemote::set_port`].
    pub fn set_port(&self, port: usize, fault: PortFault) {
        self.remote.set_port(port, fault);
    }

    /// See [`ArrayRemote::tell`].
    pub fn tell(&self, event: array::Event) {
        self.remote.tell(event);
    }

    #[must_use]
    pub fn remote(&self) -> ArrayRemote {
        self.remote.clone()
    }

    /// Closes all connections and ends the thread.
    pub fn shutdown(mut self) {
        self.remote.send(Message::Shutdown);
        if let Some(thread) = self.thread.take() {
            // A panic of the array was printed by its thread already.
            let _ = thread.join();
        }
    }
}

impl ArrayRemote {
    /// Breaks or mends a port, counted from 0. Takes effect at the array's next turn.
    pub fn set_port(&self, port: usize, fault: PortFault) {
        self.send(Message::Port(port, fault));
    }

    /// Tells the array itself something: access states, faults of commands, changes of its units. Of
    /// [`Profile::Gateways`] the first one hears it.
    pub fn tell(&self, event: array::Event) {
        self.send(Message::Array(Box::new(event)));
    }

    /// How it stands now, after all that it was told before. None if it has ended.
    #[must_use]
    pub fn status(&self) -> Option<ArrayStatus> {
        let (answer, status) = sync_channel(1);
        self.send(Message::Status(answer));
        status.recv().ok()
    }

    fn send(&self, message: Message) {
        // An array that has ended has no ports to break.
        if self.messages.send(message).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

fn status(array: &Array) -> ArrayStatus {
    let ports: Vec<_> = array.ports().collect();
    let groups = ports.iter().map(|(_, group, _)| group.0).max().unwrap_or(0);
    let unit = |unit: array::UnitView<'_>| UnitStatus {
        access: (1..=groups).map(|group| unit.access(GroupId(group))).collect(),
        preferred: unit.preferred().map(|group| group.0),
    };
    ArrayStatus {
        units: array.units().map(unit).collect(),
        ports: ports.into_iter().map(|(_, _, counters)| counters).collect(),
    }
}

/// How many controllers and ports for each.
const fn split(ports: usize) -> (usize, usize) {
    if ports.is_multiple_of(2) { (2, ports / 2) } else { (1, ports) }
}

fn bind(config: &ArrayConfig, poll: &Poll) -> Result<Vec<Port>, ArrayError> {
    let (_, per_controller) = split(config.portals.len());
    let mut ports = Vec::with_capacity(config.portals.len());
    for (index, address) in config.portals.iter().enumerate() {
        let listen_failed =
            |error: std::io::Error| ArrayError::Listen { address: *address, reason: error.to_string() };
        let mut listener = TcpListener::bind(*address).map_err(listen_failed)?;
        poll.registry().register(&mut listener, Token(index + 1), Interest::READABLE)?;
        let number = |value: usize| u16::try_from(value).expect("a configuration holds few portals");
        ports.push(Port {
            listener,
            id: PortId(number(index + 1)),
            group: number(index / per_controller + 1),
            array: if config.behaviour.profile == Profile::Gateways { index / per_controller } else { 0 },
            fault: PortFault::None,
        });
    }
    Ok(ports)
}

fn portals(config: &ArrayConfig, addresses: &[SocketAddr], ports: &[Port]) -> Result<Portals, ArrayError> {
    let portals = addresses
        .iter()
        .zip(ports)
        .map(|(address, port)| Portal { address: *address, group: port.group })
        .collect();
    let chap = config.chap.as_ref().map(chap).transpose()?;
    let target = Target {
        name: config.target_name.clone(),
        alias: Some(String::from("smpath array")),
        portals,
        chap: chap.clone(),
    };
    Ok(Portals { targets: vec![target], discovery_chap: chap })
}

fn chap(config: &ChapConfig) -> Result<Chap, ArrayError> {
    let credentials = |name: &str, secret: &[u8]| match Secret::new(secret) {
        Ok(secret) => Ok(Credentials { name: name.to_owned(), secret }),
        Err(error) => Err(ArrayError::Secret(error.to_string())),
    };
    let mutual = config.mutual.as_ref().map(|(name, secret)| credentials(name, secret)).transpose()?;
    Ok(Chap { initiator: credentials(&config.name, &config.secret)?, target: mutual })
}

/// One array, or one for each controller over the same media.
fn build(config: &ArrayConfig) -> Result<Vec<Array>, ArrayError> {
    let (controllers, per_controller) = split(config.portals.len());
    let count = if config.behaviour.profile == Profile::Gateways { controllers } else { 1 };
    let media = config.units.iter().map(medium).collect::<Result<Vec<_>, _>>()?;
    let number = |value: usize| u16::try_from(value).expect("a configuration holds few portals");
    let arrays = (0..count).map(|_| {
        let units = config.units.iter().zip(&media).enumerate();
        let mut array = Array::new(array::Options {
            controllers: number(controllers),
            ports_per_controller: number(per_controller),
            units: units.map(|(lun, (unit, medium))| unit_options(lun, unit, medium.clone())).collect(),
            access_changes: config.behaviour.access_changes,
            ..array::Options::default()
        });
        config.behaviour.profile.set_up(&mut array);
        config.behaviour.set_up_ports(&mut array);
        array
    });
    Ok(arrays.collect())
}

fn medium(unit: &UnitConfig) -> Result<SharedStore, ArrayError> {
    let Some(path) = &unit.file else {
        return Ok(SharedStore::new(Box::new(array::MemoryStore::new(unit.size))));
    };
    match FileStore::open(path, unit.size) {
        Ok(store) => Ok(SharedStore::new(Box::new(store))),
        Err(error) => Err(ArrayError::File { path: path.clone(), reason: error.to_string() }),
    }
}

fn unit_options(lun: usize, unit: &UnitConfig, medium: SharedStore) -> array::UnitOptions {
    let lun = u16::try_from(lun).expect("a configuration holds few units");
    let defaults = array::UnitOptions::memory(lun, 0);
    array::UnitOptions {
        store: Box::new(medium),
        block_size: unit.block_size,
        number: unit.number.unwrap_or(defaults.number),
        serial: unit.serial.clone().unwrap_or_default(),
        provisioning: if unit.thin { array::Provisioning::Thin } else { array::Provisioning::Full },
        protection: if unit.read_only {
            array::WriteProtection::ReadOnly
        } else {
            array::WriteProtection::Writable
        },
        rotation_rate: unit.rotation_rate.unwrap_or(defaults.rotation_rate),
        shown: if unit.is_nameless { array::ShownIdentity::Nothing } else { array::ShownIdentity::Own },
        owner: unit.owner,
        ..defaults
    }
}

impl Server {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        while !self.ended {
            let wait = if self.ready.is_empty() {
                // epoll counts milliseconds, and mio rounds up to them.
                self.timers.next().map(|due| due.since(self.now).into())
            } else {
                Some(StdDuration::ZERO)
            };
            match self.poll.poll(&mut events, wait) {
                Ok(()) => self.turn(&events),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!("the array's epoll failed: {error}");
                    return;
                }
            }
        }
    }

    fn turn(&mut self, events: &Events) {
        self.now = Instant::from_nanos(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        for event in events {
            match event.token() {
                WAKER => self.take_messages(),
                Token(port) if port < FIRST_CONNECTION => self.accept(port - 1),
                Token(connection) => self.note(connection - FIRST_CONNECTION, event),
            }
        }
        for _ in 0..self.ready.len() {
            let Some(connection) = self.ready.pop_front() else { break };
            self.read(connection);
        }
        while let Some(source) = self.timers.pop(self.now) {
            match source {
                Source::Array => {
                    for array in &mut self.arrays {
                        array.handle(self.now, array::Event::Timeout);
                    }
                    self.drain_arrays();
                }
                Source::Connection(connection) => self.expire(connection),
            }
        }
        self.settle();
        let dirty: Vec<u32> = self.dirty.drain().collect();
        for connection in dirty {
            self.flush(connection);
        }
        self.timers.arm(Source::Array, self.arrays.iter().filter_map(Array::poll_timeout).min());
    }

    fn take_messages(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Port(port, fault) => self.break_port(port, fault),
                Message::Array(event) => {
                    self.arrays[0].handle(self.now, *event);
                    self.drain_arrays();
                }
                Message::Status(answer) => {
                    // Whoever asked may have gone.
                    let _ = answer.try_send(status(&self.arrays[0]));
                }
                Message::Shutdown => self.ended = true,
            }
        }
    }
}
