//! What operators say is answered once and kept: what they take out carries nothing of users until it is given back, and
//! nothing but force takes the last path that works.
//!
//! Knows what is kept out by what was said and answered, not by what the host believes.

use std::collections::{BTreeMap, BTreeSet};

use ::host::{DiskIndex, Ticket};
use clock::Instant;
use multipath::{NoPath, PathState};
use scsi::cdb::{Cdb, operation};
use scsi::{Blocks, CdbBytes, Lba, Lun};
use scsi_multipath::Reason;

use crate::fault::{FaultCounters, Kind};

/// Where a path leads: the number of its nexus, which is that of its port, and a number behind it.
pub(crate) type Seat = (u32, Lun);

/// How a path is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Force {
    Spared,
    Used,
}

/// What was said, as far as it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    Fail { seats: Vec<Seat>, force: Force },
    Drain { seats: Vec<Seat>, force: Force },
    Reinstate { seats: Vec<Seat> },
    NoPath { disk: Option<DiskIndex>, no_path: NoPath },
    Waive { disk: DiskIndex },
    Else,
}

/// What follows from an answer, for other checkers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// These are kept out now.
    Held(Vec<Seat>),
    NoPath {
        disk: Option<DiskIndex>,
        no_path: NoPath,
    },
    None,
}

#[derive(Debug)]
struct Said {
    kind: Kind,
    meant: Meant,
    /// Disks of which another path has read a block since.
    working: BTreeSet<DiskIndex>,
}

#[derive(Debug, Default)]
pub(crate) struct OperatorCheck {
    /// What is kept out, and since when. What is sent at the same instant was decided on before.
    held: BTreeMap<Seat, Instant>,
    /// The disk that a seat led to when it was named: another one that is found there is not meant.
    names: BTreeMap<Seat, String>,
    open: BTreeMap<u64, Said>,
    tickets: u64,
    last_done: Option<Ticket>,
    /// What was said and did something.
    pub(crate) done: FaultCounters,
    /// What was not done.
    pub(crate) refused: u64,
    /// Paths that were reinstated.
    pub(crate) reinstated: u64,
}

/// A path that is not used any more because an operator said so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenOut {
    pub(crate) disk: DiskIndex,
    pub(crate) seat: Seat,
    pub(crate) from: PathState,
    pub(crate) reason: Reason,
}

impl OperatorCheck {
    pub(crate) fn said(&mut self, kind: Kind, meant: Meant) -> Ticket {
        if let Meant::Reinstate { seats } = &meant {
            for seat in seats {
                self.reinstated += u64::from(self.held.remove(seat).is_some());
            }
        }
        self.tickets += 1;
        self.open.insert(self.tickets, Said { kind, meant, working: BTreeSet::new() });
        Ticket(self.tickets)
    }

    /// `stays_out`: it was not done and yet its paths are kept out. `in_flight`: what is still out at some seats.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        ticket: Ticket,
        is_done: bool,
        stays_out: bool,
        in_flight: impl Fn(&[Seat]) -> usize,
    ) -> Result<Consequence, String> {
        let Some(said) = self.open.remove(&ticket.0) else {
            return Err(format!("{ticket:?} was answered that nobody waits for"));
        };
        self.last_done = is_done.then_some(ticket);
        if is_done {
            self.done.struck(said.kind, u64::from(!matches!(said.meant, Meant::Reinstate { .. })));
        } else {
            self.refused += 1;
        }
        match said.meant {
            Meant::Fail { seats, .. } if is_done => Ok(self.hold(now, seats)),
            Meant::Drain { seats, .. } if is_done => match in_flight(&seats) {
                0 => Ok(self.hold(now, seats)),
                left => Err(format!("{seats:?} may be unplugged, it says, with {left} commands in flight")),
            },
            Meant::Drain { seats, .. } if stays_out => Ok(self.hold(now, seats)),
            Meant::NoPath { disk, no_path } if is_done => Ok(Consequence::NoPath { disk, no_path }),
            _ => Ok(Consequence::None),
        }
    }

    fn hold(&mut self, now: Instant, seats: Vec<Seat>) -> Consequence {
        for seat in &seats {
            self.held.entry(*seat).or_insert(now);
        }
        Consequence::Held(seats)
    }

    /// A disk does not use a path any more because of what an operator said. `others`: where else it has usable ones.
    pub(crate) fn taken_out(&mut self, now: Instant, taken: TakenOut, others: &[Seat]) -> Result<(), String> {
        let TakenOut { disk, seat, from, reason } = taken;
        let mut of_seat = self.open.values().filter_map(|said| match &said.meant {
            Meant::Drain { seats, force } if seats.contains(&seat) => Some((seats, force, &said.working)),
            _ => None,
        });
        let drain = of_seat.next().filter(|_| reason == Reason::Drained);
        let was_used = matches!(from, PathState::Usable(_));
        let finding = match drain {
            Some((seats, Force::Spared, working)) if was_used => {
                if !others.iter().any(|other| !seats.contains(other)) {
                    Err(format!("{seat:?} is drained without force, and disk {} has no other path", disk.0))
                } else if !working.contains(&disk) {
                    Err(format!("{seat:?} is drained, and no other path of disk {} has read a block", disk.0))
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        };
        self.held.entry(seat).or_insert(now);
        finding
    }

    /// Paths were failed without force, and a disk had these usable ones.
    pub(crate) fn failed(seats: &[Seat], usable: &[Seat]) -> Result<(), String> {
        match usable.iter().any(|other| !seats.contains(other)) {
            true => Ok(()),
            false => Err(format!("{seats:?} are failed without force, and no other path is usable")),
        }
    }

    /// Whether that was the last one that was answered, and it was done.
    pub(crate) fn is_done(&self, ticket: Ticket) -> bool {
        self.last_done == Some(ticket)
    }

    /// What a seat leads to is about to be named.
    pub(crate) fn name(&mut self, seat: Seat, disk: String) {
        self.names.insert(seat, disk);
    }

    pub(crate) fn is_named(&self, seat: Seat, disk: &str) -> bool {
        self.names.get(&seat).is_some_and(|name| name == disk)
    }

    /// A command is sent. A block that is read to see whether its path works is nobody's.
    pub(crate) fn started(
        &self,
        now: Instant,
        seat: Seat,
        cdb: &CdbBytes,
        disk: impl FnOnce() -> Option<String>,
    ) -> Result<(), String> {
        let is_kept_out = self.held.get(&seat).is_some_and(|since| *since < now);
        if is_kept_out
            && carries_users(cdb)
            && !(self.drains() && is_check(cdb))
            && disk().is_some_and(|disk| self.is_named(seat, &disk))
        {
            return Err(format!("{:02x?} is sent at {seat:?}, which an operator keeps out", cdb.as_slice()));
        }
        Ok(())
    }

    fn drains(&self) -> bool {
        self.open.values().any(|said| matches!(said.meant, Meant::Drain { .. }))
    }

    /// A block was read.
    pub(crate) fn has_read(&mut self, disk: DiskIndex, seat: Seat) {
        for said in self.open.values_mut() {
            if let Meant::Drain { seats, .. } = &said.meant
                && !seats.contains(&seat)
            {
                said.working.insert(disk);
            }
        }
    }

    /// The process was killed: nobody waits for an answer any more. What it kept out the next one keeps out.
    pub(crate) fn process_ended(&mut self) {
        self.open.clear();
    }

    /// When everything is over.
    pub(crate) fn judge(&self) -> Result<(), String> {
        match self.open.first_key_value() {
            Some((ticket, said)) => Err(format!("{:?}, number {ticket}, was never answered", said.kind)),
            None => Ok(()),
        }
    }
}

/// READ, WRITE, WRITE SAME, UNMAP and SYNCHRONIZE CACHE; and what would make an array move a unit there.
const fn carries_users(cdb: &CdbBytes) -> bool {
    matches!(
        cdb.operation_code(),
        0x28 | 0x88 | 0x2a | 0x8a | 0x35 | 0x91 | 0x41 | 0x93 | 0x42 | operation::MAINTENANCE_OUT
    )
}

/// The first block, as a drain reads it.
fn is_check(cdb: &CdbBytes) -> bool {
    matches!(Cdb::parse(cdb.as_slice()), Ok(Cdb::Read(access)) if access.lba == Lba(0) && access.blocks == Blocks(1))
}

#[cfg(test)]
mod tests {
    use multipath::Access;

    use super::*;

    const READ: [u8; 16] = [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0];
    const USABLE: PathState = PathState::Usable(Access::Optimized);

    fn at(secs: u64) -> Instant {
        Instant::START + clock::Duration::from_secs(secs)
    }

    fn seat(port: u32) -> Seat {
        (port, Lun::from(0))
    }

    fn drain() -> Meant {
        Meant::Drain { seats: vec![seat(0)], force: Force::Spared }
    }

    fn drained() -> TakenOut {
        TakenOut { disk: DiskIndex(0), seat: seat(0), from: USABLE, reason: Reason::Drained }
    }

    #[test]
    fn what_goes_where_an_operator_keeps_users_out_is_found_until_it_is_reinstated() {
        let mut check = OperatorCheck::default();
        let read = CdbBytes::new(&READ);
        let name = || Some(String::from("naa.1"));
        check.name(seat(0), String::from("naa.1"));
        let ticket =
            check.said(Kind::OperatorFails, Meant::Fail { seats: vec![seat(0)], force: Force::Used });
        let held = Consequence::Held(vec![seat(0)]);
        assert_eq!(check.answered(at(1), ticket, true, false, |_| 0), Ok(held));
        assert_eq!(check.started(at(1), seat(0), &read, name), Ok(()), "decided on before");
        assert!(check.started(at(2), seat(0), &read, name).is_err());
        assert_eq!(check.started(at(2), seat(1), &read, name), Ok(()));
        let other = || Some(String::from("naa.2"));
        assert_eq!(check.started(at(2), seat(0), &read, other), Ok(()), "another disk, which nobody named");
        assert_eq!(check.started(at(2), seat(0), &CdbBytes::new(&[0x12]), name), Ok(()), "no user's");
        check.said(Kind::OperatorFails, Meant::Reinstate { seats: vec![seat(0)] });
        assert_eq!(check.started(at(3), seat(0), &read, name), Ok(()));
    }

    #[test]
    fn a_drain_needs_another_path_that_has_read_and_ends_with_nothing_in_flight() {
        let mut check = OperatorCheck::default();
        let ticket = check.said(Kind::OperatorDrains, drain());
        assert!(check.taken_out(at(1), drained(), &[seat(1)]).unwrap_err().contains("has read"));
        check.has_read(DiskIndex(0), seat(1));
        assert_eq!(check.taken_out(at(1), drained(), &[seat(1)]), Ok(()));
        assert!(check.taken_out(at(1), drained(), &[]).unwrap_err().contains("no other path"));
        assert!(check.answered(at(2), ticket, true, false, |_| 1).unwrap_err().contains("in flight"));
        assert!(check.answered(at(2), ticket, true, false, |_| 0).is_err(), "answered once");
    }

    #[test]
    fn a_verb_that_is_never_answered_is_found() {
        let mut check = OperatorCheck::default();
        check.said(Kind::OperatorDrains, drain());
        assert!(check.judge().is_err());
        check.process_ended();
        assert_eq!(check.judge(), Ok(()));
    }
}
