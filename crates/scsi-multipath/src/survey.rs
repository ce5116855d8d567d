use crate::{Command, Failure, NoIdentity, Unit};
use alloc::boxed::Box;
use alloc::vec::Vec;
use clock::Instant;
use scsi::{Ending, Lun};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Question;

#[derive(Debug)]
pub struct Survey {
    only: Option<Vec<Lun>>,
}

/// What happened.
#[derive(Debug)]
pub enum SurveyEvent {
    Start,
    Ended(Command, Ending),
    Timeout,
}

/// What the driver must do.
#[derive(Debug)]
pub enum SurveyAction {
    /// Send it to that logical unit and give it back with [`SurveyEvent::Ended`].
    Send {
        lun: Lun,
        command: Command,
    },
    Found {
        lun: Lun,
        unit: Box<Unit>,
    },
    Rejected {
        lun: Lun,
        reason: Rejection,
    },
    /// Comes once, last.
    Done(Result<Summary, SurveyError>),
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub found: usize,
    pub rejected: usize,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SurveyError {
    NexusLost,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    NotPresent,
    NoIdentity(NoIdentity),
    Failed(Failure),
}

impl Survey {
    pub fn new() -> Self {
        Self { only: None }
    }
    pub fn for_luns(luns: Vec<Lun>) -> Self {
        Self { only: Some(luns) }
    }
    pub fn handle(&mut self, _now: Instant, _event: SurveyEvent) {
        let _ = &self.only;
    }
    pub fn poll_action(&mut self) -> Option<SurveyAction> {
        None
    }
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
