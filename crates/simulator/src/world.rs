//! A run: the loop, and its phases.

use std::io::Write;

use clock::{Duration, Instant};

use scsi_multipath::{FencePolicy, Sharing};

use crate::check::{BoundsCheck, Checks, FenceCheck, NoPathCheck, PaceCheck, Rule, Violation, WireCheck};
use crate::client::Client;
use crate::fault::{FaultCounters, Kind};
use crate::host::Host;
use crate::injector::{Injector, Order, Victims};
use crate::link::{ConnectionId, Door, End, Network};
use crate::log::{Log, Part};
use crate::operator::Saying;
use crate::plan::Plan;
use crate::random::Random;
use crate::scene::{Agenda, Scene, Source, Timers};
use crate::target::{Successions, Target, TargetProfile};

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub violations: Vec<Violation>,
    /// Two runs with the same hash were the same, event by event.
    pub hash: u64,
    pub events: u64,
    /// How much time passed in the simulated world.
    pub simulated: Duration,
    pub requests: u64,
    pub failed_requests: u64,
    pub faults: FaultCounters,
    /// Commands that were sent and lost with their nexus.
    pub commands_lost: u64,
    pub nexuses_lost: u64,
    /// Blocks that a copy of a write reached on the medium.
    pub block_writes: u64,
    /// How the target behaved.
    pub target: TargetProfile,
    pub successions: Successions,
    /// The longest time that a client waited for an answer.
    pub longest_wait: Duration,
    pub fences_proved: u64,
    pub fences_waived: u64,
    /// The longest time that a fence took.
    pub longest_fence: Duration,
    /// Blocks that came damaged over a wire without digests.
    pub silent_damage: u64,
    /// Blocks of acknowledged writes that a volatile cache lost.
    pub cache_losses: u64,
    /// Paths that became the last resort because they were slow, and that came back.
    pub demotions: u64,
    pub recoveries: u64,
    /// Reads that were sent on a second path as well.
    pub hedges: u64,
    /// Disks were to have one path at a time.
    pub is_single: bool,
    /// SET TARGET PORT GROUPS that were sent, and those that the array carried out.
    pub changes: (u64, u64),
    /// TEST UNIT READY where idle paths are checked.
    pub idle_checks: u64,
    /// What operators said and was not done.
    pub verbs_refused: u64,
    /// Paths that operators gave back.
    pub reinstated: u64,
}

/// Carries a plan out. Every event is written to `trace`, if there is one: milliseconds, part of the world, what.
#[must_use]
pub fn run(plan: &Plan, trace: Option<Box<dyn Write>>) -> Outcome {
    let mut world = World::new(plan, trace);
    world.run();
    world.conclude()
}

/// Turns of the loop in one second of the simulated world, far more than all requests of a plan need together: a loop
/// that makes little progress in time, or none, ends here.
const TURNS_PER_SECOND_MAX: u64 = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Faults are on: nothing wrong may happen.
    Storm {
        until: Instant,
    },
    /// Faults are off: everything has to finish.
    Calm,
    /// Everything is read once more.
    ReadBack,
    Over,
}

struct World {
    scene: Scene,
    host: Host,
    target: Target,
    clients: Vec<Client>,
    injector: Injector,
    phase: Phase,
    units: usize,
    plan: Plan,
    host_state: HostState,
    /// When an operator waives what no proof can be had of.
    operator_at: Option<Instant>,
    /// What operators have to say, and could not yet.
    unsaid: Vec<(Kind, Saying)>,
    /// When the present second began, and how many turns it has had.
    pace: (Instant, u64),
}

/// How long after the last fault an operator ends strict fences that have no proof: when nothing can be left of what
/// they are about.
const OPERATOR_AFTER: Duration = Duration::from_secs(60);

/// What becomes of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostState {
    Running,
    /// It stands still; what comes waits.
    Paused {
        until: Instant,
    },
    /// Its process is gone; what comes is refused.
    Dead,
}

impl World {
    fn new(plan: &Plan, trace: Option<Box<dyn Write>>) -> Self {
        let mut random = Random::new(plan.seed ^ 0x5eed_0f0f_77aa_1234);
        let mut network = Network::new(plan.closing, random.fork(1));
        if !plan.digests {
            network.limit_window(plan.window);
        }
        for port in 0..plan.ports() {
            // Ports are not equally near.
            let factor = random.within(1..=3);
            network.add_route(Door::Port(port), plan.latency.saturating_mul(factor), plan.jitter);
        }
        network.add_route(Door::Export, Duration::from_micros(20), Duration::from_micros(5));
        let clients = plan.clients.iter().zip(0..).map(|(client, index)| {
            Client::new(index, *client, plan.units[client.unit as usize], random.fork(u64::from(index) + 10))
        });
        let clients: Vec<Client> = clients.collect();
        // Requests of connections that were lost stay with the disk: what NBD takes from each of some connections.
        let requests_max = nbd::IN_FLIGHT_MAX as usize * 16;
        Self {
            scene: Scene {
                now: Instant::START,
                timers: Timers::default(),
                network,
                random: random.fork(2),
                log: Log::new(trace),
                checks: Checks::new(
                    BoundsCheck::new(requests_max),
                    FenceCheck::new(
                        plan.needs_fences().then_some(plan.fence),
                        plan.sharing == Sharing::Shared,
                    ),
                    WireCheck::new(plan.needs_fences() && plan.fence != FencePolicy::Unsafe),
                    PaceCheck::new(plan.hedging),
                    NoPathCheck::new(plan.no_path),
                    plan.ways,
                    plan.ports(),
                ),
                ports_per_controller: plan.ports_per_controller.into(),
                touched: Agenda::default(),
                dirty: Agenda::default(),
            },
            host: Host::new(plan),
            target: Target::new(plan),
            clients,
            injector: Injector::new(plan),
            phase: Phase::Storm { until: Instant::START + plan.storm },
            units: plan.units.len(),
            plan: plan.clone(),
            host_state: HostState::Running,
            operator_at: None,
            unsaid: Vec::new(),
            pace: (Instant::START, 0),
        }
    }

    fn run(&mut self) {
        let avoids = |client: &crate::plan::ClientPlan| client.overlaps == crate::plan::Overlaps::Avoided;
        self.scene.checks.overlaps_are_avoided = self.plan.clients.iter().all(avoids);
        self.host.start(&mut self.scene);
        for index in 0..self.clients.len() {
            self.clients[index].expire(&mut self.scene);
        }
        self.scene.timers.arm(Source::Fault, self.injector.deadline());
        self.settle();
        while self.phase != Phase::Over && self.scene.checks.is_clean() {
            let limit = self.limit();
            match self.scene.timers.pop() {
                Some((at, source)) if limit.is_none_or(|limit| at <= limit) => {
                    self.scene.now = self.scene.now.max(at);
                    self.wake(source);
                }
                other => {
                    // Nothing happens before the phase has to end.
                    if let Some((at, source)) = other {
                        self.scene.timers.arm(source, Some(at));
                    }
                    let Some(limit) = limit else { break };
                    self.scene.now = self.scene.now.max(limit);
                }
            }
            self.settle();
            self.advance();
            self.check_pace();
        }
    }

    /// Whether time goes on.
    fn check_pace(&mut self) {
        let (now, (since, turns)) = (self.scene.now, self.pace);
        self.pace = if now >= since + Duration::from_secs(1) { (now, 0) } else { (since, turns + 1) };
        if turns > TURNS_PER_SECOND_MAX {
            let finding = Err(format!("more than {TURNS_PER_SECOND_MAX} turns within a second"));
            self.scene.checks.found(now, Rule::Liveness, finding);
        }
    }

    /// When the phase ends, whatever happens.
    fn limit(&self) -> Option<Instant> {
        match self.phase {
            Phase::Storm { until } => Some(until),
            Phase::Calm if self.operator_at.is_some_and(|at| at > self.scene.now) => {
                let settled = self.scene.checks.liveness.settled().filter(|at| *at > self.scene.now);
                [self.operator_at, settled].into_iter().flatten().min()
            }
            Phase::Calm if self.scene.checks.liveness.settled().is_some_and(|at| at > self.scene.now) => {
                self.scene.checks.liveness.settled()
            }
            Phase::Calm | Phase::ReadBack => self.scene.checks.liveness.deadline(),
            Phase::Over => None,
        }
    }

    fn wake(&mut self, source: Source) {
        if self.is_postponed(source) {
            return;
        }
        let scene = &mut self.scene;
        match source {
            Source::Arrival(id, end) => self.arrival(id, end),
            Source::Boot => self.boot(),
            Source::Host | Source::Nexus(_) | Source::Server(_) => self.host.expire(scene, source),
            Source::Target(id) => self.target.expire(scene, id),
            Source::Array => self.target.expire_array(scene),
            Source::Client(index) => self.clients[index as usize].expire(scene),
            Source::Fault => {
                let victims =
                    Victims { host: &mut self.host, target: &mut self.target, clients: &mut self.clients };
                self.injector.expire(scene, victims);
                self.obey();
            }
        }
    }

    /// Whether a host that stands still takes this later. What comes to a process that is gone is refused.
    fn is_postponed(&mut self, source: Source) -> bool {
        let is_of_host = match source {
            Source::Arrival(id, end) => match self.scene.network.door(id) {
                Some(Door::Export) => end == End::Far,
                Some(Door::Port(_)) => end == End::Near,
                None => false,
            },
            other => other.is_of_host(),
        };
        match (self.host_state, source) {
            (HostState::Paused { until }, _) if is_of_host && self.scene.now < until => {
                self.scene.timers.arm(source, Some(until));
                true
            }
            (HostState::Dead, Source::Arrival(id, end)) if is_of_host => {
                self.scene.network.reset(self.scene.now, id, end);
                true
            }
            (HostState::Dead, _) => is_of_host,
            _ => false,
        }
    }

    /// Does what faults want done to the host.
    fn obey(&mut self) {
        for order in self.injector.take_orders() {
            match order {
                Order::Kill { until } => self.kill(until),
                Order::Pause { until } if self.host_state == HostState::Running => {
                    self.host_state = HostState::Paused { until };
                }
                Order::Pause { .. } => {}
                Order::Say { kind, saying } => self.unsaid.push((kind, saying)),
                Order::LateTimers { most } => {
                    let random = self.scene.random.fork(3);
                    self.scene.timers.be_late(most, random);
                }
            }
        }
        self.speak();
    }

    /// Says what operators have to say, once somebody is there to hear it.
    fn speak(&mut self) {
        match self.host_state {
            HostState::Dead => return,
            HostState::Paused { until } if self.scene.now < until => {
                return self.scene.timers.arm(Source::Fault, Some(until));
            }
            HostState::Running | HostState::Paused { .. } => {}
        }
        for (kind, saying) in std::mem::take(&mut self.unsaid) {
            self.host.hear(&mut self.scene, kind, saying);
        }
    }

    /// The process is gone: its sockets are closed, as the kernel does it, and nobody knows any more what it knew.
    fn kill(&mut self, until: Instant) {
        let scene = &mut self.scene;
        scene.note(Part::Run, [3, 0, 0], || "the process is killed");
        for port in 0..self.plan.ports() {
            for id in scene.network.through(Door::Port(port)) {
                scene.network.reset(scene.now, id, End::Near);
            }
        }
        for id in scene.network.through(Door::Export) {
            scene.network.reset(scene.now, id, End::Far);
        }
        scene.take_sightings();
        scene.timers.forget_host();
        let now = scene.checks.ledger.last_moment();
        scene.checks.durability.forget(now);
        scene.checks.access.forget();
        scene.checks.fences.forget();
        scene.checks.wire.forget();
        scene.checks.no_path.forget(self.plan.no_path);
        scene.checks.operators.process_ended();
        scene.checks.ways.process_ended();
        self.host = self.host.reborn(&self.plan);
        scene.checks.pace.process_ended();
        scene.checks.up.clear();
        scene.checks.shown.process_ended();
        self.host_state = HostState::Dead;
        scene.timers.arm(Source::Boot, Some(until));
    }

    fn boot(&mut self) {
        if self.host_state == HostState::Dead {
            self.scene.note(Part::Run, [4, 0, 0], || "the process starts again");
            self.host_state = HostState::Running;
            self.host.start(&mut self.scene);
            self.speak();
        }
    }

    fn arrival(&mut self, id: ConnectionId, end: End) {
        if self.is_postponed(Source::Arrival(id, end)) {
            return;
        }
        let scene = &mut self.scene;
        scene.note(Part::Link, [id.0.into(), end as u64, 0], || format!("connection {} {end:?}", id.0));
        match (scene.network.door(id), end) {
            (Some(Door::Port(_)), End::Far) => self.target.wake(scene, id),
            (Some(Door::Port(_)), End::Near) => self.host.wake_nexus(scene, id),
            (Some(Door::Export), End::Far) => self.host.wake_server(scene, id),
            (Some(Door::Export), End::Near) => {
                let Some(index) = scene.network.owner(id) else { return };
                let client = &mut self.clients[index as usize];
                let export = self.target.export_name(client.unit());
                client.wake(scene, id, export);
            }
            (None, _) => {}
        }
        self.scene.network.await_next(self.scene.now, id, end);
    }

    /// Lets the machines talk until none has anything more to say, then sends what they have.
    fn settle(&mut self) {
        loop {
            while let Some(source) = self.scene.touched.next() {
                match source {
                    Source::Target(id) => self.target.drain(&mut self.scene, id),
                    Source::Client(index) => self.clients[index as usize].drain(&mut self.scene),
                    _ => self.host.drain(&mut self.scene, source),
                }
                self.scene.dirty.add(source);
            }
            while let Some(source) = self.scene.dirty.next() {
                match source {
                    Source::Target(id) => self.target.flush(&mut self.scene, id),
                    Source::Client(index) => self.clients[index as usize].flush(&mut self.scene),
                    _ => self.host.flush(&mut self.scene, source),
                }
            }
            self.host.settle(&mut self.scene, self.units);
            while let Some((id, end)) = self.scene.network.poll_unblocked() {
                self.arrival(id, end);
            }
            self.scene.take_sightings();
            self.scene.arm_arrivals();
            if self.scene.touched.is_empty() {
                return;
            }
        }
    }

    fn advance(&mut self) {
        match self.phase {
            Phase::Storm { until } if self.scene.now >= until => {
                let victims =
                    Victims { host: &mut self.host, target: &mut self.target, clients: &mut self.clients };
                self.injector.calm(&mut self.scene, victims);
                self.obey();
                self.scene.checks.liveness.calm(self.scene.now);
                for client in &mut self.clients {
                    client.hurry(&mut self.scene);
                }
                self.phase = Phase::Calm;
                self.operator_at =
                    (self.plan.fence == FencePolicy::Strict).then(|| self.scene.now + OPERATOR_AFTER);
                self.scene.note(Part::Run, [1, 0, 0], || "faults are off");
                self.settle();
            }
            Phase::Calm if self.is_recovered() => {
                self.phase = Phase::ReadBack;
                self.scene.note(Part::Run, [2, 0, 0], || "everything is read once more");
                for unit in 0..self.units {
                    let reader = self.clients.iter_mut().find(|client| client.unit() as usize == unit);
                    if let Some(client) = reader {
                        client.read_back(&mut self.scene);
                    }
                }
                self.settle();
            }
            Phase::ReadBack if self.clients.iter().all(Client::is_idle) => self.phase = Phase::Over,
            Phase::Calm if self.operator_at.is_some_and(|at| at <= self.scene.now) => {
                // What targets keep in their back ends they keep for less than this.
                self.operator_at = None;
                self.scene.checks.fences.waived_by_operator(self.scene.now, None);
                self.host.waive(&mut self.scene);
                self.settle();
            }
            Phase::Calm | Phase::ReadBack => self.check_liveness(),
            Phase::Storm { .. } | Phase::Over => {}
        }
    }

    fn is_recovered(&self) -> bool {
        self.scene.checks.liveness.settled().is_some_and(|at| at <= self.scene.now)
            && self.clients.iter().all(Client::is_idle)
            && self.scene.checks.fences.are_closed()
            && self.scene.checks.completions.open() == 0
            && self.host.waits_for(self.units).is_empty()
    }

    fn check_liveness(&mut self) {
        if self.scene.checks.liveness.deadline().is_none_or(|deadline| self.scene.now < deadline) {
            return;
        }
        let busy = self.clients.iter().filter(|client| !client.is_idle()).map(Client::waits_for);
        let waiting: Vec<String> = busy.chain(self.host.waits_for(self.units)).collect();
        let finding = self.scene.checks.liveness.judge(self.scene.now, &waiting.join(", "));
        self.scene.checks.found(self.scene.now, Rule::Liveness, finding);
        self.phase = Phase::Over;
    }

    fn conclude(mut self) -> Outcome {
        let checks = &mut self.scene.checks;
        let finding = checks.register.judge(&checks.ledger);
        checks.found(self.scene.now, Rule::Register, finding);
        let finding = checks.durability.judge(Instant::from_nanos(u64::MAX));
        checks.found(self.scene.now, Rule::Durability, finding);
        if self.phase == Phase::Over {
            let finding = checks.fences.judge();
            checks.found(self.scene.now, Rule::Fence, finding);
            let finding = checks.operators.judge();
            checks.found(self.scene.now, Rule::Operator, finding);
        }
        for violation in self.scene.checks.violations().to_vec() {
            self.scene.note(Part::Check, [violation.rule as u64, 0, 0], || violation.to_string());
        }
        let longest_wait = self.clients.iter().map(|client| client.longest_wait).max();
        let Scene { now, log, checks, .. } = self.scene;
        let mut faults = self.injector.counters;
        faults.add(&checks.operators.done);
        Outcome {
            hash: log.hash(),
            events: log.events(),
            simulated: now.since(Instant::START),
            requests: checks.completions.answered,
            failed_requests: checks.completions.failed,
            faults,
            commands_lost: self.host.commands_lost,
            nexuses_lost: self.host.nexuses_lost,
            block_writes: checks.medium.executions,
            target: self.plan.target,
            successions: self.target.successions,
            longest_wait: longest_wait.unwrap_or_default(),
            fences_proved: checks.fences.proved,
            fences_waived: checks.fences.waived,
            longest_fence: checks.fences.longest,
            silent_damage: checks.silent_damage,
            cache_losses: checks.durability.losses,
            demotions: checks.pace.demotions,
            recoveries: checks.pace.recoveries,
            hedges: checks.pace.hedges,
            is_single: self.plan.ways.is_single(),
            changes: (checks.ways.asked_for, self.target.group_changes),
            idle_checks: checks.ways.idle_checks,
            verbs_refused: checks.operators.refused,
            reinstated: checks.operators.reinstated,
            violations: checks.into_violations(),
        }
    }
}
