//! What clients asked to be written, and what they were told about it. The other checkers look things up here.

use std::collections::BTreeSet;

use crate::stamp::{BlockAt, WriteId};

/// The order of what clients see. Counts up with every beginning and every end of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

/// What a request does to its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Stamp,
    Zero,
    /// The blocks may read as zeros afterwards, or as before.
    Trim,
}

/// One request that changes blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) unit: u32,
    pub(crate) first: u32,
    pub(crate) blocks: u32,
    pub(crate) change: Change,
    /// Its acknowledgement is to say that it is durable.
    pub(crate) is_durable: bool,
    pub(crate) began: Moment,
    pub(crate) ended: Ended,
}

/// How a request ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Not yet, or its connection was lost: it may take effect at any time.
    Unknown,
    Acknowledged(Moment),
    /// It may have taken effect or not.
    Failed(Moment),
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    moments: u64,
    /// By identifier, which counts from 1.
    writes: Vec<Write>,
    /// Those of which no end is known.
    open: BTreeSet<WriteId>,
}

impl Ledger {
    pub(crate) fn moment(&mut self) -> Moment {
        self.moments += 1;
        Moment(self.moments)
    }

    /// The identifier of the write that begins next.
    pub(crate) fn next(&self) -> WriteId {
        WriteId(u32::try_from(self.writes.len() + 1).expect("a run has far fewer writes"))
    }

    pub(crate) fn begin(&mut self, unit: u32, first: u32, blocks: u32, change: Change) -> WriteId {
        self.begin_as(unit, first, blocks, change, false)
    }

    /// A write that is to be durable when it is acknowledged.
    pub(crate) fn begin_durable(&mut self, unit: u32, first: u32, blocks: u32, change: Change) -> WriteId {
        self.begin_as(unit, first, blocks, change, true)
    }

    fn begin_as(&mut self, unit: u32, first: u32, blocks: u32, change: Change, is_durable: bool) -> WriteId {
        let id = self.next();
        let began = self.moment();
        self.writes.push(Write { unit, first, blocks, change, is_durable, began, ended: Ended::Unknown });
        self.open.insert(id);
        id
    }

    pub(crate) fn end(&mut self, id: WriteId, acknowledged: bool) -> Moment {
        let moment = self.moment();
        self.open.remove(&id);
        if let Some(write) = self.writes.get_mut(id.0 as usize - 1) {
            write.ended = if acknowledged { Ended::Acknowledged(moment) } else { Ended::Failed(moment) };
        }
        moment
    }

    /// The last moment that was counted.
    pub(crate) const fn last_moment(&self) -> Moment {
        Moment(self.moments)
    }

    /// Whether a write that touches these blocks may still be on its way.
    pub(crate) fn is_busy(&self, unit: u32, first: u32, blocks: u32) -> bool {
        self.open.iter().filter_map(|id| self.get(*id)).any(|write| {
            write.unit == unit && write.first < first + blocks && first < write.first + write.blocks
        })
    }

    pub(crate) fn get(&self, id: WriteId) -> Option<&Write> {
        self.writes.get((id.0 as usize).checked_sub(1)?)
    }

    pub(crate) fn writes(&self) -> impl Iterator<Item = (WriteId, &Write)> {
        self.writes.iter().zip(1..).map(|(write, id)| (WriteId(id), write))
    }
}

impl Write {
    pub(crate) fn covers(&self, at: BlockAt) -> bool {
        self.unit == at.unit && (self.first..self.first + self.blocks).contains(&at.lba)
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = BlockAt> + use<> {
        let unit = self.unit;
        (self.first..self.first + self.blocks).map(move |lba| BlockAt { unit, lba })
    }
}

impl Ended {
    /// When the client learned of the end.
    pub(crate) const fn moment(self) -> Option<Moment> {
        match self {
            Self::Unknown => None,
            Self::Acknowledged(moment) | Self::Failed(moment) => Some(moment),
        }
    }

    pub(crate) const fn acknowledged(self) -> Option<Moment> {
        match self {
            Self::Acknowledged(moment) => Some(moment),
            Self::Unknown | Self::Failed(_) => None,
        }
    }
}
