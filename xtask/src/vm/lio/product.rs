//! smpath over two paths to LIO, its disk attached with the kernel's NBD client. A write is stuck, its path is lost,
//! the same block is written again with newer data; once that is acknowledged and the stuck copy is let go, the newer
//! data must be there. Without a fence it is not, and a run that does not show that proves nothing.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::OFlags;
use serde_json::Value;

use super::guest::{Case, Seen, Verdict};
use super::target::{Device, FIRST_GROUP, Lio, OTHER_TARGET, SECOND_GROUP, TARGET, THIRD_PORTAL, switch_of};
use crate::harness::link::{Link, Newcomers};
use crate::harness::process::wait_until;
use crate::harness::room::Room;
use crate::harness::smpath::{Disk, Route, smpath};

/// For starting, and for a write that waits for a fence.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// The device that the kernel's NBD client makes of smpath's disk.
const DEVICE: &str = "/dev/nbd1";

/// Longer than smpath takes to log in again and to write on another path, emulated.
const STUCK_FOR: Duration = Duration::from_millis(2500);

/// Longer than it takes to give up a silent path, besides.
const STUCK_SILENT_FOR: Duration = Duration::from_secs(4);

/// A write that is not answered by then went into the silent link.
const SILENT_AFTER: Duration = Duration::from_millis(700);

/// So long the newer write may wait before the network has to let go what it holds, if a fence waits for that.
const HELD_AT_MOST: Duration = Duration::from_secs(5);

/// A newer write that still waits so long after the stuck one has landed is not waiting for that one.
const HELD_FOR_GOOD_AFTER: Duration = Duration::from_secs(5);

/// What was let go has certainly had its effect then.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

/// Shorter than the defaults, so that a silent path is given up after 2 s. One path takes all writes, so that several
/// that are late are late on one connection.
const CONFIGURATION: &str = "nop-interval = \"1s\"\nnop-timeout = \"1s\"\npolicy = \"numa\"\n";

const BLOCK_BYTES: usize = 4096;
const OFFSET: u64 = 1 << 20;

/// Between the blocks that are written, so that no two writes touch.
const STRIDE: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Both paths lead into one portal group: a fence can use either.
    OneGroup,
    /// The other path leads into another group, where the session of the lost one cannot be reinstated.
    TwoGroups,
    /// The other path leads to another target, which shows the same logical unit.
    TwoTargets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The write is in the back end, and the connection is reset; the portal takes the next one.
    Reset,
    /// The write is in the back end, and nothing comes over the connection any more.
    Silent,
    /// The write is in the back end, the connection is reset, and the portal does not come back.
    Gone,
    /// So many writes are still in the network, which delivers them late.
    Held { writes: u8 },
    /// The write is in the back end, and the target closes the portal group.
    GroupClosed,
}

/// What `smpath run` is told.
#[derive(Clone, Debug)]
struct Mode {
    name: String,
    arguments: Vec<String>,
}

/// What has to become of the fence of the lost path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fence {
    Proved,
    /// Its time was over.
    OutOfTime,
    /// An operator waived it.
    Waived,
    /// There was none.
    None,
}

const SITUATIONS: &[(Layout, Loss)] = &[
    (Layout::OneGroup, Loss::Gone),
    (Layout::OneGroup, Loss::Reset),
    (Layout::OneGroup, Loss::Silent),
    (Layout::OneGroup, Loss::Held { writes: 1 }),
    (Layout::OneGroup, Loss::Held { writes: 3 }),
    (Layout::TwoGroups, Loss::Gone),
    (Layout::TwoGroups, Loss::Reset),
    (Layout::TwoGroups, Loss::Held { writes: 1 }),
    (Layout::TwoGroups, Loss::GroupClosed),
    (Layout::TwoTargets, Loss::Gone),
    (Layout::TwoTargets, Loss::Reset),
];

/// So short that its time decides; longer than a write is stuck.
const SHORT: &str = "bounded:6s";

pub(super) fn cases(fences: &[String]) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for mode in modes(fences)? {
        let is_asked = !fences.is_empty();
        for &(layout, loss) in
            SITUATIONS.iter().filter(|(layout, loss)| is_asked || mode.is_for(*layout, *loss))
        {
            let mode = mode.clone();
            cases.push(Case {
                name: format!("smpath: {loss}"),
                mode: mode.name.clone(),
                target: layout.name(),
                expected: mode.expected(layout, loss),
                run: Box::new(move |lio| {
                    Stand::new(lio, layout, &mode.arguments)?.lose_and_look(loss, &mode)
                }),
            });
        }
    }
    Ok(cases)
}

/// The asked ones; or those that must keep the data, and `unsafe`, which must not.
fn modes(asked: &[String]) -> Result<Vec<Mode>> {
    let help = smpath(&["run", "--help"], LIMIT)?.good()?.stdout;
    ensure!(help.contains("--fence"), "this smpath has no --fence");
    let mode = |words: &str| Mode {
        name: if words.is_empty() { "default" } else { words }.to_owned(),
        arguments: words.split_whitespace().map(str::to_owned).collect(),
    };
    let fence = |name: &str| mode(&format!("--fence {name}"));
    if !asked.is_empty() {
        return Ok(asked.iter().map(|name| fence(name)).collect());
    }
    Ok(vec![mode(""), fence(SHORT), fence("strict"), fence("unsafe"), fence("unsafe --early-data off")])
}

impl Mode {
    fn is(&self, fence: &str) -> bool {
        self.arguments == ["--fence", fence]
    }

    fn has_early_data(&self) -> bool {
        !self.arguments.iter().any(|word| word == "--early-data")
    }

    /// What differs from other modes; a fence of 30 s whose time decides is not waited for.
    fn is_for(&self, layout: Layout, loss: Loss) -> bool {
        match self.arguments.as_slice() {
            [] => !is_out_of_reach(layout, loss),
            _ if self.is(SHORT) => is_out_of_reach(layout, loss),
            _ => self.has_early_data() || matches!(loss, Loss::Held { .. }),
        }
    }

    fn fence(&self, layout: Layout, loss: Loss) -> Fence {
        let is_safe = !self.arguments.iter().any(|word| word == "unsafe");
        match is_out_of_reach(layout, loss) {
            _ if !is_safe => Fence::None,
            false => Fence::Proved,
            true if self.is("strict") => Fence::Waived,
            true => Fence::OutOfTime,
        }
    }

    fn expected(&self, layout: Layout, loss: Loss) -> Verdict {
        match self.fence(layout, loss) {
            Fence::Proved | Fence::OutOfTime => Verdict::Kept,
            Fence::Waived => Verdict::Held,
            // A write that comes late is not asked for its data.
            Fence::None if !self.has_early_data() => Verdict::Kept,
            Fence::None => Verdict::Corrupt,
        }
    }
}

/// Whether no portal is left where the session of the lost path can be reinstated.
fn is_out_of_reach(layout: Layout, loss: Loss) -> bool {
    loss == Loss::Gone && layout != Layout::OneGroup
}

impl Layout {
    const fn name(self) -> &'static str {
        match self {
            Self::OneGroup => "one group",
            Self::TwoGroups => "two groups",
            Self::TwoTargets => "two targets",
        }
    }

    /// Portal and target of each path.
    const fn routes(self) -> [(&'static str, &'static str); 2] {
        let other = match self {
            Self::OneGroup => (FIRST_GROUP[1], TARGET),
            Self::TwoGroups => (SECOND_GROUP, TARGET),
            Self::TwoTargets => (THIRD_PORTAL, OTHER_TARGET),
        };
        [(FIRST_GROUP[0], TARGET), other]
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("E1 stuck in the back end, portal gone"),
            Self::Reset => f.write_str("E2 stuck in the back end, connection reset"),
            Self::Silent => f.write_str("E2 stuck in the back end, path silent"),
            Self::Held { writes } => write!(f, "E3 late in the network, writes: {writes}"),
            Self::GroupClosed => f.write_str("stuck in the back end, group closed"),
        }
    }
}

/// smpath over two paths, and what happened so far.
pub(super) struct Stand<'a> {
    lio: &'a Lio,
    layout: Layout,
    pub(super) links: [Link; 2],
    // In this order they end: the client, the disk, the disk's folder.
    device: Device,
    pub(super) disk: Disk,
    _room: Room,
    started: Instant,
    steps: Vec<String>,
}

impl<'a> Stand<'a> {
    pub(super) fn new(lio: &'a Lio, layout: Layout, arguments: &[String]) -> Result<Self> {
        let room = Room::new()?;
        let route = |(portal, target): (&str, &str)| {
            Ok::<_, anyhow::Error>(Route { portal: portal.parse()?, target: target.to_owned(), lun: 0 })
        };
        let [first, second] = layout.routes();
        let routes = [route(first)?, route(second)?];
        let links = [Link::to(routes[0].portal)?, Link::to(routes[1].portal)?];
        let mut arguments = arguments.to_vec();
        arguments.extend(routes.iter().zip(&links).map(|(route, link)| route.url_through(link.address())));
        let configuration = room.path("smpath.toml");
        fs::write(&configuration, CONFIGURATION)?;
        arguments.extend(["--config".to_owned(), configuration.display().to_string()]);
        let mut disk = Disk::launch(&room, &arguments)?;
        let socket = room.path("nbd");
        wait_until(LIMIT, "NBD socket", || (socket.exists() || disk.ensure_alive().is_err()).then_some(()))?;
        disk.ensure_alive()?;
        let device = Device::attach(&socket, DEVICE).with_context(|| disk.log())?;
        let (started, steps) = (Instant::now(), Vec::new());
        let stand = Self { lio, layout, links, device, disk, _room: room, started, steps };
        stand.wait_until_usable(2)?;
        Ok(stand)
    }

    pub(super) fn wait_until_usable(&self, paths: usize) -> Result<()> {
        wait_until(LIMIT, "second path", || (usable_paths(&self.disk).ok()? == paths).then_some(()))
            .with_context(|| self.disk.log())
    }

    fn lose_and_look(mut self, loss: Loss, mode: &Mode) -> Result<Seen> {
        let device = open()?;
        write(&device, OFFSET, vec![0; BLOCK_BYTES])?;
        let looked = match loss {
            Loss::Held { writes } => self.hold_in_the_network(&device, writes),
            _ => self.hold_in_the_back_end(&device, loss, mode),
        };
        drop(device);
        let fence = looked.as_ref().map_or(Fence::None, |_| mode.fence(self.layout, loss));
        let looked = looked.and_then(|seen| self.ensure_fence_ended(fence).map(|()| seen));
        let (verdict, waited) = looked.with_context(|| self.disk.log())?;
        let summary = format!("newer write acknowledged after {waited:.1?}, fence: {fence}");
        Ok(Seen { verdict, summary, steps: self.end()? })
    }

    /// The disk must be whole again before it goes. What happened is returned.
    pub(super) fn end(self) -> Result<Vec<String>> {
        self.links.iter().for_each(Link::restore);
        drop(self.device);
        let log: Vec<String> = self.disk.log().lines().map(|line| format!("smpath: {line}")).collect();
        self.disk.stop()?;
        Ok([self.steps, log].concat())
    }

    fn hold_in_the_back_end(
        &mut self,
        device: &File,
        loss: Loss,
        mode: &Mode,
    ) -> Result<(Verdict, Duration)> {
        let (old, new) = (stuck_data(loss)?, newer_data());
        let (held, let_go) = (self.lio.count_held(), self.lio.count_executed_late());
        let before = self.carried();
        let mut writer = Writer::start(device, OFFSET, vec![old.clone(), new])?;
        wait_until(LIMIT, "write in the back end", || (self.lio.count_held() > held).then_some(()))?;
        let path = self.busier_since(before);
        self.step(&format!("write stuck, it came over path {path}"));
        let lost = Instant::now();
        match loss {
            Loss::GroupClosed => close_and_open(u16::try_from(path + 1)?)?,
            Loss::Silent => self.links[path].stall(),
            Loss::Gone => self.links[path].cut(),
            Loss::Reset | Loss::Held { .. } => {
                self.links[path].cut();
                self.links[path].restore();
            }
        }
        self.step(&format!("path {path} is lost"));
        ensure!(writer.has_written(1, lost + LIMIT)?, "the stuck write was not repeated");
        self.step("the stuck write was repeated and acknowledged");
        wait_until(LIMIT, "end of the stuck write", || {
            (self.lio.count_executed_late() > let_go).then_some(())
        })?;
        self.step("the stuck copy was let go");
        // What is held for good is not waited for longer than it takes to see that.
        let patience = if mode.is("strict") { HELD_FOR_GOOD_AFTER } else { LIMIT };
        let by_itself = writer.has_written(2, Instant::now() + patience)?;
        if !by_itself {
            self.waive()?;
            ensure!(writer.has_written(2, Instant::now() + LIMIT)?, "the newer write waits without a fence");
        }
        let waited = writer.end(lost)?;
        self.step(&format!("the newer data was acknowledged {:.3} s after the loss", waited.as_secs_f32()));
        thread::sleep(SETTLED_AFTER);
        let verdict = self.look(device, &[(OFFSET, old)])?;
        Ok((if by_itself || verdict == Verdict::Corrupt { verdict } else { Verdict::Held }, waited))
    }

    fn hold_in_the_network(&mut self, device: &File, writes: u8) -> Result<(Verdict, Duration)> {
        let path = self.path_in_use(device)?;
        self.links[path].hold(Newcomers::Refused);
        self.step(&format!("path {path} is silent"));
        let (lost, mut older, mut writers) = (Instant::now(), Vec::new(), Vec::new());
        for number in 0..u64::from(writes) {
            let (offset, mut old) = (OFFSET + number * STRIDE, newer_data());
            old[0] = 0xdd;
            old[8..16].copy_from_slice(&self::number()?.to_be_bytes());
            writers.push(Writer::start(device, offset, vec![old.clone(), newer_data()])?);
            older.push((offset, old));
        }
        for writer in &mut writers {
            ensure!(!writer.has_written(1, lost + SILENT_AFTER)?, "a write did not take the silent path");
        }
        self.step("all writes are in the network");
        let held_until = Instant::now() + HELD_AT_MOST;
        let are_early = writers.iter_mut().map(|writer| writer.has_written(2, held_until));
        let are_early = are_early.collect::<Result<Vec<_>>>()?.into_iter().all(|is_early| is_early);
        self.step(if are_early { "newer data acknowledged" } else { "newer data is held back" });
        self.links[path].deliver();
        self.links[path].restore();
        self.step("the network delivers what it held");
        let mut waited = Duration::ZERO;
        for mut writer in writers {
            ensure!(writer.has_written(2, Instant::now() + LIMIT)?, "the newer data was not acknowledged");
            waited = waited.max(writer.end(lost)?);
        }
        thread::sleep(SETTLED_AFTER);
        Ok((self.look(device, &older)?, waited))
    }

    /// A fence is open and holds the write; an operator says that it need not.
    fn waive(&mut self) -> Result<()> {
        let show = self.disk.ask(&["show"])?;
        let open = show["fences"].as_array().map_or(0, Vec::len);
        ensure!(open == 1 && show["held_writes"] == 1, "a fence should hold a write: {show}");
        let identity = show["identity"].as_str().context("a disk has an identity")?;
        let control = self.disk.control.display().to_string();
        smpath(&["waive", identity, "--control", &control], LIMIT)?.good()?;
        self.step("the fence was waived");
        Ok(())
    }

    /// What the program says of its fences.
    fn ensure_fence_ended(&self, how: Fence) -> Result<()> {
        let show = self.disk.ask(&["show"])?;
        let count = |name: &str| show[name].as_u64().unwrap_or_default();
        let (proved, waived) = (count("fences_proved"), count("fences_waived"));
        let is_so = match how {
            Fence::Proved => proved > 0 && waived == 0,
            Fence::OutOfTime | Fence::Waived => waived == 1,
            Fence::None => proved == 0 && waived == 0,
        };
        let open = show["fences"].as_array().map_or(0, Vec::len);
        ensure!(is_so && open == 0, "fence not {how}: {proved} proved, {waived} waived, {open} open");
        Ok(())
    }

    /// Which path a write goes over now.
    fn path_in_use(&self, device: &File) -> Result<usize> {
        let before = self.carried();
        write(device, OFFSET, vec![0; BLOCK_BYTES])?;
        Ok(self.busier_since(before))
    }

    fn carried(&self) -> [u64; 2] {
        self.links.each_ref().map(Link::carried)
    }

    fn busier_since(&self, before: [u64; 2]) -> usize {
        let [first, second] = self.carried();
        usize::from(second - before[1] > first - before[0])
    }

    /// Whether each block holds the newer data.
    fn look(&mut self, device: &File, older: &[(u64, Vec<u8>)]) -> Result<Verdict> {
        let mut verdict = Verdict::Kept;
        for (offset, old) in older {
            let mut block = Aligned::new(vec![0; BLOCK_BYTES]);
            device.read_exact_at(block.bytes(), *offset)?;
            let found = block.bytes();
            ensure!(
                found == old || found == newer_data(),
                "a block holds neither the old nor the newer data"
            );
            if found == old {
                verdict = Verdict::Corrupt;
            }
        }
        self.step(&format!("what was written is read: {verdict}"));
        Ok(verdict)
    }

    fn step(&mut self, what: &str) {
        self.steps.push(format!("{:8.3} s  {what}", self.started.elapsed().as_secs_f32()));
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proved => "proved",
            Self::OutOfTime => "out of time",
            Self::Waived => "waived",
            Self::None => "none",
        })
    }
}

fn usable_paths(disk: &Disk) -> Result<usize> {
    let show = disk.ask(&["show"])?;
    let paths = show["paths"].as_array().context("a disk has paths")?;
    Ok(paths.iter().filter(|path| is_usable(path)).count())
}

fn is_usable(path: &Value) -> bool {
    path["state"].as_str().is_some_and(|state| state.contains("optimized"))
}

/// The command that closes a group returns when its commands have ended.
fn close_and_open(group: u16) -> Result<()> {
    let switch = switch_of(group);
    Command::new("sh").args(["-c", &format!("echo 0 >{switch}; echo 1 >{switch}")]).spawn()?;
    Ok(())
}

fn open() -> Result<File> {
    let direct = i32::try_from(OFlags::DIRECT.bits())?;
    let file = OpenOptions::new().read(true).write(true).custom_flags(direct).open(Path::new(DEVICE));
    file.with_context(|| format!("{DEVICE} cannot be opened"))
}

/// A client that writes blocks to one place, each after the one before is acknowledged.
struct Writer {
    acknowledged: Receiver<std::io::Result<Instant>>,
    thread: JoinHandle<()>,
    count: usize,
    last: Instant,
}

impl Writer {
    fn start(device: &File, offset: u64, blocks: Vec<Vec<u8>>) -> Result<Self> {
        let device = device.try_clone()?;
        let (sender, acknowledged) = channel();
        let thread = thread::spawn(move || {
            for block in blocks {
                let _ = sender.send(write(&device, offset, block).map(|()| Instant::now()));
            }
        });
        Ok(Self { acknowledged, thread, count: 0, last: Instant::now() })
    }

    /// Whether so many blocks are acknowledged by then.
    fn has_written(&mut self, count: usize, end: Instant) -> Result<bool> {
        while self.count < count {
            match self.acknowledged.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(written) => self.last = written.context("the client's write")?,
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => bail!("the client has ended"),
            }
            self.count += 1;
        }
        Ok(true)
    }

    /// How long after that its last block was acknowledged.
    fn end(self, since: Instant) -> Result<Duration> {
        self.thread.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        Ok(self.last.saturating_duration_since(since))
    }
}

fn write(device: &File, offset: u64, block: Vec<u8>) -> std::io::Result<()> {
    device.write_all_at(Aligned::new(block).bytes(), offset)
}

/// What the back end holds: see the example `late` of the crate `nbd`.
fn stuck_data(loss: Loss) -> Result<Vec<u8>> {
    let time = if loss == Loss::Silent { STUCK_SILENT_FOR } else { STUCK_FOR };
    let mut data = vec![0xdd; BLOCK_BYTES];
    data[..4].copy_from_slice(b"LATE");
    data[4..8].copy_from_slice(&u32::try_from(time.as_millis())?.to_be_bytes());
    data[8..16].copy_from_slice(&number()?.to_be_bytes());
    Ok(data)
}

fn newer_data() -> Vec<u8> {
    vec![0xee; BLOCK_BYTES]
}

/// Never the same twice.
fn number() -> Result<u64> {
    Ok(u64::try_from(SystemTime::UNIX_EPOCH.elapsed()?.as_micros())?)
}

/// A block where direct I/O wants it: at a multiple of its own size.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn new(block: Vec<u8>) -> Self {
        let mut memory = vec![0; block.len() * 2];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        memory[start..start + BLOCK_BYTES].copy_from_slice(&block);
        Self { memory, start }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + BLOCK_BYTES]
    }
}
