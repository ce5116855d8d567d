//! Byte streams between the parts of the world, with latency, jitter, and everything that goes wrong with streams.
//!
//! Each connection has two pipes. What is sent stands in a pipe until it arrives; what has arrived stands there until
//! it is read, so that a peer that does not read makes the sender wait, as TCP does.

mod pdu_stream;
mod tamper;

use std::collections::{BTreeMap, VecDeque};
use std::io::{IoSlice, IoSliceMut};

use clock::{Duration, Instant};
use iscsi::pdu::{Header, Opcode};

use crate::random::Random;

pub(crate) use pdu_stream::Seen;
use pdu_stream::{Digests, PduStream};
pub(crate) use tamper::Tamper;
use tamper::Tampering;

/// Names a connection; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u32);

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Who connected.
    Near,
    /// Who accepted.
    Far,
}

/// Where a connection leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Door {
    /// A port of the array, counted from 0.
    Port(usize),
    /// The NBD server.
    Export,
}

/// Bytes that a pipe takes before the sender has to wait: a usual socket buffer.
const WINDOW: usize = 256 << 10;
/// The longest piece that travels at once: what one segmentation offload carries.
const SEGMENT: usize = 64 << 10;
const NANOS_A_SECOND: u64 = 1_000_000_000;
/// How many slices are gathered at once.
const SLICES_MAX: usize = 64;

/// What travels.
#[derive(Debug)]
enum Item {
    /// The request for a connection, and its acceptance.
    Open,
    Bytes(Vec<u8>),
    /// The sender says no more.
    Finish,
    Reset,
}

/// What a pipe has for its reader now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    Nothing,
    Open,
    Bytes,
    Finish,
    Reset,
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    items: VecDeque<(Option<Instant>, Item)>,
    /// How much of the first item was read.
    offset: usize,
    /// Sent and not read.
    bytes: usize,
    last: Instant,
    /// The sender wanted to send more than the window takes.
    is_full: bool,
    /// Nobody reads any more.
    is_deaf: bool,
    /// After so many bytes more both ends are reset.
    cut: Option<usize>,
    /// The byte that is damaged, counted from the next one.
    flip: Option<usize>,
    /// What is sent stays where it is until this ends.
    is_stranded: bool,
    tampering: Tampering,
    /// What the initiator sees of it.
    tap: PduStream,
}

/// Something that can be seen at the initiator's end of an iSCSI connection.
#[derive(Debug)]
pub(crate) enum Sighting {
    /// A PDU as the initiator sends it, or as it takes it. `toward`: which end it goes to.
    Pdu { connection: ConnectionId, port: usize, toward: End, seen: Seen },
    /// The initiator closes the connection; `was_told` if it had been told that it is over.
    Closed { connection: ConnectionId, was_told: bool },
}

#[derive(Debug)]
struct Connection {
    door: Door,
    /// Who connected, in its own numbers.
    owner: u32,
    to_near: Pipe,
    to_far: Pipe,
    digests: Digests,
    /// Bytes were damaged: what goes by cannot be told any more.
    is_garbled: bool,
    /// The near end has taken what says that the connection is over.
    near_was_told: bool,
    last_login: Option<Header>,
}

/// How the way through a door is now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) latency: Duration,
    pub(crate) jitter: Duration,
    /// Added by a fault.
    pub(crate) delay: Duration,
    /// How many times as long as usual everything takes.
    pub(crate) factor: u64,
    /// Bytes in a second, if that is limited.
    pub(crate) rate: Option<u64>,
    /// Nothing comes through toward this end.
    pub(crate) hole_to_near: bool,
    pub(crate) hole_to_far: bool,
    /// MaxCmdSN stays as it is.
    pub(crate) window_is_closed: bool,
}

/// What is still delivered of a connection that one end gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Nothing: the other end learns of it at once, through holes too. No real network does that; with it, nothing
    /// can be executed late because of the network.
    Prompt,
    /// What was on its way arrives, and then the reset does.
    InOrder,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Network {
    connections: BTreeMap<ConnectionId, Connection>,
    routes: BTreeMap<Door, Route>,
    closing: Closing,
    next: u32,
    random: Random,
    arrivals: VecDeque<(ConnectionId, End, Instant)>,
    unblocked: VecDeque<(ConnectionId, End)>,
    sightings: VecDeque<Sighting>,
    /// Commands that targets take at a time, if fewer than they could.
    window: Option<u32>,
    /// How often PDUs were tampered with, by the door that they went through.
    strikes: BTreeMap<Door, u64>,
}

impl End {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

impl Connection {
    fn pipe_to(&mut self, end: End) -> &mut Pipe {
        match end {
            End::Near => &mut self.to_near,
            End::Far => &mut self.to_far,
        }
    }
}

impl Network {
    pub(crate) const fn new(closing: Closing, random: Random) -> Self {
        Self {
            connections: BTreeMap::new(),
            routes: BTreeMap::new(),
            closing,
            next: 0,
            random,
            arrivals: VecDeque::new(),
            unblocked: VecDeque::new(),
            sightings: VecDeque::new(),
            window: None,
            strikes: BTreeMap::new(),
        }
    }

    pub(crate) fn add_route(&mut self, door: Door, latency: Duration, jitter: Duration) {
        let route = Route {
            latency,
            jitter,
            delay: Duration::ZERO,
            factor: 1,
            rate: None,
            hole_to_near: false,
            hole_to_far: false,
            window_is_closed: false,
        };
        self.routes.insert(door, route);
    }

    pub(crate) fn route_mut(&mut self, door: Door) -> &mut Route {
        self.routes.get_mut(&door).expect("every door has a route")
    }

    pub(crate) fn connect(&mut self, now: Instant, door: Door, owner: u32) -> ConnectionId {
        let id = ConnectionId(self.next);
        self.next += 1;
        let mut connection = Connection {
            door,
            owner,
            to_near: Pipe::default(),
            to_far: Pipe::default(),
            digests: Digests::default(),
            is_garbled: false,
            near_was_told: false,
            last_login: None,
        };
        connection.to_near.tampering.window = self.window;
        self.connections.insert(id, connection);
        self.push(now, id, End::Far, Item::Open);
        id
    }

    pub(crate) fn accept(&mut self, now: Instant, id: ConnectionId) {
        self.push(now, id, End::Near, Item::Open);
    }

    pub(crate) fn door(&self, id: ConnectionId) -> Option<Door> {
        self.connections.get(&id).map(|connection| connection.door)
    }

    /// Who connected.
    pub(crate) fn owner(&self, id: ConnectionId) -> Option<u32> {
        self.connections.get(&id).map(|connection| connection.owner)
    }

    /// Connections through a door, oldest first.
    pub(crate) fn through(&self, door: Door) -> Vec<ConnectionId> {
        self.connections.iter().filter(|(_, it)| it.door == door).map(|(id, _)| *id).collect()
    }

    /// Takes from `slices` as many bytes as there is room for; says how many.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        id: ConnectionId,
        from: End,
        slices: &[IoSlice<'_>],
    ) -> usize {
        let mut room = self.room(id, from).min(SEGMENT);
        let mut bytes = Vec::new();
        for slice in slices {
            let length = slice.len().min(room);
            bytes.extend_from_slice(&slice[..length]);
            room -= length;
        }
        let sent = bytes.len();
        if sent > 0 {
            self.push_bytes(now, id, from.other(), bytes);
        }
        sent
    }

    /// How many bytes an end may send now.
    fn room(&mut self, id: ConnectionId, from: End) -> usize {
        let Some(connection) = self.connections.get_mut(&id) else { return 0 };
        let pipe = connection.pipe_to(from.other());
        let room = WINDOW.saturating_sub(pipe.bytes);
        pipe.is_full = room == 0;
        room
    }

    /// What has arrived at an end and was not read.
    pub(crate) fn arrived(&mut self, now: Instant, id: ConnectionId, at: End) -> Arrived {
        let Some(connection) = self.connections.get_mut(&id) else { return Arrived::Nothing };
        match connection.pipe_to(at).items.front() {
            Some((Some(due), item)) if *due <= now => match item {
                Item::Open => Arrived::Open,
                Item::Bytes(_) => Arrived::Bytes,
                Item::Finish => Arrived::Finish,
                Item::Reset => Arrived::Reset,
            },
            _ => Arrived::Nothing,
        }
    }

    /// Takes the connection request, its acceptance, or the end of the stream out of the pipe.
    pub(crate) fn take_signal(&mut self, now: Instant, id: ConnectionId, at: End) -> Arrived {
        let arrived = self.arrived(now, id, at);
        if !matches!(arrived, Arrived::Nothing | Arrived::Bytes)
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.pipe_to(at).items.pop_front();
            connection.near_was_told |= at == End::Near && arrived != Arrived::Open;
            self.announce(id, at);
        }
        arrived
    }

    /// Fills `slices` with what has arrived; says how many bytes that were.
    pub(crate) fn read(
        &mut self,
        now: Instant,
        id: ConnectionId,
        at: End,
        slices: &mut [IoSliceMut<'_>],
    ) -> usize {
        let Some(connection) = self.connections.get_mut(&id) else { return 0 };
        let pipe = connection.pipe_to(at);
        let mut count = 0;
        for slice in slices.iter_mut() {
            let mut filled = 0;
            while filled < slice.len() {
                let taken = pipe.take(now, &mut slice[filled..]);
                if taken == 0 {
                    break;
                }
                filled += taken;
            }
            count += filled;
        }
        if count > 0 && std::mem::take(&mut pipe.is_full) {
            self.unblocked.push_back((id, at.other()));
        }
        if at == End::Near {
            let mut left = count;
            for slice in slices {
                let length = left.min(slice.len());
                self.tap(id, End::Near, &slice[..length]);
                left -= length;
            }
        }
        count
    }

    /// Shows checkers what goes by at the initiator's end.
    fn tap(&mut self, id: ConnectionId, toward: End, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Door::Port(port) = connection.door else { return };
        if connection.is_garbled || bytes.is_empty() {
            return;
        }
        let mut digests = connection.digests;
        let mut last_login = connection.last_login;
        let sightings = &mut self.sightings;
        connection.pipe_to(toward).tap.feed(&mut digests, bytes, |seen| {
            if seen.header.opcode() == Opcode::LoginRequest {
                last_login = Some(seen.header);
            }
            sightings.push_back(Sighting::Pdu { connection: id, port, toward, seen });
        });
        connection.digests = digests;
        connection.last_login = last_login;
    }

    pub(crate) fn poll_sighting(&mut self) -> Option<Sighting> {
        self.sightings.pop_front()
    }

    /// The last login request that was sent on a connection.
    pub(crate) fn last_login(&self, id: ConnectionId) -> Option<Header> {
        self.connections.get(&id)?.last_login
    }

    /// From now on targets take so many commands at a time.
    pub(crate) fn limit_window(&mut self, window: u32) {
        self.window = Some(window);
    }

    /// Waits for what comes next, unless that is there and its reader does not want it yet.
    pub(crate) fn await_next(&mut self, now: Instant, id: ConnectionId, at: End) {
        if self.arrived(now, id, at) != Arrived::Bytes {
            self.announce(id, at);
        }
    }

    /// One end gives the connection up with a reset. What it had still to read is nobody's.
    pub(crate) fn reset(&mut self, now: Instant, id: ConnectionId, from: End) {
        let closing = self.closing;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let own = connection.pipe_to(from);
        if own.is_deaf {
            return;
        }
        own.silence();
        if from == End::Near && connection.door != Door::Export {
            let was_told = connection.near_was_told;
            self.sightings.push_back(Sighting::Closed { connection: id, was_told });
        }
        let other = connection.pipe_to(from.other());
        if other.is_deaf {
            self.connections.remove(&id);
            return;
        }
        match closing {
            Closing::Prompt => {
                other.silence_until_reset(now);
                self.announce(id, from.other());
            }
            Closing::InOrder => self.push(now, id, from.other(), Item::Reset),
        }
    }

    /// Somebody in the middle says to one end that the stream is over.
    pub(crate) fn finish(&mut self, now: Instant, id: ConnectionId, toward: End) {
        self.push(now, id, toward, Item::Finish);
    }

    /// Somebody in the middle resets both ends after so many bytes more.
    pub(crate) fn cut(&mut self, id: ConnectionId, toward: End, bytes: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.pipe_to(toward).cut = Some(bytes);
        }
    }

    /// Somebody in the middle resets both ends.
    pub(crate) fn sever(&mut self, now: Instant, id: ConnectionId) {
        self.push(now, id, End::Near, Item::Reset);
        self.push(now, id, End::Far, Item::Reset);
    }

    /// The near end is told that the connection is lost, and what it has sent since `now` stays on its way. Says how
    /// many bytes that are already.
    pub(crate) fn strand(&mut self, now: Instant, id: ConnectionId, after: Duration) -> usize {
        let Some(connection) = self.connections.get_mut(&id) else { return 0 };
        let pipe = &mut connection.to_far;
        pipe.is_stranded = true;
        for (due, _) in pipe.items.iter_mut().filter(|(due, _)| due.is_some_and(|due| due > now)) {
            *due = None;
        }
        let bytes = pipe.bytes;
        let near = &mut connection.to_near;
        near.last = near.last.max(now + after);
        let at = near.last;
        near.items.push_back((Some(at), Item::Reset));
        self.announce(id, End::Near);
        bytes
    }

    /// What was stranded arrives.
    pub(crate) fn release_stranded(&mut self, now: Instant, door: Door) {
        for id in self.through(door) {
            let at = self.due(now, door);
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if std::mem::take(&mut connection.to_far.is_stranded) {
                connection.to_far.release_held(at);
                self.announce(id, End::Far);
            }
        }
    }

    /// Changes the next PDU toward an end that can be changed so.
    pub(crate) fn tamper(&mut self, id: ConnectionId, toward: End, tamper: Tamper) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.pipe_to(toward).tampering.arm(tamper);
        }
    }

    /// How many PDUs were tampered with through a door since this was asked, or were told that the window is closed.
    pub(crate) fn take_strikes(&mut self, door: Door) -> u64 {
        self.strikes.remove(&door).unwrap_or_default()
    }

    /// Damages one bit of the byte that comes so many bytes later.
    pub(crate) fn flip(&mut self, id: ConnectionId, toward: End, bytes: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.pipe_to(toward).flip = Some(bytes);
        }
    }

    /// No PDU is tampered with any more on the way through a door.
    pub(crate) fn spare(&mut self, door: Door) {
        for connection in self.connections.values_mut().filter(|it| it.door == door) {
            connection.to_near.tampering.disarm();
            connection.to_far.tampering.disarm();
        }
    }

    /// No stream is cut or damaged any more.
    pub(crate) fn spare_all(&mut self) {
        for connection in self.connections.values_mut() {
            for pipe in [&mut connection.to_near, &mut connection.to_far] {
                (pipe.cut, pipe.flip) = (None, None);
                pipe.tampering.disarm();
            }
        }
    }

    /// Ends the holes of a door. What stood in them arrives now; what belongs to a connection that its sender gave up
    /// is `forgotten`, as by a network that repeats nothing for the dead.
    pub(crate) fn heal(&mut self, now: Instant, door: Door, forgotten: bool) {
        let route = self.route_mut(door);
        route.hole_to_near = false;
        route.hole_to_far = false;
        for id in self.through(door) {
            for end in [End::Near, End::Far] {
                let at = self.due(now, door);
                let Some(connection) = self.connections.get_mut(&id) else { continue };
                let sender_is_gone = connection.pipe_to(end.other()).is_deaf;
                let pipe = connection.pipe_to(end);
                if pipe.is_stranded {
                    continue;
                }
                if forgotten && sender_is_gone {
                    pipe.drop_held();
                } else {
                    pipe.release_held(at);
                }
                self.announce(id, end);
            }
        }
    }

    /// Which arrivals have to be waited for anew.
    pub(crate) fn poll_arrival(&mut self) -> Option<(ConnectionId, End, Instant)> {
        self.arrivals.pop_front()
    }

    /// Who may send again.
    pub(crate) fn poll_unblocked(&mut self) -> Option<(ConnectionId, End)> {
        self.unblocked.pop_front()
    }

    fn push_bytes(&mut self, now: Instant, id: ConnectionId, toward: End, mut bytes: Vec<u8>) {
        if toward == End::Far {
            self.tap(id, End::Far, &bytes);
        }
        let is_closed = self.door(id).is_some_and(|door| self.routes[&door].window_is_closed);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let door = connection.door;
        let pipe = connection.pipe_to(toward);
        if door != Door::Export {
            bytes = pipe.tampering.pass(&bytes, is_closed && toward == End::Near);
            let strikes = std::mem::take(&mut pipe.tampering.strikes);
            if strikes > 0 {
                *self.strikes.entry(door).or_default() += strikes;
            }
        }
        if let Some(at) = pipe.flip.take() {
            match bytes.get_mut(at) {
                Some(byte) => {
                    *byte ^= 0x10;
                    connection.is_garbled = true;
                }
                None => pipe.flip = Some(at - bytes.len()),
            }
        }
        let pipe = connection.pipe_to(toward);
        let cut = match pipe.cut.take() {
            Some(at) if at <= bytes.len() => {
                bytes.truncate(at);
                true
            }
            Some(at) => {
                pipe.cut = Some(at - bytes.len());
                false
            }
            None => false,
        };
        if !bytes.is_empty() {
            self.push(now, id, toward, Item::Bytes(bytes));
        }
        if cut {
            self.push(now, id, toward, Item::Reset);
            self.push(now, id, toward.other(), Item::Reset);
        }
    }

    fn push(&mut self, now: Instant, id: ConnectionId, toward: End, item: Item) {
        let Some(door) = self.door(id) else { return };
        let due = self.due(now, door);
        let route = self.routes[&door];
        let in_hole = match toward {
            End::Near => route.hole_to_near,
            End::Far => route.hole_to_far,
        };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let pipe = connection.pipe_to(toward);
        if pipe.is_deaf {
            return;
        }
        // What stands behind something that is held is held too: a stream keeps its order.
        let is_held = in_hole || pipe.is_stranded || pipe.items.back().is_some_and(|(due, _)| due.is_none());
        pipe.last = pipe.last.max(due);
        if let (Item::Bytes(bytes), Some(rate)) = (&item, route.rate) {
            let nanos = bytes.len() as u64 * NANOS_A_SECOND / rate.max(1);
            pipe.last = pipe.last + Duration::from_nanos(nanos);
        }
        let at = (!is_held).then_some(pipe.last);
        if let Item::Bytes(bytes) = &item {
            pipe.bytes += bytes.len();
        }
        pipe.items.push_back((at, item));
        if pipe.items.len() == 1 {
            self.announce(id, toward);
        }
    }

    /// When something that is sent now arrives.
    fn due(&mut self, now: Instant, door: Door) -> Instant {
        let route = self.routes[&door];
        let jitter = Duration::from_nanos(self.random.below(route.jitter.as_nanos().max(1)));
        now + (route.latency + jitter).saturating_mul(route.factor) + route.delay
    }

    fn announce(&mut self, id: ConnectionId, at: End) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Some((Some(due), _)) = connection.pipe_to(at).items.front() {
            self.arrivals.push_back((id, at, *due));
        }
    }
}

impl Pipe {
    /// Reads from the first item.
    fn take(&mut self, now: Instant, into: &mut [u8]) -> usize {
        let Some((Some(due), Item::Bytes(bytes))) = self.items.front() else { return 0 };
        if *due > now {
            return 0;
        }
        let rest = &bytes[self.offset..];
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        self.bytes -= length;
        if length == rest.len() {
            self.items.pop_front();
            self.offset = 0;
        } else {
            self.offset += length;
        }
        length
    }

    fn silence(&mut self) {
        self.is_deaf = true;
        self.items.clear();
        self.offset = 0;
        self.bytes = 0;
    }

    fn silence_until_reset(&mut self, now: Instant) {
        self.items.clear();
        self.offset = 0;
        self.bytes = 0;
        self.items.push_back((Some(now), Item::Reset));
    }

    fn drop_held(&mut self) {
        while self.items.back().is_some_and(|(due, _)| due.is_none()) {
            if let Some((_, Item::Bytes(bytes))) = self.items.pop_back() {
                self.bytes -= bytes.len();
            }
        }
    }

    fn release_held(&mut self, at: Instant) {
        let at = at.max(self.last);
        for (due, _) in self.items.iter_mut().filter(|(due, _)| due.is_none()) {
            *due = Some(at);
        }
        self.last = at;
    }
}

/// A machine at an end of a stream: the sessions of the wire crates, and the simulated client.
pub(crate) trait Wire {
    /// Memory for the next bytes. Both empty: do not read now.
    fn receive_into(&mut self) -> [IoSliceMut<'_>; 2];
    fn received(&mut self, now: Instant, count: usize);
    fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize;
    fn sent(&mut self, now: Instant, count: usize);
}

/// Reads as long as there is something and the machine takes it; true if anything was read.
pub(crate) fn receive(
    network: &mut Network,
    now: Instant,
    id: ConnectionId,
    at: End,
    machine: &mut impl Wire,
) -> bool {
    let mut any = false;
    while network.arrived(now, id, at) == Arrived::Bytes {
        let count = network.read(now, id, at, &mut machine.receive_into());
        if count == 0 {
            break;
        }
        machine.received(now, count);
        any = true;
    }
    network.await_next(now, id, at);
    any
}

/// Sends all that there is room for.
pub(crate) fn flush(
    network: &mut Network,
    now: Instant,
    id: ConnectionId,
    from: End,
    machine: &mut impl Wire,
) {
    loop {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = machine.transmit(&mut slices);
        if count == 0 {
            return;
        }
        let sent = network.send(now, id, from, &slices[..count]);
        if sent == 0 {
            return;
        }
        machine.sent(now, sent);
    }
}
