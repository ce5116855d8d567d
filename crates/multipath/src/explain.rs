//! Why a request would take one path and not another.

use alloc::vec::Vec;

use clock::{Duration, Instant};
use core::cmp::Ordering;
use core::fmt;

use crate::paths::{Path, Rank};
use crate::policy::{Wanted, expectation};
use crate::{Class, Head, Health, Node, PathId, PathState, Policy};

/// What a path has to do with the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained {
    pub path: PathId,
    pub why: Why,
}

/// Why the next request takes a path, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Chosen,
    /// It is not usable now.
    NotUsable(PathState),
    /// It failed requests, and is left alone until then.
    BackedOff {
        until: Instant,
    },
    /// It failed requests, and is being tried.
    OnTrial,
    /// It is far slower than others.
    Slow,
    /// It is not optimized, and another one is.
    NonOptimized,
    /// `numa`: another one is nearer to the issuer (ACPI SLIT distances).
    Farther {
        distance: u8,
        nearest: u8,
    },
    /// `queue-depth`: it has more requests in flight than the chosen one.
    Deeper {
        in_flight: u32,
        least: u32,
    },
    /// `latency`: a request would be expected to end later on it.
    Later {
        expected: Duration,
        least: Duration,
    },
    /// `latency`: requests go together on the chosen one for a while, which is no better.
    Together,
    /// It is as good as the chosen one, which comes first.
    NotItsTurn,
}

impl<R> Head<R> {
    /// Why each path would or would not take the next request of this class, issued on `node`; in order of arrival.
    /// Nothing changes by asking.
    #[must_use]
    pub fn explain(&self, now: Instant, node: Node, class: Class) -> Vec<Explained> {
        let wanted = Wanted { now, node, class };
        let paths = self.paths.present();
        let chosen = self.selection.clone().choose(paths, wanted, None);
        let why = |position: usize, path: &Path| match chosen {
            Some(chosen) if chosen == position => Why::Chosen,
            Some(chosen) => self.why_not(paths, position, chosen, wanted),
            None => unusable(path).unwrap_or(Why::NotItsTurn),
        };
        let each = paths.iter().enumerate();
        each.map(|(position, path)| Explained { path: path.id, why: why(position, path) }).collect()
    }

    fn why_not(&self, paths: &[Path], position: usize, chosen: usize, wanted: Wanted) -> Why {
        let (path, chosen_path) = (&paths[position], &paths[chosen]);
        if let Some(why) = unusable(path) {
            return why;
        }
        if path.rank() != chosen_path.rank() {
            return if path.rank() == Some(Rank::LastResort) { Why::Slow } else { Why::NonOptimized };
        }
        match self.selection.policy() {
            Policy::Numa => {
                let distance = self.selection.distance(path, wanted.node);
                let nearest = self.selection.distance(chosen_path, wanted.node);
                if distance > nearest { Why::Farther { distance, nearest } } else { Why::NotItsTurn }
            }
            Policy::QueueDepth if path.in_flight > chosen_path.in_flight => {
                Why::Deeper { in_flight: path.in_flight, least: chosen_path.in_flight }
            }
            Policy::Latency => {
                let expected = expectation(paths, position, wanted);
                let least = expectation(paths, chosen, wanted);
                match expected.cmp(&least) {
                    Ordering::Greater => Why::Later { expected, least },
                    Ordering::Equal => Why::NotItsTurn,
                    Ordering::Less => Why::Together,
                }
            }
            Policy::RoundRobin | Policy::QueueDepth => Why::NotItsTurn,
        }
    }
}

/// Why a path can take nothing, if it cannot.
const fn unusable(path: &Path) -> Option<Why> {
    match (path.state, path.health) {
        (PathState::Waiting | PathState::Down, _) => Some(Why::NotUsable(path.state)),
        (_, Health::BackedOff { until, .. }) => Some(Why::BackedOff { until }),
        (_, Health::OnTrial { .. }) => Some(Why::OnTrial),
        (_, Health::Good { .. } | Health::TrialDue { .. }) => None,
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen => f.write_str("takes it"),
            Self::NotUsable(state) => write!(f, "is {state}"),
            Self::BackedOff { .. } => f.write_str("failed requests and is left alone for a while"),
            Self::OnTrial => f.write_str("failed requests and is being tried"),
            Self::Slow => f.write_str("is far slower than others"),
            Self::NonOptimized => f.write_str("is not optimized, and another path is"),
            Self::Farther { distance, nearest } => {
                write!(f, "is farther from the issuer: distance {distance}, not {nearest}")
            }
            Self::Deeper { in_flight, least } => write!(f, "has {in_flight} requests in flight, not {least}"),
            Self::Later { expected, least } => {
                write!(f, "would take about {expected:?}, not {least:?}")
            }
            Self::Together => f.write_str("is no worse, but requests go together on another one for a while"),
            Self::NotItsTurn => f.write_str("is as good, and another one comes first"),
        }
    }
}
