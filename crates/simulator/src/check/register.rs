//! Each block of a logical unit behaves as one register, as clients see it.
//!
//! Stamps differ, so a history can be judged exactly (Gibbons and Korach, "Testing Shared Memories", 1997): a write
//! and the reads that returned it form a cluster; the span between its earliest end and its latest beginning is a zone.
//! If the end comes first (a forward zone) the value was the current one throughout the zone: no other forward zone may
//! overlap it, and no other cluster may lie wholly within it. Zeros come from many writes, so that a read of zeros is
//! only asked whether some origin of zeros was not surely overwritten before it began.
//!
//! A write that failed or was never answered may take effect at any time after it began.
//!
//! When a cache is lost, a block may go back to what it held before. That ends an era of the block: what survived is
//! its first value in the next one, and each era is judged by itself. What was acknowledged and lost does not come back,
//! unless a fence was open: a late copy of it may then bring it back before anything newer is written.

use std::collections::BTreeMap;

use super::ledger::{Change, Ledger, Moment, Write};
use crate::stamp::{BlockAt, Content, WriteId};

/// What a read returned for one block.
#[derive(Clone, Copy, Debug)]
struct Seen {
    content: Content,
    began: Moment,
    ended: Moment,
}

#[derive(Debug, Default)]
pub(crate) struct RegisterCheck {
    seen: BTreeMap<BlockAt, Vec<Seen>>,
    losses: BTreeMap<BlockAt, Vec<Loss>>,
}

/// A block went back to what it held before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    pub(crate) moment: Moment,
    pub(crate) kept: Content,
    /// A copy of what was lost may still be executed.
    pub(crate) can_return: bool,
}

/// The time of a block between two losses.
#[derive(Clone, Copy, Debug)]
struct Era {
    start: Moment,
    /// What it began with, if it began with a loss.
    survivor: Option<Content>,
    /// What was lost before it may come back.
    can_return: bool,
    end: Moment,
}

/// A write as it counts in one era.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: WriteId,
    change: Change,
    began: Moment,
    /// None if it may take effect at any time after it began, or never.
    acknowledged: Option<Moment>,
}

/// A write and the reads that returned it.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    id: WriteId,
    earliest_end: Moment,
    latest_beginning: Moment,
}

/// After everything.
const NEVER: Moment = Moment(u64::MAX);

impl RegisterCheck {
    /// Takes what a read returned for one block. What nobody can have written there is said at once.
    pub(crate) fn read(
        &mut self,
        ledger: &Ledger,
        at: BlockAt,
        content: Content,
        began: Moment,
        ended: Moment,
    ) -> Result<(), String> {
        match content {
            Content::Garbage => return Err(format!("a read of {at} returned what nobody wrote there")),
            Content::Write(id) => match ledger.get(id) {
                Some(write) if write.covers(at) && write.began < ended => {}
                _ => return Err(format!("a read of {at} returned {id}, which was not written there")),
            },
            Content::Zero => {}
        }
        self.seen.entry(at).or_default().push(Seen { content, began, ended });
        Ok(())
    }

    /// A block holds something older again.
    pub(crate) fn lost(&mut self, at: BlockAt, loss: Loss) {
        self.losses.entry(at).or_default().push(loss);
    }

    /// Judges everything that was read.
    pub(crate) fn judge(&self, ledger: &Ledger) -> Result<(), String> {
        let mut writes: BTreeMap<BlockAt, Vec<WriteId>> = BTreeMap::new();
        for (id, write) in ledger.writes() {
            for at in write.blocks() {
                writes.entry(at).or_default().push(id);
            }
        }
        for (at, seen) in &self.seen {
            let of_block = writes.get(at).map_or(&[][..], Vec::as_slice);
            let losses = self.losses.get(at).map_or(&[][..], Vec::as_slice);
            for era in eras(losses) {
                let known = era.known(ledger, of_block);
                let seen: Vec<Seen> = seen.iter().filter(|seen| era.contains(seen)).copied().collect();
                judge_stamps(&known, &seen).map_err(|text| format!("block {at}: {text}"))?;
                judge_zeros(&known, &seen).map_err(|text| format!("block {at}: {text}"))?;
            }
        }
        Ok(())
    }
}

fn eras(losses: &[Loss]) -> impl Iterator<Item = Era> {
    let first = Era { start: Moment(0), survivor: None, can_return: false, end: NEVER };
    let eras = std::iter::once(first).chain(losses.iter().map(|loss| Era {
        start: loss.moment,
        survivor: Some(loss.kept),
        can_return: loss.can_return,
        end: NEVER,
    }));
    let ends = losses.iter().map(|loss| loss.moment).chain(std::iter::once(NEVER));
    eras.zip(ends).map(|(era, end)| Era { end, ..era })
}

impl Era {
    /// What was read while the block went back says nothing.
    fn contains(&self, seen: &Seen) -> bool {
        seen.began >= self.start && seen.ended <= self.end
    }

    fn known(&self, ledger: &Ledger, writes: &[WriteId]) -> Vec<Known> {
        let zeros = (self.survivor == Some(Content::Zero)).then_some(Known {
            id: WriteId(0),
            change: Change::Zero,
            began: self.start,
            acknowledged: Some(self.start),
        });
        let writes = writes.iter().filter_map(|id| self.known_write(*id, ledger.get(*id)?));
        writes.chain(zeros).collect()
    }

    fn known_write(&self, id: WriteId, write: &Write) -> Option<Known> {
        let Write { change, began, ended, .. } = *write;
        let acknowledged = ended.acknowledged().filter(|at| *at < self.end);
        if began > self.end {
            return None;
        }
        if began >= self.start {
            return Some(Known { id, change, began, acknowledged });
        }
        if self.survivor == Some(Content::Write(id)) {
            return Some(Known { id, change, began: self.start, acknowledged: Some(self.start) });
        }
        // What was acknowledged before the loss and did not survive is over; the rest may still come.
        let is_over = acknowledged.is_some_and(|at| at < self.start) && !self.can_return;
        (!is_over).then_some(Known { id, change, began, acknowledged: None })
    }
}

fn judge_stamps(writes: &[Known], seen: &[Seen]) -> Result<(), String> {
    let clusters = clusters(writes, seen);
    let forward: Vec<Cluster> = clusters.iter().filter(|it| it.is_forward()).copied().collect();
    for pair in forward.windows(2) {
        let [one, other] = pair else { continue };
        if other.earliest_end < one.latest_beginning {
            return Err(format!("{} and {} were both the current value at some time", one.id, other.id));
        }
    }
    for inner in clusters.iter().filter(|it| !it.is_forward()) {
        // Forward zones that do not overlap are ordered by both ends.
        let at = forward.partition_point(|outer| outer.earliest_end < inner.latest_beginning);
        if let Some(outer) = at.checked_sub(1).map(|at| forward[at])
            && inner.earliest_end < outer.latest_beginning
        {
            return Err(format!(
                "{} was written and done while {} was the current value: read before it and read after it",
                inner.id, outer.id
            ));
        }
    }
    Ok(())
}

/// Clusters by their earliest end. A write that may have had no effect, and that nobody saw, is none.
fn clusters(writes: &[Known], seen: &[Seen]) -> Vec<Cluster> {
    let mut clusters = BTreeMap::new();
    for Known { id, began, acknowledged, .. } in writes.iter().filter(|known| known.change != Change::Trim) {
        let earliest_end = acknowledged.unwrap_or(NEVER);
        clusters.insert(*id, Cluster { id: *id, earliest_end, latest_beginning: *began });
    }
    for seen in seen {
        let Content::Write(id) = seen.content else { continue };
        if let Some(cluster) = clusters.get_mut(&id) {
            cluster.earliest_end = cluster.earliest_end.min(seen.ended);
            cluster.latest_beginning = cluster.latest_beginning.max(seen.began);
        }
    }
    let mut clusters: Vec<Cluster> =
        clusters.into_values().filter(|cluster| cluster.earliest_end != NEVER).collect();
    clusters.sort_by_key(|cluster| cluster.earliest_end);
    clusters
}

impl Cluster {
    fn is_forward(&self) -> bool {
        self.earliest_end < self.latest_beginning
    }
}

fn judge_zeros(writes: &[Known], seen: &[Seen]) -> Result<(), String> {
    for seen in seen.iter().filter(|seen| seen.content == Content::Zero) {
        // The youngest origin of zeros that the read can have seen, by its end; the medium begins with zeros.
        let origins = writes.iter().filter(|write| write.change != Change::Stamp && write.began < seen.ended);
        let newest = origins.map(|write| write.acknowledged.unwrap_or(NEVER)).max().unwrap_or(Moment(0));
        let overwritten = writes.iter().find(|write| {
            write.change == Change::Stamp
                && write.began > newest
                && write.acknowledged.is_some_and(|ended| ended < seen.began)
        });
        if let Some(Known { id, began, acknowledged, .. }) = overwritten {
            return Err(format!(
                "zeros were read at {}..{} although {id} had been written since ({}, {acknowledged:?})",
                seen.began.0, seen.ended.0, began.0
            ));
        }
    }
    Ok(())
}

impl std::fmt::Display for BlockAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.unit, self.lba)
    }
}

impl std::fmt::Display for WriteId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "w{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: BlockAt = BlockAt { unit: 0, lba: 3 };

    /// A small history of one block.
    #[derive(Default)]
    struct Story {
        ledger: Ledger,
        check: RegisterCheck,
    }

    impl Story {
        fn begin(&mut self) -> WriteId {
            self.ledger.begin(0, 3, 1, Change::Stamp)
        }

        fn write(&mut self) -> WriteId {
            let id = self.begin();
            self.ledger.end(id, true);
            id
        }

        fn zero(&mut self) {
            let id = self.ledger.begin(0, 3, 1, Change::Zero);
            self.ledger.end(id, true);
        }

        fn read(&mut self, content: Content) {
            let (began, ended) = (self.ledger.moment(), self.ledger.moment());
            self.check.read(&self.ledger, AT, content, began, ended).unwrap();
        }

        fn is_fine(&self) -> bool {
            self.check.judge(&self.ledger).is_ok()
        }
    }

    #[test]
    fn a_read_of_the_last_write_is_fine_and_of_the_one_before_is_not() {
        let mut story = Story::default();
        let (one, two) = (story.write(), story.write());
        story.read(Content::Write(two));
        assert!(story.is_fine());
        story.read(Content::Write(one));
        assert!(!story.is_fine());
    }

    #[test]
    fn a_failed_write_may_appear_late_but_not_come_and_go() {
        let mut story = Story::default();
        let failed = story.begin();
        story.ledger.end(failed, false);
        let two = story.write();
        story.read(Content::Write(two));
        story.read(Content::Write(failed));
        assert!(story.is_fine());
        story.read(Content::Write(two));
        assert!(!story.is_fine());
    }

    #[test]
    fn two_writes_at_the_same_time_may_end_in_either_order_but_all_readers_agree() {
        let mut story = Story::default();
        let (one, two) = (story.begin(), story.begin());
        story.ledger.end(one, true);
        story.ledger.end(two, true);
        story.read(Content::Write(one));
        assert!(story.is_fine());
        story.read(Content::Write(two));
        assert!(!story.is_fine());
    }

    #[test]
    fn zeros_are_fine_at_first_and_after_zeroes_but_not_after_a_write() {
        let mut story = Story::default();
        story.read(Content::Zero);
        story.write();
        story.zero();
        story.read(Content::Zero);
        assert!(story.is_fine());
        story.write();
        story.read(Content::Zero);
        assert!(!story.is_fine());
    }

    #[test]
    fn what_a_cache_lost_may_be_gone_and_must_not_come_back() {
        let mut story = Story::default();
        let (one, two) = (story.write(), story.write());
        story.read(Content::Write(two));
        let moment = story.ledger.moment();
        story.check.lost(AT, Loss { moment, kept: Content::Write(one), can_return: false });
        story.read(Content::Write(one));
        assert!(story.is_fine());
        let three = story.write();
        story.read(Content::Write(three));
        assert!(story.is_fine());
        story.read(Content::Write(one));
        assert!(!story.is_fine());
    }

    #[test]
    fn a_block_that_a_cache_left_zero_holds_zeros_until_it_is_written() {
        let mut story = Story::default();
        story.write();
        let moment = story.ledger.moment();
        story.check.lost(AT, Loss { moment, kept: Content::Zero, can_return: false });
        story.read(Content::Zero);
        assert!(story.is_fine());
        story.write();
        story.read(Content::Zero);
        assert!(!story.is_fine());
    }

    #[test]
    fn zeroes_that_a_cache_lost_come_back_only_if_a_copy_of_them_was_left() {
        for can_return in [false, true] {
            let mut story = Story::default();
            let one = story.write();
            story.zero();
            let moment = story.ledger.moment();
            story.check.lost(AT, Loss { moment, kept: Content::Write(one), can_return });
            story.read(Content::Write(one));
            story.read(Content::Zero);
            assert_eq!(story.is_fine(), can_return);
        }
    }

    #[test]
    fn zeroes_that_were_acknowledged_overwrite() {
        let mut story = Story::default();
        let one = story.write();
        story.read(Content::Write(one));
        story.zero();
        story.read(Content::Write(one));
        assert!(!story.is_fine());
    }
}
