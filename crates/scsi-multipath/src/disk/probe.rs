//! Questions that the disk asks about a path, and what their answers change.

use block::Rotation;
use clock::Instant;
use multipath::PathId;
use scsi::capacity::Capacity10;
use scsi::inquiry::{InquiryData, PeripheralQualifier};
use scsi::port_groups::PortGroups;
use scsi::vpd::{BlockCharacteristicsPage, BlockLimitsPage, DeviceIdPage, LogicalProvisioningPage};
use scsi::{Ending, Lba, ParseError, Status};

use super::path::Standing;
use super::report::{Reason, Report};
use super::work::Flight;
use super::{AccessCause, Action, Disk};
use crate::command::Kind;
use crate::disposition::{CommandClass, Failure, FollowUp, PathEffect, disposition};
use crate::identity::Identity;
use crate::question::{Answer, Asking, Caching, Question};
use crate::unit::{Capacity, Contradiction, Limits, Port, Provisioning, rotation, same_identity};

/// What an answer says of its path.
enum Learned {
    Identity(Option<Identity>, Port),
    Inquiry(InquiryData),
    Access(PortGroups),
    Capacity(Option<Capacity>),
    Modes(Caching),
    /// Nothing but that it answers.
    Ready,
    Limits(Limits),
    Provisioning(Provisioning),
    Rotation(Rotation),
}

impl Disk {
    /// Sends every question whose time has come.
    pub(super) fn send_probes(&mut self, now: Instant) {
        for position in 0..self.paths.len() {
            let id = self.paths[position].id;
            let command_id = self.take_id(id);
            let Some(asking) = self.paths[position].next_question(now) else { continue };
            let question = asking.question;
            let command =
                asking.command(command_id, Kind::Disk { path: id, flight: Flight::Probe(question) });
            self.paths[position].settles = self.resets.settled();
            if subject(question) == FollowUp::ACCESS {
                self.access_asked(now, id);
            }
            self.probes_out += 1;
            self.actions.push_back(Action::Start { path: id, command });
        }
    }

    pub(super) fn probe_ended(
        &mut self,
        now: Instant,
        id: PathId,
        question: Question,
        data: &[u8],
        ending: &Ending,
    ) {
        self.probes_out -= 1;
        let Some(path) = self.paths.iter_mut().find(|path| path.id == id) else { return };
        path.probe.is_out = false;
        let is_in_doubt = subject(question) != FollowUp::IDENTITY && path.probe.wants(FollowUp::IDENTITY);
        let Some(asking) = path.probe.asking.as_mut() else { return };
        let answer = asking.answer(now, ending);
        let is_at_rest = is_at_rest(question, answer);
        let is_unanswered = match answer {
            Answer::Lost => true,
            Answer::Failed(_) => question != Question::Ready,
            _ => false,
        };
        match answer {
            Answer::Again(at) => path.probe.pause_until(at),
            Answer::Lost => {
                path.probe.failed(now);
                if path.is_alive() {
                    path.standing = Standing::Failed(Reason::Lost);
                    path.probe.want(FollowUp::IDENTITY, now);
                }
            }
            Answer::Refused => match question.simpler() {
                Some(simpler) => path.ask_instead(now, question, simpler),
                None => self.unanswerable(id, question, now),
            },
            // It has answered.
            Answer::Failed(_) if question == Question::Ready => {
                path.probe.answered(now);
                path.probe.done(FollowUp::READY);
            }
            Answer::Failed(_) => path.probe.failed(now),
            // Since it went out there has been a reason to doubt who answers.
            Answer::Data(_) if is_in_doubt => {
                path.probe.pause_until(now);
            }
            Answer::Data(length) => self.data_came(now, id, question, &data[..length.min(data.len())]),
        }
        if is_unanswered {
            self.access_not_answered(id);
        }
        self.take_news(now, id, question, ending);
        if is_at_rest {
            self.has_told_of_resets(now, id);
        }
        self.with_path(now, id, |_| {});
    }

    fn data_came(&mut self, now: Instant, id: PathId, question: Question, data: &[u8]) {
        let Some(path) = self.paths.iter_mut().find(|path| path.id == id) else { return };
        let Some(asking) = path.probe.asking.as_mut() else { return };
        match learn(question, data) {
            Ok(learned) => {
                path.probe.answered(now);
                match path.rest_of(question) {
                    Some(rest) => path.probe.asking = Some(Asking::new(rest)),
                    None => path.probe.done(subject(question)),
                }
                self.take_in(now, id, learned);
            }
            Err(ParseError::Truncated { needed, .. }) if asking.enlarge(needed) => {
                path.probe.pause_until(now);
            }
            Err(_) if subject(question) == FollowUp::ACCESS => match question.simpler() {
                // Linux's target (LIO) does not count the long header, and leaves out as many bytes at the end.
                Some(simpler) => path.ask_instead(now, question, simpler),
                None => {
                    path.probe.failed(now);
                    self.access_not_answered(id);
                }
            },
            Err(_) => self.unanswerable(id, question, now),
        }
    }

    /// The device has no answer, or none that makes sense. What the path waits for is asked for for ever.
    fn unanswerable(&mut self, id: PathId, question: Question, now: Instant) {
        let Some(path) = self.paths.iter_mut().find(|path| path.id == id) else { return };
        let subject = subject(question);
        if matches!(subject, FollowUp::IDENTITY | FollowUp::INQUIRY | FollowUp::CAPACITY) {
            return path.probe.failed(now);
        }
        path.probe.answered(now);
        if let Some(rest) = path.rest_of(question) {
            path.probe.asking = Some(Asking::new(rest));
            return;
        }
        path.probe.done(subject);
        if subject == FollowUp::ACCESS {
            self.access_unanswerable(id);
        }
    }

    /// A probe may be the first to hear of something: then it is as if a request had.
    fn take_news(&mut self, now: Instant, id: PathId, question: Question, ending: &Ending) {
        // Whether it serves blocks is what it was asked, so that its answer is a refusal like any other.
        let keeps_effect = question == Question::Ready;
        self.take_sense(now, id, keeps_effect, ending);
    }

    /// Somebody else on the nexus had this reply.
    pub(super) fn overhear(&mut self, now: Instant, id: PathId, ending: &Ending) {
        self.take_sense(now, id, false, ending);
    }

    fn take_sense(&mut self, now: Instant, id: PathId, keeps_effect: bool, ending: &Ending) {
        let Ending::Reply(reply) = ending else { return };
        if reply.status != Status::CheckCondition {
            return;
        }
        let mut disposition = disposition(CommandClass::Read, ending);
        if !keeps_effect {
            disposition.path = PathEffect::None;
        }
        self.affect(now, id, &disposition, ending);
    }

    fn take_in(&mut self, now: Instant, id: PathId, learned: Learned) {
        match learned {
            Learned::Identity(identity, port) => self.identity_shown(now, id, identity.as_ref(), port),
            Learned::Inquiry(inquiry) => self.inquiry_shown(now, id, &inquiry),
            Learned::Access(groups) => self.access_shown(now, id, &groups),
            Learned::Capacity(capacity) => self.capacity_shown(now, id, capacity),
            Learned::Modes(caching) => {
                self.with_path(now, id, |path| {
                    path.unit.write_protected = caching.write_protected;
                    path.unit.force_unit_access = caching.force_unit_access;
                    path.unit.write_cache = caching.write_cache.unwrap_or(path.unit.write_cache);
                });
                self.refresh_features();
            }
            Learned::Ready => {}
            Learned::Limits(limits) => {
                self.with_path(now, id, |path| path.unit.limits = limits);
                self.refresh_features();
            }
            Learned::Provisioning(provisioning) => {
                self.with_path(now, id, |path| path.unit.provisioning = provisioning);
                self.refresh_features();
            }
            Learned::Rotation(rotation) => {
                self.with_path(now, id, |path| path.unit.rotation = rotation);
                self.refresh_features();
            }
        }
    }

    fn identity_shown(&mut self, now: Instant, id: PathId, identity: Option<&Identity>, port: Port) {
        let verdict = identity.map(|identity| same_identity(&self.identity, identity));
        match verdict {
            Some(Ok(())) => {
                self.with_path(now, id, |path| {
                    path.unit.port = port;
                    path.settle();
                });
                self.sweep_if_due(id);
            }
            Some(Err(reason)) => self.quarantine(now, id, reason),
            None => self.quarantine(now, id, Contradiction::Nameless { ours: self.identity.name().clone() }),
        }
    }

    /// Standard INQUIRY data that may have changed under the path. What is no disk any more is none of its paths; the
    /// rest is taken over, and told once, whichever of its paths shows it first.
    fn inquiry_shown(&mut self, now: Instant, id: PathId, inquiry: &InquiryData) {
        let Some(path) = self.paths.iter().find(|path| path.id == id) else { return };
        let (ours, theirs) = (path.unit.device_type, inquiry.peripheral.device_type);
        if inquiry.peripheral.qualifier != PeripheralQualifier::Connected {
            return self.quarantine(now, id, Contradiction::NotConnected);
        }
        if ours != theirs {
            return self.quarantine(now, id, Contradiction::DeviceType { ours, theirs });
        }
        let mut unit = path.unit.clone();
        unit.redefine(inquiry);
        let is_told = self.paths.iter().any(|path| path.is_alive() && path.unit.is_defined_as(&unit));
        let (from, to) = (path.unit.definition(), unit.definition());
        let reports_access = unit.reports_access && !path.unit.reports_access;
        self.with_path(now, id, |path| {
            path.unit = unit;
            path.settle();
        });
        if !is_told {
            self.report(Report::Redefined { path: id, from, to });
        }
        if reports_access {
            self.want_access(id, AccessCause::Told, now);
            self.tend(now);
        }
        self.sweep_if_due(id);
    }

    fn capacity_shown(&mut self, now: Instant, id: PathId, capacity: Option<Capacity>) {
        let Some(capacity) = capacity else { return };
        let contradiction = self
            .paths
            .iter()
            .filter(|path| path.is_alive())
            .filter_map(|path| path.unit.capacity.as_ref())
            .find_map(|ours| ours.same_format(&capacity).err());
        if let Some(reason) = contradiction {
            return self.quarantine(now, id, reason);
        }
        self.with_path(now, id, |path| {
            path.unit.capacity = Some(capacity);
            path.settle();
        });
        self.refresh_features();
    }
}

/// Whether a unit attention would have been reported instead, if there was one; none is for INQUIRY (SPC). A port that
/// serves no blocks says so only when it has no attention to tell of.
fn is_at_rest(question: Question, answer: Answer) -> bool {
    match answer {
        Answer::Data(_) | Answer::Refused => {
            !matches!(subject(question), FollowUp::IDENTITY | FollowUp::INQUIRY | FollowUp::LIMITS)
        }
        Answer::Failed(failure) => question == Question::Ready && failure == Failure::NotReady,
        Answer::Again(_) | Answer::Lost => false,
    }
}

/// What a question is about.
const fn subject(question: Question) -> FollowUp {
    match question {
        Question::DeviceId => FollowUp::IDENTITY,
        Question::Standard => FollowUp::INQUIRY,
        Question::PortGroupsExtended | Question::PortGroups => FollowUp::ACCESS,
        Question::Capacity16 | Question::Capacity10 => FollowUp::CAPACITY,
        Question::Caching6 | Question::Caching10 => FollowUp::MODES,
        Question::Ready => FollowUp::READY,
        Question::BlockLimits | Question::Provisioning | Question::Characteristics => FollowUp::LIMITS,
        Question::LogicalUnits | Question::SupportedPages | Question::Serial => FollowUp::NONE,
    }
}

fn learn(question: Question, bytes: &[u8]) -> Result<Learned, ParseError> {
    Ok(match question {
        Question::PortGroupsExtended | Question::PortGroups => Learned::Access(PortGroups::parse(bytes)?),
        Question::Capacity16 => {
            Learned::Capacity(Capacity::new(&scsi::capacity::Capacity::parse(bytes)?).ok())
        }
        Question::Capacity10 => {
            let said = Capacity10::parse(bytes)?;
            let capacity = |last: Lba| scsi::capacity::Capacity::new(last, said.block_size);
            Learned::Capacity(said.last.and_then(|last| Capacity::new(&capacity(last)).ok()))
        }
        Question::Ready => Learned::Ready,
        Question::Standard => Learned::Inquiry(InquiryData::parse(bytes)?),
        Question::Caching6 | Question::Caching10 => Learned::Modes(Caching::parse(question, bytes)?),
        Question::BlockLimits => Learned::Limits(Limits::new(&BlockLimitsPage::parse(bytes)?)),
        Question::Characteristics => Learned::Rotation(rotation(&BlockCharacteristicsPage::parse(bytes)?)),
        Question::Provisioning => {
            Learned::Provisioning(Provisioning::new(&LogicalProvisioningPage::parse(bytes)?))
        }
        _ => {
            let page = DeviceIdPage::parse(bytes)?;
            let port = Port { group: page.target_port_group(), relative: page.relative_target_port() };
            Learned::Identity(Identity::from_device_id_page(&page).ok(), port)
        }
    })
}
