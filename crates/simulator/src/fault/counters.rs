//! How often each kind has begun, and how often it met something.

use std::collections::BTreeMap;

use super::Kind;

#[derive(Clone, Debug, Default)]
pub struct FaultCounters {
    counts: BTreeMap<Kind, (u64, u64)>,
}

impl FaultCounters {
    pub(crate) fn begun(&mut self, kind: Kind) {
        self.counts.entry(kind).or_default().0 += 1;
    }

    pub(crate) fn struck(&mut self, kind: Kind, times: u64) {
        self.counts.entry(kind).or_default().1 += times;
    }

    pub fn add(&mut self, other: &Self) {
        for (kind, (begun, struck)) in &other.counts {
            let count = self.counts.entry(*kind).or_default();
            count.0 += begun;
            count.1 += struck;
        }
    }

    /// Kind, times begun, times it met something.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, u64, u64)> {
        Kind::ALL.iter().map(|kind| {
            let (begun, struck) = self.counts.get(kind).copied().unwrap_or_default();
            (*kind, begun, struck)
        })
    }
}
