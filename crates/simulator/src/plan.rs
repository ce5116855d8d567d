//! What a run is made of: everything that a seed draws ("swarm testing": each run has its own mix).

mod ways;

use std::fmt;

use clock::Duration;
use multipath::{Hedging, NoPath, Policy};

use scsi_multipath::{FENCE_WAIT, FencePolicy, Sharing};

use crate::check::DISCOVERY;
use crate::fault::{Danger, Kind, PlannedFault, group_of};
use crate::link::Closing;
use crate::random::Random;
use crate::target::TargetProfile;

pub(crate) use ways::Ways;

/// Which faults a run may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// All of them.
    All,
    /// All of them, but no writes that overlap in flight: what is left is what a fence is for.
    Disjoint,
    /// All of them, and those that no initiator can do anything about: what the checkers must see.
    Control,
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
    /// How the target behaves, if the seed is not to decide.
    pub target: Option<TargetProfile>,
    /// What is done about writes of unknown fate, if the seed is not to decide.
    pub fence: Option<FencePolicy>,
}

impl From<Profile> for Choice {
    fn from(profile: Profile) -> Self {
        Self { profile, target: None, fence: None }
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
    /// How the target behaves.
    pub(crate) target: TargetProfile,
    pub(crate) sharing: Sharing,
    pub(crate) fence: FencePolicy,
    pub(crate) policy: Policy,
    pub(crate) hedging: Hedging,
    pub(crate) ways: Ways,
    pub(crate) no_path: NoPath,
    pub(crate) delayed_removal: Duration,
    pub(crate) digests: bool,
    /// How many commands the target takes at a time.
    pub(crate) window: u32,
    pub(crate) initial_r2t: bool,
    pub(crate) immediate_data: bool,
    /// In bytes.
    pub(crate) first_burst: u32,
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
    /// Half of the load goes to so many blocks, so that requests meet.
    pub(crate) hot_blocks: u32,
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

/// What makes the draws that came later differ from those that were always there.
const LATER_DRAWS: u64 = 0x6c61_7465_7220_6f6e;
/// Runs that have writes that are stuck, of those that need fences.
const LATE_PERCENT: u64 = 60;
/// Writes that are stuck and lose their nexus.
const COMPANION_PERCENT: u64 = 70;

/// Longer than any run: disks without paths do not go.
const DISKS_STAY: Duration = Duration::from_secs(3_600);

impl Profile {
    fn allows(self, kind: Kind) -> bool {
        match self {
            Self::All | Self::Disjoint => kind.danger() != Danger::Untold,
            Self::Control => true,
            Self::NoLateExecution => kind.danger() == Danger::Timely,
            Self::Calm => false,
        }
    }

    fn targets(self) -> &'static [TargetProfile] {
        match self {
            Self::All | Self::Disjoint | Self::Control => TargetProfile::CLAIMED,
            Self::NoLateExecution | Self::Calm => TargetProfile::TIMELY,
        }
    }
}

impl Plan {
    #[must_use]
    pub fn draw(seed: u64, choice: impl Into<Choice>, reduction: &Reduction) -> Self {
        let Choice { profile, target, fence } = choice.into();
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
        let (policy, hedging) = draw_pace(seed, policy);
        let no_path = match random.below(4) {
            0 => NoPath::Fail,
            1 => NoPath::QueueFor(Duration::from_millis(random.spread(100, 20_000))),
            _ => NoPath::Queue,
        };
        let latency = Duration::from_micros(random.spread(20, 5_000));
        let drawn_target = random.pick(profile.targets());
        let drawn_fence = random.pick(&[
            FencePolicy::Bounded { wait: FENCE_WAIT },
            FencePolicy::Bounded { wait: FENCE_WAIT },
            FencePolicy::Strict,
        ]);
        let mut plan = Self {
            seed,
            profile,
            controllers,
            ports_per_controller,
            units,
            clients,
            target: target.unwrap_or(drawn_target),
            sharing: random.pick(&[Sharing::Exclusive, Sharing::Exclusive, Sharing::Shared]),
            fence: fence.unwrap_or(drawn_fence),
            policy,
            hedging,
            ways: Ways::draw(seed),
            no_path,
            delayed_removal: Duration::from_secs(random.pick(&[0, 0, 60])),
            digests: random.percent(50),
            window: random.pick(&[2, 8, 32, 128]),
            initial_r2t: random.percent(30),
            immediate_data: random.percent(60),
            first_burst: random.pick(&[512, 4096, 65_536]),
            command_timeout: Duration::from_secs(random.within(2..=30)),
            latency,
            jitter: Duration::from_nanos(random.below(latency.as_nanos() * 2)),
            closing: match profile {
                Profile::All | Profile::Disjoint | Profile::Control => Closing::InOrder,
                Profile::NoLateExecution | Profile::Calm => Closing::Prompt,
            },
            storm,
            faults: Vec::new(),
        };
        plan.draw_faults(&mut random);
        plan.draw_changes();
        plan.draw_operator();
        plan.reduce(reduction);
        plan
    }

    /// A swarm: each run has a few kinds of faults, with rates of their own.
    fn draw_faults(&mut self, random: &mut Random) {
        let possible: Vec<Kind> = Kind::ALL
            .iter()
            .copied()
            .filter(|kind| self.profile.allows(*kind) && self.can_have(*kind))
            .collect();
        if possible.is_empty() {
            return;
        }
        let wanted = random.within(1..=6);
        let mut kinds: Vec<Kind> = (0..wanted).map(|_| random.pick(&possible)).collect();
        if self.profile == Profile::Control {
            let untold: Vec<Kind> =
                possible.iter().copied().filter(|kind| kind.danger() == Danger::Untold).collect();
            kinds.push(random.pick(&untold));
        }
        if self.needs_fences() && random.percent(LATE_PERCENT) {
            kinds.push(random.pick(&[Kind::StuckWrite, Kind::TornWrite, Kind::StuckWrite]));
        }
        if kinds.contains(&Kind::IdentityTwice) {
            // A unit that shows the name of another one that is not to be seen, or is not known any more, is, for all
            // that anybody can tell, it.
            kinds.retain(|kind| !kind.hides_identity() && *kind != Kind::ProcessKilled);
            self.delayed_removal = DISKS_STAY;
        }
        let mean = random.spread(200, 8_000);
        let mut at = 0;
        loop {
            at += random.within(1..=mean * 2);
            if at >= self.storm.as_millis() {
                return;
            }
            let kind = random.pick(&kinds);
            if kind == Kind::IdentityTwice && at < DISCOVERY.as_millis() {
                continue;
            }
            let duration = Duration::from_millis(random.spread(kind.shortest_millis(), 15_000));
            self.faults.push(PlannedFault {
                kind,
                at: Duration::from_millis(at),
                duration,
                chance: random.next(),
            });
            if matches!(kind, Kind::StuckWrite | Kind::TornWrite) {
                self.lose_nexus_soon(random, &kinds);
            }
        }
    }

    /// A write that is stuck shows what it can do only if its nexus is lost meanwhile: most lose the port that they are
    /// stuck at, soon.
    fn lose_nexus_soon(&mut self, random: &mut Random, kinds: &[Kind]) {
        let Some(stuck) = self.faults.last().copied().filter(|_| random.percent(COMPANION_PERCENT)) else {
            return;
        };
        let companions = [
            Kind::Reset,
            Kind::Finish,
            Kind::ControllerCrash,
            Kind::OldConnectionLives,
            Kind::HoleDelivered,
            Kind::LoginSevered,
            Kind::ProcessKilled,
        ];
        let at = stuck.at + Duration::from_millis(random.spread(1, 2_000));
        let kind = random.pick(&companions);
        let would_forget = kind == Kind::ProcessKilled && kinds.contains(&Kind::IdentityTwice);
        if at < self.storm && !would_forget {
            // The same chances lead to the same port.
            self.faults.push(PlannedFault { kind, at, ..stuck });
        }
    }

    /// Some faults need digests, some would be hidden by them; some are drawn by themselves.
    fn can_have(&self, kind: Kind) -> bool {
        !kind.is_drawn_apart() && kind.digests().is_none_or(|wanted| wanted == self.digests)
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

    /// Whether what a fence is for can happen.
    pub(crate) fn needs_fences(&self) -> bool {
        matches!(self.profile, Profile::All | Profile::Disjoint | Profile::Control)
    }

    /// Which target a port belongs to.
    pub(crate) fn target_of(&self, port: usize) -> u32 {
        match self.target {
            TargetProfile::TwoGateways => u32::from(group_of(port, self.ports_per_controller).0) - 1,
            _ => 0,
        }
    }

    pub(crate) fn ports(&self) -> usize {
        usize::from(self.controllers) * usize::from(self.ports_per_controller)
    }
}

/// Drawn apart, so that whatever else a seed draws stays what it was before these were there.
fn draw_pace(seed: u64, policy: Policy) -> (Policy, Hedging) {
    let mut random = Random::new(seed ^ LATER_DRAWS);
    let policy = if random.percent(25) { Policy::Latency } else { policy };
    let hedging = match random.percent(40) {
        true => Hedging::On { percent: random.pick(&[2, 2, 10, 50]) },
        false => Hedging::Off,
    };
    (policy, hedging)
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
            hot_blocks: random.pick(&[4, 12, 24]),
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
                Profile::All | Profile::Control | Profile::Calm => Overlaps::Allowed,
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
            "{}, hedging {:?}, no path: {:?}, removal after {:?}, ",
            self.policy, self.hedging, self.no_path, self.delayed_removal
        )?;
        let Ways { multipath, alua, access_changes, path_check } = self.ways;
        write!(f, "multipath {multipath:?}, alua {alua:?} of {access_changes:?}, ")?;
        if let Some(time) = path_check {
            write!(f, "idle paths checked after {time:?}, ")?;
        }
        let fence = match self.fence {
            FencePolicy::Bounded { wait } => format!("bounded by {wait:?}"),
            FencePolicy::Strict => String::from("strict"),
            FencePolicy::Unsafe => String::from("unsafe"),
        };
        write!(f, "target {}, {:?}, fence {fence}, ", self.target, self.sharing)?;
        write!(f, "digests {}, latency {:?}+{:?}, ", self.digests, self.latency, self.jitter)?;
        write!(f, "commands {:?}, {} faults in {:?}", self.command_timeout, self.faults.len(), self.storm)
    }
}
