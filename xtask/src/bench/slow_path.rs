//! `xtask bench slow-path`: what one path that is not as good as the other does to users, for each policy, in one run.
//!
//! Two paths to one unit of the embedded array. Both are equal; or every read and write through one takes 30 ms longer; or
//! reads through one never come back, or fail, while everything else there works, logins, pings and TEST UNIT READY
//! too: the path that monitors find healthy.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{LIMIT, micros};
use crate::harness::fio::{Job, Length, Measured, run_job};
use crate::harness::process::{cpu_time, is_installed};
use crate::harness::room::Room;
use crate::harness::smpath::{Array, Disk, Route};

/// What is wrong with the first path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Equal,
    Slow,
    Stall,
    Fail,
}

/// How a disk is set up.
struct Setting {
    name: &'static str,
    options: &'static [&'static str],
}

const POLICIES: [Setting; 5] = [
    Setting { name: "numa", options: &["--policy", "numa", "--slow-paths", "ignore"] },
    Setting { name: "round-robin", options: &["--policy", "round-robin", "--slow-paths", "ignore"] },
    Setting { name: "queue-depth", options: &["--policy", "queue-depth", "--slow-paths", "ignore"] },
    Setting { name: "latency", options: &["--policy", "latency"] },
    Setting { name: "latency + hedging", options: &["--policy", "latency", "--hedge-reads", "2%"] },
];
/// The same policies as most use, with what the product does about slow paths by default.
const DEMOTING: [Setting; 3] = [
    Setting { name: "numa, demoting", options: &["--policy", "numa"] },
    Setting { name: "round-robin, demoting", options: &["--policy", "round-robin"] },
    Setting { name: "queue-depth, demoting", options: &["--policy", "queue-depth"] },
];

/// Budgets: with one of two paths 30 ms slower, against round-robin.
const THROUGHPUT_MIN: f64 = 3.0;
const P99_MAX: f64 = 0.3;
/// On equal paths, against the best other policy.
const EQUAL_THROUGHPUT_MIN: f64 = 0.98;
const EQUAL_CPU_MAX: f64 = 1.03;
/// The program's default of 30 s would be longer than a measurement.
const COMMAND_TIMEOUT: &str = "command-timeout = \"5s\"\n";
const DEPTH: u32 = 32;
const BLOCK_BYTES: u32 = 4096;

#[derive(Clone, Copy, Debug)]
struct Sample {
    measured: Measured,
    /// Of the disk's process, user and system, in microseconds for each I/O.
    cpu: f64,
}

struct Options {
    seconds: f64,
    rounds: u32,
    cases: Vec<Case>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options =
            Self { seconds: 5.0, rounds: 3, cases: vec![Case::Equal, Case::Slow, Case::Stall, Case::Fail] };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let value = rest.next().with_context(|| format!("{argument} needs a value"))?;
            match (argument.as_str(), value.as_str()) {
                ("--seconds", _) => options.seconds = value.parse().context("--seconds is a number")?,
                ("--rounds", _) => options.rounds = value.parse().context("--rounds is a whole number")?,
                ("--case", "equal") => options.cases = vec![Case::Equal],
                ("--case", "slow") => options.cases = vec![Case::Slow],
                ("--case", "stall") => options.cases = vec![Case::Stall],
                ("--case", "fail") => options.cases = vec![Case::Fail],
                _ => bail!(
                    "bench slow-path takes --seconds S, --rounds N, --case equal|slow|stall|fail; not {argument} {value}"
                ),
            }
        }
        ensure!(options.seconds >= 0.1 && options.rounds >= 1, "at least 0.1 s and one round");
        Ok(options)
    }
}

impl Case {
    const fn title(self) -> &'static str {
        match self {
            Self::Equal => "two equal paths",
            Self::Slow => "one of two paths 30 ms slower",
            Self::Stall => "reads on one of two paths never come back",
            Self::Fail => "reads on one of two paths fail",
        }
    }

    const fn array_options(self) -> &'static [&'static str] {
        match self {
            Self::Equal => &[],
            Self::Slow => &["--slow", "1:30ms"],
            Self::Stall => &["--slow", "1:1h"],
            Self::Fail => &["--fail-reads", "1"],
        }
    }

    fn settings(self) -> impl Iterator<Item = &'static Setting> {
        let demoting = if self == Self::Equal { &[][..] } else { &DEMOTING[..] };
        POLICIES.iter().chain(demoting)
    }
}

pub(crate) fn command(arguments: &[String]) -> Result<ExitCode> {
    let options = Options::parse(arguments)?;
    for tool in ["fio", "nbdinfo", "iscsi-ls"] {
        ensure!(is_installed(tool), "{tool} is not installed");
    }
    let mut is_within_budget = true;
    for case in &options.cases {
        let rows = measure(*case, &options)?;
        println!("{}", table(*case, &options, &rows));
        for (verdict, is_met) in verdicts(*case, &rows) {
            println!("- {verdict}: {}", if is_met { "met" } else { "MISSED" });
            is_within_budget &= is_met;
        }
        println!();
    }
    Ok(if is_within_budget { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every setting in every round, so that whatever else the machine does falls on all of them alike.
fn measure(case: Case, options: &Options) -> Result<Vec<(&'static str, Sample)>> {
    let array = Array::start_with(&["size=256M"], case.array_options())?;
    let mut samples: Vec<(&'static str, Vec<Sample>)> =
        case.settings().map(|setting| (setting.name, Vec::new())).collect();
    for round in 0..options.rounds {
        let settings: Vec<&Setting> = case.settings().collect();
        let first = round as usize % settings.len();
        for setting in settings[first..].iter().chain(&settings[..first]) {
            let sample = run_setting(&array, setting, options)?;
            let (rounds, iops, cpu) = (options.rounds, sample.measured.iops, sample.cpu);
            let title = case.title();
            eprintln!(
                "{title}: round {} of {rounds}: {}: {iops:.0} IOPS, {cpu:.2} us",
                round + 1,
                setting.name
            );
            let row = samples.iter_mut().find(|(name, _)| *name == setting.name);
            row.context("every setting has a row")?.1.push(sample);
        }
    }
    array.stop()?;
    Ok(samples.into_iter().map(|(name, samples)| (name, median(&samples))).collect())
}

/// The path through the first portal, which is the one that something is wrong with, and one of the other controller's.
fn run_setting(array: &Array, setting: &Setting, options: &Options) -> Result<Sample> {
    let room = Room::new()?;
    let config = room.path("config.toml");
    std::fs::write(&config, COMMAND_TIMEOUT)?;
    let mut arguments = vec!["--config".to_owned(), config.display().to_string()];
    for portal in [array.portals.first(), array.portals.last()] {
        let route = array.routes.iter().find(|route| Some(&route.portal) == portal);
        arguments.push(route.map(Route::url).context("the array shows no unit at one of its portals")?);
    }
    arguments.extend(setting.options.iter().map(|option| (*option).to_owned()));
    let disk = Disk::start(&room, &arguments)?;
    let time = Duration::from_secs_f64(options.seconds);
    let job = Job {
        uri: &disk.uri,
        pattern: "randread",
        block_bytes: BLOCK_BYTES,
        depth: DEPTH,
        length: Length::For(time),
    };
    let before = cpu_time(disk.id())?;
    let measured = run_job(&job, time + LIMIT).with_context(|| setting.name)?;
    let busy = cpu_time(disk.id())? - before;
    let _ = disk.kill()?;
    ensure!(measured.ios > 0, "{}: no I/O was done", setting.name);
    Ok(Sample { measured, cpu: micros(busy) / measured.ios as f64 })
}

/// Each figure's own median.
fn median(samples: &[Sample]) -> Sample {
    fn middle<T: PartialOrd + Copy>(samples: &[Sample], figure: impl Fn(&Sample) -> T) -> T {
        let mut figures: Vec<T> = samples.iter().map(figure).collect();
        figures.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        figures[figures.len() / 2]
    }
    Sample {
        measured: Measured {
            ios: middle(samples, |sample| sample.measured.ios),
            iops: middle(samples, |sample| sample.measured.iops),
            p50: middle(samples, |sample| sample.measured.p50),
            p99: middle(samples, |sample| sample.measured.p99),
            p999: middle(samples, |sample| sample.measured.p999),
            longest: middle(samples, |sample| sample.measured.longest),
        },
        cpu: middle(samples, |sample| sample.cpu),
    }
}

fn table(case: Case, options: &Options, rows: &[(&'static str, Sample)]) -> String {
    let (rounds, seconds) = (options.rounds, options.seconds);
    let mut text = format!(
        "### {}: 4 KiB random read, depth {DEPTH}, {rounds} rounds of {seconds} s, medians\n\n",
        case.title()
    );
    text += "| policy | IOPS | p50 ms | p99 ms | p99.9 ms | longest ms | CPU µs per I/O |\n";
    text += "|---|---:|---:|---:|---:|---:|---:|\n";
    for (name, Sample { measured, cpu }) in rows {
        let Measured { iops, p50, p99, p999, longest, .. } = measured;
        let [p50, p99, p999, longest] = [p50, p99, p999, longest].map(|time| micros(*time) / 1_000.0);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {name} | {iops:.0} | {p50:.2} | {p99:.2} | {p999:.2} | {longest:.0} | {cpu:.1} |"
        );
    }
    text
}

fn verdicts(case: Case, rows: &[(&'static str, Sample)]) -> Vec<(String, bool)> {
    let of = |name: &str| rows.iter().find(|(row, _)| *row == name).map(|(_, sample)| *sample);
    let (Some(latency), Some(round_robin)) = (of("latency"), of("round-robin")) else { return Vec::new() };
    match case {
        Case::Equal => {
            let others = rows.iter().filter(|(name, _)| !name.starts_with("latency"));
            let best = others.max_by(|(_, a), (_, b)| a.measured.iops.total_cmp(&b.measured.iops));
            let Some((name, best)) = best else { return Vec::new() };
            let (rate, cpu) = (latency.measured.iops / best.measured.iops, latency.cpu / best.cpu);
            vec![
                (
                    format!("IOPS of latency against {name}: {rate:.3}, budget >= {EQUAL_THROUGHPUT_MIN}"),
                    rate >= EQUAL_THROUGHPUT_MIN,
                ),
                (
                    format!("CPU per I/O of latency against {name}: {cpu:.3}, budget <= {EQUAL_CPU_MAX}"),
                    cpu <= EQUAL_CPU_MAX,
                ),
            ]
        }
        Case::Slow => {
            let rate = latency.measured.iops / round_robin.measured.iops;
            let p99 = micros(latency.measured.p99) / micros(round_robin.measured.p99);
            vec![
                (
                    format!("IOPS of latency against round-robin: {rate:.1}, budget >= {THROUGHPUT_MIN}"),
                    rate >= THROUGHPUT_MIN,
                ),
                (
                    format!("p99 of latency against round-robin: {p99:.3}, budget <= {P99_MAX}"),
                    p99 <= P99_MAX,
                ),
            ]
        }
        Case::Stall | Case::Fail => Vec::new(),
    }
}
