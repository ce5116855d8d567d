//! `simulate`: runs many seeds, or one with a trace.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use simulator::{FaultCounters, Outcome, Plan, Profile, Reduction, run, shrink};

/// Simulates the whole way from NBD clients to the medium of an array, with faults, and checks what must not happen.
#[derive(Debug, Parser)]
#[command(name = "simulate", version)]
struct Arguments {
    /// Run this seed only.
    #[arg(long, conflicts_with_all = ["seeds", "start", "minutes"])]
    seed: Option<u64>,
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Stop after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Which faults there may be.
    #[arg(long, value_enum, default_value_t = ProfileName::All)]
    profile: ProfileName,
    /// One line for each event: milliseconds, part (client, server, disk, nexus, link, target, medium, fault, check,
    /// run), what happened.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Only these faults of the plan, by their numbers.
    #[arg(long, value_delimiter = ',', requires = "seed")]
    only_faults: Option<Vec<usize>>,
    /// No faults at all.
    #[arg(long, conflicts_with = "only_faults")]
    without_faults: bool,
    /// At most so many requests for each client.
    #[arg(long, requires = "seed")]
    requests: Option<u32>,
    /// Look for a smaller run that fails in the same way.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Go on after a seed that fails, and succeed only if one did: for what is known to be unsafe.
    #[arg(long)]
    expect_violations: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProfileName {
    All,
    Disjoint,
    NoLateExecution,
    Calm,
}

impl From<ProfileName> for Profile {
    fn from(name: ProfileName) -> Self {
        match name {
            ProfileName::All => Self::All,
            ProfileName::Disjoint => Self::Disjoint,
            ProfileName::NoLateExecution => Self::NoLateExecution,
            ProfileName::Calm => Self::Calm,
        }
    }
}

/// The seed that runs now, for the message of a panic.
static SEED: AtomicU64 = AtomicU64::new(0);
/// Failing seeds that are told one by one.
const FAILURES_TOLD: u64 = 20;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let default_hook = std::panic::take_hook();
    let profile = arguments.profile;
    std::panic::set_hook(Box::new(move |panic| {
        let seed = SEED.load(Ordering::Relaxed);
        eprintln!("seed {seed} panics; replay: {}", replay(seed, profile, &Reduction::default()));
        default_hook(panic);
    }));
    match arguments.seed {
        Some(seed) => run_one(&arguments, seed),
        None => run_many(&arguments),
    }
}

fn run_one(arguments: &Arguments, seed: u64) -> Result<ExitCode> {
    SEED.store(seed, Ordering::Relaxed);
    let profile = arguments.profile.into();
    let only_faults = if arguments.without_faults { Some(Vec::new()) } else { arguments.only_faults.clone() };
    let mut reduction = Reduction { only_faults, requests: arguments.requests };
    let plan = Plan::draw(seed, profile, &reduction);
    println!("{plan}");
    let trace =
        arguments.trace.then(|| Box::new(std::io::BufWriter::new(std::io::stdout())) as Box<dyn Write>);
    let outcome = run(&plan, trace);
    tell(seed, arguments.profile, &reduction, &outcome);
    println!("hash {:016x}, {} events, {:?} simulated", outcome.hash, outcome.events, outcome.simulated);
    if let Some(violation) = outcome.violations.first().filter(|_| arguments.shrink) {
        reduction = shrink(seed, profile, violation.rule);
        println!("smaller: {} --trace", replay(seed, arguments.profile, &reduction));
    }
    Ok(if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::disallowed_methods, reason = "how fast the simulator is, is measured with a real clock")]
fn run_many(arguments: &Arguments) -> Result<ExitCode> {
    let started = std::time::Instant::now();
    let limit = arguments.minutes.map(|minutes| std::time::Duration::from_secs(minutes * 60));
    let mut sum = Sum::default();
    for seed in arguments.start..arguments.start.saturating_add(arguments.seeds) {
        if limit.is_some_and(|limit| started.elapsed() >= limit) {
            break;
        }
        SEED.store(seed, Ordering::Relaxed);
        let outcome = run(&Plan::draw(seed, arguments.profile.into(), &Reduction::default()), None);
        if sum.failures < FAILURES_TOLD {
            tell(seed, arguments.profile, &Reduction::default(), &outcome);
        }
        sum.add(&outcome);
    }
    sum.tell(started.elapsed().as_secs_f64());
    let as_expected = (sum.failures > 0) == arguments.expect_violations;
    Ok(if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(seed: u64, profile: ProfileName, reduction: &Reduction, outcome: &Outcome) {
    for violation in outcome.violations.iter().take(1) {
        println!("seed {seed} fails: {violation}\n  replay: {} --trace", replay(seed, profile, reduction));
    }
}

fn replay(seed: u64, profile: ProfileName, reduction: &Reduction) -> String {
    let name = profile.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let mut line = format!("simulate --seed {seed} --profile {name}");
    match &reduction.only_faults {
        Some(faults) if faults.is_empty() => line.push_str(" --without-faults"),
        Some(faults) => {
            let faults: Vec<String> = faults.iter().map(usize::to_string).collect();
            line.push_str(&format!(" --only-faults {}", faults.join(",")));
        }
        None => {}
    }
    if let Some(requests) = reduction.requests {
        line.push_str(&format!(" --requests {requests}"));
    }
    line
}

/// What all runs came to.
#[derive(Debug, Default)]
struct Sum {
    runs: u64,
    failures: u64,
    by_rule: std::collections::BTreeMap<String, u64>,
    simulated: f64,
    events: u64,
    requests: u64,
    failed_requests: u64,
    commands_lost: u64,
    nexuses_lost: u64,
    block_writes: u64,
    faults: FaultCounters,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        if let Some(violation) = outcome.violations.first() {
            self.failures += 1;
            *self.by_rule.entry(format!("{:?}", violation.rule)).or_default() += 1;
        }
        self.simulated += std::time::Duration::from(outcome.simulated).as_secs_f64();
        self.events += outcome.events;
        self.requests += outcome.requests;
        self.failed_requests += outcome.failed_requests;
        self.commands_lost += outcome.commands_lost;
        self.nexuses_lost += outcome.nexuses_lost;
        self.block_writes += outcome.block_writes;
        self.faults.add(&outcome.faults);
    }

    fn tell(&self, seconds: f64) {
        let per_second = |count: f64| count / seconds.max(f64::MIN_POSITIVE);
        println!("{} runs, {} failed {:?}", self.runs, self.failures, self.by_rule);
        println!(
            "{} requests ({} failed), {} block writes, {} nexuses lost with {} commands sent on them",
            self.requests, self.failed_requests, self.block_writes, self.nexuses_lost, self.commands_lost
        );
        // As many simulated days in a real day as simulated seconds in a real second.
        println!(
            "{seconds:.1} s: {:.1} runs/s, {:.0} events/s, {:.1} simulated days per core-day",
            per_second(self.runs as f64),
            per_second(self.events as f64),
            per_second(self.simulated)
        );
        println!("faults (begun, met something):");
        for (kind, begun, struck) in self.faults.iter() {
            println!("  {kind:<24} {begun:>8} {struck:>8}");
        }
    }
}
