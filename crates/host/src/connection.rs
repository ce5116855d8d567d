//! iSCSI sessions of ours: connect, log in, carry commands, log in again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::net::SocketAddr;

use clock::Duration;
use iscsi::chap::Challenge;
use iscsi::initiator::{self, LoginError, Session};
use iscsi::pdu::LoginStatus;
use multipath::PathId;
use scsi::{Ending, Lun};
use scsi_multipath::{Command, Context, Issuer, SurveyEvent, TargetId};

use crate::agenda::Source;
use crate::backoff::Backoff;
use crate::config::{ChapConfig, PortalConfig};
use crate::event::{Action, Loss, NexusIndex, NoticeKind, Parting, Severity, Trace};
use crate::fence::{FENCE_CONNECT_LIMIT, FENCE_LOGIN_LIMIT};
use crate::host::{Host, Life};
use crate::log::{Cause, Subject, What};
use crate::login::{login_advice, session_options};
use crate::nexus::{Link, Nexus, Phase, Purpose, Stage};
use crate::route::Way;

/// A TCP connection that does not stand by then is given up: a SYN and its first two repetitions.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);
/// Portals that a target may send us to one after the other without a login; more of them is a circle.
const REDIRECTS_MAX: u32 = 4;
/// How often a portal is asked for targets at the most, whatever targets say: a survey of all paths takes less.
const DISCOVER_EVERY: Duration = Duration::from_secs(10);
/// The longest that a target may keep us away: as long as a path waits for a transition.
const TIME2WAIT_MAX: Duration = Duration::from_secs(60);
/// Portals that discovery may add: far more than a host has paths to, few enough to survive a lying target.
const NEXUSES_MAX: usize = 8192;

impl Host {
    /// Makes a nexus for every configured portal.
    pub(crate) fn open_portals(&mut self) {
        for portal in self.options.portals.clone() {
            match portal {
                PortalConfig::Discover(address) => self.add_nexus(address, None, Purpose::Discovery),
                PortalConfig::Target { portal, target_name, lun } => {
                    self.add_nexus(portal, None, Purpose::Target { name: target_name, lun });
                }
            }
        }
    }

    /// A way in that is there already is not made twice.
    fn add_nexus(&mut self, portal: SocketAddr, group: Option<u16>, purpose: Purpose) {
        let is_it = |nexus: &Nexus| nexus.portal == portal && nexus.purpose == purpose;
        if let Some(known) = self.nexuses.iter().position(is_it) {
            return self.take_in(u32::try_from(known).expect("bounded by NEXUSES_MAX"));
        }
        if self.nexuses.len() >= NEXUSES_MAX {
            let text = format!("{portal} is not used: more than {NEXUSES_MAX} portals");
            let kind = NoticeKind::PortalFailed;
            self.tell(Severity::Error, kind, Subject::Nobody, What::PortalRefused, text);
            return;
        }
        let index = self.push_nexus(portal, group, purpose);
        let initiator = &self.options.initiator.name;
        if let Some(record) = self.memory.take_record(&self.nexuses[index as usize], initiator) {
            self.take_up(index, record);
        }
        self.connect(index);
    }

    /// A nexus that was only to be fenced is one of ours after all, if it is our name's.
    fn take_in(&mut self, index: u32) {
        let nexus = &mut self.nexuses[index as usize];
        if !nexus.is_stray || nexus.initiator.as_ref() != Some(&self.options.initiator.name) {
            return;
        }
        (nexus.is_stray, nexus.settled) = (false, false);
        if nexus.has_ended() {
            self.connect(index);
        }
    }

    /// Makes a nexus that is not connected.
    pub(crate) fn push_nexus(&mut self, portal: SocketAddr, group: Option<u16>, purpose: Purpose) -> u32 {
        let index = u32::try_from(self.nexuses.len()).expect("nexuses and records are bounded");
        let isid = self.isid(portal, &purpose);
        let target = self.target_id(&purpose);
        let seed = self.options.seed ^ u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.nexuses.push(Nexus {
            portal,
            purpose,
            target,
            isid,
            initiator: None,
            is_stray: false,
            units: BTreeMap::new(),
            was_not_logged_out: false,
            group,
            redirect: None,
            redirects: 0,
            not_before: None,
            last_cause: None,
            phase: Phase::Ended,
            backoff: Backoff::new(seed),
            up_since: None,
            loss: Loss::Broken,
            debts: Vec::new(),
            abandoned: None,
            route: None,
            way: Way::Own,
            fence_at: None,
            paths: BTreeMap::new(),
            unused: BTreeSet::new(),
            losses: BTreeMap::new(),
            last_error: None,
            logins: 0,
            surveyed: 0,
            asked_at: None,
            settled: false,
            survey_at: None,
            complained: BTreeSet::new(),
        });
        index
    }

    /// Equal for nexuses with the same target: that of the first one, which never changes.
    fn target_id(&self, purpose: &Purpose) -> TargetId {
        let name = purpose.target_name();
        let known = self.nexuses.iter().find(|nexus| nexus.purpose.target_name() == name);
        let fresh = u32::try_from(self.nexuses.len()).expect("bounded by NEXUSES_MAX");
        known.map_or(TargetId(fresh), |nexus| nexus.target)
    }

    /// The same portal, target and salt give the same ISID after a restart, so that a login of ours takes the place
    /// of the session that we left behind (RFC 7143, 6.3.5) and of no other.
    fn isid(&self, portal: SocketAddr, purpose: &Purpose) -> [u8; 6] {
        let mut hash = Fnv::new();
        hash.add(self.options.initiator.name.as_bytes());
        hash.add(&self.options.salt);
        hash.add(portal.to_string().as_bytes());
        if let Purpose::Target { name, lun } = purpose {
            hash.add(name.as_bytes());
            hash.add(&lun.map_or([0xff; 8], |lun| lun.0));
        }
        let mut bytes = hash.0.to_be_bytes();
        loop {
            // 80h: the rest is random (RFC 7143, 11.12.5: T=10b).
            let isid = [0x80, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]];
            if self.nexuses.iter().all(|nexus| nexus.isid != isid) && !self.memory.knows_isid(isid) {
                return isid;
            }
            hash.add(&[0]);
            bytes = hash.0.to_be_bytes();
        }
    }

    pub(crate) fn connect(&mut self, index: u32) {
        let nexus = &mut self.nexuses[index as usize];
        let address = match nexus.way {
            Way::Own => {
                nexus.not_before = None;
                nexus.redirect.take().unwrap_or(nexus.portal)
            }
            Way::Sibling(address) => address,
        };
        let limit = if nexus.owes() { FENCE_CONNECT_LIMIT } else { CONNECT_LIMIT };
        let until = self.now + limit;
        nexus.phase = Phase::Connecting { until, limit };
        self.timers.arm(Source::Nexus(index), Some(until));
        self.actions.push_back(Action::Connect { nexus: NexusIndex(index), address });
    }

    pub(crate) fn connect_failed(&mut self, index: u32, why: String) {
        if matches!(self.nexuses[index as usize].phase, Phase::Connecting { .. }) {
            self.nexus_failed(index, Cause::ConnectFailed, why);
        }
    }

    /// The connection stands: log in.
    pub(crate) fn log_in(&mut self, index: u32, challenge: Option<Challenge>) {
        let now = self.now;
        let nexus = &mut self.nexuses[index as usize];
        if !matches!(nexus.phase, Phase::Connecting { .. }) {
            return;
        }
        let initiator = nexus.initiator.as_ref().unwrap_or(&self.options.initiator.name);
        let options =
            session_options(&self.options.initiator, initiator, &nexus.purpose, nexus.isid, challenge);
        let is_patient = nexus.is_left();
        let options = options.map(|mut options| {
            if is_patient {
                options.login_timeout = options.login_timeout.max(FENCE_LOGIN_LIMIT);
            }
            options
        });
        let mut session = match options.map(Session::new) {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => {
                return self.connection_is_useless(index, Cause::LoginFailed, error.to_string());
            }
            Err(error) => return self.connection_is_useless(index, Cause::LoginFailed, error),
        };
        session.handle(now, initiator::Event::Connected);
        nexus.phase = Phase::Open(Box::new(Link::new(session)));
        self.touched.add(Source::Nexus(index));
    }

    fn connection_is_useless(&mut self, index: u32, cause: Cause, reason: String) {
        self.disconnect(index, Parting::Reset);
        self.nexus_failed(index, cause, reason);
    }

    /// The connection has ended. What arrived before the end still counts.
    pub(crate) fn closed(&mut self, index: u32, loss: Loss, why: String) {
        self.drain_nexus(index);
        self.lose_nexus(index, Cause::of(loss), why);
    }

    pub(crate) fn expire_nexus(&mut self, index: u32) {
        let now = self.now;
        let nexus = &mut self.nexuses[index as usize];
        match &mut nexus.phase {
            Phase::Waiting { until } if *until <= now => self.connect(index),
            Phase::Connecting { until, limit } if *until <= now => {
                let text = format!(
                    "no answer to the connection request within {limit:?}: check the address and the network"
                );
                self.connection_is_useless(index, Cause::ConnectTimeout, text);
            }
            Phase::Waiting { .. } | Phase::Connecting { .. } => self.arm_nexus(index),
            Phase::Open(link) => {
                link.session.handle(now, initiator::Event::Timeout);
                if let Stage::Survey { survey, .. } = &mut link.stage {
                    survey.handle(now, SurveyEvent::Timeout);
                }
                let asks = link.tasks.deadline().is_some_and(|at| at <= now);
                self.touched.add(Source::Nexus(index));
                let pays = nexus.fence_at.is_some_and(|at| at <= now);
                if nexus.survey_at.is_some_and(|at| at <= now) {
                    self.survey_again(index);
                }
                if pays {
                    self.pay_again(index);
                }
                if asks {
                    self.ask_again(index);
                }
            }
            Phase::Ended => {}
        }
    }

    /// Bytes have left: that may have been what an ended command waited for, and it moves deadlines.
    pub(crate) fn flushed(&mut self, index: u32) {
        if let Some(link) = self.nexuses[index as usize].link_mut()
            && matches!(link.stage, Stage::Login)
        {
            link.login_is_out |= link.session.transmit(&mut [IoSlice::new(&[])]) == 0;
        }
        if self.drain_session(index) {
            self.touched.add(Source::Nexus(index));
        }
        self.arm_nexus(index);
    }

    pub(crate) fn arm_nexus(&mut self, index: u32) {
        let deadline = self.nexuses[index as usize].deadline();
        self.timers.arm(Source::Nexus(index), deadline);
    }

    /// Gives a command to the session of a nexus; without one it comes back at once.
    pub(crate) fn send(&mut self, index: u32, lun: Lun, command: Command) {
        let now = self.now;
        match self.nexuses[index as usize].link_mut() {
            Some(link) => {
                link.session.handle(now, initiator::Event::Command { lun, command });
                self.touched.add(Source::Nexus(index));
            }
            None => self.command_ended(command, Ending::NotSent),
        }
    }

    pub(crate) fn drain_nexus(&mut self, index: u32) {
        self.drain_session(index);
        self.drain_survey(index);
    }

    /// True if the session had something to say.
    fn drain_session(&mut self, index: u32) -> bool {
        let mut any = false;
        let mut actions = std::mem::take(&mut self.session_actions);
        while let Some(link) = self.nexuses[index as usize].link_mut() {
            actions.extend(std::iter::from_fn(|| link.session.poll_action()));
            if actions.is_empty() {
                break;
            }
            any = true;
            // Disks learn of a loss before commands come back, so that none of those is sent here again.
            let end = actions.iter().find_map(|action| match action {
                initiator::Action::Disconnect(reason) => Some(cause_of(reason)),
                _ => None,
            });
            if let Some(cause) = end {
                self.lose_paths(index, cause);
            }
            for action in actions.drain(..) {
                self.take_session_action(index, action);
            }
        }
        self.session_actions = actions;
        any
    }

    fn take_session_action(&mut self, index: u32, action: initiator::Action<Context>) {
        match action {
            initiator::Action::Ended { command, ending } => match command.context.issuer() {
                Issuer::Disk(_) => self.command_ended(command, ending),
                Issuer::Survey => self.survey_answered(index, command, ending),
            },
            initiator::Action::LoggedIn(logged_in) => {
                self.logged_in(index, logged_in.target_portal_group_tag);
            }
            initiator::Action::LoginFailed(error) => self.login_failed(index, &error),
            initiator::Action::Discovered(records) => self.discovered(index, records),
            initiator::Action::TargetMoved { portal, .. } => self.target_moved(index, &portal),
            initiator::Action::AsyncMessage(message) => {
                let text = format!("{}: the target says: {message:?}", self.nexuses[index as usize].name());
                let what = What::TargetSays { event: event_code(&message) };
                self.tell(Severity::Info, NoticeKind::Other, Subject::Nexus(index), what, text);
            }
            initiator::Action::Pinged { took } => self.pinged(index, took),
            initiator::Action::LoggedOut => self.logged_out(index),
            initiator::Action::Disconnect(reason) => {
                if let initiator::Reason::DroppedByTarget { time2wait } = reason {
                    let wait = Duration::from_secs(time2wait.into()).min(TIME2WAIT_MAX);
                    self.nexuses[index as usize].not_before = Some(self.now + wait);
                }
                self.lose_nexus(index, cause_of(&reason), reason.to_string());
            }
            initiator::Action::TaskManagementEnded { id, response } => self.task_ended(index, id, response),
        }
    }

    fn logged_in(&mut self, index: u32, group: Option<u16>) {
        let now = self.now;
        let nexus = &mut self.nexuses[index as usize];
        nexus.logins += 1;
        nexus.redirects = 0;
        if nexus.way == Way::Own {
            nexus.group = group.or(nexus.group);
        }
        let is_discovery = nexus.purpose == Purpose::Discovery;
        let Some(link) = nexus.link_mut() else { return };
        link.login_is_out = false;
        link.group = group;
        if is_discovery {
            link.session.handle(now, initiator::Event::SendTargets(initiator::Scope::All));
            self.touched.add(Source::Nexus(index));
        } else {
            // Nothing is sent on it before that.
            link.stage = Stage::Reset;
            self.pay_or_survey(index);
        }
    }

    fn login_failed(&mut self, index: u32, error: &LoginError) {
        // A login that is refused was answered: it has reinstated nothing, and left nothing behind.
        if let LoginError::Refused(_) = error
            && let Some(link) = self.nexuses[index as usize].link_mut()
        {
            link.login_is_out = false;
        }
        let cause = match error {
            LoginError::Timeout => Cause::LoginTimeout,
            LoginError::Refused(LoginStatus::AuthenticationFailed) | LoginError::Chap(_) => {
                Cause::Authentication
            }
            _ => Cause::LoginFailed,
        };
        self.lose_nexus(index, cause, format!("login failed: {error}{}", login_advice(error)));
    }

    fn discovered(&mut self, index: u32, records: Vec<initiator::TargetRecord>) {
        let asked = self.nexuses[index as usize].portal;
        let found: usize = records.iter().map(|record| record.portals.len().max(1)).sum();
        let text = format!("portal {asked} knows {} target(s) at {found} portal(s)", records.len());
        let what = What::Discovered { targets: records.len(), portals: found };
        self.tell(Severity::Info, NoticeKind::Other, Subject::Nexus(index), what, text);
        if records.is_empty() {
            let text = format!(
                "portal {asked} has no target for us: allow the initiator name {} there",
                self.options.initiator.name
            );
            let (kind, what) = (NoticeKind::PortalFailed, What::NothingDiscovered);
            self.tell(Severity::Error, kind, Subject::Nexus(index), what, text);
        }
        for record in records {
            let name = record.name;
            if record.portals.is_empty() {
                // RFC 7143, appendix C: no address means the address that was asked.
                self.add_nexus(asked, None, Purpose::Target { name: name.clone(), lun: None });
            }
            for portal in record.portals {
                match portal.host.parse() {
                    Ok(host) => {
                        let address = SocketAddr::new(host, portal.port);
                        self.add_nexus(
                            address,
                            portal.group,
                            Purpose::Target { name: name.clone(), lun: None },
                        );
                    }
                    Err(_) => {
                        let text = format!(
                            "{name} at {} is not used: the target names a portal that is not an IP address",
                            portal.host
                        );
                        let (kind, what) = (NoticeKind::PortalFailed, What::PortalRefused);
                        self.tell(Severity::Warning, kind, Subject::Nexus(index), what, text);
                    }
                }
            }
        }
        let nexus = &mut self.nexuses[index as usize];
        nexus.settled = true;
        nexus.asked_at = Some(self.now);
        self.log_out(index);
    }

    /// What a target says of its units or portals may go with portals that nobody has told us of.
    pub(crate) fn discover_again(&mut self) {
        let now = self.now;
        for index in 0..u32::try_from(self.nexuses.len()).expect("bounded by NEXUSES_MAX") {
            let nexus = &mut self.nexuses[index as usize];
            if nexus.purpose == Purpose::Discovery && nexus.has_ended() && self.life == Life::Open {
                let until = nexus.asked_at.map_or(now, |asked| (asked + DISCOVER_EVERY).max(now));
                nexus.phase = Phase::Waiting { until };
                self.arm_nexus(index);
            }
        }
    }

    pub(crate) fn log_out(&mut self, index: u32) {
        let now = self.now;
        if let Some(link) = self.nexuses[index as usize].link_mut() {
            link.stage = Stage::LoggingOut;
            link.session.handle(now, initiator::Event::Logout(iscsi::pdu::LogoutReason::CloseSession));
            self.touched.add(Source::Nexus(index));
        }
    }

    /// A logout of ours ends the nexus, or its detour. One that the target asked for is a loss like any other: the
    /// session has ended in order, and the target may take the next one.
    fn logged_out(&mut self, index: u32) {
        let nexus = &mut self.nexuses[index as usize];
        if !matches!(nexus.stage_mut(), Some(Stage::LoggingOut)) {
            return;
        }
        let is_on_detour = nexus.is_on_detour();
        nexus.was_not_logged_out = false;
        self.end_nexus(index, Parting::Orderly);
        if is_on_detour {
            self.turn_back(index);
        }
    }

    /// Gives up the connection, if there is one, for good.
    fn end_nexus(&mut self, index: u32, how: Parting) {
        let phase = std::mem::replace(&mut self.nexuses[index as usize].phase, Phase::Ended);
        if matches!(phase, Phase::Connecting { .. } | Phase::Open(_)) {
            self.disconnect(index, how);
        }
        if let Phase::Open(link) = phase {
            self.tasks_lost(index, link.tasks);
        }
        self.timers.forget(Source::Nexus(index));
    }

    pub(crate) fn disconnect(&mut self, index: u32, how: Parting) {
        self.actions.push_back(Action::Disconnect { nexus: NexusIndex(index), how });
    }

    fn target_moved(&mut self, index: u32, portal: &initiator::Portal) {
        match portal.host.parse() {
            Ok(host) => {
                let address = SocketAddr::new(host, portal.port);
                let nexus = &mut self.nexuses[index as usize];
                nexus.redirects += 1;
                // One that sends us round and round is tried again as one that refuses.
                nexus.redirect = (nexus.redirects <= REDIRECTS_MAX).then_some(address);
                if let Some(link) = nexus.link_mut() {
                    link.login_is_out = false;
                }
                self.lose_nexus(index, Cause::TargetMoved, format!("the target sends us to {address}"));
            }
            Err(_) => {
                let host = &portal.host;
                let reason = format!("the target sends us to '{host}', which is no IP address");
                self.lose_nexus(index, Cause::TargetMoved, reason);
            }
        }
    }

    /// The connection is over: its paths are down, its commands come back, and it is tried again later.
    pub(crate) fn lose_nexus(&mut self, index: u32, cause: Cause, reason: String) {
        let nexus = &mut self.nexuses[index as usize];
        if !nexus.is_open() {
            return;
        }
        let was_up = nexus.is_up();
        if let Some(since) = nexus.up_since.take() {
            nexus.backoff.lost_after(self.now.since(since));
        }
        nexus.unused.clear();
        nexus.loss = cause.loss();
        nexus.fence_at = None;
        let Phase::Open(link) = std::mem::replace(&mut nexus.phase, Phase::Ended) else { return };
        if link.login_is_out {
            // The target may have begun to end the old session, and the next login may be answered while it still
            // does: that one's answer alone proves nothing any more.
            nexus.abandoned = Some(nexus.logins);
            self.memory.touch();
        }
        let is_on_detour = nexus.is_on_detour();
        let logging_out = matches!(link.stage, Stage::LoggingOut);
        nexus.was_not_logged_out = true;
        self.memory.drop_held(index);
        self.leave_reports(index);
        self.trace(|| Trace::Lost { nexus: NexusIndex(index), was_up });
        self.lose_paths(index, cause);
        // Before another connection can take its place.
        self.disconnect(index, Parting::Reset);
        self.give_back(index, link);
        if logging_out && is_on_detour {
            self.turn_back(index);
        } else if logging_out {
            if self.life == Life::EndingSessions {
                let text = format!("{}: not logged out: {reason}", self.nexuses[index as usize].name());
                let (kind, what) = (NoticeKind::PortalFailed, What::NotLoggedOut(cause));
                self.tell(Severity::Warning, kind, Subject::Nexus(index), what, text);
            }
            self.timers.forget(Source::Nexus(index));
        } else {
            self.nexus_failed(index, cause, reason);
        }
    }

    /// What the session of a lost connection holds goes back to where it came from.
    fn give_back(&mut self, index: u32, mut link: Box<Link>) {
        link.session.handle(self.now, initiator::Event::Closed);
        while let Some(action) = link.session.poll_action() {
            if let initiator::Action::Ended { command, ending } = action
                && matches!(command.context.issuer(), Issuer::Disk(_))
            {
                self.command_ended(command, ending);
            }
        }
        self.tasks_lost(index, link.tasks);
    }

    fn lose_paths(&mut self, index: u32, cause: Cause) {
        let paths: Vec<PathId> = self.nexuses[index as usize].paths.values().copied().collect();
        for path in paths {
            self.path_lost(path, cause);
        }
    }

    /// Remembers and tells why, and arms the next try.
    fn nexus_failed(&mut self, index: u32, cause: Cause, reason: String) {
        let ending = matches!(self.life, Life::EndingSessions | Life::Ended);
        let nexus = &mut self.nexuses[index as usize];
        nexus.settled = true;
        nexus.last_cause = Some(cause);
        // The first failure of a row is news; the later ones only if they say something else.
        let news = nexus.last_error.as_ref() != Some(&reason) || nexus.backoff.failures() == 0;
        let had_paths = !nexus.paths.is_empty();
        nexus.last_error = Some(reason.clone());
        let pauses = if nexus.redirect.is_some() {
            false
        } else if nexus.owes() {
            self.next_leg(index).after_a_pause
        } else {
            nexus.way = Way::Own;
            true
        };
        let ending = ending || self.nexuses[index as usize].has_nothing_to_do();
        let pause = if pauses { self.pause(index) } else { Duration::ZERO };
        let nexus = &mut self.nexuses[index as usize];
        let until = nexus.not_earlier(self.now + pause);
        nexus.phase = if ending { Phase::Ended } else { Phase::Waiting { until } };
        let text = format!("{}: {reason}", nexus.name());
        self.timers.forget(Source::Nexus(index));
        if ending {
            return;
        }
        self.timers.arm(Source::Nexus(index), Some(until));
        if news {
            let kind = if had_paths { NoticeKind::PathLost } else { NoticeKind::PortalFailed };
            let severity = if had_paths { Severity::Warning } else { Severity::Error };
            let what = match had_paths && !cause.is_of_a_login() {
                true => What::SessionLost(cause),
                false => What::SessionFailed(cause),
            };
            self.tell(severity, kind, Subject::Nexus(index), what, text);
        }
        if cause == Cause::Authentication {
            self.actions.push_back(Action::CredentialsRefused);
        }
    }

    /// Whoever was refused for the former ones logs in with these at once. They are never told.
    pub(crate) fn set_credentials(&mut self, chap: Option<ChapConfig>) {
        if self.options.initiator.chap == chap {
            return;
        }
        self.options.initiator.chap = chap;
        let text = String::from("CHAP credentials changed: the next logins use the new ones");
        self.tell(Severity::Info, NoticeKind::Other, Subject::Nobody, What::CredentialsChanged, text);
        let now = self.now;
        for index in 0..u32::try_from(self.nexuses.len()).expect("bounded by NEXUSES_MAX") {
            let nexus = &mut self.nexuses[index as usize];
            if nexus.last_cause == Some(Cause::Authentication)
                && let Phase::Waiting { until } = &mut nexus.phase
            {
                *until = now;
                self.arm_nexus(index);
            }
        }
    }

    pub(crate) fn shut_down_nexuses(&mut self) {
        for index in 0..self.nexuses.len() {
            let index = u32::try_from(index).expect("bounded by NEXUSES_MAX");
            match &self.nexuses[index as usize].phase {
                Phase::Open(link) => match link.stage {
                    Stage::Reset | Stage::Survey { .. } | Stage::Up => self.log_out(index),
                    Stage::Login => self.lose_nexus(index, Cause::Ending, String::from("ending")),
                    Stage::LoggingOut => {}
                },
                Phase::Waiting { .. } | Phase::Connecting { .. } => self.end_nexus(index, Parting::Reset),
                Phase::Ended => {}
            }
        }
    }
}

/// What the end of a session came from.
const fn cause_of(reason: &initiator::Reason) -> Cause {
    use initiator::Reason;
    match reason {
        Reason::NopTimeout => Cause::NopTimeout,
        Reason::AbortTimeout { .. } | Reason::AbortRefused { .. } => Cause::CommandTimeout,
        Reason::TaskManagementTimeout | Reason::DiscoveryTimeout | Reason::LogoutTimeout => Cause::NoAnswer,
        Reason::LoggedOut | Reason::NotAtRest | Reason::DroppedByTarget { .. } => Cause::TargetAsked,
        Reason::LoginFailed => Cause::LoginFailed,
        Reason::TargetMoved => Cause::TargetMoved,
        Reason::Closed => Cause::ConnectionLost,
        Reason::LogoutRefused(_)
        | Reason::Rejected { .. }
        | Reason::Frame(_)
        | Reason::Text(_)
        | Reason::Misbehaved(_) => Cause::Protocol,
    }
}

const fn event_code(message: &initiator::AsyncMessage) -> &'static str {
    use initiator::AsyncMessage;
    match message {
        AsyncMessage::Scsi { .. } => "scsi",
        AsyncMessage::LogoutRequested { .. } => "logout-requested",
        AsyncMessage::ConnectionDropped { .. } => "connection-dropped",
        AsyncMessage::NegotiationRequested { .. } => "negotiation-requested",
        AsyncMessage::TasksTerminated { .. } => "tasks-terminated",
        AsyncMessage::Other { .. } => "other",
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
