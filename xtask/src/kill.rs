//! `xtask kill`: the program is killed at random moments, under a client that verifies what it reads, and started again.
//!
//! In some rounds the target holds a write of the killed program in its back end, and lets it go when the next program
//! has long been serving: what that one has acknowledged in the meantime must not be undone. With `--state none`
//! it is: that is the positive control.

use std::fmt;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::harness::backend::{Backend, Extras, Kind};
use crate::harness::process::{Process, is_installed, wait_until};
use crate::harness::random::Random;
use crate::harness::room::Room;
use crate::harness::shim::{Gate, TOKENS};
use crate::harness::smpath::{self, Disk};
use crate::harness::tgt;

/// For anything but the rounds themselves; a write that is held by a fence is let go in this time.
const LIMIT: Duration = Duration::from_secs(120);
const MEBIBYTES: u64 = 64;
/// The client works undisturbed for so long before each kill, in milliseconds.
const LIFE_MS: (u64, u64) = (100, 1000);
/// So long nobody serves.
const GAP_MS: (u64, u64) = (0, 200);
/// So long the next program works before the stuck writes of the last one are let go.
const STUCK_MS: (u64, u64) = (300, 1500);
/// How the array is made to keep some writes: enough of them that some are kept whenever the program is killed, few
/// enough that the client's queue is not full of them. Its logins do not wait for them.
const ARRAY_STICKS: &[&str] = &["--profile", "answers-at-once", "--stick-one-in", "300:2s"];
/// Enough for the control to corrupt: in each, two stuck writes of three are followed by newer data.
const CONTROL_ROUNDS: u32 = 8;

#[derive(Debug)]
struct Options {
    rounds: u32,
    seed: u64,
    targets: Vec<Kind>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self { rounds: 20, seed: 1, targets: vec![Kind::Tgt, Kind::Array] };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let value = rest.next().with_context(|| format!("{argument} needs a value"))?;
            match argument.as_str() {
                "--rounds" => options.rounds = value.parse().context("--rounds is a whole number")?,
                "--seed" => options.seed = value.parse().context("--seed is a whole number")?,
                "--target" if value == "tgt" => options.targets = vec![Kind::Tgt],
                "--target" if value == "array" => options.targets = vec![Kind::Array],
                _ => bail!("kill takes --rounds N, --seed S, --target tgt|array; not {argument} {value}"),
            }
        }
        Ok(options)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// The program remembers its nexuses in a folder.
    State,
    None,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::State => "--state",
            Self::None => "--state none",
        })
    }
}

/// One campaign.
struct Plan {
    target: Kind,
    memory: Memory,
    rounds: u32,
    seed: u64,
}

/// What the client says in the end.
struct Seen {
    acknowledged: u64,
    reconnections: u64,
    longest_pause_ms: f64,
    errors: u64,
    mismatches: u64,
    stuck: usize,
    fences: Fences,
    first_failure: String,
}

pub(crate) fn command(arguments: &[String]) -> Result<ExitCode> {
    let options = Options::parse(arguments)?;
    for tool in ["nbdinfo", "tgtd", "iscsi-ls", "cc"] {
        ensure!(is_installed(tool), "{tool} is not installed");
    }
    println!(
        "| target | memory | rounds | stuck writes | fences proved, waived | acknowledged | reconnections | longest gap | errors | mismatches |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut is_good = true;
    for target in options.targets {
        let plan = |memory, rounds| Plan { target, memory, rounds, seed: options.seed };
        is_good &= plan(Memory::None, CONTROL_ROUNDS).run(Expected::Corruption)?;
        is_good &= plan(Memory::State, options.rounds).run(Expected::NoMismatch)?;
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Corruption,
    NoMismatch,
}

impl Plan {
    /// Whether it came out as expected.
    fn run(&self, expected: Expected) -> Result<bool> {
        let seen = self.rounds()?;
        let Self { target, memory, rounds, .. } = self;
        println!(
            "| {target} | {memory} | {rounds} | {} | {}, {} | {} | {} | {:.0} ms | {} | {} |",
            self.stuck(seen.stuck),
            seen.fences.proved,
            seen.fences.waived,
            seen.acknowledged,
            seen.reconnections,
            seen.longest_pause_ms,
            seen.errors,
            seen.mismatches
        );
        let is_good = match expected {
            Expected::Corruption => seen.mismatches > 0,
            Expected::NoMismatch => seen.errors == 0 && seen.mismatches == 0,
        };
        if !is_good {
            eprintln!("{target}, {memory}: {expected:?} was expected\n{}", seen.first_failure);
        }
        Ok(is_good)
    }

    /// How many writes were stuck, in words if only the target knows.
    fn stuck(&self, counted: usize) -> String {
        match self.target {
            Kind::Array => "one in 300".to_owned(),
            Kind::Tgt => counted.to_string(),
        }
    }

    fn rounds(&self) -> Result<Seen> {
        let room = Room::new()?;
        let gate = Gate::new(&room, "")?;
        let environment = &gate.environment();
        let tgt = tgt::Start { environment, ..tgt::Start::default() };
        let extras = Extras { tgt, array_options: ARRAY_STICKS };
        let backend = Backend::start_with(self.target, &room, MEBIBYTES, &extras)?;
        let mut arguments = backend.urls();
        if self.memory == Memory::None {
            arguments.extend(["--state".to_owned(), "none".to_owned()]);
        }
        let mut disk = Disk::start(&room, &arguments)?;
        let check =
            ["check", &disk.uri, "--overwrite", "--reconnect", "--json", "--seed", &self.seed.to_string()];
        let mut client = Process::start(smpath::binary()?, check)?;
        let mut random = Random::new(self.seed);
        let (mut stuck, mut fences) = (0, Fences::default());
        for round in 0..self.rounds {
            eprintln!("{}, {}: round {} of {}", self.target, self.memory, round + 1, self.rounds);
            pause(&mut random, LIFE_MS);
            client.ensure_alive()?;
            disk.ensure_alive()?;
            let is_gated = self.target == Kind::Tgt && round % 2 == 0;
            let held = if is_gated { stick(&gate)? } else { 0 };
            fences.take(&disk.kill()?);
            pause(&mut random, GAP_MS);
            disk = Disk::launch(&room, &arguments)?;
            if held > 0 {
                // It may refuse to serve before it has fenced what the last one left.
                let _ = disk.wait_until_open(Duration::from_millis(STUCK_MS.1));
                pause(&mut random, STUCK_MS);
                gate.release();
                gate.wait_until_landed(held)?;
                stuck += held;
            }
            disk.wait_until_open(LIMIT)?;
        }
        pause(&mut random, LIFE_MS);
        // With mismatches it ends badly, and still says what it saw.
        let _ = client.terminate(LIMIT)?;
        disk.ensure_alive()?;
        fences.take(&disk.kill()?);
        parse(&client.output(), stuck, fences)
    }
}

/// Some of the client's writes, whichever come first, are stuck now.
fn stick(gate: &Gate) -> Result<usize> {
    gate.arm(TOKENS)?;
    wait_until(LIMIT, "write that is stuck", || (gate.stuck() == TOKENS).then_some(()))?;
    Ok(TOKENS)
}

fn pause(random: &mut Random, (least, most): (u64, u64)) {
    thread::sleep(Duration::from_millis(least + random.below(most - least + 1)));
}

/// How the fences of all lives ended; the rest of them ended with a life.
#[derive(Clone, Copy, Debug, Default)]
struct Fences {
    proved: usize,
    waived: usize,
}

impl Fences {
    /// Counts what one life said.
    fn take(&mut self, log: &str) {
        let said =
            |what: &str| log.lines().filter(|line| line.contains("fence") && line.contains(what)).count();
        self.proved += said("proved");
        self.waived += said("waived");
        for line in log.lines().filter(|line| line.contains("waived")) {
            eprintln!("    {line}");
        }
    }
}

fn parse(output: &str, stuck: usize, fences: Fences) -> Result<Seen> {
    let unclear = || format!("smpath check says\n{output}");
    let line = output.lines().find(|line| line.starts_with('{')).with_context(unclear)?;
    let report: Value = serde_json::from_str(line).with_context(unclear)?;
    let number = |name: &str| report[name].as_u64().with_context(unclear);
    Ok(Seen {
        acknowledged: number("acknowledged_writes")?,
        reconnections: number("reconnections")?,
        longest_pause_ms: report["longest_pause_ms"].as_f64().with_context(unclear)?,
        errors: number("errors")?,
        mismatches: number("mismatches")?,
        stuck,
        fences,
        first_failure: output.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>().join("\n"),
    })
}
