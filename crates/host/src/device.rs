//! What stands between exports and paths: a disk, or, to measure what the disk costs, nothing.

use clock::Instant;
use scsi_multipath::{Action, Direct, Disk, Event};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) enum Device {
    Disk(Box<Disk>),
    Direct(Direct),
}

impl Device {
    pub(crate) fn handle(&mut self, now: Instant, event: Event) {
        match (self, event) {
            (Self::Disk(disk), event) => disk.handle(now, event),
            (Self::Direct(direct), Event::Block(request, _)) => direct.submit(request),
            (Self::Direct(direct), Event::Ended(command, ending)) => direct.ended(command, &ending),
            (Self::Direct(direct), Event::PathFound { path, .. }) => direct.refuse(path),
            (Self::Direct(direct), Event::Shutdown) => direct.go(),
            // It has one path and no opinion about it.
            (Self::Direct(_), _) => {}
        }
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        match self {
            Self::Disk(disk) => disk.poll_action(),
            Self::Direct(direct) => direct.poll_action(),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Disk(disk) => disk.poll_timeout(),
            Self::Direct(_) => None,
        }
    }

    /// The disk, if it is one.
    pub(crate) fn disk(&self) -> Option<&Disk> {
        match self {
            Self::Disk(disk) => Some(disk),
            Self::Direct(_) => None,
        }
    }
}
