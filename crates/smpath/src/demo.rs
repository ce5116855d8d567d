//! `smpath demo`: the embedded array, four paths over real iSCSI, one disk on an NBD socket.

use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use engine::config::ExportAddress;
use engine::status::{Notice, NoticeKind, Snapshot};
use engine::{ArrayConfig, ArrayHandle, PortFault, ShardHandle, UnitConfig};

use crate::check::{self, LostServer, Progress};
use crate::cli::Demo;
use crate::control::Control;
use crate::signals::Signals;
use crate::{config, render};

/// Two controllers with two ports each.
const PORTS: usize = 4;
/// A disk that is not there by then never will be.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// One turn of the demonstration's own loop.
const TICK: Duration = Duration::from_millis(50);
/// How often the live view is drawn on a terminal, and elsewhere.
const VIEW_TERMINAL: Duration = Duration::from_millis(500);
const VIEW_PLAIN: Duration = Duration::from_secs(5);

/// A folder of our own that goes with us.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Stage {
    array: ArrayHandle,
    shard: Arc<ShardHandle>,
    notices: Receiver<Notice>,
    /// Paths that were lost so far.
    losses: u64,
}

pub(crate) fn run(arguments: &Demo) -> Result<()> {
    let signals = Signals::install()?;
    let started = Instant::now();
    let folder = Folder(std::env::temp_dir().join(format!("smpath-demo-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).with_context(|| format!("cannot make {}", folder.0.display()))?;
    let socket = arguments.socket.clone().unwrap_or_else(|| folder.0.join("disk.sock"));
    let control_path = folder.0.join("control.sock");
    let array = start_array(arguments.size)?;
    let (shard, notices) =
        ShardHandle::start(config::demo_shard(array.addresses()[0], socket.clone(), arguments.policy))?;
    let mut stage = Stage { array, shard: Arc::new(shard), notices, losses: 0 };
    let control = Control::serve(control_path.clone(), Arc::clone(&stage.shard))?;
    let snapshot = stage.wait_until_ready()?;
    introduce(&snapshot, started.elapsed(), &socket, &control_path);
    let outcome = if arguments.check {
        stage.check(&signals, arguments.duration, &socket)
    } else {
        stage.show(&signals, arguments.duration);
        Ok(())
    };
    drop(control);
    stage.shard.stop();
    // The notices end with the shard; until then the array must answer.
    while stage.notices.recv().is_ok() {}
    stage.array.shutdown();
    outcome
}

fn start_array(size: u64) -> Result<ArrayHandle> {
    let unit = UnitConfig {
        size,
        block_size: 512,
        file: None,
        serial: None,
        number: Some(u64::from(std::process::id())),
        thin: true,
        read_only: false,
        rotation_rate: None,
        is_nameless: false,
        owner: None,
    };
    let config = ArrayConfig {
        portals: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); PORTS],
        target_name: String::from("iqn.2026-11.org.smpath:demo"),
        units: vec![unit],
        chap: None,
        behaviour: engine::Behaviour::default(),
    };
    Ok(ArrayHandle::start(&config)?)
}

fn introduce(snapshot: &Snapshot, took: Duration, socket: &Path, control: &Path) {
    println!("embedded array: 2 controllers x {} ports, iSCSI on loopback", PORTS / 2);
    print!("{}", render::paths(snapshot));
    println!("ready after {:.2} s: nbd+unix:///?socket={}", took.as_secs_f64(), socket.display());
    println!("try:  qemu-img info 'nbd+unix:///?socket={}'", socket.display());
    println!("      smpath paths --control {}", control.display());
}

impl Stage {
    fn wait_until_ready(&mut self) -> Result<Snapshot> {
        let limit = Instant::now() + READY_LIMIT;
        while Instant::now() < limit {
            self.take_notices();
            let snapshot = self.shard.snapshot()?;
            if snapshot
                .disks
                .iter()
                .any(|disk| disk.paths.iter().filter(|path| render::is_usable(path)).count() == PORTS)
            {
                return Ok(snapshot);
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        bail!("the disk did not come up over {PORTS} paths within {READY_LIMIT:?}");
    }

    fn take_notices(&mut self) {
        while let Ok(notice) = self.notices.try_recv() {
            if notice.kind == NoticeKind::PathLost {
                self.losses += 1;
            }
        }
    }

    /// The live view alone.
    fn show(&mut self, signals: &Signals, duration: Option<Duration>) {
        let end = duration.map(|duration| Instant::now() + duration);
        let mut view = View::new();
        while !signals.received() && end.is_none_or(|end| Instant::now() < end) {
            std::thread::park_timeout(TICK);
            self.take_notices();
            if let (true, Ok(snapshot)) = (view.is_due(), self.shard.snapshot()) {
                view.draw(&snapshot, None, self.losses);
            }
        }
    }

    /// The workload, while paths are cut and restored.
    fn check(&mut self, signals: &Signals, duration: Option<Duration>, socket: &Path) -> Result<()> {
        let progress = Progress::default();
        let started = Instant::now();
        let end = duration.map(|duration| started + duration);
        let options = check::Options {
            server: ExportAddress::NbdUnix(socket.to_owned()),
            export: String::new(),
            seed: 0x5eed,
            lost_server: LostServer::Fails,
        };
        let failure = std::thread::scope(|scope| {
            let workload = scope.spawn(|| check::run(&options, &progress));
            let mut view = View::new();
            let mut vandal = Vandal::new();
            while !workload.is_finished() && !signals.received() && end.is_none_or(|end| Instant::now() < end)
            {
                std::thread::park_timeout(TICK);
                self.take_notices();
                vandal.act(&self.array);
                if let (true, Ok(snapshot)) = (view.is_due(), self.shard.snapshot()) {
                    view.draw(&snapshot, Some(&progress), self.losses);
                }
            }
            vandal.restore(&self.array);
            progress.stop.store(true, Ordering::Relaxed);
            workload.join().map_err(|_| anyhow::anyhow!("the workload panicked"))?
        })?;
        self.take_notices();
        self.report(&progress, started.elapsed(), failure)
    }

    fn report(&self, progress: &Progress, took: Duration, failure: Option<String>) -> Result<()> {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (errors, mismatches) = (read(&progress.errors), read(&progress.mismatches));
        let failed_over: u64 = self.shard.snapshot()?.disks.iter().map(|disk| disk.failed_over).sum();
        println!(
            "\nverified     {} requests, {} MiB in {:.1} s",
            read(&progress.requests),
            read(&progress.bytes) >> 20,
            took.as_secs_f64()
        );
        println!("path losses  {} survived, {failed_over} requests re-sent on another path", self.losses);
        println!("longest      {:.1} ms without a completion", read(&progress.longest_pause_us) as f64 / 1e3);
        println!("result       {errors} errors, {mismatches} mismatches");
        if let Some(failure) = failure {
            bail!("the check failed; first: {failure}");
        }
        if errors + mismatches > 0 {
            bail!("the check failed");
        }
        Ok(())
    }
}

/// Cuts and restores paths: one port, a whole controller, a reset or a black hole; one port always stays.
struct Vandal {
    next: Instant,
    step: usize,
    broken: Vec<usize>,
}

impl Vandal {
    fn new() -> Self {
        Self { next: Instant::now() + Duration::from_millis(500), step: 0, broken: Vec::new() }
    }

    fn act(&mut self, array: &ArrayHandle) {
        if Instant::now() < self.next {
            return;
        }
        if self.broken.is_empty() {
            let (ports, fault, pause): (&[usize], _, _) = match self.step % 6 {
                0 => (&[0], PortFault::Reset, 300),
                1 => (&[2], PortFault::Reset, 300),
                2 => (&[0, 1], PortFault::Reset, 400),
                3 => (&[3], PortFault::BlackHole, 1200),
                4 => (&[2, 3], PortFault::Reset, 400),
                _ => (&[1, 2, 3], PortFault::Reset, 300),
            };
            self.step += 1;
            self.broken = ports.to_vec();
            for port in ports {
                array.set_port(*port, fault);
            }
            self.next = Instant::now() + Duration::from_millis(pause);
        } else {
            self.restore(array);
            self.next = Instant::now() + Duration::from_millis(500);
        }
    }

    fn restore(&mut self, array: &ArrayHandle) {
        for port in self.broken.drain(..) {
            array.set_port(port, PortFault::None);
        }
    }
}

/// The live view: redrawn in place on a terminal, a line now and then elsewhere.
struct View {
    terminal: bool,
    due: Instant,
    lines: usize,
}

impl View {
    fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), due: Instant::now(), lines: 0 }
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    fn draw(&mut self, snapshot: &Snapshot, progress: Option<&Progress>, losses: u64) {
        self.due = Instant::now() + if self.terminal { VIEW_TERMINAL } else { VIEW_PLAIN };
        let mut text = summary(snapshot, progress, losses);
        if self.terminal {
            text = format!("\n{}{text}", render::paths(snapshot));
            // Back to where the last picture began, and clear from there.
            if self.lines > 0 {
                print!("\x1b[{}A\x1b[J", self.lines);
            }
            self.lines = text.matches('\n').count();
        }
        print!("{text}");
        // A terminal that went away is no reason to stop.
        let _ = std::io::stdout().flush();
    }
}

fn summary(snapshot: &Snapshot, progress: Option<&Progress>, losses: u64) -> String {
    let paths = snapshot.disks.iter().flat_map(|disk| &disk.paths);
    let usable = paths.clone().filter(|path| render::is_usable(path)).count();
    let mut text =
        format!("{:5.1} s  {usable}/{} paths  {losses} lost so far", snapshot.uptime, paths.count());
    if let Some(progress) = progress {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        text += &format!(
            "  {} requests  {} MiB  {} errors  {} mismatches",
            read(&progress.requests),
            read(&progress.bytes) >> 20,
            read(&progress.errors),
            read(&progress.mismatches)
        );
    }
    text + "\n"
}
