//! What all runs of a campaign came to.

use std::collections::BTreeMap;
use std::time::Duration;

use simulator::{FaultCounters, Outcome};

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
    faults: FaultCounters,
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
        println!("faults (begun, met something):");
        for (kind, begun, struck) in self.faults.iter() {
            println!("  {:<28} {begun:>8} {struck:>8}", kind.to_string());
        }
    }
}
