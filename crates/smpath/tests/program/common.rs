//! Processes that are listened to, bounded in time and never left behind.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nbd::client::{Client, Options, Replies};
use rustix::process::{Pid, Signal, kill_process};

/// Far more than anything here takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A folder of the test's own.
#[derive(Debug)]
pub(crate) struct Room(PathBuf);

impl Room {
    pub(crate) fn new() -> Self {
        static ROOMS: AtomicU32 = AtomicU32::new(0);
        let number = ROOMS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("smpath-program-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The path of a new file with this content, as an argument.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path(name), content).unwrap();
        text(&self.path(name))
    }

    pub(crate) fn export(&self) -> String {
        format!("nbd+unix://{}", text(&self.path("disk.sock")))
    }

    pub(crate) fn control(&self) -> String {
        text(&self.path("control.sock"))
    }

    /// `smpath run` with an export, a control socket and a state folder in this room.
    pub(crate) fn run(&self, arguments: &[&str]) -> Process {
        let (export, control, state) = (self.export(), self.control(), text(&self.path("state")));
        let mut all = vec!["run", "--export", &export, "--control", &control];
        if !arguments.contains(&"--state") {
            all.extend(["--state", &state]);
        }
        all.extend_from_slice(arguments);
        Process::start(&all)
    }

    /// The same, up to the line that says that disks are served.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Process {
        let mut process = self.run(arguments);
        process.line("serving ");
        process
    }

    /// An NBD client of one of the disks.
    pub(crate) fn client(&self, export: &str) -> Client<UnixStream> {
        let stream = UnixStream::connect(self.path("disk.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Client::connect(stream, &Options { export: export.to_owned(), replies: Replies::Structured }).unwrap()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A running smpath. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    /// Everything that was said so far.
    pub(crate) said: String,
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    pub(crate) fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_smpath"))
            .args(arguments)
            .env("SMPATH_LOG", "trace")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        listen(child.stdout.take().unwrap(), sender.clone());
        listen(child.stderr.take().unwrap(), sender);
        Self { child, lines, said: String::new() }
    }

    /// Waits for a line that holds these words.
    pub(crate) fn line(&mut self, words: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said += &format!("{line}\n");
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with '{words}':\n{}", self.said),
            }
        }
    }

    /// Waits for its end and listens to it until then.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let end = Instant::now() + LIMIT;
        // Both pipes close with the process.
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.said += &format!("{line}\n");
        }
        assert!(Instant::now() < end, "it does not end:\n{}", self.said);
        self.child.wait().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM; it must end well.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.end();
        assert!(status.success(), "{status}\n{}", self.said);
    }

    /// It must end with an error, and with one error line that holds all these words.
    pub(crate) fn fails(&mut self, words: &[&str]) {
        let status = self.end();
        assert!(matches!(status.code(), Some(1 | 2)), "{status}\n{}", self.said);
        self.has_error(words);
    }

    pub(crate) fn has_error(&self, words: &[&str]) {
        let found = self.errors().filter(|line| words.iter().all(|word| line.contains(word))).count();
        assert_eq!(found, 1, "one error line with {words:?}:\n{}", self.said);
        assert!(!self.said.contains("panicked"), "{}", self.said);
    }

    fn errors(&self) -> impl Iterator<Item = &str> {
        self.said.lines().filter(|line| line.starts_with("smpath: error: ") || line.starts_with("error: "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(stream: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            // Nobody listens any more when the test is over.
            let _ = lines.send(String::from_utf8_lossy(&line).into_owned());
        }
    });
}

/// A command of smpath that must end well; what it said.
pub(crate) fn ask(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_smpath")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A running `smpath array`.
#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) process: Process,
    pub(crate) portals: Vec<SocketAddr>,
}

pub(crate) const TARGET: &str = "iqn.2026-11.org.smpath:array";

impl Array {
    /// Two ports, one for each controller.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut all = vec!["array", "--portals", "127.0.0.1:0,127.0.0.1:0"];
        all.extend_from_slice(arguments);
        let mut process = Process::start(&all);
        let units = arguments.iter().filter(|argument| **argument == "--lu").count();
        let portals = (0..2)
            .map(|_| {
                let line = (0..units).map(|_| process.line("iscsi://")).last().unwrap();
                line.split('/').nth(2).unwrap().parse().unwrap()
            })
            .collect();
        Self { process, portals }
    }

    pub(crate) fn portal(&self, port: usize) -> String {
        self.portals[port].to_string()
    }

    pub(crate) fn url(&self, port: usize) -> String {
        format!("iscsi://{}/{TARGET}/0", self.portals[port])
    }
}

/// An address that nobody listened on a moment ago.
pub(crate) fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A TCP server that is no iSCSI portal.
pub(crate) fn stranger(answer: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || listener.incoming().flatten().for_each(answer));
    address
}

/// Bytes without meaning, the same in every run.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}
