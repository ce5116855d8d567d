//! What operators say, and when it would be true.

use clock::Duration;
use multipath::{NoPath, Policy};

use super::{Injector, Order, Strike, Victims};
use crate::fault::Kind;
use crate::operator::{Saying, Whom};
use crate::scene::Scene;

/// Verbs that are said in spite of what they warn of.
const FORCED_PERCENT: u64 = 15;
/// Verbs that are about all paths of a portal.
const PORTAL_PERCENT: u64 = 40;
/// Settings that are for one disk.
const ONE_DISK_PERCENT: u64 = 40;

const POLICIES: [Policy; 4] = [Policy::Numa, Policy::RoundRobin, Policy::QueueDepth, Policy::Latency];

impl Injector {
    pub(super) fn say(&mut self, scene: &Scene, victims: &Victims<'_>, strike: &mut Strike) {
        let whom = whom(strike);
        let random = &mut strike.random;
        let force = random.percent(FORCED_PERCENT);
        let disk = random.percent(ONE_DISK_PERCENT).then_some(strike.unit.0);
        let time = Duration::from_millis(random.spread(100, 15_000));
        let saying = match strike.kind {
            Kind::OperatorFails => Saying::Fail { whom, force },
            Kind::OperatorDrains => Saying::Drain { whom, force, timeout: time },
            Kind::OperatorRescans => Saying::Rescan { port: disk.map(|_| strike.port) },
            Kind::OperatorSetsPolicy => Saying::Policy { disk, policy: random.pick(&POLICIES) },
            Kind::OperatorSetsNoPath => {
                let no_path = random.pick(&[NoPath::Fail, NoPath::QueueFor(time), NoPath::Queue]);
                Saying::NoPath { disk, no_path }
            }
            Kind::OperatorSetsRemoval => {
                Saying::Removal { disk, delay: random.pick(&[Duration::ZERO, time]) }
            }
            Kind::OperatorWaives => {
                let unit = strike.unit.0;
                // Nobody says so before it is true.
                if !scene.checks.fences.are_closed() && is_clear(victims, self.plan.ports(), unit) {
                    self.orders.push(Order::Say { kind: strike.kind, saying: Saying::Waive { unit } });
                }
                return;
            }
            _ => return,
        };
        self.orders.push(Order::Say { kind: strike.kind, saying });
    }

    /// Whatever is kept out is given back, under whatever name it is known.
    pub(super) fn reinstate_all(&mut self) {
        if self.plan.faults.iter().any(|fault| fault.kind.is_said()) {
            for port in 0..self.plan.ports() {
                let saying = Saying::Reinstate { whom: Whom::Portal(port) };
                self.orders.push(Order::Say { kind: Kind::OperatorFails, saying });
            }
        }
    }

    /// What was taken out is given back.
    pub(super) fn take_back(&mut self, strike: &mut Strike) {
        if matches!(strike.kind, Kind::OperatorFails | Kind::OperatorDrains) {
            let saying = Saying::Reinstate { whom: whom(strike) };
            self.orders.push(Order::Say { kind: strike.kind, saying });
        }
    }
}

fn whom(strike: &mut Strike) -> Whom {
    match strike.random.percent(PORTAL_PERCENT) {
        true => Whom::Portal(strike.port),
        false => Whom::Path { port: strike.port, unit: strike.unit.0 },
    }
}

/// Whether nothing is left of any command of a session that is gone: neither in the array nor on its way.
fn is_clear(victims: &Victims<'_>, ports: usize, unit: u32) -> bool {
    let is_current = |port: usize| {
        let current = victims.host.connection(port);
        victims.target.connections(port).into_iter().all(|id| Some(id) == current)
    };
    victims.target.array.held_tasks(array::UnitId(unit)) == 0 && (0..ports).all(is_current)
}
