//! Which of the selectable paths takes the next request.
//!
//! The rules are those of the Linux native multipath policies. Paths stand in order of arrival and every comparison
//! is strict, so the first wins ties. One difference: when only non-optimized paths are there,
//! `round-robin` goes forward through them, where Linux goes backward.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use crate::paths::Path;
use crate::{Access, Node};

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
}

/// The name is none of `numa`, `round-robin`, `queue-depth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPolicy;

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown policy: use numa, round-robin or queue-depth")
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

/// The policy with what it remembers: for each node the position of the path that was chosen last. That path is
/// looked at anew each time, so one that stops being usable is left at once without being forgotten here.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Selection {
    policy: Policy,
    distances: Distances,
    current: Vec<Option<usize>>,
}

impl Selection {
    pub(crate) const fn new(policy: Policy, distances: Distances) -> Self {
        Self { policy, distances, current: Vec::new() }
    }

    pub(crate) const fn policy(&self) -> Policy {
        self.policy
    }

    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.forget_all();
    }

    /// Where the next request goes. `avoid` is the path that failed it last: taken only if there is no other.
    pub(crate) fn choose(&mut self, paths: &[Path], node: Node, avoid: Option<usize>) -> Option<usize> {
        let choice = self.choose_except(paths, node, avoid);
        if choice.is_none() && avoid.is_some() {
            return self.choose_except(paths, node, None);
        }
        choice
    }

    /// Every node searches again: a better path may be there.
    pub(crate) fn forget_all(&mut self) {
        self.current.fill(None);
    }

    /// The path at `position` left the table; those behind it moved up.
    pub(crate) fn removed(&mut self, position: usize) {
        for current in &mut self.current {
            current.take_if(|current| *current == position);
            if let Some(current) = current {
                *current -= usize::from(*current > position);
            }
        }
    }

    fn choose_except(&mut self, paths: &[Path], node: Node, avoid: Option<usize>) -> Option<usize> {
        match self.policy {
            Policy::Numa => self.numa(paths, node, avoid),
            Policy::RoundRobin => self.round_robin(paths, node, avoid),
            Policy::QueueDepth => queue_depth(paths, avoid),
        }
    }

    fn numa(&mut self, paths: &[Path], node: Node, avoid: Option<usize>) -> Option<usize> {
        match self.current(node) {
            Some(current)
                if Some(current) != avoid && paths[current].selectable() == Some(Access::Optimized) =>
            {
                Some(current)
            }
            _ => self.search(paths, node, avoid),
        }
    }

    fn round_robin(&mut self, paths: &[Path], node: Node, avoid: Option<usize>) -> Option<usize> {
        let Some(old) = self.current(node) else { return self.search(paths, node, avoid) };
        let mut other = None;
        for position in (old + 1..paths.len()).chain(0..old) {
            if Some(position) == avoid {
                continue;
            }
            match paths[position].selectable() {
                Some(Access::Optimized) => return self.remember(node, position),
                Some(Access::NonOptimized) if other.is_none() => other = Some(position),
                _ => {}
            }
        }
        let old_access = if Some(old) == avoid { None } else { paths[old].selectable() };
        match (old_access, other) {
            (Some(Access::Optimized), _) | (Some(Access::NonOptimized), None) => Some(old),
            (_, Some(other)) => self.remember(node, other),
            (None, None) => None,
        }
    }

    /// The nearest optimized path, else the nearest non-optimized one.
    fn search(&mut self, paths: &[Path], node: Node, avoid: Option<usize>) -> Option<usize> {
        let mut optimized: Option<(u8, usize)> = None;
        let mut non_optimized: Option<(u8, usize)> = None;
        for (position, path) in paths.iter().enumerate() {
            if Some(position) == avoid {
                continue;
            }
            let nearest = match path.selectable() {
                Some(Access::Optimized) => &mut optimized,
                Some(Access::NonOptimized) => &mut non_optimized,
                None => continue,
            };
            let distance = match (self.policy, path.node) {
                (Policy::Numa, Some(home)) => self.distances.between(node, home),
                _ => LOCAL_DISTANCE,
            };
            if nearest.is_none_or(|(least, _)| distance < least) {
                *nearest = Some((distance, position));
            }
        }
        let (_, position) = optimized.or(non_optimized)?;
        self.remember(node, position)
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
    let mut optimized: Option<(u32, usize)> = None;
    let mut non_optimized: Option<(u32, usize)> = None;
    for (position, path) in paths.iter().enumerate() {
        if Some(position) == avoid {
            continue;
        }
        let depth = path.in_flight;
        let least = match path.selectable() {
            Some(Access::Optimized) if depth == 0 => return Some(position),
            Some(Access::Optimized) => &mut optimized,
            Some(Access::NonOptimized) => &mut non_optimized,
            None => continue,
        };
        if least.is_none_or(|(least, _)| depth < least) {
            *least = Some((depth, position));
        }
    }
    optimized.or(non_optimized).map(|(_, position)| position)
}

const fn cache_slot(node: Node) -> usize {
    let last = NODES_MAX - 1;
    (if node.0 < last { node.0 } else { last }) as usize
}
