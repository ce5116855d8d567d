//! A shard: one thread, one epoll loop, no locks. It drives a host and exports, and decides nothing.
//!
//! One turn of the loop: wait; read all that is readable; let the machines work until none has anything more
//! to say; then flush each socket once. So system calls are per batch, not per request.

mod clients;
mod control;
mod disks;
mod events;
mod explain;
mod memory;
mod muting;
mod nexus;
mod placement;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration as StdDuration;

use clock::{Duration, Instant};
use host::{Action, Host, Timers};
use mio::{Events, Poll, Token};

use crate::config::ShardConfig;
use crate::status::{Notice, NoticeKind, Severity};

pub use control::{AskError, Message, ShardHandle, StartError};

use clients::{Client, Listener};
use memory::Memory;
use nexus::Connection;
use placement::Placement;

/// Events taken from the kernel in one turn; more simply come in the next one.
const EVENTS_PER_TURN: usize = 256;
/// Notices that wait for a reader; a reader that is too slow loses the oldest ones' successors, not the shard.
const NOTICES_MAX: usize = 1024;
/// How long a shard waits for clients, disks and targets when it is told to end. Longer than one NOP timeout.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);
/// A portal that has not answered by then does not keep the disks that were found from being served.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// Whatever can wake a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    Control,
    Listener(u32),
    Client(u32),
    Nexus(u32),
}

/// A turn that took so many answers is one of many: the load is deep, and more are on their way.
const DEEP_LOAD: usize = 4;
/// How long to look for news under deep load before going to sleep: about what it takes to go to sleep and be woken, which
/// would be charged to the target that sends the answers.
const LOOK_FOR: StdDuration = StdDuration::from_micros(5);

/// Bits of a token that say which one of its kind a source is.
const INDEX_BITS: u32 = 32;

impl Source {
    pub(crate) const fn token(self) -> Token {
        let (kind, index) = match self {
            Self::Control => (0, 0),
            Self::Listener(index) => (1, index),
            Self::Client(index) => (2, index),
            Self::Nexus(index) => (3, index),
        };
        Token(kind << INDEX_BITS | index as usize)
    }

    fn of(token: Token) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the low half is the index")]
        let index = token.0 as u32;
        match token.0 >> INDEX_BITS {
            1 => Self::Listener(index),
            2 => Self::Client(index),
            3 => Self::Nexus(index),
            _ => Self::Control,
        }
    }
}

/// Where the shard is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Portals are being asked for the first time; clients wait in the listen backlog.
    Settling {
        until: Instant,
    },
    Serving,
    /// Clients are told, then disks flush and sessions log out.
    Ending {
        until: Instant,
        awaited: Awaited,
    },
    Ended {
        clean: bool,
    },
}

/// What an end waits for, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Clients,
    Host,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Shard {
    config: ShardConfig,
    poll: Poll,
    started: std::time::Instant,
    /// The wall clock at that moment, in milliseconds since 1970.
    started_unix_ms: u64,
    now: Instant,
    life: Life,
    /// The sessions, and the disks that come out of them.
    host: Host,
    /// Where it is stored what the host wants to be remembered; none if nothing is.
    memory: Option<Memory>,
    /// Of clients; the host has its own.
    timers: Timers<u32>,
    /// Clients that were handed an event and whose actions were not yet taken.
    touched: Agenda,
    /// What to flush at the end of the turn.
    dirty: Unsent,
    /// Sockets that have more to read than one turn allows, or whose machine would not read.
    ready: Agenda,
    /// Commands that came back in this turn.
    answers: usize,
    placement: Placement,
    /// By the nexuses that they are of.
    connections: Vec<Option<Connection>>,
    listeners: Vec<Listener>,
    clients: Vec<Option<Client>>,
    /// Those that are not listened to for a moment.
    mute: Vec<u32>,
    inbox: control::Inbox,
    /// For whoever knows where to find other credentials.
    credentials_refused: Arc<AtomicBool>,
    /// Verbs that the host has not answered.
    verbs: control::Verbs,
    notices: control::Notices,
}

/// A queue in which every source stands at most once.
#[derive(Debug, Default)]
struct Agenda {
    queue: VecDeque<Source>,
    listed: std::collections::HashSet<Source>,
}

impl Agenda {
    fn add(&mut self, source: Source) {
        if self.listed.insert(source) {
            self.queue.push_back(source);
        }
    }

    fn next(&mut self) -> Option<Source> {
        let source = self.queue.pop_front()?;
        self.listed.remove(&source);
        Some(source)
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn len(&self) -> usize {
        self.queue.len()
    }
}

/// Whom there is something to be sent to: targets first, so that they are at work while clients take their answers.
#[derive(Debug, Default)]
struct Unsent {
    targets: Agenda,
    clients: Agenda,
}

impl Unsent {
    fn add(&mut self, source: Source) {
        let agenda = if let Source::Nexus(_) = source { &mut self.targets } else { &mut self.clients };
        agenda.add(source);
    }

    fn next(&mut self) -> Option<Source> {
        self.targets.next().or_else(|| self.clients.next())
    }

    fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.clients.is_empty()
    }

    fn len(&self) -> usize {
        self.targets.len() + self.clients.len()
    }
}

impl Shard {
    /// Runs until told to end.
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        self.host.handle(self.now, host::Event::Start);
        self.settle();
        while !matches!(self.life, Life::Ended { .. }) {
            if let Err(error) = self.wait(&mut events) {
                self.notice(Severity::Error, NoticeKind::Other, format!("epoll failed: {error}"));
                break;
            }
            self.turn(&events);
        }
        let clean = self.life == Life::Ended { clean: true };
        // Their files go before anybody hears that we are gone.
        self.listeners.clear();
        if let Some(memory) = self.memory.take_if(|_| clean) {
            memory.end();
        }
        self.notices.send_last(Notice {
            severity: Severity::Info,
            text: String::from("shard ended"),
            kind: NoticeKind::Ended { clean },
        });
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let is_deep = self.answers >= DEEP_LOAD || !self.mute.is_empty();
        if is_deep && self.ready.is_empty() {
            let begun = std::time::Instant::now();
            while begun.elapsed() < LOOK_FOR {
                self.look(events, Some(StdDuration::ZERO))?;
                if !events.is_empty() {
                    return Ok(());
                }
                // Clients and targets may wait for this CPU. What they do first makes the next batch larger.
                std::thread::yield_now();
            }
        }
        self.look(events, self.patience())
    }

    /// How long to sleep; none if nothing is due.
    fn patience(&self) -> Option<StdDuration> {
        if !self.ready.is_empty() {
            return Some(StdDuration::ZERO);
        }
        let own = match self.life {
            Life::Settling { until } | Life::Ending { until, .. } => Some(until.since(self.now)),
            Life::Serving | Life::Ended { .. } => None,
        };
        let unanswered = (!self.mute.is_empty()).then_some(muting::UNANSWERED_MAX);
        // epoll counts milliseconds, and mio rounds up to them.
        let machines = [self.timers.next(), self.host.poll_timeout()];
        machines
            .map(|due| due.map(|due| due.since(self.now)))
            .into_iter()
            .chain([own, unanswered])
            .flatten()
            .min()
            .map(StdDuration::from)
    }

    fn look(&mut self, events: &mut Events, timeout: Option<StdDuration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }

    fn turn(&mut self, events: &Events) {
        let answered = self.host.answered();
        self.now = Instant::from_nanos(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        self.look_at_mute_clients();
        for event in events {
            self.take_edge(Source::of(event.token()), event);
        }
        for _ in 0..self.ready.len() {
            let Some(source) = self.ready.next() else { break };
            self.read(source);
        }
        while let Some(client) = self.timers.pop(self.now) {
            self.expire_client(client);
        }
        if self.host.poll_timeout().is_some_and(|due| due <= self.now) {
            self.host.handle(self.now, host::Event::Timeout);
        }
        self.settle();
        while self.advance_life() {
            self.settle();
        }
        while !self.dirty.is_empty() {
            for _ in 0..self.dirty.len() {
                let Some(source) = self.dirty.next() else { break };
                self.flush(source);
            }
            // A failed flush ends a nexus, and that hands its commands to other paths, which are to be flushed too.
            self.settle();
        }
        self.answers = usize::try_from(self.host.answered() - answered).unwrap_or(usize::MAX);
        let matters = self.answers >= DEEP_LOAD || self.placement.is_away();
        if matters && self.placement.is_due(self.now) {
            self.place(events);
        }
    }

    /// Leaves the CPU if it is in somebody's way.
    fn place(&mut self, events: &Events) {
        let nexus = events.iter().find_map(|event| match Source::of(event.token()) {
            Source::Nexus(index) => Some(index),
            _ => None,
        });
        let arrivals = nexus.and_then(|index| self.arrival_cpu(index));
        self.placement.look(self.now, self.host.answered(), arrivals);
    }

    fn take_edge(&mut self, source: Source, event: &mio::event::Event) {
        match source {
            Source::Control => {
                self.take_messages();
                self.take_outcomes();
            }
            Source::Listener(index) => self.accept(index),
            Source::Client(index) => {
                if let Some(client) = self.clients.get_mut(index as usize).and_then(Option::as_mut) {
                    client.stream.note(event);
                }
            }
            Source::Nexus(index) => self.note_nexus_edge(index, event),
        }
        if matches!(source, Source::Client(_) | Source::Nexus(_)) {
            self.ready.add(source);
            self.dirty.add(source);
        }
    }

    fn read(&mut self, source: Source) {
        match source {
            Source::Client(index) => self.read_client(index),
            Source::Nexus(index) => self.read_nexus(index),
            Source::Control | Source::Listener(_) => {}
        }
    }

    /// Lets the machines talk until none has anything more to say.
    fn settle(&mut self) {
        loop {
            while let Some(source) = self.touched.next() {
                if let Source::Client(index) = source {
                    self.drain_client(index);
                }
                self.dirty.add(source);
            }
            while let Some(action) = self.host.poll_action() {
                self.take_action(action);
            }
            if self.touched.is_empty() {
                return;
            }
        }
    }

    fn take_action(&mut self, action: Action) {
        match action {
            Action::Complete(request, completion) => self.complete(request, completion),
            Action::Flush { nexus } => self.dirty.add(Source::Nexus(nexus.0)),
            Action::Connect { nexus, address } => self.connect(nexus, address),
            Action::Disconnect { nexus, how } => self.disconnect(nexus, how),
            // A client is told what there is when it comes.
            Action::Ready { .. } | Action::Trace(_) => {}
            Action::Resized { disk, geometry } => self.resize_clients(disk, geometry),
            Action::Gone { disk } => self.detach_clients(disk.0),
            Action::Notice(notice) => self.tell(notice.into()),
            Action::CredentialsRefused => self.credentials_refused.store(true, Ordering::Relaxed),
            Action::Answer { ticket, outcome } => self.verbs.answer(ticket, outcome),
            Action::Persist(state) => self.store(state),
            Action::Ended { clean } => self.life = Life::Ended { clean },
        }
    }

    fn flush(&mut self, source: Source) {
        match source {
            Source::Client(index) => self.flush_client(index),
            Source::Nexus(index) => self.flush_nexus(index),
            Source::Control | Source::Listener(_) => {}
        }
    }

    pub(crate) fn notice(&mut self, severity: Severity, kind: NoticeKind, text: String) {
        self.host.note(self.now, severity, text.clone());
        self.tell(Notice { severity, text, kind });
    }

    fn tell(&mut self, notice: Notice) {
        let text = &notice.text;
        match notice.severity {
            Severity::Info => tracing::info!("{text}"),
            Severity::Warning => tracing::warn!("{text}"),
            Severity::Error => tracing::error!("{text}"),
        }
        self.notices.send(notice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_sent_to_before_clients() {
        let mut unsent = Unsent::default();
        for source in
            [Source::Client(0), Source::Nexus(3), Source::Client(1), Source::Nexus(2), Source::Nexus(3)]
        {
            unsent.add(source);
        }
        let order: Vec<Source> = std::iter::from_fn(|| unsent.next()).collect();
        assert_eq!(order, [Source::Nexus(3), Source::Nexus(2), Source::Client(0), Source::Client(1)]);
        assert!(unsent.is_empty());
    }
}
