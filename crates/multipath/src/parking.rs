//! Requests that wait: for a path (parked), or for a pause before their re-send to be over.
//!
//! Both are kept by place in the order of submission, so that whatever starts next is the oldest that may.

use alloc::collections::BTreeMap;
use clock::Instant;

use crate::{Kind, Node, PathId};

/// A request that waits, with what its next ticket needs.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Waiting<R> {
    pub(crate) node: Node,
    pub(crate) kind: Kind,
    /// Starts so far.
    pub(crate) attempts: u32,
    /// The path that failed it last, if its last end was a failure.
    pub(crate) avoid: Option<PathId>,
    pub(crate) request: R,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Parking<R> {
    parked: BTreeMap<u64, Waiting<R>>,
    pausing: BTreeMap<(Instant, u64), Waiting<R>>,
}

impl<R> Parking<R> {
    pub(crate) const fn new() -> Self {
        Self { parked: BTreeMap::new(), pausing: BTreeMap::new() }
    }

    /// All that wait, for whatever reason.
    pub(crate) fn len(&self) -> usize {
        self.parked.len() + self.pausing.len()
    }

    pub(crate) fn parked(&self) -> usize {
        self.parked.len()
    }

    pub(crate) fn pausing(&self) -> usize {
        self.pausing.len()
    }

    pub(crate) fn none_parked(&self) -> bool {
        self.parked.is_empty()
    }

    pub(crate) fn holds_parked(&self, sequence: u64) -> bool {
        self.parked.contains_key(&sequence)
    }

    pub(crate) fn park(&mut self, sequence: u64, waiting: Waiting<R>) {
        let twin = self.parked.insert(sequence, waiting);
        debug_assert!(twin.is_none(), "a sequence number names one request");
    }

    pub(crate) fn pause(&mut self, until: Instant, sequence: u64, waiting: Waiting<R>) {
        let twin = self.pausing.insert((until, sequence), waiting);
        debug_assert!(twin.is_none(), "a sequence number names one request");
    }

    /// Node, kind and path to avoid of the request that starts next.
    pub(crate) fn oldest(&self) -> Option<(Node, Kind, Option<PathId>)> {
        self.parked.first_key_value().map(|(_, waiting)| (waiting.node, waiting.kind, waiting.avoid))
    }

    pub(crate) fn take_oldest(&mut self) -> Option<(u64, Waiting<R>)> {
        self.parked.pop_first()
    }

    /// Parked requests before pausing ones: a pause says that the request's turn may come later.
    pub(crate) fn take_youngest(&mut self) -> Option<Waiting<R>> {
        let youngest = self.parked.pop_last().map(|(_, waiting)| waiting);
        youngest.or_else(|| self.pausing.pop_last().map(|(_, waiting)| waiting))
    }

    /// Ends of pauses that have come by `now` make their requests parked ones.
    pub(crate) fn end_pauses(&mut self, now: Instant) {
        while let Some(entry) = self.pausing.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let ((_, sequence), waiting) = entry.remove_entry();
            self.park(sequence, waiting);
        }
    }

    pub(crate) fn end_all_pauses(&mut self) {
        self.end_pauses(Instant::from_nanos(u64::MAX));
    }

    pub(crate) fn next_pause(&self) -> Option<Instant> {
        self.pausing.first_key_value().map(|((until, _), _)| *until)
    }
}
