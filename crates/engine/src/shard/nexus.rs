//! iSCSI sessions of ours: connect, log in, survey, carry commands, reconnect.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;

use clock::{Duration, Instant};
use iscsi::initiator::{self, Session};
use mio::net::TcpStream;
use multipath::PathId;
use scsi::{Ending, Lun};
use scsi_multipath::{Command, Context, Survey};

use super::login::{login_advice, session_options};
use super::{Life, Shard, Source};
use crate::backoff::Backoff;
use crate::config::PortalConfig;
use crate::status::{NoticeKind, PortalStatus, Severity};
use crate::stream::{Closed, Intake, Stream, Turn, Wire};

/// A TCP connection that does not stand by then is given up: a SYN and its first two repetitions.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);
/// How long a logical unit that could not be used is left alone: a transition or a restart takes seconds.
const SURVEY_AGAIN: Duration = Duration::from_secs(2);
/// Portals that discovery may add: far more than a host has paths to, few enough to survive a lying target.
const NEXUSES_MAX: usize = 4096;

/// What a nexus is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Ask for targets, then end.
    Discovery,
    /// Carry commands.
    Target { name: String, lun: Option<Lun> },
}

/// One initiator port with one target port: a connection, a session, and the paths over it.
#[derive(Debug)]
pub(super) struct Nexus {
    pub(super) portal: SocketAddr,
    pub(super) purpose: Purpose,
    isid: [u8; 6],
    /// Where the target sent us for now (RFC 7143, 11.13.5: target moved).
    redirect: Option<SocketAddr>,
    phase: Phase,
    backoff: Backoff,
    pub(super) paths: BTreeMap<Lun, PathId>,
    last_error: Option<String>,
    logins: u64,
    /// It has had its first answer, or its first failure.
    settled: bool,
    /// When to survey again, because not every logical unit could be used.
    survey_at: Option<Instant>,
    /// Logical units of which was told already why they are not used.
    pub(super) complained: BTreeSet<Lun>,
}

#[derive(Debug)]
enum Phase {
    /// Not connected; tries again then.
    Waiting {
        until: Instant,
    },
    Connecting {
        stream: Stream,
        until: Instant,
    },
    Open(Box<Link>),
    /// It has done its work.
    Ended,
}

#[derive(Debug)]
struct Link {
    stream: Stream,
    session: Session<Context>,
    stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
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
pub(super) struct Sightings {
    pub(super) found: BTreeSet<Lun>,
    /// They are there, and failed a question: busy, in transition, or broken. To be looked at again.
    pub(super) doubtful: BTreeSet<Lun>,
}

impl Wire for Session<Context> {
    fn receive_into(&mut self) -> [IoSliceMut<'_>; 2] {
        Self::receive_into(self)
    }

    fn received(&mut self, now: Instant, count: usize) {
        self.handle(now, initiator::Event::Received(count));
    }

    fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        Self::transmit(self, slices)
    }

    fn sent(&mut self, now: Instant, count: usize) {
        self.handle(now, initiator::Event::Sent(count));
    }

    fn closed(&mut self, now: Instant) {
        self.handle(now, initiator::Event::Closed);
    }
}

impl Nexus {
    /// As people read it: `iqn.… at 10.0.0.1:3260`.
    pub(super) fn name(&self) -> String {
        match &self.purpose {
            Purpose::Discovery => format!("portal {}", self.portal),
            Purpose::Target { name, .. } => format!("{name} at {}", self.portal),
        }
    }

    const fn state(&self) -> &'static str {
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

    pub(super) fn target_name(&self) -> &str {
        match &self.purpose {
            Purpose::Discovery => "",
            Purpose::Target { name, .. } => name,
        }
    }

    pub(super) fn stage_mut(&mut self) -> Option<&mut Stage> {
        self.link_mut().map(|link| &mut link.stage)
    }

    /// All logical units are known: the nexus carries commands, and its earlier failures are forgiven.
    pub(super) fn survey_over(&mut self) {
        self.settled = true;
        self.last_error = None;
        self.backoff.reset();
        if let Some(stage) = self.stage_mut() {
            *stage = Stage::Up;
        }
    }

    fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.phase {
            Phase::Open(link) => Some(link),
            _ => None,
        }
    }
}

impl Shard {
    /// Makes a nexus for every configured portal.
    pub(super) fn open_portals(&mut self) {
        for portal in self.config.portals.clone() {
            match portal {
                PortalConfig::Discover(address) => self.add_nexus(address, Purpose::Discovery),
                PortalConfig::Target { portal, target_name, lun } => {
                    self.add_nexus(portal, Purpose::Target { name: target_name, lun });
                }
            }
        }
    }

    /// A way in that is there already is not made twice.
    fn add_nexus(&mut self, portal: SocketAddr, purpose: Purpose) {
        let known = self.nexuses.iter().any(|nexus| nexus.portal == portal && nexus.purpose == purpose);
        if known {
            return;
        }
        if self.nexuses.len() >= NEXUSES_MAX {
            let text = format!("{portal} is not used: more than {NEXUSES_MAX} portals");
            self.notice(Severity::Error, NoticeKind::PortalFailed, text);
            return;
        }
        let index = u32::try_from(self.nexuses.len()).expect("bounded by NEXUSES_MAX");
        let isid = self.isid(portal, &purpose);
        self.nexuses.push(Nexus {
            portal,
            purpose,
            isid,
            redirect: None,
            phase: Phase::Waiting { until: self.now },
            backoff: Backoff::new(u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            paths: BTreeMap::new(),
            last_error: None,
            logins: 0,
            settled: false,
            survey_at: None,
            complained: BTreeSet::new(),
        });
        self.connect(index);
    }

    /// The same portal, target and exports give the same ISID after a restart, so that a login of ours takes the
    /// place of the session that we left behind (RFC 7143, 6.3.5) and of no other.
    fn isid(&self, portal: SocketAddr, purpose: &Purpose) -> [u8; 6] {
        let mut hash = Fnv::new();
        hash.add(self.config.initiator.name.as_bytes());
        for export in &self.config.exports {
            hash.add(export.to_string().as_bytes());
        }
        hash.add(portal.to_string().as_bytes());
        if let Purpose::Target { name, lun } = purpose {
            hash.add(name.as_bytes());
            hash.add(&lun.map_or([0xff; 8], |lun| lun.0));
        }
        let mut bytes = hash.0.to_be_bytes();
        loop {
            // 80h: the rest is random (RFC 7143, 11.12.5: T=10b).
            let isid = [0x80, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]];
            if self.nexuses.iter().all(|nexus| nexus.isid != isid) {
                return isid;
            }
            hash.add(&[0]);
            bytes = hash.0.to_be_bytes();
        }
    }

    fn connect(&mut self, index: u32) {
        let nexus = &mut self.nexuses[index as usize];
        let address = nexus.redirect.take().unwrap_or(nexus.portal);
        let connecting = TcpStream::connect(address).and_then(|socket| {
            let mut stream = Stream::tcp(socket);
            stream.register(self.poll.registry(), Source::Nexus(index).token())?;
            Ok(stream)
        });
        match connecting {
            Ok(stream) => {
                nexus.phase = Phase::Connecting { stream, until: self.now + CONNECT_LIMIT };
                self.timers.arm(Source::Nexus(index), Some(self.now + CONNECT_LIMIT));
            }
            Err(error) => self.nexus_failed(index, Closed::from(error).to_string()),
        }
    }

    pub(super) fn note_nexus_edge(&mut self, index: u32, event: &mio::event::Event) {
        let Some(nexus) = self.nexuses.get_mut(index as usize) else { return };
        match &mut nexus.phase {
            Phase::Open(link) => link.stream.note(event),
            Phase::Connecting { stream, .. } => {
                stream.note(event);
                if stream.is_writable() {
                    self.connected(index);
                }
            }
            Phase::Waiting { .. } | Phase::Ended => {}
        }
    }

    /// The connection stands, or failed: log in.
    fn connected(&mut self, index: u32) {
        let nexus = &mut self.nexuses[index as usize];
        let Phase::Connecting { stream, .. } = &mut nexus.phase else { return };
        let user_timeout = self.config.initiator.nop_interval + self.config.initiator.nop_timeout;
        match stream.connected().and_then(|up| {
            stream.configure(Some(user_timeout))?;
            Ok(up)
        }) {
            Ok(false) => {}
            Ok(true) => self.log_in(index),
            Err(closed) => {
                let hint = match closed {
                    Closed::Failed(std::io::ErrorKind::ConnectionRefused, _) => {
                        ": nothing listens there; check address, port, and that the target is running"
                    }
                    Closed::Failed(
                        std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable,
                        _,
                    ) => ": check the address and the network",
                    _ => "",
                };
                self.nexus_failed(index, format!("{closed}{hint}"));
            }
        }
    }

    fn log_in(&mut self, index: u32) {
        let now = self.now;
        let nexus = &self.nexuses[index as usize];
        let options = session_options(&self.config.initiator, &nexus.purpose, nexus.isid);
        let session = match options.map(Session::new) {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => return self.nexus_failed(index, error.to_string()),
            Err(error) => return self.nexus_failed(index, error),
        };
        let nexus = &mut self.nexuses[index as usize];
        let Phase::Connecting { stream, .. } = std::mem::replace(&mut nexus.phase, Phase::Ended) else {
            return;
        };
        let mut link = Box::new(Link { stream, session, stage: Stage::Login });
        link.session.handle(now, initiator::Event::Connected);
        nexus.phase = Phase::Open(link);
        self.touched.add(Source::Nexus(index));
        self.ready.add(Source::Nexus(index));
    }

    pub(super) fn read_nexus(&mut self, index: u32) {
        let now = self.now;
        let Some(link) = self.nexuses.get_mut(index as usize).and_then(Nexus::link_mut) else { return };
        let mut turn = Turn::default();
        let outcome = loop {
            match link.stream.receive(&mut link.session, now, &mut turn) {
                Intake::Received => {}
                outcome => break outcome,
            }
        };
        self.touched.add(Source::Nexus(index));
        if let Intake::Closed(closed) = outcome {
            // What arrived before the end still counts.
            self.drain_nexus(index);
            self.lose_nexus(index, closed.to_string());
        }
    }

    pub(super) fn expire_nexus(&mut self, index: u32) {
        let now = self.now;
        let Some(nexus) = self.nexuses.get_mut(index as usize) else { return };
        match &mut nexus.phase {
            Phase::Waiting { until } if *until <= now => self.connect(index),
            Phase::Waiting { until } => {
                let until = *until;
                self.timers.arm(Source::Nexus(index), Some(until));
            }
            Phase::Connecting { until, .. } if *until <= now => {
                let text = format!(
                    "no answer to the connection request within {:?}: check the address and the network",
                    CONNECT_LIMIT
                );
                self.nexus_failed(index, text);
            }
            Phase::Connecting { until, .. } => {
                let until = *until;
                self.timers.arm(Source::Nexus(index), Some(until));
            }
            Phase::Open(link) => {
                link.session.handle(now, initiator::Event::Timeout);
                if let Stage::Survey { survey, .. } = &mut link.stage {
                    survey.handle(now, scsi_multipath::SurveyEvent::Timeout);
                }
                self.touched.add(Source::Nexus(index));
                if nexus.survey_at.is_some_and(|at| at <= now) {
                    self.survey_again(index);
                }
            }
            Phase::Ended => {}
        }
    }

    pub(super) fn flush_nexus(&mut self, index: u32) {
        let now = self.now;
        let Some(nexus) = self.nexuses.get_mut(index as usize) else { return };
        let survey_at = nexus.survey_at;
        let Some(link) = nexus.link_mut() else { return };
        let outcome = link.stream.flush(&mut link.session, now);
        let survey = match &link.stage {
            Stage::Survey { survey, .. } => survey.poll_timeout(),
            _ => None,
        };
        let deadline = [link.session.poll_timeout(), survey, survey_at].into_iter().flatten().min();
        if link.stream.wants(&mut link.session) {
            self.ready.add(Source::Nexus(index));
        }
        self.timers.arm(Source::Nexus(index), deadline);
        if let Err(closed) = outcome {
            self.lose_nexus(index, closed.to_string());
        }
    }

    /// Gives a command to the session of a nexus; without one it comes back at once.
    pub(super) fn send(&mut self, index: u32, lun: Lun, command: Command) {
        let now = self.now;
        match self.nexuses.get_mut(index as usize).and_then(Nexus::link_mut) {
            Some(link) => {
                link.session.handle(now, initiator::Event::Command { lun, command });
                self.touched.add(Source::Nexus(index));
            }
            None => self.command_ended(command, Ending::NotSent),
        }
    }

    pub(super) fn drain_nexus(&mut self, index: u32) {
        let mut actions = std::mem::take(&mut self.session_actions);
        while let Some(link) = self.nexuses.get_mut(index as usize).and_then(Nexus::link_mut) {
            actions.extend(std::iter::from_fn(|| link.session.poll_action()));
            if actions.is_empty() {
                break;
            }
            // Disks learn of a loss before commands come back, so that none of those is sent here again.
            if actions.iter().any(|action| matches!(action, initiator::Action::Disconnect(_))) {
                self.lose_paths(index);
            }
            for action in actions.drain(..) {
                self.take_session_action(index, action);
            }
        }
        self.session_actions = actions;
        self.drain_survey(index);
    }

    fn take_session_action(&mut self, index: u32, action: initiator::Action<Context>) {
        match action {
            initiator::Action::Ended { command, ending } => self.route(index, command, ending),
            initiator::Action::LoggedIn(_) => self.logged_in(index),
            initiator::Action::LoginFailed(error) => self.login_failed(index, &error),
            initiator::Action::Discovered(records) => self.discovered(index, records),
            initiator::Action::TargetMoved { portal, .. } => self.target_moved(index, &portal),
            initiator::Action::AsyncMessage(message) => {
                let text = format!("{}: the target says: {message:?}", self.nexuses[index as usize].name());
                self.notice(Severity::Info, NoticeKind::Other, text);
            }
            initiator::Action::LoggedOut => self.logged_out(index),
            initiator::Action::Disconnect(reason) => self.lose_nexus(index, reason.to_string()),
            // Nobody asks for task management yet but the session itself, and it keeps its own answers.
            initiator::Action::TaskManagementEnded { .. } => {}
        }
    }

    fn route(&mut self, index: u32, command: Command, ending: Ending) {
        match command.context.issuer() {
            scsi_multipath::Issuer::Disk(_) => self.command_ended(command, ending),
            scsi_multipath::Issuer::Survey => self.survey_answered(index, command, ending),
        }
    }

    fn logged_in(&mut self, index: u32) {
        let now = self.now;
        let nexus = &mut self.nexuses[index as usize];
        nexus.logins += 1;
        let purpose = nexus.purpose.clone();
        let Some(link) = nexus.link_mut() else { return };
        match purpose {
            Purpose::Discovery => {
                link.session.handle(now, initiator::Event::SendTargets(initiator::Scope::All));
                self.touched.add(Source::Nexus(index));
            }
            Purpose::Target { lun, .. } => self.start_survey(index, lun),
        }
    }

    fn start_survey(&mut self, index: u32, only: Option<Lun>) {
        let now = self.now;
        let luns = only.map_or_else(|| self.config.filter.luns.clone(), |lun| vec![lun]);
        self.nexuses[index as usize].survey_at = None;
        let Some(link) = self.nexuses[index as usize].link_mut() else { return };
        let mut survey = Box::new(if luns.is_empty() { Survey::new() } else { Survey::for_luns(luns) });
        survey.handle(now, scsi_multipath::SurveyEvent::Start);
        link.stage = Stage::Survey { survey, sightings: Sightings::default() };
        self.touched.add(Source::Nexus(index));
    }

    /// Something there could not be used, for a reason that may pass.
    pub(super) fn survey_later(&mut self, index: u32) {
        self.nexuses[index as usize].survey_at = Some(self.now + SURVEY_AGAIN);
        self.touched.add(Source::Nexus(index));
    }

    /// Not all that is there is known: look again. Paths that are known stay in use meanwhile.
    pub(super) fn survey_again(&mut self, index: u32) {
        let only = match &self.nexuses[index as usize].purpose {
            Purpose::Target { lun, .. } => *lun,
            Purpose::Discovery => return,
        };
        match self.nexuses[index as usize].stage_mut() {
            Some(Stage::Up) => self.start_survey(index, only),
            // What is going on now may have passed it already.
            Some(Stage::Survey { .. }) => self.survey_later(index),
            Some(Stage::Login | Stage::LoggingOut) | None => self.nexuses[index as usize].survey_at = None,
        }
    }

    fn discovered(&mut self, index: u32, records: Vec<initiator::TargetRecord>) {
        let asked = self.nexuses[index as usize].portal;
        let found: usize = records.iter().map(|record| record.portals.len().max(1)).sum();
        let text = format!("portal {asked} knows {} target(s) at {found} portal(s)", records.len());
        self.notice(Severity::Info, NoticeKind::Other, text);
        if records.is_empty() {
            let text = format!(
                "portal {asked} has no target for us: allow the initiator name {} there",
                self.config.initiator.name
            );
            self.notice(Severity::Error, NoticeKind::PortalFailed, text);
        }
        for record in records {
            let name = record.name;
            if record.portals.is_empty() {
                // RFC 7143, appendix C: no address means the address that was asked.
                self.add_nexus(asked, Purpose::Target { name: name.clone(), lun: None });
            }
            for portal in record.portals {
                match portal.host.parse() {
                    Ok(host) => {
                        let address = SocketAddr::new(host, portal.port);
                        self.add_nexus(address, Purpose::Target { name: name.clone(), lun: None });
                    }
                    Err(_) => {
                        let text = format!(
                            "{name} at {} is not used: the target names a portal that is not an IP address",
                            portal.host
                        );
                        self.notice(Severity::Warning, NoticeKind::PortalFailed, text);
                    }
                }
            }
        }
        self.nexuses[index as usize].settled = true;
        self.log_out(index);
    }

    fn log_out(&mut self, index: u32) {
        let now = self.now;
        if let Some(link) = self.nexuses[index as usize].link_mut() {
            link.stage = Stage::LoggingOut;
            link.session.handle(now, initiator::Event::Logout(iscsi::pdu::LogoutReason::CloseSession));
            self.touched.add(Source::Nexus(index));
        }
    }

    fn logged_out(&mut self, index: u32) {
        self.end_nexus(index);
    }

    fn end_nexus(&mut self, index: u32) {
        self.nexuses[index as usize].phase = Phase::Ended;
        self.timers.forget(Source::Nexus(index));
    }

    fn target_moved(&mut self, index: u32, portal: &initiator::Portal) {
        match portal.host.parse() {
            Ok(host) => {
                let address = SocketAddr::new(host, portal.port);
                self.nexuses[index as usize].redirect = Some(address);
                self.lose_nexus(index, format!("the target sends us to {address}"));
            }
            Err(_) => {
                let host = &portal.host;
                self.lose_nexus(index, format!("the target sends us to '{host}', which is no IP address"));
            }
        }
    }

    fn login_failed(&mut self, index: u32, error: &initiator::LoginError) {
        self.lose_nexus(index, format!("login failed: {error}{}", login_advice(error)));
    }

    /// The connection is over: its paths are down, its commands come back, and it is tried again later.
    pub(super) fn lose_nexus(&mut self, index: u32, reason: String) {
        let now = self.now;
        let nexus = &mut self.nexuses[index as usize];
        if nexus.link_mut().is_none() {
            return;
        }
        let Phase::Open(mut link) = std::mem::replace(&mut nexus.phase, Phase::Ended) else { return };
        let logging_out = matches!(link.stage, Stage::LoggingOut);
        self.lose_paths(index);
        link.stream.reset_on_close();
        link.session.handle(now, initiator::Event::Closed);
        while let Some(action) = link.session.poll_action() {
            if let initiator::Action::Ended { command, ending } = action
                && matches!(command.context.issuer(), scsi_multipath::Issuer::Disk(_))
            {
                self.command_ended(command, ending);
            }
        }
        drop(link);
        if logging_out {
            if matches!(self.life, Life::Ending { .. }) {
                let text = format!("{}: not logged out: {reason}", self.nexuses[index as usize].name());
                self.notice(Severity::Warning, NoticeKind::PortalFailed, text);
            }
            self.end_nexus(index);
        } else {
            self.nexus_failed(index, reason);
        }
    }

    fn lose_paths(&mut self, index: u32) {
        let paths: Vec<PathId> = self.nexuses[index as usize].paths.values().copied().collect();
        for path in paths {
            self.path_lost(path);
        }
    }

    /// Remembers and tells why, and arms the next try.
    fn nexus_failed(&mut self, index: u32, reason: String) {
        let ending = matches!(self.life, Life::Ending { .. });
        let nexus = &mut self.nexuses[index as usize];
        nexus.settled = true;
        // The first failure of a row is news; the later ones only if they say something else.
        let news = nexus.last_error.as_ref() != Some(&reason) || nexus.backoff.failures() == 0;
        let had_paths = !nexus.paths.is_empty();
        nexus.last_error = Some(reason.clone());
        let pause = if nexus.redirect.is_some() { Duration::ZERO } else { nexus.backoff.pause() };
        nexus.phase = if ending { Phase::Ended } else { Phase::Waiting { until: self.now + pause } };
        let text = format!("{}: {reason}", nexus.name());
        self.timers.forget(Source::Nexus(index));
        if ending {
            return;
        }
        self.timers.arm(Source::Nexus(index), Some(self.now + pause));
        if news {
            let kind = if had_paths { NoticeKind::PathLost } else { NoticeKind::PortalFailed };
            let severity = if had_paths { Severity::Warning } else { Severity::Error };
            self.notice(severity, kind, text);
        }
    }

    pub(super) fn nexuses_settled(&self) -> bool {
        self.nexuses.iter().all(|nexus| nexus.settled)
    }

    pub(super) fn nexuses_ended(&self) -> bool {
        self.nexuses.iter().all(|nexus| matches!(nexus.phase, Phase::Ended))
    }

    pub(super) fn shut_down_nexuses(&mut self) {
        for index in 0..self.nexuses.len() {
            let index = u32::try_from(index).expect("bounded by NEXUSES_MAX");
            match &self.nexuses[index as usize].phase {
                Phase::Open(link) => match link.stage {
                    Stage::Survey { .. } | Stage::Up => self.log_out(index),
                    Stage::Login => self.lose_nexus(index, String::from("ending")),
                    Stage::LoggingOut => {}
                },
                Phase::Waiting { .. } | Phase::Connecting { .. } => self.end_nexus(index),
                Phase::Ended => {}
            }
        }
    }

    pub(super) fn portal_statuses(&self) -> Vec<PortalStatus> {
        self.nexuses
            .iter()
            .map(|nexus| PortalStatus {
                portal: nexus.portal,
                target: match &nexus.purpose {
                    Purpose::Discovery => None,
                    Purpose::Target { name, .. } => Some(name.clone()),
                },
                state: nexus.state().to_owned(),
                last_error: nexus.last_error.clone(),
                logins: nexus.logins,
            })
            .collect()
    }
}

/// The FNV-1a hash: stable over versions, which the standard library's is not.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
