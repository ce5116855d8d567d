//! What a run is made of: everything that a seed draws ("swarm testing": each run has its own mix).

use std::fmt;

use clock::Duration;
use multipath::{NoPath, Policy};

use crate::fault::{Kind, PlannedFault};
use crate::link::Closing;
use crate::random::Random;

/// Which faults a run may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// All of them.
    All,
    /// All of them, but no writes that overlap in flight: what is left is what a fence is for.
    Disjoint,
    /// Only those after which no command can be executed late, and no writes that overlap in flight: for what
    /// neither fences nor orders.
    NoLateExecution,
    /// None: the world at its best.
    Calm,
}

/// What is chosen before the seed decides about the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub profile: Profile,
}

impl From<Profile> for Choice {
    fn from(profile: Profile) -> Self {
        Self { profile }
    }
}

/// Parts of a plan that are left out, to find the smallest run that still fails.
#[derive(Clone, Debug, Default)]
pub struct Reduction {
    /// Only these faults, by their number in the plan; all if none.
    pub only_faults: Option<Vec<usize>>,
    /// At most so many requests for each client.
    pub requests: Option<u32>,
}

/// A run, as it was drawn.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub profile: Profile,
    pub(crate) controllers: u16,
    pub(crate) ports_per_controller: u16,
    pub(crate) units: Vec<UnitPlan>,
    pub(crate) clients: Vec<ClientPlan>,
    pub(crate) policy: Policy,
    pub(crate) no_path: NoPath,
    pub(crate) delayed_removal: Duration,
    pub(crate) digests: bool,
    pub(crate) initial_r2t: bool,
    pub(crate) command_timeout: Duration,
    pub(crate) latency: Duration,
    pub(crate) jitter: Duration,
    pub(crate) closing: Closing,
    /// How long faults go on.
    pub(crate) storm: Duration,
    pub(crate) faults: Vec<PlannedFault>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct UnitPlan {
    pub(crate) blocks: u32,
    pub(crate) block_size: u32,
    pub(crate) thin: bool,
    pub(crate) write_back: bool,
    pub(crate) owner: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientPlan {
    pub(crate) unit: u32,
    pub(crate) depth: usize,
    pub(crate) requests: u32,
    pub(crate) blocks_max: u32,
    /// The mean pause before a request.
    pub(crate) pause: Duration,
    pub(crate) mix: Mix,
    pub(crate) structured: bool,
    pub(crate) overlaps: Overlaps,
}

/// Whether clients write to blocks that a write is on its way to.
///
/// No file system does. A disk that repeats a write of unknown outcome may then undo a younger one that overtook it,
/// unless it sends overlapping writes one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlaps {
    Allowed,
    Avoided,
}

/// Weights of the operations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) flush: u64,
    pub(crate) zeroes: u64,
    pub(crate) trim: u64,
}

impl Profile {
    fn allows(self, kind: Kind) -> bool {
        match self {
            Self::All | Self::Disjoint => true,
            Self::NoLateExecution => !kind.executes_late(),
            Self::Calm => false,
        }
    }
}

impl Plan {
    #[must_use]
    pub fn draw(seed: u64, choice: impl Into<Choice>, reduction: &Reduction) -> Self {
        let Choice { profile } = choice.into();
        let mut random = Random::new(seed);
        let controllers = random.pick(&[1, 2, 2, 2]);
        let ports_per_controller = random.pick(&[1, 2, 2]);
        let units: Vec<UnitPlan> =
            (0..random.within(1..=2)).map(|_| UnitPlan::draw(&mut random, controllers)).collect();
        let storm = Duration::from_millis(random.spread(2_000, 90_000));
        let mut clients = Vec::new();
        for unit in 0..units.len() {
            for _ in 0..random.within(1..=2) {
                let unit = u32::try_from(unit).expect("there are two units at most");
                clients.push(ClientPlan::draw(&mut random, unit, storm, profile));
            }
        }
        let policy = random.pick(&[Policy::Numa, Policy::RoundRobin, Policy::QueueDepth]);
        let no_path = match random.below(4) {
            0 => NoPath::Fail,
            1 => NoPath::QueueFor(Duration::from_millis(random.spread(100, 20_000))),
            _ => NoPath::Queue,
        };
        let latency = Duration::from_micros(random.spread(20, 5_000));
        let mut plan = Self {
            seed,
            profile,
            controllers,
            ports_per_controller,
            units,
            clients,
            policy,
            no_path,
            delayed_removal: Duration::from_secs(random.pick(&[0, 0, 60])),
            digests: random.percent(50),
            initial_r2t: random.percent(30),
            command_timeout: Duration::from_secs(random.within(2..=30)),
            latency,
            jitter: Duration::from_nanos(random.below(latency.as_nanos() * 2)),
            closing: match profile {
                Profile::All | Profile::Disjoint => Closing::InOrder,
                Profile::NoLateExecution | Profile::Calm => Closing::Prompt,
            },
            storm,
            faults: Vec::new(),
        };
        plan.draw_faults(&mut random);
        plan.reduce(reduction);
        plan
    }

    /// A swarm: each run has a few kinds of faults, with rates of their own.
    fn draw_faults(&mut self, random: &mut Random) {
        let possible: Vec<Kind> = Kind::ALL
            .iter()
            .copied()
            .filter(|kind| self.profile.allows(*kind) && (self.digests || *kind != Kind::BitFlip))
            .collect();
        if possible.is_empty() {
            return;
        }
        let wanted = random.within(1..=6);
        let kinds: Vec<Kind> = (0..wanted).map(|_| random.pick(&possible)).collect();
        let mean = random.spread(200, 8_000);
        let mut at = 0;
        loop {
            at += random.within(1..=mean * 2);
            if at >= self.storm.as_millis() {
                return;
            }
            let kind = random.pick(&kinds);
            let duration = Duration::from_millis(random.spread(5, 15_000));
            self.faults.push(PlannedFault {
                kind,
                at: Duration::from_millis(at),
                duration,
                chance: random.next(),
            });
        }
    }

    fn reduce(&mut self, reduction: &Reduction) {
        if let Some(only) = &reduction.only_faults {
            let mut number = 0..;
            self.faults.retain(|_| number.next().is_some_and(|number| only.contains(&number)));
        }
        if let Some(requests) = reduction.requests {
            for client in &mut self.clients {
                client.requests = client.requests.min(requests);
            }
        }
    }

    pub(crate) fn ports(&self) -> usize {
        usize::from(self.controllers) * usize::from(self.ports_per_controller)
    }
}

impl UnitPlan {
    fn draw(random: &mut Random, controllers: u16) -> Self {
        let owner = random.percent(60).then(|| random.pick(&[0, controllers - 1]));
        Self {
            blocks: u32::try_from(random.spread(64, 512)).expect("few blocks"),
            block_size: random.pick(&[512, 512, 4096]),
            thin: random.percent(70),
            write_back: random.percent(70),
            owner,
        }
    }
}

impl ClientPlan {
    fn draw(random: &mut Random, unit: u32, storm: Duration, profile: Profile) -> Self {
        let depth = random.index(16) + 1;
        let requests = random.spread(50, 600);
        // The load lasts about as long as the storm.
        let pause = storm.as_nanos() * depth as u64 / requests;
        Self {
            unit,
            depth,
            requests: u32::try_from(requests).expect("few requests"),
            blocks_max: u32::try_from(random.spread(1, 32)).expect("few blocks"),
            pause: Duration::from_nanos(pause),
            mix: Mix {
                read: random.within(1..=10),
                write: random.within(2..=10),
                flush: random.below(3),
                zeroes: random.below(3),
                trim: random.below(2),
            },
            structured: random.percent(50),
            overlaps: match profile {
                Profile::All | Profile::Calm => Overlaps::Allowed,
                Profile::NoLateExecution | Profile::Disjoint => Overlaps::Avoided,
            },
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}x{} ports, ", self.seed, self.controllers, self.ports_per_controller)?;
        for unit in &self.units {
            write!(f, "{}x{}{}, ", unit.blocks, unit.block_size, if unit.thin { " thin" } else { "" })?;
        }
        for client in &self.clients {
            write!(f, "client of {}: {} at depth {}, ", client.unit, client.requests, client.depth)?;
        }
        write!(
            f,
            "{}, no path: {:?}, removal after {:?}, ",
            self.policy, self.no_path, self.delayed_removal
        )?;
        write!(f, "digests {}, latency {:?}+{:?}, ", self.digests, self.latency, self.jitter)?;
        write!(f, "commands {:?}, {} faults in {:?}", self.command_timeout, self.faults.len(), self.storm)
    }
}
