//! Which of the selectable paths takes the next request.
//!
//! The rules are those of the Linux native multipath policies. Paths stand in order of arrival and every comparison
//! is strict, so the first wins ties. One difference: when only non-optimized paths are there,
//! `round-robin` goes forward through them, where Linux goes backward.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use clock::{Duration, Instant};

use crate::gather::{Gatherings, Way};
use crate::paths::{Path, Rank};
use crate::{Class, Node};

/// Nodes with a path choice of their own; those above share the last one. What Linux allows on 64-bit machines.
pub const NODES_MAX: u16 = 1024;

/// Distance of a node to itself (ACPI SLIT).
pub const LOCAL_DISTANCE: u8 = 10;

/// Distance of two nodes that nothing more is known about (ACPI SLIT).
pub const REMOTE_DISTANCE: u8 = 20;

/// How a path is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The optimized path nearest to the issuer's NUMA node, and that one only.
    #[default]
    Numa,
    /// Each optimized path in turn.
    RoundRobin,
    /// The optimized path with the fewest requests in flight.
    QueueDepth,
    /// The optimized path on which a request of its class is expected to end first: by what such requests took there
    /// lately, and how many are in flight.
    Latency,
}

/// The name is none of `numa`, `round-robin`, `queue-depth`, `latency`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPolicy;

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown policy: use numa, round-robin, queue-depth or latency")
    }
}

impl core::error::Error for UnknownPolicy {}

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        match name {
            "numa" => Ok(Self::Numa),
            "round-robin" => Ok(Self::RoundRobin),
            "queue-depth" => Ok(Self::QueueDepth),
            "latency" => Ok(Self::Latency),
            _ => Err(UnknownPolicy),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Numa => "numa",
            Self::RoundRobin => "round-robin",
            Self::QueueDepth => "queue-depth",
            Self::Latency => "latency",
        })
    }
}

/// Distances between NUMA nodes, as the machine's SLIT gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Distances {
    nodes: usize,
    table: Box<[u8]>,
}

impl Distances {
    /// `table` holds one row of `nodes` distances for each node. `None` if it is not square.
    #[must_use]
    pub fn new(nodes: u16, table: Box<[u8]>) -> Option<Self> {
        let nodes = usize::from(nodes);
        (table.len() == nodes * nodes).then_some(Self { nodes, table })
    }

    /// [`LOCAL_DISTANCE`] or [`REMOTE_DISTANCE`] for nodes outside the table.
    #[must_use]
    pub fn between(&self, from: Node, to: Node) -> u8 {
        let (row, column) = (usize::from(from.0), usize::from(to.0));
        if row < self.nodes && column < self.nodes {
            return self.table[row * self.nodes + column];
        }
        if from == to { LOCAL_DISTANCE } else { REMOTE_DISTANCE }
    }
}

/// What is to be sent, as far as the choice of its path goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) now: Instant,
    pub(crate) node: Node,
    pub(crate) class: Class,
}

/// The policy with what it remembers: for each node the position of the path that was chosen last. That path is
/// looked at anew each time, so one that stops being usable is left at once without being forgotten here.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Selection {
    policy: Policy,
    distances: Distances,
    current: Vec<Option<usize>>,
    /// `latency`: whether requests go together, and what the last ones were put together on.
    gatherings: Gatherings,
    batch: Option<Batch>,
    /// When the last request was sent that may not be sent twice.
    wrote: Option<Instant>,
}

/// Requests that go one way for a while: what is sent and answered together costs one system call and one interrupt, not
/// one for each path.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
struct Batch {
    position: usize,
    since: Instant,
    /// When it was last looked whether they still do well there, and how many have been sent since.
    at: Instant,
    requests: u32,
    /// How many may be, one after the other, before the path is too far ahead of another.
    room: u32,
}

/// So long it is not looked again at all paths for each request: less than any request takes.
const AT_ONCE: Duration = Duration::from_micros(50);
/// While nothing but reads is sent the next path has its turn after so long: rarely enough that the first requests of a turn,
/// which are few at a time, cost nothing. All that is in flight lies on one path then. Should that fall silent, it is
/// noticed soon, and reads are sent once more on another one.
pub(crate) const STRETCH_OF_READS: Duration = Duration::from_millis(20);
/// Writes that lie on a silent path stay there until it is known to be lost, and may be all that a user sends. While there are
/// any the next path has its turn no later than requests take, so that what is in flight lies on several paths.
pub(crate) const STRETCH: Duration = Duration::from_micros(100);
/// For the same reason one path has no more than three quarters of all that is in flight, so that a user who waits for
/// answers before sending on gets some from elsewhere.
const SHARE_MAX: [u32; 2] = [3, 4];
/// So many more reads than another path may one have: fewer than targets take of one session at a time, or they would wait
/// while another path is free.
const AHEAD_OF_READS_MAX: u32 = 64;
/// A request may be expected to wait so much longer for being sent together with others: more than it does behind 32 small
/// ones at a fast target, less than behind them on a link that is full.
const SLACK_NANOS: u64 = 1_000_000;
/// So small a part more says nothing: such paths are taken in turn.
const UNSURE: u64 = 8;

impl Selection {
    pub(crate) fn new(policy: Policy, distances: Distances) -> Self {
        Self {
            policy,
            distances,
            current: Vec::new(),
            gatherings: Gatherings::default(),
            batch: None,
            wrote: None,
        }
    }

    pub(crate) const fn policy(&self) -> Policy {
        self.policy
    }

    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.forget_all();
    }

    /// Where the next request goes. `avoid` is the path that failed it last: taken only if there is no other.
    #[inline]
    pub(crate) fn choose(&mut self, paths: &[Path], wanted: Wanted, avoid: Option<usize>) -> Option<usize> {
        let choice = self.choose_except(paths, wanted, avoid);
        if choice.is_none() && avoid.is_some() {
            return self.choose_except(paths, wanted, None);
        }
        choice
    }

    /// Every node searches again: a better path may be there.
    pub(crate) fn forget_all(&mut self) {
        self.current.fill(None);
        self.batch = None;
    }

    /// A request has come back on whichever path.
    #[inline]
    pub(crate) fn learn(&mut self, now: Instant, class: Class) {
        if self.policy == Policy::Latency {
            self.gatherings.record(now, class);
        }
    }

    /// The path at `position` left the table; those behind it moved up.
    pub(crate) fn removed(&mut self, position: usize) {
        self.batch = None;
        for current in &mut self.current {
            current.take_if(|current| *current == position);
            if let Some(current) = current {
                *current -= usize::from(*current > position);
            }
        }
    }

    /// The same, but none rather than `avoid`.
    #[inline]
    pub(crate) fn choose_except(
        &mut self,
        paths: &[Path],
        wanted: Wanted,
        avoid: Option<usize>,
    ) -> Option<usize> {
        match self.policy {
            Policy::Numa => self.numa(paths, wanted.node, avoid),
            Policy::RoundRobin => self.round_robin(paths, wanted.node, avoid),
            Policy::QueueDepth => queue_depth(paths, avoid),
            Policy::Latency => self.latency(paths, wanted, avoid),
        }
    }

    #[inline]
    fn latency(&mut self, paths: &[Path], wanted: Wanted, avoid: Option<usize>) -> Option<usize> {
        if !wanted.class.is_read() {
            self.wrote = Some(wanted.now);
        }
        let way = self.gatherings.way(wanted.class);
        if way == Way::Together
            && let Some(batch) = &mut self.batch
            && wanted.now.since(batch.at) < AT_ONCE
            && batch.requests < batch.room
            && Some(batch.position) != avoid
            && paths[batch.position].rank() == Some(Rank::Optimized)
        {
            batch.requests += 1;
            return Some(batch.position);
        }
        let unmeasured = unmeasured_turn(paths, wanted);
        let best = best_of(paths, avoid, |path| expected(path, wanted, unmeasured))?;
        if way == Way::Apart {
            return Some(best);
        }
        let limit = expected(&paths[best], wanted, unmeasured).saturating_add(SLACK_NANOS);
        let rank = paths[best].rank();
        let writes = self.wrote.is_some_and(|at| wanted.now.since(at) < STRETCH_OF_READS);
        let stretch = if writes { STRETCH } else { STRETCH_OF_READS };
        let depths = paths.iter().filter(|path| path.rank() == rank).map(|path| path.in_flight);
        let depth_max = if writes {
            ((depths.sum::<u32>() + 1) * SHARE_MAX[0] / SHARE_MAX[1]).max(1)
        } else {
            depths.min().unwrap_or_default().saturating_add(AHEAD_OF_READS_MAX)
        };
        let will_do = |position: usize| {
            let path = &paths[position];
            Some(position) != avoid
                && path.rank() == rank
                && path.in_flight < depth_max
                && expected(path, wanted, unmeasured) <= limit
        };
        let goes_on = |batch: &Batch| wanted.now.since(batch.since) < stretch && will_do(batch.position);
        let (position, since) = match self.batch.filter(goes_on) {
            Some(batch) => (batch.position, batch.since),
            None => (self.next_in_turn(paths, wanted, will_do).unwrap_or(best), wanted.now),
        };
        let room = depth_max.saturating_sub(paths[position].in_flight);
        self.batch = Some(Batch { position, since, at: wanted.now, requests: 1, room });
        Some(position)
    }

    /// The next of the paths that are about as fast as any, whatever is in flight on them now: what is idle after the
    /// others' turn is not faster for that.
    fn next_in_turn(&self, paths: &[Path], wanted: Wanted, will_do: impl Fn(usize) -> bool) -> Option<usize> {
        let turn = |position: usize| paths[position].gauge.turn(wanted.now, wanted.class).unwrap_or_default();
        let mean = |position: usize| paths[position].gauge.mean(wanted.class).map_or(0, Duration::as_nanos);
        let candidates = || (0..paths.len()).filter(|position| will_do(*position));
        let least_of = |time: &dyn Fn(usize) -> u64| candidates().map(time).filter(|time| *time > 0).min();
        let (turn_min, mean_min) = (least_of(&turn).unwrap_or_default(), least_of(&mean).unwrap_or_default());
        // By either measure: the deeper a path is used, the longer the one and the shorter the other.
        let is_as_fast = |position: &usize| {
            turn(*position) <= turn_min + turn_min / UNSURE || mean(*position) <= mean_min + mean_min / UNSURE
        };
        let last = self.batch.map(|batch| batch.position);
        let next = candidates().filter(is_as_fast).find(|position| Some(*position) > last);
        next.or_else(|| candidates().find(is_as_fast))
    }

    fn numa(&mut self, paths: &[Path], node: Node, avoid: Option<usize>) -> Option<usize> {
        match self.current(node) {
            Some(current) if Some(current) != avoid && paths[current].rank() == Some(Rank::Optimized) => {
                Some(current)
            }
            _ => self.search(paths, node, avoid),
        }
    }

    fn round_robin(&mut self, paths: &[Path], node: Node, avoid: Option<usize>) -> Option<usize> {
        let Some(old) = self.current(node) else { return self.search(paths, node, avoid) };
        let mut other: Option<(Rank, usize)> = None;
        for position in (old + 1..paths.len()).chain(0..old) {
            if Some(position) == avoid {
                continue;
            }
            match paths[position].rank() {
                Some(Rank::Optimized) => return self.remember(node, position),
                Some(rank) if other.is_none_or(|(best, _)| rank < best) => other = Some((rank, position)),
                _ => {}
            }
        }
        let old_rank = if Some(old) == avoid { None } else { paths[old].rank() };
        match (old_rank, other) {
            (Some(rank), Some((best, _))) if rank < best => Some(old),
            (_, Some((_, other))) => self.remember(node, other),
            (Some(_), None) => Some(old),
            (None, None) => None,
        }
    }

    /// The nearest of the best.
    fn search(&mut self, paths: &[Path], node: Node, avoid: Option<usize>) -> Option<usize> {
        let distance = |path: &Path| match self.policy {
            Policy::Numa => self.distance(path, node),
            _ => LOCAL_DISTANCE,
        };
        let position = best_of(paths, avoid, |path| u64::from(distance(path)))?;
        self.remember(node, position)
    }

    /// A path without a node is as near as can be.
    pub(crate) fn distance(&self, path: &Path, node: Node) -> u8 {
        path.node.map_or(LOCAL_DISTANCE, |home| self.distances.between(node, home))
    }

    fn current(&self, node: Node) -> Option<usize> {
        self.current.get(cache_slot(node)).copied().flatten()
    }

    fn remember(&mut self, node: Node, position: usize) -> Option<usize> {
        let slot = cache_slot(node);
        if slot >= self.current.len() {
            self.current.resize(slot + 1, None);
        }
        self.current[slot] = Some(position);
        Some(position)
    }
}

fn queue_depth(paths: &[Path], avoid: Option<usize>) -> Option<usize> {
    let mut best: Option<(Rank, u32, usize)> = None;
    for (position, path) in paths.iter().enumerate() {
        if Some(position) == avoid {
            continue;
        }
        let Some(rank) = path.rank() else { continue };
        let depth = path.in_flight;
        if rank == Rank::Optimized && depth == 0 {
            return Some(position);
        }
        if best.is_none_or(|(best, least, _)| (rank, depth) < (best, least)) {
            best = Some((rank, depth, position));
        }
    }
    best.map(|(_, _, position)| position)
}

/// What a request has to count with on a path, in nanoseconds.
#[inline]
fn expected(path: &Path, wanted: Wanted, unmeasured: u64) -> u64 {
    let turn = path.gauge.turn(wanted.now, wanted.class).unwrap_or(unmeasured);
    // What nothing comes back from may take as long again.
    turn.saturating_mul(u64::from(path.in_flight) + 1).max(path.silence(wanted.now).as_nanos())
}

/// A path that nothing is known of counts twice as good as the best that something is known of: so it is tried, and known
/// then.
fn unmeasured_turn(paths: &[Path], wanted: Wanted) -> u64 {
    let turns = paths.iter().filter(|path| path.rank().is_some());
    let best = turns.filter_map(|path| path.gauge.turn(wanted.now, wanted.class)).min();
    best.map_or(1, |best| best / 2)
}

/// When a request is expected to end on a path, as [`Policy::Latency`] reckons.
pub(crate) fn expectation(paths: &[Path], position: usize, wanted: Wanted) -> Duration {
    Duration::from_nanos(expected(&paths[position], wanted, unmeasured_turn(paths, wanted)))
}

/// The first of the best ranked with the least cost.
#[inline]
fn best_of(paths: &[Path], avoid: Option<usize>, cost: impl Fn(&Path) -> u64) -> Option<usize> {
    let mut best: Option<(Rank, u64, usize)> = None;
    for (position, path) in paths.iter().enumerate() {
        if Some(position) == avoid {
            continue;
        }
        let Some(rank) = path.rank() else { continue };
        if best.is_some_and(|(best, ..)| best < rank) {
            continue;
        }
        let cost = cost(path);
        if best.is_none_or(|(best, least, _)| (rank, cost) < (best, least)) {
            best = Some((rank, cost, position));
        }
    }
    best.map(|(_, _, position)| position)
}

const fn cache_slot(node: Node) -> usize {
    let last = NODES_MAX - 1;
    (if node.0 < last { node.0 } else { last }) as usize
}
