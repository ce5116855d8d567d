//! One path straight to an export: what is left of a disk without its multipath layer.
//!
//! It is there to measure what that layer costs, and for nothing else: no head, no failover, no disposition. The
//! first path is used as it is; whatever is not GOOD is an error.

use alloc::collections::VecDeque;

use block::{Access, Completion, Durability, Error, Geometry, Operation, Request, Support, WriteCache};
use multipath::PathId;
use scsi::cdb::{Cdb, Form, LongForm, MediumAccess};
use scsi::{Blocks, CommandId, Ending, Lba, Residual, Status, TaskAttribute, Transfer};

use crate::command::{Context, Kind};
use crate::{Action, Command, Contradiction, Unit};

/// The longest read or write, in bytes: one command, whatever its length.
const TRANSFER_MAX: u32 = 1 << 20;

/// A disk with one path and nothing in between. Reads, writes and flushes; the rest is not supported.
#[derive(Debug)]
pub struct Direct {
    path: PathId,
    geometry: Geometry,
    next_id: u32,
    actions: VecDeque<Action>,
}

impl Direct {
    /// None if the unit did not say how large it is.
    #[must_use]
    pub fn new(path: PathId, unit: &Unit) -> Option<Self> {
        let capacity = unit.capacity?;
        let geometry = Geometry {
            size: capacity.bytes(),
            block_size: capacity.block_size,
            preferred_size: capacity.block_size.max(4096),
            transfer_max: TRANSFER_MAX,
            access: if unit.write_protected { Access::ReadOnly } else { Access::ReadWrite },
            write_cache: unit.write_cache,
            discard: Support::No,
            write_zeroes: Support::No,
            rotation: unit.rotation,
        };
        let actions = VecDeque::from([Action::Joined { path }, Action::Geometry(geometry)]);
        Some(Self { path, geometry, next_id: 0, actions })
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// An export wants something done.
    pub fn submit(&mut self, request: Request) {
        let Request { tag, operation, buffer } = request;
        let (cdb, transfer) = match self.command(&operation) {
            Ok(Some(command)) => command,
            Ok(None) => return self.finish(Request { tag, operation, buffer }, Ok(())),
            Err(error) => return self.finish(Request { tag, operation, buffer }, Err(error)),
        };
        self.next_id = self.next_id.wrapping_add(1);
        let path = self.path;
        let command = Command {
            id: CommandId(u64::from(path.0) << 32 | u64::from(self.next_id)),
            cdb: cdb.emit(),
            attribute: TaskAttribute::Simple,
            transfer,
            buffer,
            context: Context(Kind::Direct { path, tag, operation }),
        };
        self.actions.push_back(Action::Start { path, command });
    }

    /// A command came back.
    pub fn ended(&mut self, command: Command, ending: &Ending) {
        let Command { buffer, context, .. } = command;
        let Kind::Direct { tag, operation, .. } = context.0 else {
            debug_assert!(false, "a command of somebody else came back to a direct path");
            return;
        };
        let good = matches!(ending, Ending::Reply(reply)
            if reply.status == Status::Good && reply.residual == Residual::None);
        self.finish(Request { tag, operation, buffer }, if good { Ok(()) } else { Err(Error::Io) });
    }

    /// There is no second path. The first one is told that it joined when it is offered.
    pub fn refuse(&mut self, path: PathId) {
        if path != self.path {
            self.actions.push_back(Action::Refused { path, reason: Contradiction::NoRoom });
        }
    }

    /// Nothing is waited for.
    pub fn go(&mut self) {
        self.actions.push_back(Action::Gone);
    }

    fn finish(&mut self, request: Request, completion: Completion) {
        self.actions.push_back(Action::Finish(request, completion));
    }

    fn command(&self, operation: &Operation) -> Result<Option<(Cdb, Transfer)>, Error> {
        match *operation {
            Operation::Read { offset, length } => {
                let access = self.access(offset, length)?;
                Ok(Some((Cdb::Read(access), Transfer::FromDevice { offset: 0, length })))
            }
            Operation::Write { offset, length, durability: Durability::Volatile } => {
                let access = self.access(offset, length)?;
                Ok(Some((Cdb::Write(access), Transfer::ToDevice { offset: 0, length })))
            }
            Operation::Flush if self.geometry.write_cache == WriteCache::Through => Ok(None),
            Operation::Flush => Ok(Some((
                Cdb::SynchronizeCache {
                    form: LongForm::Ten,
                    lba: Lba(0),
                    blocks: Blocks(0),
                    immediate: false,
                    group: 0,
                },
                Transfer::None,
            ))),
            _ => Err(Error::NotSupported),
        }
    }

    fn access(&self, offset: u64, length: u32) -> Result<MediumAccess, Error> {
        let block_size = self.geometry.block_size;
        let aligned = (offset | u64::from(length)) & u64::from(block_size - 1) == 0;
        match offset.checked_add(length.into()) {
            Some(end) if aligned && end <= self.geometry.size => {
                let blocks = Blocks(length / block_size);
                Ok(MediumAccess::new(Form::Sixteen, Lba(offset / u64::from(block_size)), blocks))
            }
            _ => Err(Error::Invalid),
        }
    }
}
