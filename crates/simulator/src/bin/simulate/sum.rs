//! What all runs of a campaign came to.

use std::collections::BTreeMap;
use std::time::Duration;

use simulator::{FaultCounters, Outcome, Successions, TargetProfile};

#[derive(Debug, Default)]
pub(crate) struct Sum {
    runs: u64,
    pub(crate) failures: u64,
    by_rule: BTreeMap<String, u64>,
    simulated: f64,
    events: u64,
    requests: u64,
    failed_requests: u64,
    commands_lost: u64,
    nexuses_lost: u64,
    block_writes: u64,
    silent_damage: u64,
    cache_losses: u64,
    demotions: u64,
    recoveries: u64,
    hedges: u64,
    single: u64,
    changes: (u64, u64),
    idle_checks: u64,
    verbs_refused: u64,
    reinstated: u64,
    targets: BTreeMap<TargetProfile, OfTarget>,
    faults: FaultCounters,
}

/// What runs with one behaviour of the target came to.
#[derive(Debug, Default)]
struct OfTarget {
    runs: u64,
    failures: u64,
    successions: Successions,
    fences_proved: u64,
    fences_waived: u64,
    longest_fence: Duration,
    longest_wait: Duration,
}

const SECONDS_A_DAY: f64 = 86_400.0;

impl Sum {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        if let Some(violation) = outcome.violations.first() {
            self.failures += 1;
            *self.by_rule.entry(format!("{:?}", violation.rule)).or_default() += 1;
        }
        self.simulated += Duration::from(outcome.simulated).as_secs_f64();
        self.events += outcome.events;
        self.requests += outcome.requests;
        self.failed_requests += outcome.failed_requests;
        self.commands_lost += outcome.commands_lost;
        self.nexuses_lost += outcome.nexuses_lost;
        self.block_writes += outcome.block_writes;
        self.silent_damage += outcome.silent_damage;
        self.cache_losses += outcome.cache_losses;
        self.demotions += outcome.demotions;
        self.recoveries += outcome.recoveries;
        self.hedges += outcome.hedges;
        self.single += u64::from(outcome.is_single);
        self.changes.0 += outcome.changes.0;
        self.changes.1 += outcome.changes.1;
        self.idle_checks += outcome.idle_checks;
        self.verbs_refused += outcome.verbs_refused;
        self.reinstated += outcome.reinstated;
        self.targets.entry(outcome.target).or_default().add(outcome);
        self.faults.add(&outcome.faults);
    }

    /// `took` is real time on each of `jobs` cores.
    pub(crate) fn tell(&self, took: Duration, jobs: usize) {
        let seconds = took.as_secs_f64().max(f64::MIN_POSITIVE);
        let core_seconds = seconds * jobs as f64;
        println!("{} runs, {} failed {:?}", self.runs, self.failures, self.by_rule);
        println!(
            "{} requests ({} failed), {} block writes, {} nexuses lost with {} commands sent on them",
            self.requests, self.failed_requests, self.block_writes, self.nexuses_lost, self.commands_lost
        );
        println!(
            "{seconds:.1} s with {jobs} jobs: {:.1} runs/s, {:.0} events/s; {:.1} days simulated, {:.0} per core-day",
            self.runs as f64 / seconds,
            self.events as f64 / seconds,
            self.simulated / SECONDS_A_DAY,
            // As many simulated days in a real day of a core as simulated seconds in a real second of it.
            self.simulated / core_seconds
        );
        println!(
            "{} blocks lost with a cache, {} damaged on a wire without digests",
            self.cache_losses, self.silent_damage
        );
        println!(
            "{} paths put last for being slow, {} back again; {} reads sent twice",
            self.demotions, self.recoveries, self.hedges
        );
        println!(
            "{} runs with one path for each disk; {} changes of port groups sent, {} carried out; {} questions on idle paths; {} paths reinstated, {} verbs refused",
            self.single,
            self.changes.0,
            self.changes.1,
            self.idle_checks,
            self.reinstated,
            self.verbs_refused
        );
        println!(
            "targets (runs, failed; logins in place of a session, of them over running commands, given up;"
        );
        println!("  fences proved, waived, longest; longest wait of a client):");
        for (target, of) in &self.targets {
            let Successions { reinstated, found_running, abandoned } = of.successions;
            println!(
                "  {:<28} {:>7} {:>5} {reinstated:>7} {found_running:>6} {abandoned:>6} {:>7} {:>6} {:>6.1} s {:>6.1} s",
                target.to_string(),
                of.runs,
                of.failures,
                of.fences_proved,
                of.fences_waived,
                of.longest_fence.as_secs_f64(),
                of.longest_wait.as_secs_f64()
            );
        }
        println!("faults (begun, met something):");
        for (kind, begun, struck) in self.faults.iter() {
            println!("  {:<28} {begun:>8} {struck:>8}", kind.to_string());
        }
    }
}

impl OfTarget {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.failures += u64::from(!outcome.violations.is_empty());
        let Successions { reinstated, found_running, abandoned } = outcome.successions;
        self.successions.reinstated += reinstated;
        self.successions.found_running += found_running;
        self.successions.abandoned += abandoned;
        self.fences_proved += outcome.fences_proved;
        self.fences_waived += outcome.fences_waived;
        self.longest_fence = self.longest_fence.max(Duration::from(outcome.longest_fence));
        self.longest_wait = self.longest_wait.max(Duration::from(outcome.longest_wait));
    }
}
