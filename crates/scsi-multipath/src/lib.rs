//! What SCSI means for multipath: which logical unit is behind a path, what a reply means, and one disk out of
//! many paths.
//!
//! A [`Survey`] asks one nexus for its logical units; each comes out as a [`Unit`] with an [`Identity`]. A
//! [`Disk`] takes the units of one identity as its paths and answers block requests. Both are plain machines
//! with three verbs; neither knows a transport: commands go out, and come back with how they ended.
#![no_std]
extern crate alloc;

mod command;
mod direct;
mod disk;
mod disposition;
mod identity;
mod question;
mod survey;
mod unit;

pub use command::{Command, Context, Issuer};
pub use direct::Direct;
pub use disk::{
    AccessAnswer, AccessCause, Action, Alua, Disk, Event, FENCE_WAIT, Feature, FencePolicy, FenceView,
    Function, Hold, Managed, Options, PathView, Proof, RETRIES_MAX, Reason, Report, Sharing, TargetId,
    Waiver,
};
pub use disposition::{
    CommandClass, Disposition, Failure, Fate, FollowUp, PathEffect, Retry, Then, disposition,
};
pub use identity::{Identity, Name, NameKind, NoIdentity};
pub use question::Question;
pub use survey::{CONCURRENCY, LUNS_MAX, Rejection, Summary, Survey, SurveyAction, SurveyError, SurveyEvent};
pub use unit::{
    AccessState, Addressing, Capacity, Contradiction, GroupAccess, Limits, Port, Provisioning, Unit,
    is_usable, path_state,
};
