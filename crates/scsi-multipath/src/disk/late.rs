//! Requests that are late: a read is sent on a second path as well, and whichever comes back first is the answer; a write on
//! a path that stalls is taken back. And canaries: small reads of the disk's own that show what a path is worth.

use alloc::vec::Vec;

use block::{BufferPool, Operation, Request, Tag};
use clock::Instant;
use multipath::{Class, Kind, Lag, Mark, Node, Outcome, PathId, PathState, Tried, Verdict};
use scsi::cdb::{Cdb, MediumAccess};
use scsi::{Blocks, CommandId, Ending, Lba, TaskAttribute, Transfer};

use super::work::{Flight, Said, Step, Work};
use super::{Action, Disk, plan};
use crate::command::{Command, Context, Kind as CommandKind};
use crate::disposition::{CommandClass, Disposition, Fate, PathEffect, disposition};

/// Requests up to this size take about as long as the shortest: the wire and the medium add little (32 KiB are 26 µs at
/// 10 Gbit/s). In bytes.
const SMALL_MAX: u32 = 32 << 10;
/// Memory that is kept for second copies of reads, in bytes: for as many as a path has in flight.
const SPARES_MAX: usize = 4 << 20;

/// Pieces of requests that the head may tell of, by their marks.
#[derive(Debug)]
pub(super) struct Pieces {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    spares: BufferPool,
}

/// One piece of a request, of which there may be two copies.
#[derive(Debug)]
struct Entry {
    /// What a second copy needs; none if there may be none.
    read: Option<Read>,
    original: Whereabouts,
    second: Whereabouts,
    is_decided: bool,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    tag: Tag,
    operation: Operation,
    node: Node,
}

/// Where a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whereabouts {
    /// It was never made, or has come back for good.
    Nowhere,
    /// With the head.
    Waiting,
    Sent(PathId, CommandId),
}

/// What the end of a copy means.
enum Ended {
    /// It is the answer; the other one, if it is out, is not needed any more.
    Decides { other: Option<(PathId, CommandId)> },
    /// Another one is the answer.
    Moot,
}

impl Pieces {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), spares: BufferPool::new(SPARES_MAX) }
    }

    fn insert(&mut self, read: Option<Read>) -> Mark {
        let entry =
            Entry { read, original: Whereabouts::Waiting, second: Whereabouts::Nowhere, is_decided: false };
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("requests in flight are bounded")
        });
        self.entries[place as usize] = Some(entry);
        Mark(place)
    }

    fn get_mut(&mut self, mark: Mark) -> Option<&mut Entry> {
        self.entries.get_mut(mark.0 as usize)?.as_mut()
    }

    fn is_decided(&self, mark: Mark) -> bool {
        self.entries.get(mark.0 as usize).and_then(Option::as_ref).is_some_and(|entry| entry.is_decided)
    }

    fn moot(&self) -> usize {
        self.entries.iter().flatten().filter(|entry| entry.is_decided).count()
    }

    fn ended(&mut self, mark: Mark, is_second: bool, has_succeeded: bool) -> Ended {
        let Some(entry) = self.get_mut(mark) else { return Ended::Decides { other: None } };
        let (this, other) =
            if is_second { (&mut entry.second, entry.original) } else { (&mut entry.original, entry.second) };
        *this = Whereabouts::Nowhere;
        let was_decided = entry.is_decided;
        let is_last = other == Whereabouts::Nowhere;
        // A failure counts only if nothing better can come.
        let decides = !was_decided && (has_succeeded || is_last);
        entry.is_decided |= decides;
        if is_last {
            self.entries[mark.0 as usize] = None;
            self.free.push(mark.0);
        }
        match (decides, other) {
            (false, _) => Ended::Moot,
            (true, Whereabouts::Sent(path, command)) => Ended::Decides { other: Some((path, command)) },
            (true, _) => Ended::Decides { other: None },
        }
    }
}

impl Disk {
    /// Copies of reads that have been answered by another copy, and are still with the head or a path.
    #[must_use]
    pub fn moot(&self) -> usize {
        self.pieces.moot()
    }

    /// What the head may know of a piece.
    pub(super) fn kind_of(&mut self, work: &mut Work) -> Kind {
        let is_small = work.piece.length <= SMALL_MAX;
        let class = match work.step {
            Step::Read if is_small => Class::SmallRead,
            Step::Read => Class::LargeRead,
            Step::Write | Step::WriteZeros if is_small => Class::SmallWrite,
            Step::Write | Step::WriteZeros => Class::LargeWrite,
            Step::Unmap | Step::WriteSame | Step::WriteSameUnmap | Step::Synchronize => Class::Other,
        };
        if class == Class::SmallRead {
            self.last_read = work.piece_offset();
        }
        work.mark = (self.marks_pieces && class != Class::Other).then(|| self.pieces.insert(read_of(work)));
        Kind { class, mark: work.mark }
    }

    /// A copy goes out.
    pub(super) fn piece_sent(&mut self, work: &Work, path: PathId, command: CommandId) {
        if let Some(entry) = work.mark.and_then(|mark| self.pieces.get_mut(mark)) {
            let whereabouts = if work.is_second { &mut entry.second } else { &mut entry.original };
            *whereabouts = Whereabouts::Sent(path, command);
        }
    }

    /// Whether nobody waits for what comes back: another copy has been the answer.
    pub(super) fn is_moot(&self, work: &Work) -> bool {
        work.mark.is_some_and(|mark| self.pieces.is_decided(mark))
    }

    /// What is known about a piece, now that the head has done with one of its copies. None if that one is not the answer.
    pub(super) fn decide(&mut self, mut work: Work, outcome: Outcome) -> Option<Work> {
        let Some(mark) = work.mark.take() else { return Some(work) };
        let has_succeeded = outcome == Outcome::Done && work.said == Said::Done;
        let is_second = work.is_second;
        match self.pieces.ended(mark, is_second, has_succeeded) {
            Ended::Decides { other } => {
                if let Some((path, command)) = other {
                    self.actions.push_back(Action::Abort { path, command });
                }
                work.is_second = false;
                Some(work)
            }
            Ended::Moot => {
                self.pieces.spares.put(work.buffer);
                None
            }
        }
    }

    /// The head says that a request has been out for too long.
    pub(super) fn late(&mut self, now: Instant, path: PathId, mark: Mark, why: Lag) {
        let Some(entry) = self.pieces.get_mut(mark) else { return };
        if entry.is_decided || entry.second != Whereabouts::Nowhere {
            return;
        }
        match (entry.read, entry.original) {
            (Some(read), _) => self.send_second(now, path, mark, read),
            // What no second copy can be made of is taken back, and sent elsewhere when it is.
            (None, Whereabouts::Sent(on, command)) if why == Lag::Stalled && on == path => {
                self.actions.push_back(Action::Abort { path, command });
            }
            (None, _) => {}
        }
    }

    fn send_second(&mut self, now: Instant, avoid: PathId, mark: Mark, read: Read) {
        let (Some(features), Some(entry)) = (&self.features, self.pieces.get_mut(mark)) else { return };
        entry.second = Whereabouts::Waiting;
        let length = read.operation.extent().map_or(0, |(_, length)| length as usize);
        let buffer = self.pieces.spares.take(length);
        let request = Request { tag: read.tag, operation: read.operation, buffer };
        let mut work = Work::new(request, read.node, Step::Read);
        plan::cut(features, &mut work);
        (work.mark, work.is_second) = (Some(mark), true);
        let class = if work.piece.length <= SMALL_MAX { Class::SmallRead } else { Class::LargeRead };
        let kind = Kind { class, mark: None };
        let node = read.node;
        self.head.handle(now, multipath::Event::Hedge { node, kind, avoid, request: work });
    }

    /// The head wants to know what a path is worth: a block is read that somebody has read lately.
    pub(super) fn send_canary(&mut self, now: Instant, path: PathId) {
        let is_usable =
            self.paths.iter().any(|known| known.id == path && matches!(known.told, PathState::Usable(_)));
        let Some(features) = self.features.filter(|_| is_usable) else {
            let tried = multipath::Event::Tried { path, tried: Tried::Unknown };
            return self.head.handle(now, tried);
        };
        let block_size = features.block_size;
        let lba = Lba((self.last_read / u64::from(block_size)).min(features.blocks.saturating_sub(1)));
        let cdb = Cdb::Read(MediumAccess::new(plan::form(&features), lba, Blocks(1)));
        let command = Command {
            id: self.take_id(path),
            cdb: cdb.emit(),
            attribute: TaskAttribute::Simple,
            transfer: Transfer::FromDevice { offset: 0, length: block_size },
            buffer: self.pieces.spares.take(block_size as usize),
            context: Context(CommandKind::Disk { path, flight: Flight::Canary }),
        };
        self.probes_out += 1;
        self.actions.push_back(Action::Start { path, command });
    }

    pub(super) fn canary_ended(
        &mut self,
        now: Instant,
        path: PathId,
        buffer: block::Buffer,
        ending: &Ending,
    ) {
        self.probes_out -= 1;
        self.pieces.spares.put(buffer);
        let disposition = disposition(CommandClass::Read, ending);
        if disposition.path != PathEffect::None || !disposition.follow_up.is_empty() {
            self.affect(now, path, &disposition, ending);
        }
        let tried = worth(&disposition, ending);
        self.head.handle(now, multipath::Event::Tried { path, tried });
    }

    /// A copy that nobody waits for has come back: only what it says of its path and unit counts.
    pub(super) fn moot_ended(
        &mut self,
        now: Instant,
        path: PathId,
        work: Work,
        ticket: multipath::Ticket,
        ending: &Ending,
    ) {
        self.overhear(now, path, ending);
        self.head.handle(now, multipath::Event::Ended { ticket, request: work, verdict: Verdict::Moot });
    }

    /// Whether requests are marked from now on.
    pub(super) fn set_marks(&mut self) {
        let head = &self.options.head;
        self.marks_pieces =
            head.slow_paths == multipath::SlowPaths::Demote || head.hedging != multipath::Hedging::Off;
    }
}

/// What a canary tells of its path. An error of the logical unit's own tells that the path works.
fn worth(disposition: &Disposition, ending: &Ending) -> Tried {
    match (disposition.fate, disposition.path) {
        _ if matches!(ending, Ending::Lost | Ending::NotSent | Ending::Withdrawn | Ending::Cleared) => {
            Tried::Unknown
        }
        (Fate::Complete | Fate::Fail(_), PathEffect::None) => Tried::Worked,
        (Fate::Retry(_), _) => Tried::Unknown,
        _ => Tried::Failed,
    }
}

/// What is needed to read the same again; only of a piece that is a whole request.
fn read_of(work: &Work) -> Option<Read> {
    let (Some((_, length)), Step::Read) = (work.operation.extent(), work.step) else { return None };
    let tag = work.tag()?;
    (work.cursor == 0 && work.piece.length == length).then_some(Read {
        tag,
        operation: work.operation,
        node: work.node,
    })
}
