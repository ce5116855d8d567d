//! Child processes that are always bounded in time, always listened to, and never left behind.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How many lines of a process's output are kept: enough to see why it failed.
const LINES_MAX: usize = 4000;

/// Between two looks at something that cannot wake us up: another process's exit, socket or file.
const POLL: Duration = Duration::from_millis(10);

/// Looks until `probe` answers, at most for `limit`.
pub(crate) fn wait_until<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = probe() {
            return Ok(answer);
        }
        ensure!(Instant::now() < end, "no {what} within {limit:?}");
        thread::sleep(POLL);
    }
}

/// Ports that Linux gives to nobody by itself: one that it did could be an outgoing connection's before it is listened on.
const PORTS: Range<u16> = 20_000..32_000;

/// A TCP address on loopback that nobody listened on a moment ago. It is given once, until all have had their turn.
pub(crate) fn free_address() -> Result<SocketAddr> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    for _ in 0..count {
        // Processes that run at the same time begin far from each other.
        let place = std::process::id().wrapping_mul(97).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from(place % count)?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no port from {} to {} is free", PORTS.start, PORTS.end)
}

pub(crate) fn is_installed(tool: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(tool).is_file())
}

/// What a command said until it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) command: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Itself, if it ended well.
    pub(crate) fn good(self) -> Result<Self> {
        ensure!(self.status.success(), "{self}");
        Ok(self)
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with {}", self.command, self.status)?;
        for line in last_lines(&self.stdout, 6).chain(last_lines(&self.stderr, 12)) {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

fn last_lines(text: &str, count: usize) -> impl Iterator<Item = &str> {
    let lines = text.lines().count();
    text.lines().skip(lines.saturating_sub(count))
}

/// Runs a command to its end; kills it and fails when it needs longer than `limit`.
pub(crate) fn run<I, S>(program: impl AsRef<OsStr>, arguments: I, limit: Duration) -> Result<Finished>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut process = Process::start(program, arguments)?;
    let status = process.wait(limit)?;
    Ok(Finished {
        command: process.command.clone(),
        status,
        stdout: process.stdout.text(),
        stderr: process.stderr.text(),
    })
}

/// A child that runs beside us. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    command: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    pub(crate) fn start<I, S>(program: impl AsRef<OsStr>, arguments: I) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Self::start_in(program, arguments, &[])
    }

    /// With these variables in its environment as well.
    pub(crate) fn start_in<I, S>(
        program: impl AsRef<OsStr>,
        arguments: I,
        environment: &[(&str, String)],
    ) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(&program);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{:?} does not start", program.as_ref()))?;
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let readers = vec![
            stdout.read_from(child.stdout.take().context("stdout is a pipe")?),
            stderr.read_from(child.stderr.take().context("stderr is a pipe")?),
        ];
        Ok(Self { command: in_words(&command), child, stdout, stderr, readers })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far (the last lines of it), errors last.
    pub(crate) fn output(&self) -> String {
        self.stdout.text() + &self.stderr.text()
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Fails with what it said if it has ended.
    pub(crate) fn ensure_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            self.join_readers();
            bail!("`{}` ended with {status}\n{}", self.command, self.output());
        }
        Ok(())
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                // Its last words are in the pipes still.
                self.join_readers();
                return Ok(status);
            }
            if Instant::now() >= end {
                self.kill();
                self.join_readers();
                bail!("`{}` was still running after {limit:?}\n{}", self.command, self.output());
            }
            thread::sleep(POLL);
        }
    }

    /// Asks it to end, as an operator would, and waits.
    pub(crate) fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.id())?).context("a process has an id")?;
        kill_process(pid, signal).with_context(|| format!("`{}` cannot be signalled", self.command))
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn in_words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The last lines of one stream, filled by a thread of its own so that the child never blocks on a full pipe.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<VecDeque<String>>>);

impl Lines {
    fn read_from(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                lines.push(String::from_utf8_lossy(&line).into_owned());
            }
        })
    }

    fn push(&self, line: String) {
        let mut lines = self.lock();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> String {
        self.lock().iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kernel counts a process's time in ticks of this length; Linux shows 100 a second on every platform of ours.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of a process, of all its threads, so far.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    ticks(&stat).map(|ticks| TICK * ticks).with_context(|| format!("/proc/{pid}/stat reads {stat:?}"))
}

fn ticks(stat: &str) -> Option<u32> {
    // The second field is the name in parentheses, which may hold spaces; utime and stime are fields 14 and 15.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Memory of a process that is in use now, in bytes.
pub(crate) fn memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.map(|count| count << 10).with_context(|| format!("/proc/{pid}/status reads {status:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_name_with_spaces_does_not_shift_the_times() {
        assert_eq!(ticks("7 (a b) c) S 1 7 7 0 -1 4194304 10 0 0 0 31 11 0 0 20 0"), Some(42));
        assert_eq!(ticks("7 (short) S 1"), None);
    }

    #[test]
    fn a_command_is_heard_to_its_end() {
        let finished = run("sh", ["-c", "echo out; echo err >&2; exit 3"], LIMIT).unwrap();
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(finished.status.code(), Some(3));
        assert!(finished.good().is_err());
    }

    #[test]
    fn a_command_beyond_its_limit_is_killed() {
        let error = run("sleep", ["100"], Duration::from_millis(1)).unwrap_err();
        assert!(error.to_string().contains("still running"), "{error}");
    }

    #[test]
    fn a_process_ends_when_asked() {
        let mut process = Process::start("sleep", ["100"]).unwrap();
        assert!(!process.terminate(LIMIT).unwrap().success());
        assert!(process.ensure_alive().is_err());
    }
}
