//! One nexus: who it is with, how far its session has come, and what is behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use clock::Instant;
use iscsi::initiator::Session;
use multipath::PathId;
use scsi::Lun;
use scsi_multipath::{Context, Survey, TargetId};

use crate::backoff::Backoff;

/// What a nexus is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Ask for targets, then end.
    Discovery,
    /// Carry commands.
    Target { name: String, lun: Option<Lun> },
}

impl Purpose {
    /// Empty while the portal is only asked for its targets.
    pub(crate) fn target_name(&self) -> &str {
        match self {
            Self::Discovery => "",
            Self::Target { name, .. } => name,
        }
    }
}

/// One initiator port with one target port: a connection, a session, and the paths over it.
#[derive(Debug)]
pub(crate) struct Nexus {
    pub(crate) portal: SocketAddr,
    pub(crate) purpose: Purpose,
    pub(crate) target: TargetId,
    pub(crate) isid: [u8; 6],
    /// Where the target sent us for now (RFC 7143, 11.13.5: target moved).
    pub(crate) redirect: Option<SocketAddr>,
    pub(crate) phase: Phase,
    pub(crate) backoff: Backoff,
    pub(crate) paths: BTreeMap<Lun, PathId>,
    pub(crate) last_error: Option<String>,
    pub(crate) logins: u64,
    /// It has had its first answer, or its first failure.
    pub(crate) settled: bool,
    /// When to survey again, because not every logical unit could be used.
    pub(crate) survey_at: Option<Instant>,
    /// Logical units of which was told already why they are not used.
    pub(crate) complained: BTreeSet<Lun>,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// Not connected; tries again then.
    Waiting {
        until: Instant,
    },
    /// The driver was asked for a connection.
    Connecting {
        until: Instant,
    },
    Open(Box<Link>),
    /// It has done its work.
    Ended,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) session: Session<Context>,
    pub(crate) stage: Stage,
}

#[derive(Debug)]
pub(crate) enum Stage {
    Login,
    /// Finding the logical units.
    Survey {
        survey: Box<Survey>,
        sightings: Sightings,
    },
    Up,
    LoggingOut,
}

/// What a survey has seen so far.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    pub(crate) found: BTreeSet<Lun>,
    /// They are there, and failed a question: busy, in transition, or broken. To be looked at again.
    pub(crate) doubtful: BTreeSet<Lun>,
}

impl Nexus {
    /// As people read it: `iqn.… at 10.0.0.1:3260`.
    pub(crate) fn name(&self) -> String {
        match &self.purpose {
            Purpose::Discovery => format!("portal {}", self.portal),
            Purpose::Target { name, .. } => format!("{name} at {}", self.portal),
        }
    }

    pub(crate) const fn state(&self) -> &'static str {
        match &self.phase {
            Phase::Waiting { .. } => "waiting",
            Phase::Connecting { .. } => "connecting",
            Phase::Ended => "done",
            Phase::Open(link) => match link.stage {
                Stage::Login => "login",
                Stage::Survey { .. } => "survey",
                Stage::Up => "up",
                Stage::LoggingOut => "logout",
            },
        }
    }

    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(&self.phase, Phase::Open(link) if matches!(link.stage, Stage::Up))
    }

    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Session<Context>> {
        self.link_mut().map(|link| &mut link.session)
    }

    pub(crate) fn stage_mut(&mut self) -> Option<&mut Stage> {
        self.link_mut().map(|link| &mut link.stage)
    }

    pub(crate) fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.phase {
            Phase::Open(link) => Some(link),
            _ => None,
        }
    }

    /// All logical units are known: the nexus carries commands, and its earlier failures are forgiven.
    pub(crate) fn survey_over(&mut self) {
        self.settled = true;
        self.last_error = None;
        self.backoff.reset();
        if let Some(stage) = self.stage_mut() {
            *stage = Stage::Up;
        }
    }

    /// When its timer is due, apart from what the session itself is asked.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting { until } | Phase::Connecting { until } => Some(*until),
            Phase::Open(link) => {
                let survey = match &link.stage {
                    Stage::Survey { survey, .. } => survey.poll_timeout(),
                    _ => None,
                };
                [link.session.poll_timeout(), survey, self.survey_at].into_iter().flatten().min()
            }
            Phase::Ended => None,
        }
    }
}
