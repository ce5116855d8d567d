//! What a ghost is made with: a target whose back end can be made to wait, two paths through links that can hold what
//! they carry, and the program's disk over them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::super::disk::log_of;
use super::{HELD_AFTER, LANDING, LIMIT, Scenario};
use crate::harness::link::{Link, Newcomers};
use crate::harness::nbd::Client;
use crate::harness::process::wait_until;
use crate::harness::room::Room;
use crate::harness::shim::Gate;
use crate::harness::smpath::{Array, Disk, Route};
use crate::harness::tgt::{self, Provisioning, Tgt};

const BYTES: u64 = 16 << 20;
const BLOCK: usize = 4096;
/// Between the blocks that are written, so that no two writes touch.
const STRIDE: u64 = 64 << 10;
/// What the first copy of a write begins with.
const MARKER: &str = "GHOST-OF-A-WRITE";
/// What the newer data consist of.
const NEWER: u8 = b'N';

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Tgt,
    Array(Profile),
}

/// What `smpath array --profile` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    Honest,
    AnswersAtOnce,
    LyingReset,
    Gateways,
}

pub(super) const SERVERS: [Server; 5] = [
    Server::Tgt,
    Server::Array(Profile::Honest),
    Server::Array(Profile::AnswersAtOnce),
    Server::Array(Profile::LyingReset),
    Server::Array(Profile::Gateways),
];

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::AnswersAtOnce => "answers-at-once",
            Self::LyingReset => "lying-reset",
            Self::Gateways => "gateways",
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tgt => f.write_str("tgt"),
            Self::Array(profile) => write!(f, "array {}", profile.name()),
        }
    }
}

impl Server {
    pub(super) const fn tools(self) -> &'static [&'static str] {
        match self {
            Self::Tgt => &["tgtd", "cc", "nbdinfo"],
            Self::Array(_) => &["iscsi-ls", "nbdinfo"],
        }
    }

    /// What it is good for: where it does not differ from another one it need not be asked again.
    pub(super) const fn can_play(self, scenario: Scenario) -> bool {
        match (self, scenario) {
            (Self::Tgt, _) => true,
            (Self::Array(Profile::Gateways), _) => matches!(scenario, Scenario::TwoTargets),
            (Self::Array(Profile::Honest), _) => !matches!(scenario, Scenario::TwoTargets),
            (Self::Array(Profile::AnswersAtOnce | Profile::LyingReset), _) => {
                matches!(scenario, Scenario::StuckAndCut | Scenario::StuckAndReset)
            }
        }
    }

    /// Whether what it answers can be relied on at all.
    pub(super) const fn can_be_fenced(self) -> bool {
        !matches!(self, Self::Array(Profile::LyingReset))
    }
}

/// How the back end is made to wait.
#[derive(Debug)]
enum Stick {
    /// As long as we like.
    Gate(Gate),
    /// The array lets go by itself.
    For(Duration),
}

/// How long the array holds a write: longer than it takes to notice that a silent path is lost, where one is.
fn stuck_time(scenario: Scenario) -> Duration {
    Duration::from_secs(match scenario {
        Scenario::StuckAndSilent => 8,
        // Shorter than the time of the bounded fence that this case is played with.
        Scenario::TwoTargets => 2,
        _ => 3,
    })
}

/// A write that was sent, on a connection of its own.
#[derive(Debug)]
pub(super) struct Pending {
    sent: Instant,
    ended: Receiver<Result<Instant>>,
    /// When it was acknowledged, once that is known.
    acknowledged: RefCell<Option<Instant>>,
}

impl Pending {
    fn start(mut client: Client, offset: u64, data: Vec<u8>) -> Self {
        let (sender, ended) = channel();
        let sent = Instant::now();
        thread::spawn(move || {
            let outcome = client.write(offset, &data);
            // Nobody may wait for it any more.
            let _ = sender.send(outcome.map(|()| Instant::now()));
        });
        Self { sent, ended, acknowledged: RefCell::new(None) }
    }

    /// How long it took; none if it has not ended by then.
    pub(super) fn acknowledged_by(&self, end: Instant) -> Result<Option<Duration>> {
        let mut acknowledged = self.acknowledged.borrow_mut();
        if acknowledged.is_none() {
            match self.ended.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(outcome) => *acknowledged = Some(outcome?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the client of a write has ended"),
            }
        }
        Ok(acknowledged.map(|at| at - self.sent))
    }
}

#[derive(Debug)]
pub(super) struct Stand {
    room: Room,
    pub(super) links: Vec<Link>,
    stick: Stick,
    pub(super) disk: Disk,
    early_data: bool,
    /// When the first copies were sent.
    sent: Cell<Instant>,
    medium: PathBuf,
    // Last, so that it ends after the disk.
    pub(super) target: Target,
}

/// Held for as long as the unit is to be there.
#[derive(Debug)]
pub(super) enum Target {
    Tgt(Tgt),
    #[expect(dead_code, reason = "dropping an array ends its process")]
    Array(Array),
}

impl Stand {
    pub(super) fn new(scenario: Scenario, server: Server, options: &[String]) -> Result<Self> {
        let room = Room::new()?;
        let medium = room.zeroes("lu", BYTES)?;
        let (target, routes, stick) = match server {
            Server::Tgt => tgt_of(scenario, &room, &medium)?,
            Server::Array(profile) => array_of(scenario, profile, &medium)?,
        };
        let mut links = Vec::new();
        // One path takes all writes, so that several that are late are late on one connection.
        let mut arguments = vec!["--policy".to_owned(), "numa".to_owned()];
        for route in &routes {
            let link = Link::to(route.portal)?;
            arguments.push(route.url_through(link.address()));
            links.push(link);
        }
        arguments.extend_from_slice(options);
        let disk = Disk::start(&room, &arguments)?;
        let early_data = !options.iter().any(|option| option == "--early-data");
        let stand =
            Self { room, links, stick, disk, early_data, sent: Cell::new(Instant::now()), medium, target };
        stand.wait_until_usable(2)?;
        Ok(stand)
    }

    pub(super) fn wait_until_usable(&self, paths: usize) -> Result<()> {
        wait_until(LIMIT, "second usable path", || {
            let show = self.disk.ask(&["show"]).ok()?;
            let usable = |path: &&serde_json::Value| {
                path["state"].as_str().is_some_and(|state| state.contains("optimized"))
            };
            (show["paths"].as_array()?.iter().filter(usable).count() == paths).then_some(())
        })
        .with_context(|| self.log())
    }

    pub(super) fn log(&self) -> String {
        log_of(&self.disk)
    }

    /// Sends the first copies, and waits until the back end has them all; the path that they took.
    pub(super) fn stick_in_the_back_end(&self, writes: usize) -> Result<(usize, Vec<Pending>)> {
        let before: Vec<u64> = self.links.iter().map(Link::carried).collect();
        self.sent.set(Instant::now());
        let first = match &self.stick {
            Stick::Gate(gate) => {
                gate.arm(writes)?;
                let first = self.write_all_older(writes)?;
                gate.wait_until_stuck(writes)?;
                first
            }
            Stick::For(_) => {
                let first = self.write_all_older(writes)?;
                // On loopback they are in the back end long before that.
                thread::sleep(HELD_AFTER / 4);
                first
            }
        };
        let carried = self.links.iter().zip(before).map(|(link, before)| link.carried() - before);
        let busy = carried.enumerate().max_by_key(|(_, carried)| *carried);
        let (path, carried) = busy.context("a disk has paths")?;
        ensure!(carried >= (writes * BLOCK) as u64, "no path carried the write");
        Ok((path, first))
    }

    /// Lets the first copies go, and waits until they have reached the medium.
    pub(super) fn let_go(&self, writes: usize) -> Result<()> {
        match &self.stick {
            Stick::Gate(gate) => {
                gate.release();
                gate.wait_until_landed(writes)
            }
            Stick::For(time) => {
                let landed = self.sent.get() + *time + LANDING;
                thread::sleep(landed.saturating_duration_since(Instant::now()));
                Ok(())
            }
        }
    }

    /// Sends the first copies into links that keep them; the path that they took, which alone stays held.
    pub(super) fn hold_on_the_network(&self, writes: usize) -> Result<(usize, Vec<Pending>)> {
        self.links.iter().for_each(|link| link.hold(Newcomers::Refused));
        let first = self.write_all_older(writes)?;
        let expected = self.held_bytes(writes);
        let path = wait_until(LIMIT, "write on the network", || {
            self.links.iter().position(|link| link.held() >= expected)
        })?;
        self.links.iter().enumerate().filter(|(other, _)| *other != path).for_each(|(_, link)| link.resume());
        Ok((path, first))
    }

    /// What a link holds when it has all of the writes: without early data that is commands alone.
    fn held_bytes(&self, writes: usize) -> usize {
        const COMMAND: usize = 48;
        let data = if self.early_data { BLOCK } else { 0 };
        writes * (COMMAND + data)
    }

    fn write_all_older(&self, writes: usize) -> Result<Vec<Pending>> {
        let mut older = vec![b'o'; BLOCK];
        older[..MARKER.len()].copy_from_slice(MARKER.as_bytes());
        self.write_all(writes, &older)
    }

    pub(super) fn write_all_newer(&self, writes: usize) -> Result<Vec<Pending>> {
        self.write_all(writes, &[NEWER; BLOCK])
    }

    fn write_all(&self, writes: usize, block: &[u8]) -> Result<Vec<Pending>> {
        offsets(writes).map(|offset| Ok(Pending::start(self.client()?, offset, block.to_vec()))).collect()
    }

    fn client(&self) -> Result<Client> {
        Client::connect(&self.room.path("nbd"), LIMIT * 4)
    }

    /// How many blocks do not hold the newer data; what the disk shows must be what the medium holds.
    pub(super) fn corrupt_blocks(&self, writes: usize) -> Result<usize> {
        let medium = File::open(&self.medium)?;
        let mut client = self.client()?;
        let mut corrupt = 0;
        for offset in offsets(writes) {
            let mut block = vec![0; BLOCK];
            medium.read_exact_at(&mut block, offset)?;
            ensure!(
                client.read(offset, BLOCK)? == block,
                "the disk shows at {offset} what the medium does not hold"
            );
            if block == [NEWER; BLOCK] {
                continue;
            }
            ensure!(block.starts_with(MARKER.as_bytes()), "neither of both at {offset}: {:x?}", &block[..16]);
            corrupt += 1;
        }
        Ok(corrupt)
    }
}

/// Two portals of one group over one target, or over two targets that share the file.
fn tgt_of(scenario: Scenario, room: &Room, medium: &Path) -> Result<(Target, Vec<Route>, Stick)> {
    let gate = Gate::new(room, MARKER)?;
    let environment = &gate.environment();
    let mut tgt = Tgt::empty_in(2, tgt::Start { environment, ..tgt::Start::default() })?;
    tgt.add_target("one", medium, "ghost01", Provisioning::Full)?;
    let mut second = 0;
    if scenario == Scenario::TwoTargets {
        tgt.add_target("two", medium, "ghost01", Provisioning::Full)?;
        second = 1;
    }
    let route = |portal: usize, target: usize| Route {
        portal: tgt.portals[portal],
        target: tgt.targets[target].clone(),
        lun: tgt::LUN,
    };
    let routes = vec![route(0, 0), route(1, second)];
    Ok((Target::Tgt(tgt), routes, Stick::Gate(gate)))
}

/// Two ports of one controller, or one of each.
fn array_of(scenario: Scenario, profile: Profile, medium: &Path) -> Result<(Target, Vec<Route>, Stick)> {
    let time = stuck_time(scenario);
    let unit = format!("size={BYTES},file={}", medium.display());
    let stick = format!("{}s", time.as_secs());
    let mut options = vec!["--profile", profile.name()];
    if scenario.is_stuck_in_back_end() {
        options.extend(["--stick-marked", &stick]);
    }
    let array = Array::start_with(&[&unit], &options)?;
    let second = if scenario == Scenario::TwoTargets { 2 } else { 1 };
    let route = |portal: usize| Route { portal: array.portals[portal], ..array.routes[0].clone() };
    let routes = vec![route(0), route(second)];
    Ok((Target::Array(array), routes, Stick::For(time)))
}

fn offsets(writes: usize) -> impl Iterator<Item = u64> {
    (1..=writes as u64).map(|place| place * STRIDE)
}
