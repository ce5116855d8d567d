//! Storing what the host wants to be remembered, on a thread of its own: it waits for a disk.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use host::Event;
use host::state::State;
use mio::Waker;

use super::Shard;
use crate::state_folder::{StateFolder, StateFolderError};
use crate::status::{NoticeKind, Severity};

/// After a state could not be stored: a full disk is emptied by somebody, not by us.
const STORE_AGAIN: Duration = Duration::from_secs(1);
/// The host gives one state at a time, and each is tried until it is stored.
const STATES_MAX: usize = 1;
/// Outcomes that the shard has not taken; the thread waits for it then.
const OUTCOMES_MAX: usize = 4;

/// The thread's end in the shard.
#[derive(Debug)]
pub(super) struct Memory {
    states: SyncSender<State>,
    outcomes: Receiver<Result<(), StateFolderError>>,
    thread: JoinHandle<()>,
    /// It was told that storing fails, and why.
    failure: Option<String>,
}

impl Memory {
    pub(super) fn start(folder: StateFolder, waker: Arc<Waker>) -> io::Result<Self> {
        let (states, inbox) = sync_channel(STATES_MAX);
        let (sender, outcomes) = sync_channel(OUTCOMES_MAX);
        let thread = std::thread::Builder::new()
            .name(String::from("state"))
            .spawn(move || keep(&folder, &inbox, &sender, &waker))?;
        Ok(Self { states, outcomes, thread, failure: None })
    }

    /// Everything is stored. When this returns the folder is free for another process.
    pub(super) fn end(self) {
        drop((self.states, self.outcomes));
        // A thread that has panicked has let go of the folder too.
        let _ = self.thread.join();
    }
}

/// Stores each state until that succeeds or nobody wants it any more.
fn keep(
    folder: &StateFolder,
    inbox: &Receiver<State>,
    outcomes: &SyncSender<Result<(), StateFolderError>>,
    waker: &Waker,
) {
    while let Ok(state) = inbox.recv() {
        loop {
            let outcome = folder.save(&state);
            let is_stored = outcome.is_ok();
            if outcomes.send(outcome).is_err() || waker.wake().is_err() {
                return;
            }
            if is_stored {
                break;
            }
            if inbox.recv_timeout(STORE_AGAIN) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }
}

impl Shard {
    pub(super) fn store(&mut self, state: State) {
        // The thread takes a state whenever it has stored the one before, and the host waits for that.
        let taken = self.memory.as_ref().map(|memory| memory.states.try_send(state));
        debug_assert!(matches!(taken, Some(Ok(()))), "{taken:?}");
    }

    /// What became of the state that is being stored.
    pub(super) fn take_outcomes(&mut self) {
        while let Some(outcome) = self.memory.as_ref().and_then(|memory| memory.outcomes.try_recv().ok()) {
            let failure = outcome.err().map(|error| error.to_string());
            let is_news = self.memory.as_ref().is_some_and(|memory| memory.failure != failure);
            let event = if failure.is_none() { Event::Persisted } else { Event::NotPersisted };
            self.host.handle(self.now, event);
            match &failure {
                Some(error) if is_news => {
                    let text = format!("{error}; paths that are found wait until that succeeds");
                    self.notice(Severity::Error, NoticeKind::Other, text);
                }
                Some(_) | None => {}
            }
            if let Some(memory) = &mut self.memory {
                memory.failure = failure;
            }
        }
    }
}
