//! `xtask bench peers`: our disk beside `qemu-nbd` over libiscsi, on the same target, in one run.
//!
//! Only ratios inside one run mean anything: the target, fio and the program that is measured share the machine. (With
//! `--cpus apart` the target has half of its processors to itself, as if it stood somewhere else.) tgtd has one I/O thread: with
//! the 16 that it has by default (`--tgt-threads 16`) it needs a third more CPU time for each I/O on a machine with two
//! processors, and is itself the bound. Whether it is, `iscsi-perf` tells, which has no disk in between. Every round measures every
//! cell once, so that whatever else the machine does falls on all of them alike, and ratios are of one round each.

mod limit;
mod report;
pub(crate) mod scale;
pub(crate) mod slow_path;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use self::report::{Report, Sample};
use crate::harness::backend::{Backend, Extras, Kind};
use crate::harness::cpus::{Cpus, Side};
use crate::harness::fio::{Job, Length, run_job};
use crate::harness::process::{Process, cpu_time, is_installed, run, wait_until};
use crate::harness::room::Room;
use crate::harness::smpath::{self, Disk, nbd_unix_uri};
use crate::harness::tgt;

/// For anything but a measurement.
const LIMIT: Duration = Duration::from_secs(60);
const MEBIBYTES: u64 = 512;

/// What is measured of every server.
struct Load {
    name: &'static str,
    pattern: &'static str,
    block_bytes: u32,
    depth: u32,
}

const LOADS: [Load; 6] = [
    Load { name: "randread 4k qd1", pattern: "randread", block_bytes: 4096, depth: 1 },
    Load { name: "randread 4k qd32", pattern: "randread", block_bytes: 4096, depth: 32 },
    Load { name: "randwrite 4k qd1", pattern: "randwrite", block_bytes: 4096, depth: 1 },
    Load { name: "randwrite 4k qd32", pattern: "randwrite", block_bytes: 4096, depth: 32 },
    Load { name: "read 1m qd4", pattern: "read", block_bytes: 1 << 20, depth: 4 },
    Load { name: "write 1m qd4", pattern: "write", block_bytes: 1 << 20, depth: 4 },
];

#[derive(Debug)]
struct Options {
    /// Of one measurement.
    seconds: f64,
    rounds: u32,
    backends: Vec<Kind>,
    /// Only loads whose names begin so.
    load: String,
    cpus: Cpus,
    /// Of tgtd, for each logical unit.
    tgt_threads: String,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            seconds: 3.0,
            rounds: 5,
            backends: vec![Kind::Tgt, Kind::Array],
            load: String::new(),
            cpus: Cpus::Shared,
            tgt_threads: String::from("1"),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let value = rest.next().with_context(|| format!("{argument} needs a value"))?;
            match argument.as_str() {
                "--seconds" => options.seconds = value.parse().context("--seconds is a number")?,
                "--rounds" => options.rounds = value.parse().context("--rounds is a whole number")?,
                "--load" => options.load.clone_from(value),
                "--backend" if value == "tgt" => options.backends = vec![Kind::Tgt],
                "--backend" if value == "array" => options.backends = vec![Kind::Array],
                "--cpus" if value == "apart" => options.cpus = Cpus::Apart,
                "--cpus" if value == "shared" => options.cpus = Cpus::Shared,
                "--tgt-threads" => {
                    value.parse::<u8>().context("--tgt-threads is a small number")?;
                    options.tgt_threads.clone_from(value);
                }
                _ => bail!(
                    "bench peers takes --seconds S, --rounds N, --backend tgt|array, --load NAME, --cpus apart|shared, --tgt-threads N; not {argument} {value}"
                ),
            }
        }
        ensure!(options.loads().count() > 0, "no load begins with '{}'", options.load);
        ensure!(options.seconds >= 0.1 && options.rounds >= 1, "at least 0.1 s and one round");
        Ok(options)
    }

    fn loads(&self) -> impl Iterator<Item = &'static Load> {
        LOADS.iter().filter(|load| load.name.starts_with(&self.load))
    }
}

pub(crate) fn command(arguments: &[String]) -> Result<ExitCode> {
    let options = Options::parse(arguments)?;
    for tool in ["fio", "qemu-nbd", "nbdinfo", "tgtd", "iscsi-ls", "iscsi-perf"] {
        ensure!(is_installed(tool), "{tool} is not installed");
    }
    let mut within_budget = true;
    for kind in &options.backends {
        let report = measure(*kind, &options)?;
        println!("{}", report.table());
        let verdicts = report.verdicts();
        for verdict in &verdicts {
            println!("- {verdict}");
            within_budget &= verdict.is_met();
        }
        println!();
    }
    Ok(if within_budget { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(kind: Kind, options: &Options) -> Result<Report> {
    let room = Room::new()?;
    let tgt = tgt::Start { arguments: &["-t", &options.tgt_threads], ..tgt::Start::default() };
    let extras = Extras { tgt, ..Extras::default() };
    let start = || Backend::start_with(kind, &room, MEBIBYTES, &extras);
    let backend = options.cpus.run(Side::Target, start)?;
    options.cpus.run(Side::User, || measure_on(kind, &room, &backend, options))
}

fn measure_on(kind: Kind, room: &Room, backend: &Backend, options: &Options) -> Result<Report> {
    fill(room, backend)?;
    let servers = Server::all(backend)?;
    let names = servers.iter().map(|server| server.name).chain([TARGET_ALONE]).collect();
    let loads = options.loads().map(|load| load.name).collect();
    let Options { rounds, seconds, cpus, tgt_threads, .. } = options;
    let target =
        if kind == Kind::Tgt { format!("tgt, I/O threads: {tgt_threads}") } else { kind.to_string() };
    let title = format!("{target}, {cpus}, {rounds} rounds of {seconds} s, medians");
    let time = Duration::from_secs_f64(options.seconds);
    let mut report = Report::new(title, names, loads);
    for round in 0..options.rounds {
        for load in options.loads() {
            // Each round begins with another one, so that none always comes after the same.
            let first = round as usize % servers.len();
            for server in servers[first..].iter().chain(&servers[..first]) {
                eprintln!(
                    "{kind}: round {} of {}: {}, {}",
                    round + 1,
                    options.rounds,
                    load.name,
                    server.name
                );
                let sample = server.load(load, time, backend)?;
                report.add(server.name, load.name, sample);
            }
            if let Some(sample) = limit::measure(&backend.urls()[0], load, time, LIMIT)? {
                report.add(TARGET_ALONE, load.name, sample);
            }
        }
    }
    Ok(report)
}

/// Writes the whole unit once: a read of what was never written costs a target less.
fn fill(room: &Room, backend: &Backend) -> Result<()> {
    let url = &backend.urls()[0];
    let pattern = room.pattern("pattern", MEBIBYTES << 20)?;
    let file = pattern.to_string_lossy();
    run("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", &file, url], LIMIT)?.good()?;
    std::fs::remove_file(&pattern)?;
    Ok(())
}

/// One process that exports the backend's unit as an NBD disk.
struct Server {
    name: &'static str,
    uri: String,
    id: u32,
    _export: Export,
}

/// Keeps the process and its socket's folder.
enum Export {
    Ours { _disk: Disk, _room: Room },
    Peer { _process: Process, _room: Room },
}

pub(super) const OURS_FOUR: &str = "smpath, 4 paths";
pub(super) const OURS_ONE: &str = "smpath, 1 path";
pub(super) const DIRECT: &str = "smpath, direct";
pub(super) const PEER: &str = "qemu-nbd, 1 path";
pub(super) const TARGET_ALONE: &str = "iscsi-perf, no disk";

impl Server {
    fn all(backend: &Backend) -> Result<Vec<Self>> {
        let urls = backend.urls();
        let mut servers = Vec::new();
        if smpath::binary().is_ok() {
            servers.push(Self::ours(OURS_FOUR, &urls, &[])?);
            servers.push(Self::ours(OURS_ONE, &urls[..1], &[])?);
            if has_direct()? {
                servers.push(Self::ours(DIRECT, &urls[..1], &["--direct".to_owned()])?);
            } else {
                eprintln!(
                    "smpath run has no --direct: the cost of the multipath layer alone is not measured"
                );
            }
        } else {
            eprintln!("no smpath binary: only the peer is measured");
        }
        servers.push(Self::peer(&urls[0])?);
        Ok(servers)
    }

    fn ours(name: &'static str, urls: &[String], options: &[String]) -> Result<Self> {
        let room = Room::new()?;
        let disk = Disk::start(&room, &[urls, options].concat())?;
        Ok(Self {
            name,
            uri: disk.uri.clone(),
            id: disk.id(),
            _export: Export::Ours { _disk: disk, _room: room },
        })
    }

    fn peer(url: &str) -> Result<Self> {
        let room = Room::new()?;
        let socket = room.path("nbd");
        let arguments = ["--persistent", "--shared=8", "--format=raw", "--socket", &path_text(&socket), url];
        let mut process = Process::start("qemu-nbd", arguments)?;
        wait_until(LIMIT, "socket of qemu-nbd", || (socket.exists() || process.has_ended()).then_some(()))?;
        process.ensure_alive()?;
        let (uri, id) = (nbd_unix_uri(&socket), process.id());
        Ok(Self { name: PEER, uri, id, _export: Export::Peer { _process: process, _room: room } })
    }

    fn load(&self, load: &Load, time: Duration, backend: &Backend) -> Result<Sample> {
        let Load { pattern, block_bytes, depth, .. } = *load;
        let job = Job { uri: &self.uri, pattern, block_bytes, depth, length: Length::For(time) };
        let (before, target_before) = (cpu_time(self.id)?, cpu_time(backend.id())?);
        let measured = run_job(&job, time + LIMIT).with_context(|| self.name)?;
        let (busy, target_busy) = (cpu_time(self.id)? - before, cpu_time(backend.id())? - target_before);
        ensure!(measured.ios > 0, "{}: no I/O was done", self.name);
        Ok(Sample {
            iops: measured.iops,
            p50: micros(measured.p50),
            p99: micros(measured.p99),
            cpu: micros(busy) / measured.ios as f64,
            target: micros(target_busy) / measured.ios as f64,
        })
    }
}

fn has_direct() -> Result<bool> {
    let help = smpath::smpath(&["run", "--help"], LIMIT)?.good()?;
    Ok(help.stdout.contains("--direct"))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn path_text(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}
