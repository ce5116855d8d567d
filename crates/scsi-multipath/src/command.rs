//! The commands that surveys and disks issue, and how they find their way back.

use core::fmt;

use block::{Operation, Tag};
use multipath::PathId;
use scsi::Lun;

use crate::disk::Flight;
use crate::question::Question;

/// A command of this crate, on its way to a device server and back.
pub type Command = scsi::Command<Context>;

/// What the issuer of a command wants to find again when it comes back. Nobody else looks inside; a driver
/// asks it only whose command it is.
pub struct Context(pub(crate) Kind);

/// Who issued a command, and so whom its ending is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// The survey of the nexus that the command was sent on.
    Survey,
    /// The disk that this path belongs to.
    Disk(PathId),
}

pub(crate) enum Kind {
    Survey { lun: Lun, question: Question },
    Disk { path: PathId, flight: Flight },
    Direct { path: PathId, tag: Tag, operation: Operation },
}

impl Context {
    /// The logical unit that a survey asked; none for a command of a disk.
    #[must_use]
    pub const fn surveyed(&self) -> Option<Lun> {
        match &self.0 {
            Kind::Survey { lun, .. } => Some(*lun),
            Kind::Disk { .. } | Kind::Direct { .. } => None,
        }
    }

    /// The request of an export that it is a part of, and how often that part was sent so far.
    #[must_use]
    pub fn request(&self) -> Option<(Tag, u32)> {
        match &self.0 {
            Kind::Disk { flight: Flight::Work { work, ticket }, .. } => {
                Some((work.tag()?, ticket.attempts()))
            }
            _ => None,
        }
    }

    /// Whose command this is.
    #[must_use]
    pub const fn issuer(&self) -> Issuer {
        match &self.0 {
            Kind::Survey { .. } => Issuer::Survey,
            Kind::Disk { path, .. } | Kind::Direct { path, .. } => Issuer::Disk(*path),
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Survey { question, .. } => write!(f, "Survey({question:?})"),
            Kind::Direct { path, operation, .. } => write!(f, "Direct({path}, {operation:?})"),
            Kind::Disk { path, flight } => write!(f, "Disk({path}, {flight:?})"),
        }
    }
}
