//! One nexus: who it is with, how far its session has come, and what is behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use clock::{Duration, Instant};
use iscsi::initiator::Session;
use multipath::PathId;
use scsi::{Lun, Reply};
use scsi_multipath::{Context, Rejection, Survey, TargetId};

use crate::backoff::Backoff;
use crate::debt::Debt;
use crate::event::Loss;
use crate::log::Cause;
use crate::memory::Recorded;
use crate::ping::Pings;
use crate::route::{Route, Way};
use crate::tasks::Tasks;

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
    /// Whose nexus it is, if not that of the host's initiator name.
    pub(crate) initiator: Option<String>,
    /// It was left by a process before this one and nobody asked for it here: it is fenced, and ends.
    pub(crate) is_stray: bool,
    /// What was, or may have been, written to through it: by LUN and identity.
    pub(crate) units: BTreeMap<(Lun, String), Recorded>,
    /// The last session did not end in order.
    pub(crate) was_not_logged_out: bool,
    /// The target portal group of the portal, once the target has said it.
    pub(crate) group: Option<u16>,
    /// Where the target sent us for now (RFC 7143, 11.13.5: target moved).
    pub(crate) redirect: Option<SocketAddr>,
    /// Times in a row that it sent us elsewhere.
    pub(crate) redirects: u32,
    /// The target wants no login before that (RFC 7143, Time2Wait).
    pub(crate) not_before: Option<Instant>,
    /// What its last failure came from.
    pub(crate) last_cause: Option<Cause>,
    pub(crate) phase: Phase,
    pub(crate) backoff: Backoff,
    /// Since when it carries commands, if it does.
    pub(crate) up_since: Option<Instant>,
    /// How the last connection was lost.
    pub(crate) loss: Loss,
    /// The paths that are to be fenced.
    pub(crate) debts: Vec<Debt>,
    /// The last of the sessions that a login was to reinstate which died before it was answered.
    pub(crate) abandoned: Option<u64>,
    /// The tries to pay them; none while nothing is owed.
    pub(crate) route: Option<Route>,
    /// The portal of the connection, or of the next one.
    pub(crate) way: Way,
    /// When to try again to pay on the session that stands.
    pub(crate) fence_at: Option<Instant>,
    pub(crate) paths: BTreeMap<Lun, PathId>,
    /// Logical units that were found and are not used, because their disks have a path and are to have one only: by
    /// disk.
    pub(crate) unused: BTreeSet<(u32, Lun)>,
    /// What surveys were told of lost caches of logical units that had no path here: their disks are to hear of it.
    pub(crate) losses: BTreeMap<Lun, Reply>,
    pub(crate) last_error: Option<String>,
    /// Its sessions, ever: the number of the present one while it is logged in.
    pub(crate) logins: u64,
    /// The number of the last one that was surveyed to the end.
    pub(crate) surveyed: u64,
    /// It has had its first answer, or its first failure.
    pub(crate) settled: bool,
    /// When it answered a discovery last.
    pub(crate) asked_at: Option<Instant>,
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
        limit: Duration,
    },
    Open(Box<Link>),
    /// It has done its work.
    Ended,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) session: Session<Context>,
    pub(crate) stage: Stage,
    /// A login was sent, and has not been answered.
    pub(crate) login_is_out: bool,
    /// The target portal group that the session is with.
    pub(crate) group: Option<u16>,
    /// There was a survey on this session.
    pub(crate) was_surveyed: bool,
    /// Logical units that were reset on this session, or are to be.
    pub(crate) resets: BTreeMap<Lun, Reset>,
    pub(crate) tasks: Tasks,
    pub(crate) pings: Pings,
}

/// How far the reset of a logical unit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    Asked,
    /// Done; the identity there is still to be seen.
    Done,
}

#[derive(Debug)]
pub(crate) enum Stage {
    Login,
    /// Something is owed: logical units are reset before anything is sent to them.
    Reset,
    /// Finding the logical units.
    Survey {
        survey: Box<Survey>,
        scope: Scope,
        sightings: Sightings,
    },
    Up,
    LoggingOut,
}

/// What a survey is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// To find paths.
    Everything,
    /// To see that what was reset is what is owed.
    Debts,
}

/// What a survey has seen so far.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    pub(crate) found: BTreeSet<Lun>,
    /// They are there, and failed a question: busy, in transition, or broken. To be looked at again.
    pub(crate) doubtful: BTreeSet<Lun>,
    /// They had been reset when the survey began: what it finds there proves something.
    pub(crate) reset: BTreeSet<Lun>,
    /// The first one that cannot be used, for whoever wonders why nothing can.
    pub(crate) rejected: Option<(Lun, Rejection)>,
}

impl Link {
    /// A session that logs in.
    pub(crate) fn new(session: Session<Context>) -> Self {
        Self {
            session,
            stage: Stage::Login,
            login_is_out: false,
            group: None,
            was_surveyed: false,
            resets: BTreeMap::new(),
            tasks: Tasks::default(),
            pings: Pings::default(),
        }
    }
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
                Stage::Reset => "fencing",
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

    /// It was only to be fenced, and is.
    pub(crate) fn has_nothing_to_do(&self) -> bool {
        self.is_stray && !self.owes()
    }

    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// The session that stands is logged in, and is not being ended.
    pub(crate) fn is_logged_in(&self) -> bool {
        matches!(&self.phase, Phase::Open(link)
            if matches!(link.stage, Stage::Reset | Stage::Survey { .. } | Stage::Up))
    }

    /// The session that stands is only there to pay debts.
    pub(crate) fn is_on_detour(&self) -> bool {
        self.way != Way::Own || self.is_stray
    }

    /// Something is to be fenced, or may be.
    pub(crate) fn is_left(&self) -> bool {
        self.owes() || self.units.values().any(|it| matches!(it, Recorded::Left { .. } | Recorded::Claimed))
    }

    /// A login died before it was answered, and what it was to end may not have ended since.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.is_some_and(|session| {
            session >= self.logins || self.is_left() || self.debts.iter().any(|debt| debt.session <= session)
        })
    }

    pub(crate) fn owes(&self) -> bool {
        !self.debts.is_empty()
    }

    /// The debts that the session that stands can pay.
    pub(crate) fn payable(&self) -> impl Iterator<Item = &Debt> {
        let group = match &self.phase {
            Phase::Open(link) if self.is_logged_in() => Some(link.group),
            _ => None,
        };
        let session = self.logins;
        self.debts.iter().filter(move |debt| group.is_some_and(|group| debt.is_payable(session, group)))
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Session<Context>> {
        self.link_mut().map(|link| &mut link.session)
    }

    pub(crate) fn stage_mut(&mut self) -> Option<&mut Stage> {
        self.link_mut().map(|link| &mut link.stage)
    }

    pub(crate) fn ping(&self) -> Option<(Instant, Duration)> {
        match &self.phase {
            Phase::Open(link) => link.pings.last,
            _ => None,
        }
    }

    pub(crate) fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.phase {
            Phase::Open(link) => Some(link),
            _ => None,
        }
    }

    /// The session that stands was surveyed to the end once.
    pub(crate) const fn was_surveyed(&self) -> bool {
        self.surveyed == self.logins
    }

    /// All logical units are known: the nexus carries commands, and its earlier failures are forgiven.
    pub(crate) fn survey_over(&mut self, now: Instant) {
        self.up_since = self.up_since.or(Some(now));
        self.settled = true;
        self.last_error = None;
        self.backoff.reset();
        if let Some(stage) = self.stage_mut() {
            *stage = Stage::Up;
        }
    }

    /// That time, or when the target allows the next login at its own portal, whichever is later.
    pub(crate) fn not_earlier(&self, time: Instant) -> Instant {
        let allowed = self.not_before.filter(|_| self.way == Way::Own);
        allowed.map_or(time, |allowed| allowed.max(time))
    }

    /// When its timer is due, apart from what the session itself is asked.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting { until } | Phase::Connecting { until, .. } => Some(*until),
            Phase::Open(link) => {
                let survey = match &link.stage {
                    Stage::Survey { survey, .. } => survey.poll_timeout(),
                    _ => None,
                };
                let tasks = link.tasks.deadline();
                [link.session.poll_timeout(), survey, tasks, self.survey_at, self.fence_at]
                    .into_iter()
                    .flatten()
                    .min()
            }
            Phase::Ended => None,
        }
    }
}
