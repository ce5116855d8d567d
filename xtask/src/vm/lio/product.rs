//! smpath over two portals of LIO, its disk attached with the kernel's NBD client. A write is stuck, its path is lost,
//! the same block is written again with newer data; once that is acknowledged and the stuck copy is let go, the newer
//! data must be there. Without a fence it is not, and a run that does not show that proves nothing.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use rustix::fs::OFlags;

use super::guest::{Case, Seen, Verdict};
use super::target::{Device, FIRST_GROUP, Lio, SECOND_GROUP, TARGET, switch_of};
use crate::harness::link::{Link, Newcomers};
use crate::harness::process::wait_until;
use crate::harness::room::Room;
use crate::harness::smpath::{Disk, Route, smpath};

/// For starting, and for a write that waits for a fence.
const LIMIT: Duration = Duration::from_secs(60);

/// The device that the kernel's NBD client makes of smpath's disk.
const DEVICE: &str = "/dev/nbd1";

/// Longer than smpath takes to give up a silent path and to write on another one.
const STUCK_FOR: Duration = Duration::from_secs(4);

/// A write that is not answered by then went into the silent link.
const SILENT_AFTER: Duration = Duration::from_millis(700);

/// So long the newer write may wait before the network has to let go what it holds, if a fence waits for that.
const HELD_AT_MOST: Duration = Duration::from_secs(8);

/// What was let go has certainly had its effect then.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// Shorter than the defaults, so that a silent path is given up after 2 s.
const CONFIGURATION: &str = "nop-interval = \"1s\"\nnop-timeout = \"1s\"\n";

const BLOCK_BYTES: usize = 4096;
const OFFSET: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Both paths lead into one portal group: a fence can use either.
    OneGroup,
    /// The other path leads into another group, where the session of the lost one cannot be reinstated.
    TwoGroups,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The write is in the back end, and the connection is reset; the portal takes the next one.
    Reset,
    /// The write is in the back end, and nothing comes over the connection any more.
    Silent,
    /// The write is still in the network, which delivers it late.
    Held,
    /// The write is in the back end, and the target closes the portal group.
    GroupClosed,
}

/// What `smpath run` is told about fences.
#[derive(Clone, Debug)]
struct Mode {
    name: String,
    arguments: Vec<String>,
    expected: Verdict,
}

const SITUATIONS: &[(Layout, Loss)] = &[
    (Layout::OneGroup, Loss::Reset),
    (Layout::OneGroup, Loss::Silent),
    (Layout::OneGroup, Loss::Held),
    (Layout::TwoGroups, Loss::Reset),
    (Layout::TwoGroups, Loss::Held),
    (Layout::TwoGroups, Loss::GroupClosed),
];

pub(super) fn cases(fences: &[String]) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for mode in modes(fences)? {
        for &(layout, loss) in SITUATIONS {
            let (name, expected, arguments) = (mode.name.clone(), mode.expected, mode.arguments.clone());
            cases.push(Case {
                name: format!("smpath: {loss}"),
                mode: name,
                target: match layout {
                    Layout::OneGroup => "one group",
                    Layout::TwoGroups => "two groups",
                },
                expected,
                run: Box::new(move |lio| Stand::new(lio, layout, &arguments)?.lose_and_look(loss)),
            });
        }
    }
    Ok(cases)
}

/// The asked ones; or the default, which must keep the data, and `unsafe`, which must not.
fn modes(asked: &[String]) -> Result<Vec<Mode>> {
    let help = smpath(&["run", "--help"], LIMIT)?.good()?.stdout;
    let expected = |name: &str| if name == "unsafe" { Verdict::Corrupt } else { Verdict::Kept };
    let named = |name: &str| Mode {
        name: format!("--fence {name}"),
        arguments: vec!["--fence".to_owned(), name.to_owned()],
        expected: expected(name),
    };
    if !help.contains("--fence") {
        ensure!(asked.is_empty(), "this smpath has no --fence");
        return Ok(vec![Mode {
            name: "no fence".to_owned(),
            arguments: Vec::new(),
            expected: Verdict::Corrupt,
        }]);
    }
    if !asked.is_empty() {
        return Ok(asked.iter().map(|name| named(name)).collect());
    }
    let default = Mode { name: "default".to_owned(), arguments: Vec::new(), expected: Verdict::Kept };
    Ok(vec![default, named("unsafe")])
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "connection reset, write in the back end",
            Self::Silent => "path silent, write in the back end",
            Self::Held => "path silent, write in the network",
            Self::GroupClosed => "group closed, write in the back end",
        })
    }
}

/// smpath over two paths, and what happened so far.
struct Stand<'a> {
    lio: &'a Lio,
    links: [Link; 2],
    // In this order they end: the client, the disk, the disk's folder.
    device: Device,
    disk: Disk,
    _room: Room,
    started: Instant,
    steps: Vec<String>,
}

impl<'a> Stand<'a> {
    fn new(lio: &'a Lio, layout: Layout, fence: &[String]) -> Result<Self> {
        let room = Room::new()?;
        let other = match layout {
            Layout::OneGroup => FIRST_GROUP[1],
            Layout::TwoGroups => SECOND_GROUP,
        };
        let route = |portal: &str| {
            Ok::<_, anyhow::Error>(Route { portal: portal.parse()?, target: TARGET.to_owned(), lun: 0 })
        };
        let routes = [route(FIRST_GROUP[0])?, route(other)?];
        let links = [Link::to(routes[0].portal)?, Link::to(routes[1].portal)?];
        let mut arguments = fence.to_vec();
        arguments.extend(routes.iter().zip(&links).map(|(route, link)| route.url_through(link.address())));
        let configuration = room.path("smpath.toml");
        fs::write(&configuration, CONFIGURATION)?;
        arguments.extend(["--config".to_owned(), configuration.display().to_string()]);
        let mut disk = Disk::launch(&room, &arguments)?;
        let socket = room.path("nbd");
        wait_until(LIMIT, "NBD socket", || (socket.exists() || disk.ensure_alive().is_err()).then_some(()))?;
        disk.ensure_alive()?;
        let device = Device::attach(&socket, DEVICE).with_context(|| disk.log())?;
        wait_until(LIMIT, "second path", || (usable_paths(&disk).ok()? == 2).then_some(()))
            .with_context(|| disk.log())?;
        Ok(Self { lio, links, device, disk, _room: room, started: Instant::now(), steps: Vec::new() })
    }

    fn lose_and_look(mut self, loss: Loss) -> Result<Seen> {
        let device = open()?;
        write(&device, vec![0; BLOCK_BYTES])?;
        let looked = match loss {
            Loss::Held => self.hold_in_the_network(&device),
            _ => self.hold_in_the_back_end(&device, loss),
        };
        drop(device);
        let (verdict, waited) = looked.with_context(|| self.disk.log())?;
        // The disk must be whole again before it goes.
        self.links.iter().for_each(Link::restore);
        drop(self.device);
        let log: Vec<String> = self.disk.log().lines().map(|line| format!("smpath: {line}")).collect();
        self.disk.stop()?;
        let summary = format!("newer write acknowledged after {waited:.1?}");
        Ok(Seen { verdict, summary, steps: [self.steps, log].concat() })
    }

    fn hold_in_the_back_end(&mut self, device: &File, loss: Loss) -> Result<(Verdict, Duration)> {
        let (old, new) = (stuck_data()?, newer_data());
        let (held, let_go) = (self.lio.count_held(), self.lio.count_executed_late());
        let before = self.carried();
        let (written, writes) = write_one_after_the_other(device, vec![old.clone(), new.clone()])?;
        wait_until(LIMIT, "write in the back end", || (self.lio.count_held() > held).then_some(()))?;
        let path = self.busier_since(before);
        self.step(&format!("write stuck, it came over path {path}"));
        let lost = Instant::now();
        match loss {
            Loss::GroupClosed => close_and_open(u16::try_from(path + 1)?)?,
            Loss::Silent => self.links[path].stall(),
            Loss::Reset | Loss::Held => {
                self.links[path].cut();
                self.links[path].restore();
            }
        }
        self.step(&format!("path {path} is lost"));
        self.expect(&written, "the stuck write was repeated and acknowledged", lost)?;
        let waited = self.expect(&written, "newer data acknowledged", lost)?;
        writes.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        wait_until(LIMIT, "end of the stuck write", || {
            (self.lio.count_executed_late() > let_go).then_some(())
        })?;
        self.step("the stuck copy was let go");
        thread::sleep(SETTLED_AFTER);
        Ok((self.look(device, &old, &new)?, waited))
    }

    fn hold_in_the_network(&mut self, device: &File) -> Result<(Verdict, Duration)> {
        let new = newer_data();
        let path = self.path_in_use(device)?;
        self.links[path].hold(Newcomers::Refused);
        self.step(&format!("path {path} is silent"));
        let lost = Instant::now();
        // The policy may use the other path first.
        let (old, written, writes) = loop {
            ensure!(lost.elapsed() < LIMIT, "no write goes over the silent path");
            let mut old = newer_data();
            old[0] = 0xdd;
            old[8..16].copy_from_slice(&number()?.to_be_bytes());
            let (written, writes) = write_one_after_the_other(device, vec![old.clone(), new.clone()])?;
            if written.recv_timeout(SILENT_AFTER).is_err() {
                break (old, written, writes);
            }
            // This one went over the other path, and so may the next.
            let _ = written.recv_timeout(LIMIT);
        };
        self.step("a write is in the network");
        let first = written.recv_timeout(HELD_AT_MOST);
        let second = first.is_ok().then(|| written.recv_timeout(HELD_AT_MOST)).and_then(Result::ok);
        let early = second.map(|_| lost.elapsed());
        self.step(if early.is_some() { "newer data acknowledged" } else { "newer data is held back" });
        self.links[path].deliver();
        self.links[path].restore();
        self.step("the network delivers what it held");
        let waited = match early {
            Some(waited) => waited,
            None => {
                if first.is_err() {
                    self.expect(&written, "the held write was repeated and acknowledged", lost)?;
                }
                self.expect(&written, "newer data acknowledged", lost)?
            }
        };
        writes.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        thread::sleep(SETTLED_AFTER);
        Ok((self.look(device, &old, &new)?, waited))
    }

    /// Which path a write goes over now.
    fn path_in_use(&self, device: &File) -> Result<usize> {
        let before = self.carried();
        write(device, vec![0; BLOCK_BYTES])?;
        Ok(self.busier_since(before))
    }

    fn carried(&self) -> [u64; 2] {
        self.links.each_ref().map(Link::carried)
    }

    fn busier_since(&self, before: [u64; 2]) -> usize {
        let [first, second] = self.carried();
        usize::from(second - before[1] > first - before[0])
    }

    /// The next write of the client ended well; returns how long after the loss.
    fn expect(
        &mut self,
        written: &Receiver<std::io::Result<()>>,
        what: &str,
        lost: Instant,
    ) -> Result<Duration> {
        written
            .recv_timeout(LIMIT)
            .with_context(|| format!("not seen: {what}"))?
            .context("the client's write")?;
        self.step(what);
        Ok(lost.elapsed())
    }

    fn look(&mut self, device: &File, old: &[u8], new: &[u8]) -> Result<Verdict> {
        let mut block = Aligned::new(vec![0; BLOCK_BYTES]);
        device.read_exact_at(block.bytes(), OFFSET)?;
        let found = block.bytes();
        ensure!(found == old || found == new, "the block holds neither the old nor the newer data");
        let verdict = if found == new { Verdict::Kept } else { Verdict::Corrupt };
        self.step(&format!("the block is read: {verdict}"));
        Ok(verdict)
    }

    fn step(&mut self, what: &str) {
        self.steps.push(format!("{:8.3} s  {what}", self.started.elapsed().as_secs_f32()));
    }
}

fn usable_paths(disk: &Disk) -> Result<usize> {
    let show = disk.ask(&["show"])?;
    let paths = show["paths"].as_array().context("a disk has paths")?;
    Ok(paths
        .iter()
        .filter(|path| path["state"].as_str().is_some_and(|state| state.contains("optimized")))
        .count())
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

/// A client that writes each block after the one before is acknowledged, and says so.
fn write_one_after_the_other(
    device: &File,
    blocks: Vec<Vec<u8>>,
) -> Result<(Receiver<std::io::Result<()>>, thread::JoinHandle<()>)> {
    let device = device.try_clone()?;
    let (sender, receiver) = channel();
    let writer = thread::spawn(move || {
        for block in blocks {
            let _ = sender.send(write(&device, block));
        }
    });
    Ok((receiver, writer))
}

fn write(device: &File, block: Vec<u8>) -> std::io::Result<()> {
    device.write_all_at(Aligned::new(block).bytes(), OFFSET)
}

/// What the back end holds: see the example `late` of the crate `nbd`.
fn stuck_data() -> Result<Vec<u8>> {
    let mut data = vec![0xdd; BLOCK_BYTES];
    data[..4].copy_from_slice(b"LATE");
    data[4..8].copy_from_slice(&u32::try_from(STUCK_FOR.as_millis())?.to_be_bytes());
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
