//! What goes wrong now, and what went wrong lately: so that the product is blamed only for what it could have avoided.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Duration, Instant};

use super::operators::Seat;

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
    /// Ports with paths that operators keep out: no ways, and no excuse for anything else.
    kept_out: BTreeMap<usize, Spell>,
    held: BTreeSet<Seat>,
    /// A disk has one path at a time: a port without faults need not be the one that it has.
    is_single: bool,
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
    pub(crate) fn with_ports(ports: usize, is_single: bool) -> Self {
        let ports = (0..ports).map(|port| (port, Spell::default())).collect();
        Self { ports, is_single, ..Self::default() }
    }

    /// An operator keeps a path out.
    pub(crate) fn hold(&mut self, now: Instant, seat: Seat) {
        if self.held.insert(seat) {
            self.kept_out.entry(seat.0 as usize).or_default().turn(now, true);
        }
    }

    /// An operator gave it back.
    pub(crate) fn release(&mut self, now: Instant, seat: Seat) {
        if self.held.remove(&seat) {
            self.kept_out.entry(seat.0 as usize).or_default().turn(now, false);
        }
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
            && if self.is_single {
                self.ports.keys().all(|port| self.is_way_since(*port, since))
            } else {
                self.ports.keys().any(|port| self.is_way_since(*port, since))
            }
    }

    fn is_way_since(&self, port: usize, since: Instant) -> bool {
        let is_fair = |spells: &BTreeMap<usize, Spell>| {
            spells.get(&port).is_none_or(|spell| spell.is_fair_since(since))
        };
        is_fair(&self.ports) && is_fair(&self.kept_out)
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
    use scsi::Lun;

    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::START + Duration::from_secs(secs)
    }

    #[test]
    fn one_port_without_faults_is_a_way_and_the_aftermath_of_a_fault_is_none() {
        let mut weather = Weather::with_ports(2, false);
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
    fn a_port_that_an_operator_keeps_out_is_no_way_and_no_fault() {
        let mut weather = Weather::with_ports(2, false);
        weather.port(at(10), 0, true);
        weather.hold(at(10), (1, Lun::from(0)));
        assert!(!weather.had_a_way_since(at(10)));
        weather.release(at(11), (1, Lun::from(0)));
        assert!(weather.had_a_way_since(at(72)));
        let mut weather = Weather::with_ports(1, false);
        weather.hold(at(10), (0, Lun::from(0)));
        assert!(weather.is_fair_for_paths(at(11)));
    }

    #[test]
    fn a_disk_with_one_path_may_have_it_at_the_port_with_the_fault() {
        let mut weather = Weather::with_ports(2, true);
        weather.port(at(10), 0, true);
        assert!(!weather.had_a_way_since(at(10)));
    }

    #[test]
    fn a_fault_of_a_unit_excuses_a_failure_but_no_path() {
        let mut weather = Weather::with_ports(1, false);
        weather.unit(at(1), true);
        assert!(!weather.had_a_way_since(at(1)));
        assert!(weather.is_fair_for_paths(at(1)));
    }
}
