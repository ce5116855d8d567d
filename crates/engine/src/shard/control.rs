//! How the rest of the program talks to a shard: messages in, answers and notices out, all through bounded queues.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration as StdDuration;

use clock::{Duration, Instant};
use host::{Event, Host, Ticket, Timers, Verb, VerbError};
use mio::{Poll, Waker};
use multipath::Policy;

use super::clients::Listener;
use super::memory::Memory;
use super::placement::Placement;
use super::{Agenda, Awaited, Life, NOTICES_MAX, SETTLE_LIMIT, SHUTDOWN_LIMIT, Shard, Source, Unsent};
use crate::config::{ChapConfig, ExportAddress, ShardConfig};
use crate::state_folder::{StateFolder, StateFolderError};
use crate::status::{EventsStatus, ExplainStatus, Notice, NoticeKind, Severity, Snapshot};

/// Messages that wait for a shard; the control plane gets an error beyond that.
const MESSAGES_MAX: usize = 64;
/// Verbs that wait for their end; a drain may take minutes.
const VERBS_MAX: usize = 64;
/// How often it is looked again whether there is a disk to serve, after the first patience.
const SETTLE_EVERY: Duration = Duration::from_secs(1);
/// How long the control plane waits for an answer of a busy shard.
const ANSWER_LIMIT: StdDuration = StdDuration::from_secs(2);

/// What a shard can be asked.
#[derive(Debug)]
pub enum Message {
    Snapshot(SyncSender<Snapshot>),
    /// The events after one, of one disk if it is named.
    Events {
        since: u64,
        disk: Option<String>,
        answer: SyncSender<Result<EventsStatus, String>>,
    },
    /// Why a disk, paths or a portal do what they do; the only disk if nothing is named.
    Explain(Option<String>, SyncSender<Result<Vec<ExplainStatus>, String>>),
    /// An operator wants something; answered when it is done.
    Verb(Verb, SyncSender<Result<String, String>>),
    /// Sets the iopolicy of every disk.
    Policy(Policy),
    /// CHAP credentials for the logins from now on.
    Credentials(Option<ChapConfig>),
    /// Flush, log out, end.
    Shutdown,
}

/// Why a shard could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{path} is in use by another server: stop it, or choose another --export path")]
    SocketPathInUse { path: PathBuf },
    #[error("{path} exists and is not a socket: choose another --export path")]
    NotASocket { path: PathBuf },
    #[error("cannot listen on {address}: {reason}")]
    Listen { address: String, reason: String },
    #[error("cannot create the event loop: {0}")]
    Poll(#[from] std::io::Error),
    #[error(transparent)]
    State(#[from] StateFolderError),
}

/// Why a shard did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("the shard has ended")]
    Ended,
    #[error("the shard is too busy to answer")]
    Busy,
    #[error("{0}")]
    Refused(String),
}

/// A running shard, as the control plane sees it.
#[derive(Debug)]
pub struct ShardHandle {
    messages: SyncSender<Message>,
    waker: Arc<Waker>,
    exports: Vec<ExportAddress>,
    credentials_refused: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(super) struct Inbox(Receiver<Message>);

/// Where notices go. They are dropped, and counted, when nobody takes them.
#[derive(Debug)]
pub(super) struct Notices {
    sender: SyncSender<Notice>,
    dropped: u64,
}

impl Notices {
    pub(super) fn send(&mut self, notice: Notice) {
        match self.sender.try_send(notice) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => self.dropped += 1,
        }
    }

    /// The last word is waited for, if somebody listens.
    pub(super) fn send_last(&mut self, notice: Notice) {
        // Nobody listens any more: nobody wants to know.
        let _ = self.sender.send(notice);
    }
}

/// Verbs on their way, and who waits for each.
#[derive(Debug, Default)]
pub(super) struct Verbs {
    waiting: BTreeMap<Ticket, SyncSender<Result<String, String>>>,
    last: u64,
}

impl Verbs {
    /// None if too many wait already; whoever asked is told.
    fn ask(&mut self, answer: SyncSender<Result<String, String>>) -> Option<Ticket> {
        if self.waiting.len() >= VERBS_MAX {
            let _ = answer.try_send(Err(format!("{VERBS_MAX} operators wait for something already")));
            return None;
        }
        self.last += 1;
        self.waiting.insert(Ticket(self.last), answer);
        Some(Ticket(self.last))
    }

    /// Whoever asked may have stopped waiting.
    pub(super) fn answer(&mut self, ticket: Ticket, outcome: Result<String, VerbError>) {
        if let Some(answer) = self.waiting.remove(&ticket) {
            let _ = answer.try_send(outcome.map_err(|error| error.to_string()));
        }
    }
}

/// Whoever ends without an answer has dropped the question.
const fn unanswered(error: RecvTimeoutError) -> AskError {
    match error {
        RecvTimeoutError::Timeout => AskError::Busy,
        RecvTimeoutError::Disconnected => AskError::Ended,
    }
}

fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl ShardHandle {
    /// Starts a shard on a thread of its own. Export addresses are bound before this returns.
    ///
    /// # Errors
    /// If an export address cannot be bound or the system refuses an event loop.
    pub fn start(config: ShardConfig) -> Result<(Self, Receiver<Notice>), StartError> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Source::Control.token())?);
        let (messages, inbox) = sync_channel(MESSAGES_MAX);
        let (sender, notices) = sync_channel(NOTICES_MAX);
        let mut options = config.host();
        let memory = match config.state.as_deref().map(StateFolder::open).transpose()? {
            Some(folder) => {
                options.inherited = Some(folder.load()?);
                Some(Memory::start(folder, waker.clone())?)
            }
            None => None,
        };
        let mut listeners = Vec::with_capacity(config.exports.len());
        for (index, address) in config.exports.iter().enumerate() {
            let index = u32::try_from(index).expect("a configuration holds few exports");
            listeners.push(Listener::bind(address, poll.registry(), Source::Listener(index).token())?);
        }
        let exports = listeners.iter().map(Listener::address).collect();
        let credentials_refused = Arc::new(AtomicBool::new(false));
        let shard = Shard {
            poll,
            started: std::time::Instant::now(),
            started_unix_ms: unix_ms(),
            now: Instant::START,
            life: Life::Settling { until: Instant::START + SETTLE_LIMIT },
            host: Host::new(options),
            memory,
            timers: Timers::new(),
            touched: Agenda::default(),
            dirty: Unsent::default(),
            ready: Agenda::default(),
            answers: 0,
            placement: Placement::default(),
            connections: Vec::new(),
            listeners,
            clients: Vec::new(),
            mute: Vec::new(),
            inbox: Inbox(inbox),
            credentials_refused: Arc::clone(&credentials_refused),
            verbs: Verbs::default(),
            notices: Notices { sender, dropped: 0 },
            config,
        };
        std::thread::Builder::new().name(String::from("shard")).spawn(|| shard.run())?;
        Ok((Self { messages, waker, exports, credentials_refused }, notices))
    }

    /// Where the disks are served; for a TCP port that was given as 0, the one that the system chose.
    #[must_use]
    pub fn exports(&self) -> &[ExportAddress] {
        &self.exports
    }

    /// # Errors
    /// If the shard has ended or does not answer in time.
    pub fn snapshot(&self) -> Result<Snapshot, AskError> {
        let (answer, snapshot) = sync_channel(1);
        self.send(Message::Snapshot(answer))?;
        snapshot.recv_timeout(ANSWER_LIMIT).map_err(unanswered)
    }

    /// The events after `since`, of one disk if it is named.
    ///
    /// # Errors
    /// If there is no such disk, or the shard does not answer.
    pub fn events(&self, since: u64, disk: Option<String>) -> Result<EventsStatus, AskError> {
        let (answer, events) = sync_channel(1);
        self.send(Message::Events { since, disk, answer })?;
        events.recv_timeout(ANSWER_LIMIT).map_err(unanswered)?.map_err(AskError::Refused)
    }

    /// Why a disk, paths or a portal do what they do; the only disk if nothing is named.
    ///
    /// # Errors
    /// If the name stands for nothing, or the shard does not answer.
    pub fn explain(&self, name: Option<String>) -> Result<Vec<ExplainStatus>, AskError> {
        let (answer, explanation) = sync_channel(1);
        self.send(Message::Explain(name, answer))?;
        explanation.recv_timeout(ANSWER_LIMIT).map_err(unanswered)?.map_err(AskError::Refused)
    }

    /// Does what an operator wants; it takes no longer than `limit` and what an answer takes. One line says what was
    /// done.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn verb(&self, verb: Verb, limit: StdDuration) -> Result<String, AskError> {
        let (answer, outcome) = sync_channel(1);
        self.send(Message::Verb(verb, answer))?;
        outcome.recv_timeout(limit + ANSWER_LIMIT).map_err(unanswered)?.map_err(AskError::Refused)
    }

    /// Whether a target has refused our CHAP credentials since this was asked last: if there are newer ones,
    /// [`Message::Credentials`] brings them.
    #[must_use]
    pub fn were_credentials_refused(&self) -> bool {
        self.credentials_refused.swap(false, Ordering::Relaxed)
    }

    /// # Errors
    /// If the shard has ended or its queue is full.
    pub fn send(&self, message: Message) -> Result<(), AskError> {
        self.messages.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => AskError::Busy,
            TrySendError::Disconnected(_) => AskError::Ended,
        })?;
        self.waker.wake().map_err(|_| AskError::Ended)
    }

    /// Asks the shard to flush, log out and end. [`NoticeKind::Ended`] says when it has, ten seconds later at the
    /// most; then the notices are closed.
    pub fn stop(&self) {
        // A shard that has ended by itself needs no telling.
        let _ = self.send(Message::Shutdown);
    }
}

impl Shard {
    pub(super) fn take_messages(&mut self) {
        while let Ok(message) = self.inbox.0.try_recv() {
            match message {
                Message::Snapshot(answer) => {
                    // Whoever asked may have stopped waiting.
                    let _ = answer.try_send(self.snapshot());
                }
                Message::Credentials(chap) => {
                    self.config.initiator.chap.clone_from(&chap);
                    self.host.handle(self.now, Event::Credentials(chap));
                }
                Message::Policy(policy) => self.host.handle(self.now, Event::SetPolicy(policy)),
                Message::Events { since, disk, answer } => {
                    let _ = answer.try_send(self.events(since, disk.as_deref()));
                }
                Message::Explain(name, answer) => {
                    let _ = answer.try_send(self.explain(name.as_deref()));
                }
                Message::Verb(verb, answer) => {
                    if let Some(ticket) = self.verbs.ask(answer) {
                        self.host.handle(self.now, Event::Verb { ticket, verb });
                    }
                }
                Message::Shutdown => self.shut_down(),
            }
        }
    }

    fn shut_down(&mut self) {
        if matches!(self.life, Life::Ending { .. } | Life::Ended { .. }) {
            return;
        }
        self.life = Life::Ending { until: self.now + SHUTDOWN_LIMIT, awaited: Awaited::Clients };
        self.shut_down_clients();
    }

    /// Moves from one part of the shard's life to the next when its condition is met. True if it did.
    pub(super) fn advance_life(&mut self) -> bool {
        match self.life {
            Life::Settling { until } => {
                let over = self.now >= until && self.host.disks_ready() > 0;
                if over || self.host.is_settled() {
                    self.begin_to_serve();
                } else if self.now >= until {
                    self.life = Life::Settling { until: self.now + SETTLE_EVERY };
                } else {
                    return false;
                }
            }
            Life::Ending { until, .. } if self.now >= until => {
                let text = String::from("not everything could be flushed and logged out in time");
                self.notice(Severity::Warning, NoticeKind::Other, text);
                self.life = Life::Ended { clean: false };
            }
            Life::Ending { until, awaited: Awaited::Clients } if self.clients_idle() => {
                self.life = Life::Ending { until, awaited: Awaited::Host };
                self.host.handle(self.now, Event::Shutdown);
            }
            Life::Ending { .. } | Life::Serving | Life::Ended { .. } => return false,
        }
        true
    }

    fn begin_to_serve(&mut self) {
        self.life = Life::Serving;
        let disks = self.host.disks_ready();
        self.notice(
            Severity::Info,
            NoticeKind::Settled { disks },
            format!("discovery is done: {disks} disk(s)"),
        );
        self.accept_all();
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            uptime: self.started.elapsed().as_secs_f64(),
            disks: self.disk_statuses(),
            portals: self.portal_statuses(),
            kept_out: self.kept_out_statuses(),
            clients: self.clients.iter().flatten().count(),
        }
    }
}

/// A listening address for messages, such as `127.0.0.1:10809`.
pub(super) fn listen_error(address: &SocketAddr, error: &std::io::Error) -> StartError {
    let reason = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            String::from("the port is in use: stop the other server or choose another port")
        }
        std::io::ErrorKind::AddrNotAvailable => String::from("this host has no such address"),
        std::io::ErrorKind::PermissionDenied => {
            String::from("permission denied (ports below 1024 need root)")
        }
        _ => error.to_string(),
    };
    StartError::Listen { address: address.to_string(), reason }
}
