//! `simulate`: runs many seeds, or one with a trace.

mod campaign;
mod mutants;
mod sum;

use std::cell::Cell;
use std::io::Write;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use simulator::{Choice, FencePolicy, Outcome, Plan, Reduction, TargetProfile, run, shrink};

use campaign::Campaign;
use mutants::Gate;
use sum::Sum;

/// Simulates the whole way from NBD clients to the medium of an array, with faults, and checks what must not happen.
#[derive(Debug, Parser)]
#[command(name = "simulate", version)]
struct Arguments {
    /// Run this seed only.
    #[arg(long, conflicts_with_all = ["seeds", "start", "minutes", "jobs"])]
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
    /// Seeds that run at a time; as many as there are cores if not given.
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Which faults there may be.
    #[arg(long, value_enum, default_value_t = Profile::All)]
    profile: Profile,
    /// How the target treats an initiator that comes back; each seed draws one that the product claims to be safe with
    /// if not given.
    #[arg(long, value_enum)]
    target: Option<Target>,
    /// What the product does about writes of unknown fate; each seed draws bounded or strict if not given.
    #[arg(long, value_enum)]
    fence: Option<Fence>,
    /// One line for each event: milliseconds since the start with six decimals; the part of the world (client, server,
    /// disk, nexus, link, target, medium, fault, check, run); what happened. Parts are numbered from 0: ports through
    /// all controllers, units by their LUN, clients, connections (a nexus of the target has the number of its
    /// connection). `w7` is the seventh write that a client asked for; `0:12` is block 12 of unit 0.
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
    /// Build and run the product with one defect at a time, and print which seed and which check found each, or which
    /// test where no simulated world shows it; up to --seeds seeds for each. Needs a checkout and cargo.
    #[arg(long, conflicts_with_all = ["seed", "start", "minutes", "jobs"])]
    mutants: bool,
    /// Only the mutants with this in their names.
    #[arg(long, requires = "mutants")]
    mutant: Option<String>,
    /// Only the mutants that are judged by tests.
    #[arg(long, requires = "mutants")]
    by_tests: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Profile {
    All,
    Disjoint,
    Control,
    NoLateExecution,
    Calm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    GatesAndDrains,
    AnswersAtOnce,
    OnlyTurAnswered,
    LyingReset,
    ResetPassesBy,
    HoleAfterAbandonedLogin,
    TwoGateways,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Fence {
    /// A proof, or half a minute and a reset through another path.
    Bounded,
    /// A proof.
    Strict,
    /// Nothing.
    Unsafe,
}

impl From<Target> for TargetProfile {
    fn from(target: Target) -> Self {
        match target {
            Target::GatesAndDrains => Self::GatesAndDrains,
            Target::AnswersAtOnce => Self::AnswersAtOnce,
            Target::OnlyTurAnswered => Self::OnlyTurAnswered,
            Target::LyingReset => Self::LyingReset,
            Target::ResetPassesBy => Self::ResetPassesBy,
            Target::HoleAfterAbandonedLogin => Self::HoleAfterAbandonedLogin,
            Target::TwoGateways => Self::TwoGateways,
        }
    }
}

impl From<Fence> for FencePolicy {
    fn from(fence: Fence) -> Self {
        match fence {
            Fence::Bounded => Self::default(),
            Fence::Strict => Self::Strict,
            Fence::Unsafe => Self::Unsafe,
        }
    }
}

impl From<Profile> for simulator::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::All => Self::All,
            Profile::Disjoint => Self::Disjoint,
            Profile::Control => Self::Control,
            Profile::NoLateExecution => Self::NoLateExecution,
            Profile::Calm => Self::Calm,
        }
    }
}

impl Arguments {
    fn choice(&self) -> Choice {
        Choice {
            profile: self.profile.into(),
            target: self.target.map(TargetProfile::from),
            fence: self.fence.map(FencePolicy::from),
        }
    }

    /// The line that runs this seed once more.
    fn replay(&self, seed: u64, reduction: &Reduction) -> String {
        let mut line = format!("simulate --seed {seed} --profile {}", name(&self.profile));
        if let Some(target) = &self.target {
            line.push_str(&format!(" --target {}", name(target)));
        }
        if let Some(fence) = &self.fence {
            line.push_str(&format!(" --fence {}", name(fence)));
        }
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

    fn tell(&self, seed: u64, reduction: &Reduction, outcome: &Outcome) {
        for violation in outcome.violations.iter().take(1) {
            println!("seed {seed} fails: {violation}\n  replay: {} --trace", self.replay(seed, reduction));
        }
    }
}

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

thread_local! {
    /// The seed that runs now on this thread, for the message of a panic.
    static SEED: Cell<u64> = const { Cell::new(0) };
}
/// Failing seeds that are told one by one.
const FAILURES_TOLD: u64 = 20;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let default_hook = std::panic::take_hook();
    let line = arguments.replay(0, &Reduction::default());
    std::panic::set_hook(Box::new(move |panic| {
        let seed = SEED.get();
        let line = line.replacen("--seed 0", &format!("--seed {seed}"), 1);
        eprintln!("seed {seed} panics; replay: {line}");
        default_hook(panic);
    }));
    if arguments.mutants {
        let gate = Gate {
            only: arguments.mutant.clone(),
            by_tests: arguments.by_tests,
            seeds: arguments.seeds,
            profile: name(&arguments.profile),
        };
        return Ok(if gate.run()? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    match arguments.seed {
        Some(seed) => run_one(&arguments, seed),
        None => run_many(&arguments),
    }
}

fn run_one(arguments: &Arguments, seed: u64) -> Result<ExitCode> {
    SEED.set(seed);
    let only_faults = if arguments.without_faults { Some(Vec::new()) } else { arguments.only_faults.clone() };
    let mut reduction = Reduction { only_faults, requests: arguments.requests };
    let plan = Plan::draw(seed, arguments.choice(), &reduction);
    println!("{plan}");
    let trace =
        arguments.trace.then(|| Box::new(std::io::BufWriter::new(std::io::stdout())) as Box<dyn Write>);
    let outcome = run(&plan, trace);
    arguments.tell(seed, &reduction, &outcome);
    println!("hash {:016x}, {} events, {:?} simulated", outcome.hash, outcome.events, outcome.simulated);
    if let Some(violation) = outcome.violations.first().filter(|_| arguments.shrink) {
        reduction = shrink(seed, arguments.choice(), violation.rule);
        println!("smaller: {} --trace", arguments.replay(seed, &reduction));
    }
    Ok(if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_many(arguments: &Arguments) -> Result<ExitCode> {
    let jobs = match arguments.jobs {
        Some(jobs) => jobs,
        None => std::thread::available_parallelism()?,
    };
    let campaign = Campaign {
        seeds: arguments.start..arguments.start.saturating_add(arguments.seeds),
        jobs,
        limit: arguments.minutes.map(|minutes| Duration::from_secs(minutes * 60)),
    };
    let mut reduction = Reduction::default();
    if arguments.without_faults {
        reduction.only_faults = Some(Vec::new());
    }
    let mut sum = Sum::default();
    let one = |seed| {
        SEED.set(seed);
        run(&Plan::draw(seed, arguments.choice(), &reduction), None)
    };
    let took = campaign.run(one, |seed, outcome| {
        if sum.failures < FAILURES_TOLD {
            arguments.tell(seed, &reduction, &outcome);
        }
        sum.add(&outcome);
    });
    sum.tell(took, jobs.get());
    let as_expected = (sum.failures > 0) == arguments.expect_violations;
    Ok(if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
