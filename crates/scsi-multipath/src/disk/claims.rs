//! Which bytes writes have taken: one write at a time touches a byte, from its admission until nothing is left of it.
//!
//! A write that overlaps another one waits for it. Without that, a repeated write could undo a younger one that had
//! overtaken it. A claim whose write was left in doubt on a lost path outlives its request: it is in quarantine
//! until every fence that is about it has ended.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Writes that are on their way or in quarantine. Above it new ones wait. What one session has in flight is at most
/// a thousand, so that this is what more than ten lost paths can leave behind at once.
pub(super) const CLAIMS_MAX: usize = 16_384;

/// Bytes of the disk, from `start` to before `end`. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// The claims of writes of one disk, and the writes that wait for theirs. `W` is a write that waits.
#[derive(Debug)]
pub(super) struct Claims<W> {
    /// In order; none overlaps another.
    taken: Vec<Claim>,
    /// In order of arrival. A write waits also for older ones that wait, so that none waits for ever.
    waiting: VecDeque<(Extent, W)>,
    /// Reasons for which no write may begin at all.
    closed: usize,
    /// A claim was given up since [`Claims::admit`] last looked.
    has_room: bool,
}

#[derive(Debug)]
struct Claim {
    extent: Extent,
    /// Its request is not over.
    is_open: bool,
    /// Copies of unknown fate, as many as fences are about them.
    doubts: u32,
}

impl Extent {
    pub(super) fn new(offset: u64, length: u32) -> Self {
        debug_assert!(length > 0, "a write of nothing is never begun");
        Self { start: offset, end: offset.saturating_add(length.into()) }
    }

    const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

impl<W> Claims<W> {
    pub(super) const fn new() -> Self {
        Self { taken: Vec::new(), waiting: VecDeque::new(), closed: 0, has_room: false }
    }

    /// Takes the extent for a write, or keeps the write until it can have it.
    pub(super) fn take(&mut self, extent: Extent, write: W) -> Option<W> {
        let is_behind = self.waiting.iter().any(|(older, _)| older.overlaps(extent));
        match self.place(extent) {
            Some(place) if !is_behind => {
                self.taken.insert(place, Claim { extent, is_open: true, doubts: 0 });
                Some(write)
            }
            _ => {
                self.waiting.push_back((extent, write));
                None
            }
        }
    }

    /// A copy of the write may still take effect. Ends with one [`Claims::settled`].
    pub(super) fn doubt(&mut self, extent: Extent) {
        if let Some(claim) = self.claim_mut(extent.start) {
            claim.doubts += 1;
        }
    }

    /// Nothing is left of a copy that was in doubt.
    pub(super) fn settled(&mut self, extent: Extent) {
        if let Some(claim) = self.claim_mut(extent.start) {
            claim.doubts = claim.doubts.saturating_sub(1);
            self.give_up(extent.start);
        }
    }

    /// The request is over. Its claim stays as long as it is in doubt.
    pub(super) fn ended(&mut self, extent: Extent) {
        if let Some(claim) = self.claim_mut(extent.start) {
            claim.is_open = false;
            self.give_up(extent.start);
        }
    }

    pub(super) fn is_in_doubt(&self, extent: Extent) -> bool {
        self.position(extent.start).is_ok_and(|place| self.taken[place].doubts > 0)
    }

    /// No write begins until this was undone as often.
    pub(super) const fn close(&mut self) {
        self.closed += 1;
    }

    pub(super) const fn reopen(&mut self) {
        self.closed = self.closed.saturating_sub(1);
        self.has_room = true;
    }

    /// Writes that waited and may begin now: they have their claims.
    pub(super) fn admit(&mut self) -> Vec<W> {
        if !core::mem::take(&mut self.has_room) || self.waiting.is_empty() {
            return Vec::new();
        }
        let mut admitted = Vec::new();
        let mut still: VecDeque<(Extent, W)> = VecDeque::new();
        for (extent, write) in core::mem::take(&mut self.waiting) {
            match self.place(extent) {
                Some(place) if !still.iter().any(|(older, _)| older.overlaps(extent)) => {
                    self.taken.insert(place, Claim { extent, is_open: true, doubts: 0 });
                    admitted.push(write);
                }
                _ => still.push_back((extent, write)),
            }
        }
        self.waiting = still;
        admitted
    }

    /// The writes that wait, without their claims: nobody will begin them.
    pub(super) fn dismiss(&mut self) -> impl Iterator<Item = W> + use<W> {
        core::mem::take(&mut self.waiting).into_iter().map(|(_, write)| write)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Where the claim would stand; none if it cannot be had now.
    fn place(&self, extent: Extent) -> Option<usize> {
        if self.closed > 0 || self.taken.len() >= CLAIMS_MAX {
            return None;
        }
        let place = self.taken.partition_point(|claim| claim.extent.end <= extent.start);
        match self.taken.get(place) {
            Some(next) if next.extent.overlaps(extent) => None,
            _ => Some(place),
        }
    }

    fn position(&self, start: u64) -> Result<usize, usize> {
        self.taken.binary_search_by_key(&start, |claim| claim.extent.start)
    }

    fn claim_mut(&mut self, start: u64) -> Option<&mut Claim> {
        let place = self.position(start).ok();
        debug_assert!(place.is_some(), "a claim is there until its request and its doubts are over");
        self.taken.get_mut(place?)
    }

    fn give_up(&mut self, start: u64) {
        let Ok(place) = self.position(start) else { return };
        if !self.taken[place].is_open && self.taken[place].doubts == 0 {
            self.taken.remove(place);
            self.has_room = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn extent(start: u64, end: u64) -> Extent {
        Extent { start, end }
    }

    #[test]
    fn a_write_waits_for_the_one_that_it_overlaps_by_one_byte() {
        let mut claims = Claims::new();
        assert_eq!(claims.take(extent(0, 8), 'a'), Some('a'));
        assert_eq!(claims.take(extent(8, 16), 'b'), Some('b'));
        assert_eq!(claims.take(extent(7, 8), 'c'), None);
        assert_eq!(claims.admit(), []);
        claims.ended(extent(0, 8));
        assert_eq!(claims.admit(), ['c']);
    }

    #[test]
    fn a_claim_in_doubt_outlives_its_request_until_every_fence_has_ended() {
        let mut claims = Claims::new();
        claims.take(extent(0, 8), 'a');
        claims.doubt(extent(0, 8));
        claims.doubt(extent(0, 8));
        claims.ended(extent(0, 8));
        assert_eq!(claims.take(extent(4, 12), 'b'), None);
        claims.settled(extent(0, 8));
        assert_eq!(claims.admit(), []);
        claims.settled(extent(0, 8));
        assert_eq!(claims.admit(), ['b']);
    }

    #[test]
    fn a_fence_that_ends_before_the_request_leaves_the_claim_to_the_request() {
        let mut claims = Claims::new();
        claims.take(extent(0, 8), 'a');
        claims.doubt(extent(0, 8));
        claims.settled(extent(0, 8));
        assert_eq!(claims.take(extent(0, 8), 'b'), None);
        claims.ended(extent(0, 8));
        assert_eq!(claims.admit(), ['b']);
    }

    #[test]
    fn a_long_write_is_not_overtaken_by_short_ones_without_end() {
        let mut claims = Claims::new();
        claims.take(extent(0, 4), 'a');
        claims.take(extent(4, 8), 'b');
        assert_eq!(claims.take(extent(0, 8), 'c'), None);
        claims.ended(extent(0, 4));
        assert_eq!(claims.take(extent(0, 4), 'd'), None, "the long write waits for it");
        claims.ended(extent(4, 8));
        assert_eq!(claims.admit(), ['c']);
        claims.ended(extent(0, 8));
        assert_eq!(claims.admit(), ['d']);
    }

    #[test]
    fn nothing_begins_while_the_disk_is_closed() {
        let mut claims = Claims::new();
        claims.close();
        claims.close();
        assert_eq!(claims.take(extent(0, 8), 'a'), None);
        claims.reopen();
        assert_eq!(claims.admit(), []);
        claims.reopen();
        assert_eq!(claims.admit(), ['a']);
    }

    #[test]
    fn at_its_bound_new_writes_wait() {
        let mut claims = Claims::new();
        for number in 0..CLAIMS_MAX as u64 {
            assert!(claims.take(extent(number * 8, number * 8 + 8), number).is_some());
        }
        let beyond = CLAIMS_MAX as u64 * 8;
        assert_eq!(claims.take(extent(beyond, beyond + 8), 7), None);
        claims.ended(extent(16, 24));
        assert_eq!(claims.admit(), [7]);
    }

    proptest::proptest! {
        /// Against a model that knows each byte: who holds it.
        #[test]
        fn no_byte_is_ever_held_twice(steps in proptest::collection::vec((0_u8..4, 0_u64..24, 1_u64..6), 1..200)) {
            let mut claims = Claims::new();
            let (mut open, mut doubtful) = (Vec::<Extent>::new(), Vec::<Extent>::new());
            for (what, start, length) in steps {
                match what {
                    0 | 1 => {
                        let extent = extent(start, start + length);
                        open.extend(claims.take(extent, extent));
                    }
                    2 if !open.is_empty() => {
                        let extent = open.swap_remove(usize::try_from(start).unwrap() % open.len());
                        if length % 2 == 0 {
                            claims.doubt(extent);
                            doubtful.push(extent);
                        }
                        claims.ended(extent);
                    }
                    3 if !doubtful.is_empty() => {
                        claims.settled(doubtful.swap_remove(usize::try_from(start).unwrap() % doubtful.len()));
                    }
                    _ => {}
                }
                open.extend(claims.admit());
                let held: Vec<Extent> = open.iter().chain(&doubtful).copied().collect();
                for (number, one) in held.iter().enumerate() {
                    assert!(held[number + 1..].iter().all(|other| !one.overlaps(*other)), "{held:?}");
                }
                let first = claims.waiting.front().map(|(extent, _)| *extent);
                assert!(first.is_none_or(|first| held.iter().any(|each| each.overlaps(first))), "it waits for nothing");
            }
        }
    }
}
