//! Makes the faults of a plan happen, and ends them.

mod network;
mod operator;
mod portal;
mod unit;

use std::collections::BTreeSet;

use array::UnitId;
use clock::{Duration, Instant};

use crate::client::Client;
use crate::fault::{FaultCounters, Kind, PlannedFault, Reach, Victim, port_id};
use crate::host::Host;
use crate::link::Door;
use crate::log::Part;
use crate::operator::Saying;
use crate::plan::Plan;
use crate::random::Random;
use crate::scene::{Scene, Source};
use crate::target::Target;

#[derive(Debug)]
pub(crate) struct Injector {
    plan: Plan,
    /// What happens when: the number of a fault, and what of it.
    agenda: BTreeSet<(Instant, usize, Turn)>,
    pub(crate) counters: FaultCounters,
    foreign_tag: u64,
    /// Rules that stay until they have struck.
    pending: BTreeSet<usize>,
    /// What only the world can do.
    orders: Vec<Order>,
}

/// What happens to a fault, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Begin,
    /// Something that happens in between, once or several times.
    Again,
    End,
}

/// What is done to the host as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// It is killed, and starts again at this time.
    Kill { until: Instant },
    /// Nothing of it goes on before this time.
    Pause { until: Instant },
    /// Its timers fire late by so much at most.
    LateTimers { most: Duration },
    /// An operator says something to it.
    Say { kind: Kind, saying: Saying },
}

/// The parts of the world that faults are done to.
pub(crate) struct Victims<'a> {
    pub(crate) host: &'a mut Host,
    pub(crate) target: &'a mut Target,
    pub(crate) clients: &'a mut [Client],
}

/// A fault that begins, goes on or ends, with what its chances have chosen. They choose the same each time.
struct Strike {
    number: usize,
    kind: Kind,
    port: usize,
    unit: UnitId,
    duration: Duration,
    random: Random,
}

impl Injector {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut agenda = BTreeSet::new();
        for (number, fault) in plan.faults.iter().enumerate() {
            let begin = Instant::START + fault.at;
            agenda.insert((begin, number, Turn::Begin));
            agenda.insert((begin + fault.duration, number, Turn::End));
            for part in 1..=middles(fault.kind) {
                let after = fault.duration.as_nanos() / (middles(fault.kind) + 1) * part;
                agenda.insert((begin + Duration::from_nanos(after), number, Turn::Again));
            }
        }
        Self {
            plan: plan.clone(),
            agenda,
            counters: FaultCounters::default(),
            foreign_tag: 0,
            pending: BTreeSet::new(),
            orders: Vec::new(),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.agenda.first().map(|(at, _, _)| *at)
    }

    /// What the world has to do itself.
    pub(crate) fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, scene: &mut Scene, mut victims: Victims<'_>) {
        while let Some((at, number, turn)) = self.agenda.first().copied() {
            if at > scene.now {
                break;
            }
            self.agenda.pop_first();
            self.turn(scene, &mut victims, number, turn);
        }
        scene.timers.arm(Source::Fault, self.deadline());
    }

    /// Ends everything that is going on, and begins nothing more.
    pub(crate) fn calm(&mut self, scene: &mut Scene, mut victims: Victims<'_>) {
        scene.network.spare_all();
        let begun: BTreeSet<usize> = {
            let waiting = self.agenda.iter().filter(|(_, _, turn)| *turn == Turn::Begin);
            let waiting: BTreeSet<usize> = waiting.map(|(_, number, _)| *number).collect();
            let all = self.agenda.iter().map(|(_, number, _)| *number);
            all.filter(|number| !waiting.contains(number)).collect()
        };
        for (_, number, turn) in std::mem::take(&mut self.agenda) {
            if turn == Turn::End && begun.contains(&number) {
                self.turn(scene, &mut victims, number, Turn::End);
            }
        }
        self.reinstate_all();
    }

    fn turn(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, number: usize, turn: Turn) {
        let fault = self.plan.faults[number];
        scene.note(Part::Fault, [number as u64, turn as u64, 0], || {
            format!("{turn:?} fault {number}: {} for {:?}", fault.kind, fault.duration)
        });
        let mut strike = self.strike(number, fault);
        match turn {
            Turn::Begin => {
                self.counters.begun(fault.kind);
                self.mark(scene, &strike, true);
                self.begin(scene, victims, &mut strike);
            }
            Turn::Again => self.go_on(scene, victims, &mut strike),
            Turn::End => {
                self.end(scene, victims, &mut strike);
                self.mark(scene, &strike, false);
            }
        }
    }

    fn strike(&self, number: usize, fault: PlannedFault) -> Strike {
        let mut random = fault.random();
        let port = random.index(self.plan.ports());
        let unit = UnitId(u32::try_from(random.index(self.plan.units.len())).expect("few units"));
        Strike { number, kind: fault.kind, port, unit, duration: fault.duration, random }
    }

    /// Tells the checkers what can be blamed on a fault now.
    fn mark(&self, scene: &mut Scene, strike: &Strike, begins: bool) {
        let weather = &mut scene.checks.weather;
        match strike.kind.reach() {
            Reach::Unit => weather.unit(scene.now, begins),
            Reach::Everything => weather.everything(scene.now, begins),
            Reach::Nobody => {}
            Reach::Ports if covers_controller(strike.kind) => {
                for port in self.ports_beside(strike.port) {
                    weather.port(scene.now, port, begins);
                }
            }
            Reach::Ports => weather.port(scene.now, strike.port, begins),
        }
    }

    fn begin(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &mut Strike) {
        let blocks = u64::from(self.plan.units[strike.unit.0 as usize].blocks);
        let victim = Victim { port: port_id(strike.port), unit: strike.unit, blocks };
        if strike.kind == Kind::DeferredError {
            self.lose_cache(victims, strike.unit, &mut strike.random, 30);
            self.pending.insert(strike.number);
        }
        // Its own chances, so that the others are the same when the fault ends.
        if let Some(rule) = strike.kind.rule(&mut strike.random.clone(), victim) {
            let event = array::Event::SetFault(PlannedFault::id(strike.number), rule);
            return victims.target.tell_array(scene, event);
        }
        match strike.kind {
            Kind::Reset
            | Kind::Finish
            | Kind::BitFlip
            | Kind::AsyncDrop
            | Kind::PduMalformed
            | Kind::PduTruncated
            | Kind::R2tLost
            | Kind::R2tTwice
            | Kind::SilentFlip
            | Kind::OldConnectionLives => self.break_session(scene, victims, strike),
            Kind::HoleOneWay
            | Kind::Hole
            | Kind::HoleDelivered
            | Kind::DelaySpike
            | Kind::BandwidthCollapse
            | Kind::SlowWay
            | Kind::WindowClosed
            | Kind::PartitionOfController => self.break_route(scene, victims, strike),
            Kind::LoginHangs
            | Kind::LoginRejected
            | Kind::LoginRedirected
            | Kind::LoginSevered
            | Kind::DuplicateIsid
            | Kind::ControllerCrash
            | Kind::ControllerCrashCacheLost => self.break_portal(scene, victims, strike),
            Kind::ResetSlow => {
                victims.target.reset_delay = Duration::from_millis(strike.random.spread(100, 20_000));
            }
            Kind::ClientReconnects => {
                let index = strike.random.index(victims.clients.len());
                let was_connected = victims.clients[index].connection().is_some();
                self.counters.struck(strike.kind, u64::from(was_connected));
                victims.clients[index].hang_up(scene, "a fault");
            }
            Kind::ProcessKilled | Kind::HostPaused | Kind::TimersLate => self.disturb_host(scene, strike),
            kind if kind.is_said() => self.say(scene, victims, strike),
            _ => self.disturb_unit(scene, victims, strike),
        }
    }

    fn disturb_host(&mut self, scene: &Scene, strike: &mut Strike) {
        self.counters.struck(strike.kind, 1);
        let until =
            scene.now + Duration::from_nanos(strike.duration.as_nanos().min(HOST_AWAY_MAX.as_nanos()));
        self.orders.push(match strike.kind {
            Kind::ProcessKilled => Order::Kill { until },
            Kind::HostPaused => Order::Pause { until },
            _ => Order::LateTimers { most: Duration::from_millis(strike.random.spread(1, 3_000)) },
        });
    }

    fn go_on(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &mut Strike) {
        match strike.kind {
            Kind::AccessFlaps => self.flap(scene, victims, strike),
            Kind::LunRemapped => self.remap(scene, victims, strike),
            Kind::OperatorWaives => self.say(scene, victims, strike),
            _ => {}
        }
    }

    fn end(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &mut Strike) {
        let id = PlannedFault::id(strike.number);
        let hits = victims.target.array.fault_hits(id);
        self.counters.struck(strike.kind, hits);
        if self.pending.remove(&strike.number) && hits == 0 {
            // It is told to whoever asks next, however late.
            self.counters.struck(strike.kind, 1);
            return;
        }
        victims.target.tell_array(scene, array::Event::ClearFault(id));
        let door = Door::Port(strike.port);
        match strike.kind {
            Kind::PduMalformed | Kind::PduTruncated | Kind::R2tLost | Kind::R2tTwice | Kind::SilentFlip => {
                self.counters.struck(strike.kind, scene.network.take_strikes(door));
                scene.network.spare(door);
            }
            Kind::ResetSlow => {
                self.counters.struck(strike.kind, std::mem::take(&mut victims.target.slow_resets));
                victims.target.reset_delay = Duration::ZERO;
            }
            Kind::TimersLate => self.orders.push(Order::LateTimers { most: Duration::ZERO }),
            kind if kind.is_said() => self.take_back(strike),
            _ => {
                self.mend_route(scene, victims, strike);
                self.mend_portal(victims, strike);
                self.mend_unit(scene, victims, strike);
            }
        }
    }

    /// All ports of the controller that a port belongs to.
    fn ports_beside(&self, port: usize) -> std::ops::Range<usize> {
        let per_controller = usize::from(self.plan.ports_per_controller);
        let first = port / per_controller * per_controller;
        first..first + per_controller
    }
}

/// A host that is away for longer than this is found dead by everybody; that is no news after some seconds.
const HOST_AWAY_MAX: Duration = Duration::from_secs(8);

/// How often something happens between the beginning and the end.
const fn middles(kind: Kind) -> u64 {
    match kind {
        Kind::AccessFlaps => 7,
        Kind::LunRemapped => 1,
        // He looks again and again.
        Kind::OperatorWaives => 15,
        _ => 0,
    }
}

const fn covers_controller(kind: Kind) -> bool {
    matches!(kind, Kind::PartitionOfController | Kind::ControllerCrash)
}
