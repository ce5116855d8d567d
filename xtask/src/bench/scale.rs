//! `xtask bench scale`: a thousand logical units over eight paths each, in one process.
//!
//! What is looked at grows with the number of paths: how long discovery takes, what memory a path costs, how many
//! questions about port groups one change of theirs makes, and how long it takes to notice that a controller died.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::harness::nbd::Client;
use crate::harness::process::{Process, cpu_time, free_address, memory, wait_until};
use crate::harness::room::Room;
use crate::harness::smpath::{Disk, binary};

/// For anything but what is measured.
const LIMIT: Duration = Duration::from_secs(60);
const PORTALS: usize = 8;
/// Disks with I/O while a controller dies: the export takes 64 clients.
const STREAMS: usize = 48;
const BLOCK: usize = 4096;
/// After a change of access states: questions are counted for so long.
const COUNTED: Duration = Duration::from_secs(10);
/// Every disk that has had I/O since knows of a change by then.
const KNOWN: Duration = Duration::from_secs(2);
/// What a path has refused itself is not undone by what another unit was told: its own unit is asked in its turn, and a
/// thousand of them take 50 s.
const VERIFIED: Duration = Duration::from_secs(90);

/// All paths of all disks, from the start of the process.
const DISCOVERY_BUDGET: Duration = Duration::from_secs(10);
/// Of the process, for each path, after I/O on it.
const MEMORY_BUDGET: u64 = 64 << 10;
/// For one change of all units: a burst at once, then what the pace lets through, and the answers that a unit attention
/// delayed.
const QUESTIONS_BUDGET: u64 = 2 * (8 + 20 * COUNTED.as_secs());
/// Nothing is completed for so long when half of the connections are reset.
const RESET_BUDGET: Duration = Duration::from_millis(500);
/// The same when half of them fall silent: 4 s to notice it.
const SILENCE_BUDGET: Duration = Duration::from_millis(4500);

struct Stand {
    units: usize,
    portals: Vec<SocketAddr>,
    operator: PathBuf,
    disk: Disk,
    /// How long it took until all paths were there.
    discovery: Duration,
    exports: Vec<String>,
    _array: Process,
    _room: Room,
}

/// One line of the table.
struct Figure {
    what: String,
    value: String,
    budget: Option<(String, bool)>,
}

pub(crate) fn command(arguments: &[String]) -> Result<ExitCode> {
    let units = match arguments {
        [] => 1000,
        [option, count] if option == "--units" => count.parse().context("--units is a whole number")?,
        _ => bail!("bench scale takes --units N"),
    };
    let stand = Stand::start(units)?;
    let mut figures = stand.found()?;
    figures.extend(stand.groups_change()?);
    for fault in ["reset", "black-hole"] {
        figures.extend(stand.controller_dies(fault)?);
    }
    println!("{}", table(units, &figures));
    let missed = figures.iter().any(|figure| figure.budget.as_ref().is_some_and(|(_, kept)| !kept));
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Stand {
    fn start(units: usize) -> Result<Self> {
        let room = Room::new()?;
        let portals: Vec<SocketAddr> = (0..PORTALS).map(|_| free_address()).collect::<Result<_>>()?;
        let operator = room.path("array");
        let list = portals.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let unit = format!("size=1M,thin,owner=turns,count={units}");
        let control = operator.display().to_string();
        let mut array =
            Process::start(binary()?, ["array", "--portals", &list, "--lu", &unit, "--control", &control])?;
        wait_until(LIMIT, "array", || (operator.exists() || array.has_ended()).then_some(()))?;
        array.ensure_alive()?;
        let began = Instant::now();
        let options = ["--target", &portals[0].to_string(), "--policy", "round-robin", "--state", "none"];
        let mut disk = Disk::launch(&room, &options.map(str::to_owned))?;
        wait_until(LIMIT, "disks", || disk.said().contains("serving").then_some(()))
            .with_context(|| disk.log())?;
        let discovery = began.elapsed();
        disk.ensure_alive()?;
        let exports = Vec::new();
        let mut stand =
            Self { units, portals, operator, disk, discovery, exports, _array: array, _room: room };
        let disks = stand.disks()?;
        ensure!(disks.len() == units, "{} disks are there, not {units}", disks.len());
        for disk in &disks {
            let paths = disk["paths"].as_array().map_or(0, Vec::len);
            ensure!(paths == PORTALS, "{} has {paths} paths", disk["identity"]);
            let export = disk["export"].as_str().context("a disk has an export")?;
            stand.exports.push(export.to_owned());
        }
        Ok(stand)
    }

    fn disks(&self) -> Result<Vec<Value>> {
        // Not by `smpath list`, whose output of a thousand disks is longer than what is kept of a process.
        let mut answer = tell(&self.disk.control, &json!("snapshot"))?;
        match answer["snapshot"]["disks"].take() {
            Value::Array(disks) => Ok(disks),
            _ => bail!("smpath says no disks"),
        }
    }

    fn paths(&self) -> usize {
        self.units * PORTALS
    }

    /// REPORT TARGET PORT GROUPS that the array has seen.
    fn questions(&self) -> Result<u64> {
        let answer = tell(&self.operator, &json!("status"))?;
        let ports = answer["status"]["ports"].as_array().context("the array counts")?;
        Ok(ports.iter().filter_map(|port| port["group_reports"].as_u64()).sum())
    }

    fn change(&self, group: u16, state: &str) -> Result<()> {
        tell(&self.operator, &json!({ "alua": { "group": group, "state": state } })).map(drop)
    }

    /// Reads some blocks of every disk, so that every usable path is used and has said what it has to say.
    fn read_everywhere(&self) -> Result<Duration> {
        let began = Instant::now();
        for export in &self.exports {
            let mut client = Client::open(&self.disk.socket(), export, LIMIT)?;
            for block in 0..PORTALS as u64 {
                client.read(block * BLOCK as u64, BLOCK)?;
            }
        }
        Ok(began.elapsed())
    }

    fn found(&self) -> Result<Vec<Figure>> {
        let questions = self.questions()?;
        let fresh = memory(self.disk.id())?;
        self.read_everywhere()?;
        let used = memory(self.disk.id())?;
        let per_path = used / self.paths() as u64;
        let cpu = cpu_time(self.disk.id())?;
        Ok(vec![
            Figure::with_budget(
                "start to all disks ready with all paths",
                seconds(self.discovery),
                format!("{} s", DISCOVERY_BUDGET.as_secs()),
                self.discovery <= DISCOVERY_BUDGET,
            ),
            Figure::new("CPU time of the process until then, and for eight reads a disk", seconds(cpu)),
            Figure::new("REPORT TARGET PORT GROUPS until then", questions),
            Figure::new("memory of the process, found", mebibytes(fresh)),
            Figure::new("memory of the process, after I/O", mebibytes(used)),
            Figure::with_budget(
                "memory for each path, after I/O",
                format!("{:.1} KiB", per_path as f64 / 1024.0),
                format!("{} KiB", MEMORY_BUDGET >> 10),
                per_path <= MEMORY_BUDGET,
            ),
        ])
    }

    /// The group of one controller goes to standby for all units, which all hear of it by their next commands.
    fn groups_change(&self) -> Result<Vec<Figure>> {
        let before = self.questions()?;
        self.change(1, "standby")?;
        let took = self.read_everywhere()?;
        let at_once = self.questions()? - before;
        self.wait_for_groups(KNOWN, |disk| stands(disk, 1, "standby"))?;
        thread::sleep(COUNTED.saturating_sub(took));
        let questions = self.questions()? - before;
        let began = Instant::now();
        self.change(1, "optimized")?;
        self.read_everywhere()?;
        self.wait_for_groups(KNOWN, |disk| some_stands(disk, 1, "optimized"))?;
        let known = began.elapsed();
        self.wait_for_groups(VERIFIED, |disk| stands(disk, 1, "optimized"))?;
        let verified = began.elapsed();
        Ok(vec![
            Figure::new("a group changes: eight reads of each disk", seconds(took)),
            Figure::new("a group changes: REPORT TARGET PORT GROUPS in that time", at_once),
            Figure::with_budget(
                format!("a group changes: the same in {} s", COUNTED.as_secs()),
                questions.to_string(),
                QUESTIONS_BUDGET.to_string(),
                questions <= QUESTIONS_BUDGET,
            ),
            Figure::new(
                "the group changes back: each disk has an optimized path of it after",
                seconds(known),
            ),
            Figure::new(
                "the group changes back: paths that refused commands are used again after",
                seconds(verified),
            ),
        ])
    }

    fn wait_for_groups(&self, limit: Duration, is_right: impl Fn(&Value) -> bool) -> Result<()> {
        let began = Instant::now();
        loop {
            let wrong = self.disks()?.into_iter().find(|disk| !is_right(disk));
            let Some(wrong) = wrong else { return Ok(()) };
            ensure!(began.elapsed() < limit, "the group has changed, and a disk says {wrong:#}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Half of the portals go, with I/O on some disks, and come back.
    fn controller_dies(&self, fault: &str) -> Result<Vec<Figure>> {
        let socket = self.disk.socket();
        let streams = self.exports.iter().step_by((self.units / STREAMS).max(1)).take(STREAMS);
        let streams: Vec<Stream> =
            streams.map(|export| Stream::start(&socket, export)).collect::<Result<_>>()?;
        thread::sleep(Duration::from_secs(1));
        let baseline = longest_rest(&streams);
        let dead: BTreeSet<String> = self.portals[PORTALS / 2..].iter().map(ToString::to_string).collect();
        let began = Instant::now();
        self.break_portals(fault)?;
        let down = self.wait_for_paths(&dead, began, |path| path["state"] == "down")?;
        thread::sleep(Duration::from_secs(1));
        let rest = longest_rest(&streams);
        let mended = Instant::now();
        self.break_portals("none")?;
        let back = self.wait_for_paths(&dead, mended, |path| {
            path["state"].as_str().is_some_and(|state| state.contains("optimized"))
        })?;
        for stream in streams {
            stream.end()?;
        }
        let budget = if fault == "reset" { RESET_BUDGET } else { SILENCE_BUDGET };
        Ok(vec![
            Figure::new(
                format!("{fault} of a controller: all its paths are shown as down after"),
                seconds(down),
            ),
            Figure::with_budget(
                format!(
                    "{fault}: longest rest of I/O on {STREAMS} disks (without a fault {})",
                    seconds(baseline)
                ),
                seconds(rest),
                seconds(budget),
                rest <= budget,
            ),
            Figure::new(format!("{fault}: all paths are back after"), seconds(back)),
        ])
    }

    fn break_portals(&self, fault: &str) -> Result<()> {
        for port in PORTALS / 2 + 1..=PORTALS {
            tell(&self.operator, &json!({ "port": { "port": port, "fault": fault } }))?;
        }
        Ok(())
    }

    /// Until every path through these portals is as it should be. The answer of a thousand disks takes a while itself,
    /// so that the time is that of the last question which was answered otherwise, and of this one: its middle.
    fn wait_for_paths(
        &self,
        portals: &BTreeSet<String>,
        began: Instant,
        is_right: impl Fn(&Value) -> bool,
    ) -> Result<Duration> {
        while began.elapsed() < LIMIT {
            let asked = began.elapsed();
            let disks = self.disks()?;
            let paths = disks.iter().flat_map(|disk| disk["paths"].as_array().into_iter().flatten());
            let concerned =
                paths.filter(|path| path["portal"].as_str().is_some_and(|it| portals.contains(it)));
            if concerned.filter(|path| is_right(path)).count() == self.units * portals.len() {
                return Ok(asked);
            }
        }
        bail!("not all paths are as they should be within {LIMIT:?}");
    }
}

/// Whether a path of a group is shown so.
fn some_stands(disk: &Value, group: u64, access: &str) -> bool {
    let paths = disk["paths"].as_array().into_iter().flatten();
    paths.filter(|path| path["port_group"] == group).any(|path| path["access"] == access)
}

/// Whether all paths of a group are shown so.
fn stands(disk: &Value, group: u64, access: &str) -> bool {
    let paths = disk["paths"].as_array().into_iter().flatten();
    paths.filter(|path| path["port_group"] == group).all(|path| path["access"] == access)
}

/// Writes and reads of one disk, one at a time, until it is ended.
struct Stream {
    stop: Arc<AtomicBool>,
    /// Milliseconds.
    longest_rest: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Stream {
    fn start(socket: &Path, export: &str) -> Result<Self> {
        let client = Client::open(socket, export, LIMIT)?;
        let (stop, longest_rest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (their_stop, their_rest) = (Arc::clone(&stop), Arc::clone(&longest_rest));
        let thread = thread::spawn(move || work(client, &their_stop, &their_rest));
        Ok(Self { stop, longest_rest, thread })
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("a stream panicked"))?
    }
}

/// What one request took at most since it was asked last.
fn longest_rest(streams: &[Stream]) -> Duration {
    let rests = streams.iter().map(|stream| stream.longest_rest.swap(0, Ordering::Relaxed));
    Duration::from_millis(rests.max().unwrap_or_default())
}

fn work(mut client: Client, stop: &AtomicBool, longest_rest: &AtomicU64) -> Result<()> {
    /// So that half a hundred streams leave the machine some time.
    const PAUSE: Duration = Duration::from_millis(5);
    let mut number: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        let offset = number % 64 * BLOCK as u64;
        let data = [u8::try_from(number % 251)?; BLOCK];
        let began = Instant::now();
        client.write(offset, &data)?;
        let found = client.read(offset, BLOCK)?;
        let took = u64::try_from(began.elapsed().as_millis())?;
        longest_rest.fetch_max(took, Ordering::Relaxed);
        ensure!(found == data, "what was written at {offset} is not what was read");
        number += 1;
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// One question to a control socket.
fn tell(socket: &Path, question: &Value) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("{}", socket.display()))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer: Value = serde_json::from_str(&line)?;
    ensure!(answer.get("error").is_none(), "{} says {answer}", socket.display());
    Ok(answer)
}

impl Figure {
    fn new(what: impl Into<String>, value: impl ToString) -> Self {
        Self { what: what.into(), value: value.to_string(), budget: None }
    }

    fn with_budget(what: impl Into<String>, value: String, budget: String, is_kept: bool) -> Self {
        Self { what: what.into(), value, budget: Some((budget, is_kept)) }
    }
}

fn table(units: usize, figures: &[Figure]) -> String {
    let mut text =
        format!("| {units} logical units, {PORTALS} paths each | measured | budget |\n|---|---:|---|\n");
    for Figure { what, value, budget } in figures {
        let budget = match budget {
            Some((budget, true)) => format!("at most {budget}: kept"),
            Some((budget, false)) => format!("at most {budget}: **missed**"),
            None => String::new(),
        };
        let _ = writeln!(text, "| {what} | {value} | {budget} |");
    }
    text
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
