//! Whether a path works: one block is read on it, as a request would be; or, while it is idle, TEST UNIT READY.

use block::Buffer;
use clock::Instant;
use multipath::PathId;
use scsi::cdb::{Cdb, Form, MediumAccess};
use scsi::{Blocks, Ending, Lba, TaskAttribute, Transfer};

use super::path::{Path, Standing};
use super::work::Flight;
use super::{Action, Disk};
use crate::command::{Command, Context, Kind};
use crate::disposition::{CommandClass, Failure, Fate, FollowUp, disposition};
use crate::unit::Addressing;

/// Attempts at a block that is answered with unit attentions, of which there may be some on a path that was idle.
const ATTEMPTS_MAX: u8 = 8;

impl Disk {
    /// A command is sent on a path.
    pub(super) fn note_use(&mut self, now: Instant, id: PathId) {
        if self.options.path_check.is_some()
            && let Some(path) = self.paths.iter_mut().find(|path| path.id == id)
        {
            path.used_at = now;
        }
    }

    /// Asks those paths whether they are ready that have had nothing to do for as long as that may be. What is in
    /// doubt is asked anyway. When to look again.
    pub(super) fn check_idle_paths(&mut self, now: Instant) -> Option<Instant> {
        let period = self.options.path_check?;
        let verified = |path: &&mut Path| path.standing == Standing::Verified;
        for path in self.paths.iter_mut().filter(verified).filter(|path| path.used_at + period <= now) {
            path.used_at = now;
            path.probe.want(FollowUp::READY, now);
        }
        let verified = self.paths.iter().filter(|path| path.standing == Standing::Verified);
        verified.map(|path| path.used_at + period).min()
    }

    pub(super) fn check(&mut self, path: PathId) {
        self.read_a_block(path, 1);
    }

    fn read_a_block(&mut self, path: PathId, attempt: u8) {
        let features = self.features.filter(|_| self.paths.iter().any(|known| known.id == path));
        let Some(features) = features else { return self.checked(path, Err(Failure::Transport)) };
        let form = match features.addressing {
            Addressing::Sixteen => Form::Sixteen,
            Addressing::Ten => Form::Ten,
        };
        let command = Command {
            id: self.take_id(path),
            cdb: Cdb::Read(MediumAccess::new(form, Lba(0), Blocks(1))).emit(),
            attribute: TaskAttribute::Simple,
            transfer: Transfer::FromDevice { offset: 0, length: features.block_size },
            buffer: Buffer::zeroed(features.block_size as usize),
            context: Context(Kind::Disk { path, flight: Flight::Check { attempt } }),
        };
        self.probes_out += 1;
        self.actions.push_back(Action::Start { path, command });
    }

    pub(super) fn check_ended(&mut self, now: Instant, path: PathId, attempt: u8, ending: &Ending) {
        self.probes_out -= 1;
        let disposition = disposition(CommandClass::Read, ending);
        self.affect(now, path, &disposition, ending);
        match disposition.fate {
            Fate::Complete => self.checked(path, Ok(())),
            Fate::Retry(retry) if retry.pause.is_zero() && attempt < ATTEMPTS_MAX => {
                self.read_a_block(path, attempt + 1);
            }
            Fate::Fail(failure) | Fate::Failover(failure) | Fate::Ambiguous(failure) => {
                self.checked(path, Err(failure));
            }
            Fate::Retry(retry) => self.checked(path, Err(retry.failure)),
        }
    }

    fn checked(&mut self, path: PathId, outcome: Result<(), Failure>) {
        self.actions.push_back(Action::Checked { path, outcome });
    }
}
