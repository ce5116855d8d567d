//! Sessions of ours: connect, log in, survey, carry commands, reconnect.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IoSlice, IoSliceMut};

use clock::{Duration, Instant};
use iscsi::initiator::{self, Kind, Options, Session};
use iscsi::negotiation::{DigestPolicy, Offers};
use iscsi::pdu::Isid;
use multipath::PathId;
use scsi::{Ending, Lun};
use scsi_multipath::{Command, Context, Issuer, Survey, SurveyEvent};

use super::{Backoff, Host, Settings, earliest};
use crate::link::{self, Arrived, ConnectionId, Door, End, Wire};
use crate::log::Part;
use crate::scene::{Scene, Source};
use crate::target::target_name;

/// As in the engine: a SYN and its first two repetitions.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);
const INITIATOR_NAME: &str = "iqn.2026-01.example:host";

#[derive(Debug)]
pub(super) struct Nexus {
    pub(super) port: usize,
    /// Which target the port belongs to.
    pub(super) target: u32,
    isid: [u8; 6],
    phase: Phase,
    backoff: Backoff,
    pub(super) paths: BTreeMap<Lun, PathId>,
}

#[derive(Debug)]
enum Phase {
    Waiting { until: Instant },
    Connecting { id: ConnectionId, until: Instant },
    Open(Box<Link>),
}

#[derive(Debug)]
struct Link {
    id: ConnectionId,
    session: Session<Context>,
    stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    Login,
    Survey { survey: Box<Survey>, seen: BTreeSet<Lun> },
    Up,
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
}

impl Nexus {
    pub(super) fn new(seed: u64, port: usize, target: u32) -> Self {
        let [a, b, c, d, ..] = seed.to_be_bytes();
        let number = u8::try_from(port).expect("there are few ports");
        Self {
            port,
            target,
            isid: [0x80, a ^ b, c, d, 0, number],
            phase: Phase::Waiting { until: Instant::START },
            backoff: Backoff { failures: 0 },
            paths: BTreeMap::new(),
        }
    }

    /// The connection, if it carries commands.
    pub(super) fn up(&self) -> Option<ConnectionId> {
        match &self.phase {
            Phase::Open(link) if matches!(link.stage, Stage::Up) => Some(link.id),
            _ => None,
        }
    }

    pub(super) const fn state(&self) -> &'static str {
        match &self.phase {
            Phase::Waiting { .. } => "waiting",
            Phase::Connecting { .. } => "connecting",
            Phase::Open(link) => match link.stage {
                Stage::Login => "login",
                Stage::Survey { .. } => "survey",
                Stage::Up => "up",
            },
        }
    }

    pub(super) fn stage_mut(&mut self) -> Option<&mut Stage> {
        self.link_mut().map(|link| &mut link.stage)
    }

    pub(super) fn survey_over(&mut self) {
        self.backoff.failures = 0;
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

    fn connection(&self) -> Option<ConnectionId> {
        match &self.phase {
            Phase::Waiting { .. } => None,
            Phase::Connecting { id, .. } => Some(*id),
            Phase::Open(link) => Some(link.id),
        }
    }
}

impl Host {
    pub(super) fn connect(&mut self, scene: &mut Scene, index: u32) {
        let nexus = &mut self.nexuses[index as usize];
        let id = scene.network.connect(scene.now, Door::Port(nexus.port), index);
        let until = scene.now + CONNECT_LIMIT;
        nexus.phase = Phase::Connecting { id, until };
        scene.note(Part::Nexus, [1, index.into(), id.0.into()], || {
            format!("port {index} connects as {}", id.0)
        });
        scene.timers.arm(Source::Nexus(index), Some(until));
    }

    pub(super) fn read_nexus(&mut self, scene: &mut Scene, index: u32, id: ConnectionId) {
        if self.nexuses[index as usize].connection() != Some(id) {
            // An older connection, which this side gave up.
            scene.network.take_signal(scene.now, id, End::Near);
            scene.network.reset(scene.now, id, End::Near);
            return;
        }
        match scene.network.arrived(scene.now, id, End::Near) {
            Arrived::Open => {
                scene.network.take_signal(scene.now, id, End::Near);
                self.log_in(scene, index, id);
            }
            Arrived::Bytes | Arrived::Nothing => {
                if let Some(link) = self.nexuses[index as usize].link_mut() {
                    link::receive(&mut scene.network, scene.now, id, End::Near, &mut link.session);
                }
            }
            Arrived::Finish | Arrived::Reset => {
                scene.network.take_signal(scene.now, id, End::Near);
                // What arrived before the end still counts.
                self.drain_nexus(scene, index);
                self.lose_nexus(scene, index, "the connection was closed");
            }
        }
        scene.touched.add(Source::Nexus(index));
    }

    fn log_in(&mut self, scene: &mut Scene, index: u32, id: ConnectionId) {
        let nexus = &mut self.nexuses[index as usize];
        let options = session_options(&self.settings, nexus.isid, nexus.target);
        let session = Session::new(options).expect("the options are those of the engine");
        let mut link = Box::new(Link { id, session, stage: Stage::Login });
        link.session.handle(scene.now, initiator::Event::Connected);
        nexus.phase = Phase::Open(link);
    }

    pub(super) fn expire_nexus(&mut self, scene: &mut Scene, index: u32) {
        match &mut self.nexuses[index as usize].phase {
            Phase::Waiting { until } if *until <= scene.now => self.connect(scene, index),
            Phase::Connecting { until, .. } if *until <= scene.now => {
                self.lose_nexus(scene, index, "no answer to the connection request");
            }
            Phase::Waiting { until } | Phase::Connecting { until, .. } => {
                let until = *until;
                scene.timers.arm(Source::Nexus(index), Some(until));
            }
            Phase::Open(link) => {
                link.session.handle(scene.now, initiator::Event::Timeout);
                if let Stage::Survey { survey, .. } = &mut link.stage {
                    survey.handle(scene.now, SurveyEvent::Timeout);
                }
                scene.touched.add(Source::Nexus(index));
            }
        }
    }

    pub(super) fn flush_nexus(&mut self, scene: &mut Scene, index: u32) {
        let Some(link) = self.nexuses[index as usize].link_mut() else { return };
        link::flush(&mut scene.network, scene.now, link.id, End::Near, &mut link.session);
        let survey = match &link.stage {
            Stage::Survey { survey, .. } => survey.poll_timeout(),
            Stage::Login | Stage::Up => None,
        };
        scene.timers.arm(Source::Nexus(index), earliest([link.session.poll_timeout(), survey]));
        if link::receive(&mut scene.network, scene.now, link.id, End::Near, &mut link.session) {
            scene.touched.add(Source::Nexus(index));
        }
    }

    /// Gives a command to the session of a nexus; without one it comes back at once.
    pub(super) fn send(&mut self, scene: &mut Scene, index: u32, lun: Lun, command: Command) {
        match self.nexuses[index as usize].link_mut() {
            Some(link) => {
                link.session.handle(scene.now, initiator::Event::Command { lun, command });
                scene.touched.add(Source::Nexus(index));
            }
            None => self.command_ended(scene, command, Ending::NotSent),
        }
    }

    pub(super) fn drain_nexus(&mut self, scene: &mut Scene, index: u32) {
        while let Some(link) = self.nexuses[index as usize].link_mut() {
            let actions: Vec<_> = std::iter::from_fn(|| link.session.poll_action()).collect();
            if actions.is_empty() {
                break;
            }
            // Disks learn of a loss before commands come back, so that none of those is sent here again.
            if actions.iter().any(|action| matches!(action, initiator::Action::Disconnect(_))) {
                self.lose_paths(scene, index);
            }
            for action in actions {
                self.take_session_action(scene, index, action);
            }
        }
        self.drain_survey(scene, index);
    }

    fn take_session_action(&mut self, scene: &mut Scene, index: u32, action: initiator::Action<Context>) {
        match action {
            initiator::Action::Ended { command, ending } => match command.context.issuer() {
                Issuer::Disk(_) => self.command_ended(scene, command, ending),
                Issuer::Survey => self.survey_answered(scene, index, command, ending),
            },
            initiator::Action::LoggedIn(_) => self.start_survey(scene, index),
            initiator::Action::Disconnect(reason) => self.lose_nexus(scene, index, &reason.to_string()),
            initiator::Action::LoginFailed(error) => self.lose_nexus(scene, index, &error.to_string()),
            initiator::Action::AsyncMessage(message) => {
                scene.note(Part::Nexus, [2, index.into(), 0], || format!("port {index} says {message:?}"));
            }
            initiator::Action::TargetMoved { .. }
            | initiator::Action::Discovered(_)
            | initiator::Action::LoggedOut
            | initiator::Action::TaskManagementEnded { .. } => {}
        }
    }

    pub(super) fn start_survey(&mut self, scene: &mut Scene, index: u32) {
        let Some(link) = self.nexuses[index as usize].link_mut() else { return };
        let mut survey = Box::new(Survey::new());
        survey.handle(scene.now, SurveyEvent::Start);
        link.stage = Stage::Survey { survey, seen: BTreeSet::new() };
        scene.touched.add(Source::Nexus(index));
    }

    /// The target says that its logical units changed. Paths that are known stay in use meanwhile.
    pub(super) fn survey_again(&mut self, scene: &mut Scene, index: u32) {
        if let Some(Stage::Up) = self.nexuses[index as usize].stage_mut() {
            self.start_survey(scene, index);
        }
    }

    /// The connection is over: its paths are down, its commands come back, and it is tried again later.
    pub(super) fn lose_nexus(&mut self, scene: &mut Scene, index: u32, reason: &str) {
        let nexus = &mut self.nexuses[index as usize];
        let Some(id) = nexus.connection() else { return };
        let was_up = nexus.up().is_some();
        let phase = std::mem::replace(&mut nexus.phase, Phase::Waiting { until: scene.now });
        scene.note(Part::Nexus, [3, index.into(), id.0.into()], || format!("port {index} is lost: {reason}"));
        self.nexuses_lost += u64::from(was_up);
        self.lose_paths(scene, index);
        scene.network.reset(scene.now, id, End::Near);
        if let Phase::Open(mut link) = phase {
            link.session.handle(scene.now, initiator::Event::Closed);
            while let Some(action) = link.session.poll_action() {
                if let initiator::Action::Ended { command, ending } = action
                    && matches!(command.context.issuer(), Issuer::Disk(_))
                {
                    self.command_ended(scene, command, ending);
                }
            }
        }
        let nexus = &mut self.nexuses[index as usize];
        let until = scene.now + nexus.backoff.pause(scene);
        nexus.phase = Phase::Waiting { until };
        scene.timers.forget(Source::Nexus(index));
        scene.timers.arm(Source::Nexus(index), Some(until));
    }

    fn lose_paths(&mut self, scene: &mut Scene, index: u32) {
        let paths: Vec<PathId> = self.nexuses[index as usize].paths.values().copied().collect();
        for path in paths {
            self.path_lost(scene, path);
        }
    }
}

fn session_options(settings: &Settings, isid: [u8; 6], target: u32) -> Options {
    let name = |text: &str| text.parse().expect("the names here are iSCSI names");
    let kind = Kind::Normal { target_name: name(&target_name(target)) };
    let mut options = Options::new(name(INITIATOR_NAME), Isid(isid), kind);
    let digest = if settings.digests { DigestPolicy::Prefer } else { DigestPolicy::Accept };
    options.offers = Offers {
        header_digest: digest,
        data_digest: digest,
        initial_r2t: settings.initial_r2t,
        max_recv_data_segment_length: 1 << 20,
        max_burst_length: 1 << 20,
        ..Offers::default()
    };
    options.command_timeout = settings.command_timeout;
    options
}
