//! What goes wrong now, and what went wrong lately: so that the product is blamed only for what it could have avoided.

use std::collections::BTreeMap;

use clock::{Duration, Instant};

/// How long after a fault its consequences may be felt: the back-off before a port is tried again, a survey, the
/// poll for access states, and a command that ran into its timeout meanwhile.
const AFTERMATH: Duration = Duration::from_secs(60);

/// How long the first survey of a port may take: some twenty round trips of the longest that a plan draws, one after
/// the other. A port that nobody has seen yet is no way.
pub(crate) const DISCOVERY: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default)]
struct Spell {
    /// Faults that go on.
    active: u32,
    ended: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct Weather {
    ports: BTreeMap<usize, Spell>,
    units: Spell,
    everything: Spell,
}

impl Spell {
    fn turn(&mut self, now: Instant, begins: bool) {
        if begins {
            self.active += 1;
        } else {
            self.active = self.active.saturating_sub(1);
            self.ended = Some(now);
        }
    }

    /// Nothing was wrong since then, and nothing had been for so long that it could still be felt.
    fn is_fair_since(&self, since: Instant) -> bool {
        self.active == 0 && self.ended.is_none_or(|ended| ended + AFTERMATH < since)
    }
}

impl Weather {
    pub(crate) fn with_ports(ports: usize) -> Self {
        Self { ports: (0..ports).map(|port| (port, Spell::default())).collect(), ..Self::default() }
    }

    pub(crate) fn port(&mut self, now: Instant, port: usize, begins: bool) {
        self.ports.entry(port).or_default().turn(now, begins);
    }

    pub(crate) fn unit(&mut self, now: Instant, begins: bool) {
        self.units.turn(now, begins);
    }

    pub(crate) fn everything(&mut self, now: Instant, begins: bool) {
        self.everything.turn(now, begins);
    }

    /// A port worked all the time, and so did the units and the host.
    pub(crate) fn had_a_way_since(&self, since: Instant) -> bool {
        since >= Instant::START + DISCOVERY
            && self.units.is_fair_since(since)
            && self.everything.is_fair_since(since)
            && self.ports.values().any(|port| port.is_fair_since(since))
    }

    /// Nothing is wrong with the host.
    pub(crate) fn is_fair_for_host(&self, now: Instant) -> bool {
        self.everything.is_fair_since(now)
    }

    /// Only units had faults: no path has a reason to be down.
    pub(crate) fn is_fair_for_paths(&self, now: Instant) -> bool {
        self.everything.is_fair_since(now) && self.ports.values().all(|port| port.is_fair_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::START + Duration::from_secs(secs)
    }

    #[test]
    fn one_port_without_faults_is_a_way_and_the_aftermath_of_a_fault_is_none() {
        let mut weather = Weather::with_ports(2);
        assert!(!weather.had_a_way_since(at(1)), "ports are being discovered");
        weather.port(at(10), 0, true);
        assert!(weather.had_a_way_since(at(5)));
        weather.port(at(11), 1, true);
        assert!(!weather.had_a_way_since(at(11)));
        weather.port(at(12), 1, false);
        assert!(!weather.had_a_way_since(at(60)));
        assert!(weather.had_a_way_since(at(73)));
    }

    #[test]
    fn a_fault_of_a_unit_excuses_a_failure_but_no_path() {
        let mut weather = Weather::with_ports(1);
        weather.unit(at(1), true);
        assert!(!weather.had_a_way_since(at(1)));
        assert!(weather.is_fair_for_paths(at(1)));
    }
}
