//! What a session is to be.

use clock::Duration;

use crate::chap::{Challenge, Credentials};
use crate::name::Name;
use crate::negotiation::Offers;
use crate::pdu::Isid;

/// What a session is to be. [`Options::new`] has defaults; [`super::Session::new`] checks them.
#[derive(Clone, Debug)]
pub struct Options {
    pub initiator_name: Name,
    /// A name for people, at most [`ALIAS_LENGTH_MAX`] bytes; empty: none.
    pub initiator_alias: String,
    /// With the same ISID to the same target portal group, a login reinstates the session (RFC 7143, 6.3.5).
    pub isid: Isid,
    pub kind: Kind,
    pub chap: Option<Chap>,
    pub offers: Offers,
    /// After so long without a byte from the target it is asked whether it lives; none: never.
    pub nop_interval: Option<Duration>,
    /// So long the target may then be silent.
    pub nop_timeout: Duration,
    pub login_timeout: Duration,
    /// After so long a command is aborted, counted from when it was handed over.
    pub command_timeout: Duration,
    /// So long an answer to our ABORT TASK may take before the session is given up.
    pub abort_timeout: Duration,
    /// So long an answer to any other task management function may take before the session is given up.
    pub task_management_timeout: Duration,
    pub logout_timeout: Duration,
    /// The most commands that the session holds, waiting or in flight; up to [`COMMANDS_MAX`].
    pub commands_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only SendTargets.
    Discovery,
    Normal {
        target_name: Name,
    },
}

/// CHAP, and whether the target has to prove itself too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chap {
    /// Ours.
    pub credentials: Credentials,
    pub mutual: Option<Mutual>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutual {
    /// What the target has to prove that it knows.
    pub credentials: Credentials,
    /// Unpredictable, and new for each login.
    pub challenge: Challenge,
}

/// What is wrong with options: each is a mistake of who set them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error("the initiator alias has {0} bytes, at most {ALIAS_LENGTH_MAX} are allowed")]
    AliasTooLong(usize),
    #[error("the initiator alias holds a zero byte")]
    AliasNotText,
    #[error("the offer for {0} is not legal")]
    BadOffer(&'static str),
    #[error("MaxRecvDataSegmentLength is not a multiple of 4: {0}")]
    UnalignedSegments(u32),
    #[error("a CHAP name has 1 to {ALIAS_LENGTH_MAX} bytes and no zero byte")]
    BadChapName,
    #[error("the two CHAP secrets are equal: who knows one could pretend to be the other")]
    EqualSecrets,
    #[error("{0} commands at once is not from 1 to {COMMANDS_MAX}")]
    BadCommandsMax(usize),
    #[error("{0} must not be zero")]
    ZeroTimeout(&'static str),
}

/// The longest alias or CHAP name, in bytes (RFC 7143, 6.1: text values of up to 255 bytes).
pub const ALIAS_LENGTH_MAX: usize = 255;
/// The most commands of a session: what the index part of a task tag can name.
pub const COMMANDS_MAX: usize = 1 << 15;

impl Options {
    /// Options with the defaults for disks on a local network.
    #[must_use]
    pub fn new(initiator_name: Name, isid: Isid, kind: Kind) -> Self {
        Self {
            initiator_name,
            initiator_alias: String::new(),
            isid,
            kind,
            chap: None,
            offers: Offers::default(),
            nop_interval: Some(Duration::from_secs(2)),
            nop_timeout: Duration::from_secs(2),
            login_timeout: Duration::from_secs(15),
            command_timeout: Duration::from_secs(30),
            abort_timeout: Duration::from_secs(5),
            task_management_timeout: Duration::from_secs(60),
            logout_timeout: Duration::from_secs(5),
            commands_max: 1024,
        }
    }

    pub(super) fn check(&self) -> Result<(), OptionsError> {
        if self.initiator_alias.len() > ALIAS_LENGTH_MAX {
            return Err(OptionsError::AliasTooLong(self.initiator_alias.len()));
        }
        if self.initiator_alias.contains('\0') {
            return Err(OptionsError::AliasNotText);
        }
        if let Some(key) = self.offers.fault() {
            return Err(OptionsError::BadOffer(key));
        }
        // tgt 1.0.85 writes the padding of a Data-In over the data that follow it, and then sends those.
        if !self.offers.max_recv_data_segment_length.is_multiple_of(4) {
            return Err(OptionsError::UnalignedSegments(self.offers.max_recv_data_segment_length));
        }
        if !(1..=COMMANDS_MAX).contains(&self.commands_max) {
            return Err(OptionsError::BadCommandsMax(self.commands_max));
        }
        self.check_timeouts()?;
        self.chap.as_ref().map_or(Ok(()), Chap::check)
    }

    fn check_timeouts(&self) -> Result<(), OptionsError> {
        let timeouts = [
            ("nop_interval", self.nop_interval.unwrap_or(Duration::MAX)),
            ("nop_timeout", self.nop_timeout),
            ("login_timeout", self.login_timeout),
            ("command_timeout", self.command_timeout),
            ("abort_timeout", self.abort_timeout),
            ("task_management_timeout", self.task_management_timeout),
            ("logout_timeout", self.logout_timeout),
        ];
        match timeouts.into_iter().find(|(_, timeout)| timeout.is_zero()) {
            Some((name, _)) => Err(OptionsError::ZeroTimeout(name)),
            None => Ok(()),
        }
    }
}

impl Chap {
    fn check(&self) -> Result<(), OptionsError> {
        let is_name = |name: &str| (1..=ALIAS_LENGTH_MAX).contains(&name.len()) && !name.contains('\0');
        let mutual = self.mutual.as_ref().map(|mutual| &mutual.credentials);
        if !is_name(&self.credentials.name) || mutual.is_some_and(|theirs| !is_name(&theirs.name)) {
            return Err(OptionsError::BadChapName);
        }
        if mutual.is_some_and(|theirs| theirs.secret == self.credentials.secret) {
            return Err(OptionsError::EqualSecrets);
        }
        Ok(())
    }
}
