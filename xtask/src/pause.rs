//! `xtask pause`: how long I/O rests when one of four paths is lost, by a reset and by silence.
//!
//! Two streams run all the time: reads and writes of 4 KiB of which none touches another's blocks, and writes to a few
//! blocks over and over, which is what a fence has to hold back. For each the longest time without any completion is
//! taken, from the loss until both have gone on for a while. Then the same with a stream of reads alone.

mod stream;

use std::fmt;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::stream::{Kind as StreamKind, Stream};
use crate::harness::backend::{Backend, Kind};
use crate::harness::link::Link;
use crate::harness::process::{is_installed, wait_until};
use crate::harness::room::Room;
use crate::harness::smpath::Disk;

/// For a path to come back.
const LIMIT: Duration = Duration::from_secs(60);
/// A stream that rests for longer than this after a loss has failed: far beyond every fence's time.
const REST_MAX: Duration = Duration::from_secs(90);
/// So many blocks are written before a block is written again that no stream meets itself while a fence is open.
const MEBIBYTES: u64 = 1024;
/// After a longer rest it is told what the program said: no fence of a target that answers takes so long.
const LONG_REST: Duration = Duration::from_secs(10);
/// Whoever asks the program for its log, with the time of each event, is shown it.
const LOG: &str = "SMPATH_LOG";
/// Before each loss, so that queues are full and the machine is warm; what rests there are is the baseline.
const WARM_UP: Duration = Duration::from_millis(700);
/// So long both streams must have gone on again before the round is over.
const STEADY: Duration = Duration::from_millis(700);

/// How the program notices a silent path: asked after 2 s, given up 2 s later. It prints both in its `--help`.
const DETECTION: Duration = Duration::from_millis(DETECTION_MS);
const DETECTION_MS: u64 = 4000;
/// Without completions, for I/O that overlaps nothing of unknown fate.
const RESET_BUDGET: Duration = Duration::from_millis(5);
const SILENCE_BUDGET: Duration = Duration::from_millis(DETECTION_MS + 100);

/// Streams that run at the same time.
const LOADS: [&[StreamKind]; 2] = [&[StreamKind::Apart, StreamKind::Overlapping], &[StreamKind::Reads]];

#[derive(Debug)]
struct Options {
    rounds: usize,
    targets: Vec<Kind>,
    losses: Vec<Loss>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            rounds: 10,
            targets: vec![Kind::Tgt, Kind::Array],
            losses: vec![Loss::Reset, Loss::Silence],
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let value = rest.next().with_context(|| format!("{argument} needs a value"))?;
            match argument.as_str() {
                "--rounds" => options.rounds = value.parse().context("--rounds is a whole number")?,
                "--target" if value == "tgt" => options.targets = vec![Kind::Tgt],
                "--target" if value == "array" => options.targets = vec![Kind::Array],
                "--loss" if value == "reset" => options.losses = vec![Loss::Reset],
                "--loss" if value == "silence" => options.losses = vec![Loss::Silence],
                _ => bail!(
                    "pause takes --rounds N, --target tgt|array, --loss reset|silence; not {argument} {value}"
                ),
            }
        }
        ensure!(options.rounds >= 1, "at least one round");
        Ok(options)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Reset,
    Silence,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "reset",
            Self::Silence => "black hole",
        })
    }
}

impl Loss {
    const fn budget(self) -> Duration {
        match self {
            Self::Reset => RESET_BUDGET,
            Self::Silence => SILENCE_BUDGET,
        }
    }

    /// Until then nothing may have happened yet.
    const fn noticed_after(self) -> Duration {
        match self {
            Self::Reset => Duration::ZERO,
            Self::Silence => DETECTION,
        }
    }
}

/// The longest rests of one stream, one for each round.
#[derive(Debug, Default)]
struct Rests(Vec<Duration>);

impl Rests {
    fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    fn last(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    fn longest(&self) -> Duration {
        self.0.iter().copied().max().unwrap_or_default()
    }
}

pub(crate) fn command(arguments: &[String]) -> Result<ExitCode> {
    let options = Options::parse(arguments)?;
    for tool in ["nbdinfo", "tgtd", "iscsi-ls"] {
        ensure!(is_installed(tool), "{tool} is not installed");
    }
    println!(
        "{} rounds; longest time without a completion; a silent path is noticed after {DETECTION:?}\n",
        options.rounds
    );
    println!("| target | loss | stream | before the loss, median | median | worst | budget |");
    println!("|---|---|---|---|---|---|---|");
    let mut within_budget = true;
    for target in options.targets {
        for (loss, load) in options.losses.iter().flat_map(|loss| LOADS.map(|load| (*loss, load))) {
            within_budget &= measure(target, loss, load, options.rounds)?;
        }
    }
    Ok(if within_budget { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the lines of one target, one kind of loss and one load; whether the budget is met.
fn measure(target: Kind, loss: Loss, load: &[StreamKind], rounds: usize) -> Result<bool> {
    let room = Room::in_memory()?;
    let backend = Backend::of_one_target(target, &room, MEBIBYTES)?;
    let (links, urls) = backend.links()?;
    let disk = Disk::start(&room, &urls)?;
    let socket = room.path("nbd");
    wait_until_usable(&disk, links.len())?;
    let streams = load.iter().map(|kind| Stream::start(*kind, &socket, MEBIBYTES << 20));
    let streams = streams.collect::<Result<Vec<Stream>>>()?;
    let mut before: Vec<Rests> = load.iter().map(|_| Rests::default()).collect();
    let mut after: Vec<Rests> = load.iter().map(|_| Rests::default()).collect();
    for round in 0..rounds {
        eprintln!("{target}, {loss}: round {} of {rounds}", round + 1);
        let link = &links[round % links.len()];
        for stream in &streams {
            stream.take_longest_rest();
        }
        thread::sleep(WARM_UP);
        for (rests, stream) in before.iter_mut().zip(&streams) {
            rests.0.push(stream.take_longest_rest());
        }
        lose(link, loss);
        wait_until_steady(&streams, loss)?;
        for (rests, stream) in after.iter_mut().zip(&streams) {
            rests.0.push(stream.take_longest_rest());
        }
        for (rests, stream) in after.iter().zip(&streams) {
            eprintln!("    {:.1?} {}", rests.last(), stream.kind());
        }
        if after.iter().any(|rests| rests.last() > LONG_REST) {
            eprintln!("a long rest; smpath run said:\n{}", disk.log());
        }
        link.restore();
        wait_until_usable(&disk, links.len())?;
    }
    if std::env::var_os(LOG).is_some() {
        eprintln!("smpath run said:\n{}", disk.log());
    }
    for (stream, (before, after)) in streams.iter().zip(before.iter().zip(&after)) {
        let budget = match stream.kind() {
            StreamKind::Apart | StreamKind::Reads => format!("{:.1?}", loss.budget()),
            StreamKind::Overlapping => "the fence decides".to_owned(),
        };
        println!(
            "| {target} | {loss} | {} | {:.1?} | {:.1?} | {:.1?} | {budget} |",
            stream.kind(),
            before.median(),
            after.median(),
            after.longest()
        );
    }
    let by_itself = before[0].median();
    if by_itself > loss.budget() / 2 {
        eprintln!("{target}, {loss}: not judged, since this machine rests {by_itself:.1?} without any loss");
        return Ok(true);
    }
    Ok(after[0].median() <= loss.budget())
}

fn lose(link: &Link, loss: Loss) {
    match loss {
        Loss::Reset => link.cut(),
        Loss::Silence => link.stall(),
    }
}

/// Until both streams have gone on without a longer rest since the loss was noticed.
fn wait_until_steady(streams: &[Stream], loss: Loss) -> Result<()> {
    let lost = Instant::now();
    thread::sleep(loss.noticed_after() + STEADY);
    let mut steady_since = None;
    while steady_since.is_none_or(|since: Instant| since.elapsed() < STEADY) {
        for stream in streams {
            stream.ensure_good()?;
        }
        let is_resting = streams.iter().any(|stream| stream.rests_for() > STEADY / 4);
        steady_since = if is_resting { None } else { steady_since.or_else(|| Some(Instant::now())) };
        ensure!(lost.elapsed() < REST_MAX, "a stream still rests {REST_MAX:?} after the loss");
        thread::sleep(STEADY / 20);
    }
    Ok(())
}

fn wait_until_usable(disk: &Disk, paths: usize) -> Result<()> {
    wait_until(LIMIT, "return of every path", || {
        let show = disk.ask(&["show"]).ok()?;
        let usable =
            |path: &&serde_json::Value| path["state"].as_str().is_some_and(|it| it.contains("optimized"));
        (show["paths"].as_array()?.iter().filter(usable).count() == paths).then_some(())
    })
    .with_context(|| disk.log())
}
