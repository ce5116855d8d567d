//! The control socket: one JSON line in, one JSON line out.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use engine::status::Snapshot;
use engine::{Message, ShardHandle};
use serde::{Deserialize, Serialize};

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
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Question {
    Snapshot,
    /// The open fences of the disk with this identity end on an operator's word.
    Waive {
        disk: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Snapshot(Box<Snapshot>),
    Done,
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
            if let Err(error) = answer(&stream, &shard) {
                tracing::debug!("control client: {error:#}");
            }
            drop(client);
        });
        if let Err(error) = spawned {
            tracing::debug!("control client: {error}");
        }
    }
}

fn answer(stream: &UnixStream, shard: &ShardHandle) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(QUESTION_MAX)).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(Question::Snapshot) => match shard.snapshot() {
            Ok(snapshot) => Answer::Snapshot(Box::new(snapshot)),
            Err(error) => Answer::Error(error.to_string()),
        },
        Ok(Question::Waive { disk }) => match take_waiver(shard, &disk) {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Error(format!("{error:#}")),
        },
        Err(error) => Answer::Error(format!("not a question of ours: {error}")),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    let mut stream = stream;
    stream.write_all(&text)?;
    Ok(())
}

/// An operator says that nothing is left of the writes that open fences of this disk are about.
fn take_waiver(shard: &ShardHandle, identity: &str) -> Result<()> {
    let snapshot = shard.snapshot()?;
    let disk = snapshot.disks.iter().find(|disk| disk.identity == identity);
    let disk = disk.with_context(|| format!("there is no disk {identity} any more"))?;
    if !disk.fences.is_empty() {
        shard.send(Message::Waive(identity.to_owned()))?;
    }
    Ok(())
}

/// Asks a running process for all that it knows.
pub(crate) fn snapshot(path: &Path) -> Result<Snapshot> {
    match ask(path, &Question::Snapshot)? {
        Answer::Snapshot(snapshot) => Ok(*snapshot),
        answer => Err(unexpected(answer)),
    }
}

/// Tells a running process that nothing is left of the writes that open fences of a disk are about.
pub(crate) fn waive(path: &Path, identity: &str) -> Result<()> {
    match ask(path, &Question::Waive { disk: identity.to_owned() })? {
        Answer::Done => Ok(()),
        answer => Err(unexpected(answer)),
    }
}

fn unexpected(answer: Answer) -> anyhow::Error {
    match answer {
        Answer::Error(error) => anyhow::Error::msg(error),
        Answer::Snapshot(_) | Answer::Done => anyhow::Error::msg("it answers another question"),
    }
}

fn ask(path: &Path, question: &Question) -> Result<Answer> {
    let mut stream = UnixStream::connect(path).with_context(|| {
        format!(
            "no smpath answers at {}: start `smpath run`, or name its socket with --control",
            path.display()
        )
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut question = serde_json::to_vec(question)?;
    question.push(b'\n');
    stream.write_all(&question)?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_MAX))
        .read_line(&mut line)
        .with_context(|| format!("whatever listens at {} does not answer", path.display()))?;
    serde_json::from_str(&line).context("whatever answers there is not smpath")
}
