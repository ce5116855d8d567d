//! The control socket: one JSON line in, one JSON line out.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use engine::status::{EventsStatus, ExplainStatus, Snapshot};
use engine::{ShardHandle, Verb};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::units;

/// The longest question; ours are tens of bytes.
const QUESTION_MAX: u64 = 4 << 10;
/// The longest answer: a thousand disks with eight paths each take about 3 MiB.
const ANSWER_MAX: u64 = 64 << 20;
/// How long either side waits for the other's line.
const PATIENCE: Duration = Duration::from_secs(3);
/// Clients at the same time, each on a thread of its own; more are hung up on. One that says nothing is one of them
/// until our patience ends.
const CLIENTS_MAX: usize = 16;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub(crate) enum Question {
    Snapshot,
    /// The events after one, of one disk if it is named.
    Events {
        since: u64,
        disk: Option<String>,
    },
    /// Why a disk, a path or a portal does what it does; the only disk if nothing is named.
    Explain {
        name: Option<String>,
    },
    /// An operator's word: the open fences of a disk end.
    Waive {
        disk: String,
    },
    /// Of a disk, or of `all` and those that are found later.
    Policy {
        disk: String,
        policy: String,
    },
    /// `fail`, `queue`, or a time.
    NoPath {
        disk: String,
        no_path: String,
    },
    RemovalDelay {
        disk: String,
        delay_ms: u64,
    },
    /// A path, `DISK:PATH`, or a portal.
    Fail {
        path: String,
        force: bool,
    },
    Reinstate {
        path: String,
    },
    /// Answered when nothing is in flight any more, or the time is over.
    Drain {
        path: String,
        force: bool,
        timeout_ms: u64,
    },
    Rescan {
        portal: Option<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Snapshot(Box<Snapshot>),
    Events(EventsStatus),
    Explanation(Vec<ExplainStatus>),
    /// One line that says what was done, or that it was done already.
    Done(String),
    Error(String),
}

/// A control socket that is served until the process ends.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
}

impl Control {
    /// Binds the socket and answers on a thread of its own.
    pub(crate) fn serve(path: PathBuf, shard: Arc<ShardHandle>) -> Result<Self> {
        let listener = bind(&path)?;
        std::thread::Builder::new().name(String::from("control")).spawn(move || {
            listen(&listener, &shard);
        })?;
        Ok(Self { path })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A socket of this process alone.
pub(crate) fn bind(path: &Path) -> Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        bail!(
            "{} belongs to another running smpath: give this one its own with --control PATH",
            path.display()
        );
    }
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            bail!("{} exists and is not a socket: choose another --control path", path.display());
        }
        // Nobody listens: a process left it behind.
        std::fs::remove_file(path).with_context(|| format!("cannot remove the old {}", path.display()))?;
    }
    UnixListener::bind(path).with_context(|| {
        format!("cannot make the control socket {}: choose another with --control", path.display())
    })
}

fn listen(listener: &UnixListener, shard: &Arc<ShardHandle>) {
    // Every client holds a copy: their count is the owner's.
    let clients = Arc::new(());
    for stream in listener.incoming().flatten() {
        if Arc::strong_count(&clients) > CLIENTS_MAX {
            continue;
        }
        let (client, shard) = (Arc::clone(&clients), Arc::clone(shard));
        let spawned = std::thread::Builder::new().name(String::from("control client")).spawn(move || {
            if let Err(error) = converse(&stream, |question| put(&shard, question), Answer::Error) {
                tracing::debug!("control client: {error:#}");
            }
            drop(client);
        });
        if let Err(error) = spawned {
            tracing::debug!("control client: {error}");
        }
    }
}

/// One line in, one line out. What cannot be done, or is not understood, is an answer too.
pub(crate) fn converse<Q: DeserializeOwned, A: Serialize>(
    stream: &UnixStream,
    act: impl FnOnce(Q) -> Result<A>,
    fail: impl FnOnce(String) -> A,
) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(QUESTION_MAX)).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(question) => act(question).unwrap_or_else(|error| fail(format!("{error:#}"))),
        Err(error) => fail(format!("not a question of ours: {error}")),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    let mut stream = stream;
    stream.write_all(&text)?;
    Ok(())
}

fn put(shard: &ShardHandle, question: Question) -> Result<Answer> {
    let millis = engine::clock::Duration::from_millis;
    let mut limit = Duration::ZERO;
    let verb = match question {
        Question::Snapshot => return Ok(Answer::Snapshot(Box::new(shard.snapshot()?))),
        Question::Events { since, disk } => return Ok(Answer::Events(shard.events(since, disk)?)),
        Question::Explain { name } => return Ok(Answer::Explanation(shard.explain(name)?)),
        Question::Waive { disk } => Verb::Waive { disk },
        Question::Policy { disk, policy } => Verb::Policy { disk, policy: policy.parse()? },
        Question::NoPath { disk, no_path } => {
            Verb::NoPath { disk, no_path: units::no_path(&no_path).map_err(anyhow::Error::msg)? }
        }
        Question::RemovalDelay { disk, delay_ms } => Verb::RemovalDelay { disk, delay: millis(delay_ms) },
        Question::Fail { path, force } => Verb::Fail { path, force },
        Question::Reinstate { path } => Verb::Reinstate { path },
        Question::Drain { path, force, timeout_ms } => {
            limit = Duration::from_millis(timeout_ms);
            Verb::Drain { path, force, timeout: millis(timeout_ms) }
        }
        Question::Rescan { portal } => Verb::Rescan { portal },
    };
    Ok(Answer::Done(shard.verb(verb, limit)?))
}

/// Asks a running process for all that it knows.
pub(crate) fn snapshot(path: &Path) -> Result<Snapshot> {
    match ask(path, &Question::Snapshot, Duration::ZERO)? {
        Answer::Snapshot(snapshot) => Ok(*snapshot),
        answer => Err(unexpected(answer)),
    }
}

/// Whether a process takes questions there.
pub(crate) fn is_there(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// The events of a running process after one of them; of one disk if it is named.
pub(crate) fn events(path: &Path, since: u64, disk: Option<String>) -> Result<EventsStatus> {
    match ask(path, &Question::Events { since, disk }, Duration::ZERO)? {
        Answer::Events(events) => Ok(events),
        answer => Err(unexpected(answer)),
    }
}

/// Why a disk, a path or a portal of a running process does what it does.
pub(crate) fn explain(path: &Path, name: Option<String>) -> Result<Vec<ExplainStatus>> {
    match ask(path, &Question::Explain { name }, Duration::ZERO)? {
        Answer::Explanation(explanation) => Ok(explanation),
        answer => Err(unexpected(answer)),
    }
}

/// Has a running process do something that may take as long as `limit`; the line that it answers with.
pub(crate) fn tell(path: &Path, question: &Question, limit: Duration) -> Result<String> {
    match ask(path, question, limit)? {
        Answer::Done(line) => Ok(line),
        answer => Err(unexpected(answer)),
    }
}

fn unexpected(answer: Answer) -> anyhow::Error {
    match answer {
        Answer::Error(error) => anyhow::Error::msg(error),
        Answer::Snapshot(_) | Answer::Events(_) | Answer::Explanation(_) | Answer::Done(_) => {
            anyhow::Error::msg("it answers another question")
        }
    }
}

fn ask(path: &Path, question: &Question, limit: Duration) -> Result<Answer> {
    let mut stream = UnixStream::connect(path).with_context(|| {
        format!(
            "no smpath answers at {}: start `smpath run`, or name its socket with --control",
            path.display()
        )
    })?;
    stream.set_read_timeout(Some(limit + PATIENCE))?;
    let mut question = serde_json::to_vec(question)?;
    question.push(b'\n');
    stream.write_all(&question)?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_MAX))
        .read_line(&mut line)
        .with_context(|| format!("whatever listens at {} does not answer", path.display()))?;
    serde_json::from_str(&line).context("whatever answers there is not smpath")
}
