//! Which processors what runs on: a target that shares them with the programs that use it is measured with them.

use std::fmt;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Of this machine's processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cpus {
    /// The target has half of them, as if it stood somewhere else, and everybody else the other half.
    Apart,
    /// The kernel decides what runs where.
    Shared,
}

/// Who is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Target,
    User,
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apart => "target on processors of its own",
            Self::Shared => "target on the same processors",
        })
    }
}

impl Cpus {
    /// What is started meanwhile stays on its side's processors.
    pub(crate) fn run<T>(self, side: Side, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let all = sched_getaffinity(None).context("which processors there are")?;
        let Some(half) = self.half(&all, side) else { return work() };
        sched_setaffinity(None, &half).context("processors of one side")?;
        let outcome = work();
        sched_setaffinity(None, &all).context("all processors")?;
        outcome
    }

    /// None if everybody has them all.
    fn half(self, all: &CpuSet, side: Side) -> Option<CpuSet> {
        let present: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
        let (users, targets) = present.split_at(present.len() / 2);
        if self == Self::Shared || users.is_empty() {
            return None;
        }
        let mut half = CpuSet::new();
        let chosen = if side == Side::Target { targets } else { users };
        chosen.iter().for_each(|cpu| half.set(*cpu));
        Some(half)
    }
}
