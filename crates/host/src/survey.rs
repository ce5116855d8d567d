//! Finding the logical units behind a nexus.

use clock::Duration;
use scsi::{AdditionalSense, Ending, Lun, Reply, SenseKey};
use scsi_multipath::{Command, Event, Rejection, Survey, SurveyAction, SurveyEvent, Unit};

use crate::agenda::Source;
use crate::event::{NexusIndex, NoticeKind, Severity, Trace};
use crate::host::Host;
use crate::log::{Cause, Subject, What};
use crate::nexus::{Purpose, Reset, Scope, Sightings, Stage};

/// How long a logical unit that could not be used is left alone: a transition or a restart takes seconds.
const SURVEY_AGAIN: Duration = Duration::from_secs(2);

/// How long a logical unit that contradicts the disk of its name is left alone: somebody has to mend the target, or the
/// other one goes.
pub(crate) const SURVEY_CONTRADICTED: Duration = Duration::from_secs(60);

impl Host {
    /// Looks at everything that may become a path.
    pub(crate) fn survey_everything(&mut self, index: u32) {
        let only = match &self.nexuses[index as usize].purpose {
            Purpose::Target { lun, .. } => *lun,
            Purpose::Discovery => return,
        };
        let luns = only.map_or_else(|| self.options.filter.luns.clone(), |lun| vec![lun]);
        self.nexuses[index as usize].survey_at = None;
        self.start_survey(index, Scope::Everything, luns);
    }

    /// Looks at some logical units; at all if there are none.
    pub(crate) fn start_survey(&mut self, index: u32, scope: Scope, luns: Vec<Lun>) {
        let now = self.now;
        let is_short = self.short_headers.contains(&self.nexuses[index as usize].target);
        let Some(link) = self.nexuses[index as usize].link_mut() else { return };
        let mut survey = if luns.is_empty() { Survey::new() } else { Survey::for_luns(luns) };
        if std::mem::replace(&mut link.was_surveyed, true) {
            survey = survey.repeated();
        }
        survey = survey.sharing();
        if is_short {
            survey = survey.with_short_header();
        }
        let mut survey = Box::new(survey);
        survey.handle(now, SurveyEvent::Start);
        let done = link.resets.iter().filter(|(_, reset)| **reset == Reset::Done);
        let sightings = Sightings { reset: done.map(|(lun, _)| *lun).collect(), ..Sightings::default() };
        link.stage = Stage::Survey { survey, scope, sightings };
        self.touched.add(Source::Nexus(index));
    }

    /// Something there could not be used, for a reason that may pass.
    pub(crate) fn survey_later(&mut self, index: u32) {
        self.survey_by(index, SURVEY_AGAIN);
    }

    /// Looks again after some time, if not earlier.
    pub(crate) fn survey_by(&mut self, index: u32, pause: Duration) {
        let (now, at) = (self.now, self.now + pause);
        let survey_at = &mut self.nexuses[index as usize].survey_at;
        // What is due now was put off.
        *survey_at = Some(survey_at.filter(|sooner| *sooner > now).map_or(at, |sooner| sooner.min(at)));
        self.touched.add(Source::Nexus(index));
    }

    /// A unit attention that a survey meets is for the disk too, if it has this path.
    fn pass_on_news(&mut self, index: u32, command: &Command, ending: &Ending) {
        let Ending::Reply(reply) = ending else { return };
        let Some(sense) = reply.sense.as_ref().and_then(|sense| sense.parse()) else { return };
        if sense.key == SenseKey::UnitAttention
            && sense.additional == AdditionalSense::REPORTED_LUNS_DATA_CHANGED
        {
            // Of all units of the nexus, whether they are a disk's already or not.
            self.doubt_paths(index);
            self.survey_later(index);
        }
        let lun = command.context.surveyed();
        let path = lun.and_then(|lun| self.nexuses[index as usize].paths.get(&lun).copied());
        // A deferred error is about what was acknowledged before, so it is news even if it comes to a new session.
        let disk = path.and_then(|path| match sense.deferred {
            true => self.paths.get(&path).map(|found| found.disk),
            false => self.disk_of_member(path),
        });
        if let (Some(path), Some(disk)) = (path, disk) {
            self.tell_disk(disk, Event::Overheard { path, reply: reply.clone() });
        }
    }

    /// Not all that is there is known: look again. Paths that are known stay in use meanwhile.
    pub(crate) fn survey_again(&mut self, index: u32) {
        match self.nexuses[index as usize].stage_mut() {
            Some(Stage::Up) => self.survey_everything(index),
            // What is going on now may have passed it already.
            Some(Stage::Survey { .. }) => self.survey_later(index),
            Some(Stage::Login | Stage::Reset | Stage::LoggingOut) | None => {
                self.nexuses[index as usize].survey_at = None;
            }
        }
    }

    pub(crate) fn survey_answered(&mut self, index: u32, command: Command, ending: Ending) {
        let now = self.now;
        self.pass_on_news(index, &command, &ending);
        let Some(Stage::Survey { survey, .. }) = self.nexuses[index as usize].stage_mut() else { return };
        survey.handle(now, SurveyEvent::Ended(command, ending));
        self.touched.add(Source::Nexus(index));
    }

    pub(crate) fn drain_survey(&mut self, index: u32) {
        loop {
            let Some(Stage::Survey { survey, .. }) = self.nexuses[index as usize].stage_mut() else { return };
            let Some(action) = survey.poll_action() else { return };
            match action {
                SurveyAction::Send { lun, command } => self.send(index, lun, command),
                SurveyAction::WantReport { lun, identity, group, since } => {
                    self.report_wanted(index, lun, identity, group, since);
                }
                SurveyAction::Reported { lun, identity, asked, report } => {
                    self.report_came(index, lun, identity, asked, report);
                }
                SurveyAction::Found { lun, unit } => self.unit_found(index, lun, unit),
                SurveyAction::CacheLost { lun, reply } => self.loss_heard(index, lun, reply),
                SurveyAction::Rejected { lun, reason } => self.rejected(index, lun, &reason),
                SurveyAction::Done(outcome) => {
                    self.survey_done(index, outcome.err().map(|error| error.to_string()));
                }
            }
        }
    }

    /// A unit says that what its cache held may be lost. If it had a path here its disk hears of it, and if that carries
    /// commands, or the news is of any session, it has heard. Otherwise it hears when the unit gets a path, in whatever
    /// session that is.
    fn loss_heard(&mut self, index: u32, lun: Lun, reply: Reply) {
        let known = self.nexuses[index as usize].paths.get(&lun).copied();
        match known.and_then(|path| Some((path, self.paths.get(&path)?.disk))) {
            Some((path, _)) if self.disk_of_member(path).is_some() || is_deferred(&reply) => {}
            Some((path, disk)) => self.tell_disk(disk, Event::Overheard { path, reply }),
            None => {
                self.nexuses[index as usize].losses.insert(lun, reply);
            }
        }
    }

    fn unit_found(&mut self, index: u32, lun: Lun, mut unit: Box<Unit>) {
        let target = self.nexuses[index as usize].target;
        if unit.reports_access && !unit.knows_long_header {
            self.short_headers.insert(target);
        }
        unit.knows_long_header = !self.short_headers.contains(&target);
        let nexus = &mut self.nexuses[index as usize];
        let Some(Stage::Survey { scope, sightings, .. }) = nexus.stage_mut() else { return };
        sightings.found.insert(lun);
        let (scope, was_reset) = (*scope, sightings.reset.contains(&lun));
        if was_reset {
            self.pay_debts(index, lun, &unit.identity);
        }
        if scope == Scope::Everything {
            self.path_found(index, lun, unit);
        }
    }

    fn rejected(&mut self, index: u32, lun: Lun, reason: &Rejection) {
        let nexus = &mut self.nexuses[index as usize];
        if let Some(Stage::Survey { sightings, .. }) = nexus.stage_mut() {
            match reason {
                Rejection::Failed { .. } => {
                    sightings.doubtful.insert(lun);
                }
                // Targets list their controllers too.
                Rejection::NotADisk(_) => {}
                _ => {
                    sightings.rejected.get_or_insert((lun, *reason));
                }
            }
        }
        if !nexus.complained.insert(lun) {
            return;
        }
        let text = format!("{}: LUN {lun} is not used: {reason}", nexus.name());
        // Targets list their controllers too; nobody asked for those.
        let severity = match reason {
            Rejection::NotADisk(_) => Severity::Info,
            _ => Severity::Warning,
        };
        let subject = Subject::Unit(index, lun);
        self.tell(severity, NoticeKind::PortalFailed, subject, What::UnitRejected, text);
    }

    fn survey_done(&mut self, index: u32, failed: Option<String>) {
        let nexus = &mut self.nexuses[index as usize];
        let Some(Stage::Survey { scope, sightings, .. }) = nexus.stage_mut() else { return };
        let (scope, sightings) = (*scope, std::mem::take(sightings));
        if let Some(reason) = failed {
            let reason = format!("cannot find out what is there: {reason}");
            return self.lose_nexus(index, Cause::Survey, reason);
        }
        match scope {
            Scope::Everything => self.paths_are_known(index, &sightings),
            Scope::Debts => {
                if let Some(stage) = self.nexuses[index as usize].stage_mut() {
                    *stage = Stage::Up;
                }
            }
        }
        self.leave_reports(index);
        self.debts_looked_at(index, &sightings);
    }

    fn paths_are_known(&mut self, index: u32, sightings: &Sightings) {
        let is_news = !self.nexuses[index as usize].was_surveyed();
        self.nexuses[index as usize].survey_over(self.now);
        if is_news {
            self.session_is_up(index);
        }
        self.trace(|| Trace::Up { nexus: NexusIndex(index) });
        self.remove_vanished(index, sightings);
        if !sightings.doubtful.is_empty() {
            self.survey_later(index);
        } else if sightings.found.is_empty() {
            let why = sightings.rejected.map(|(lun, reason)| format!(" (LUN {lun}: {reason})"));
            let text = format!(
                "{}: no logical unit that we could use{}; map one to the initiator name {}",
                self.nexuses[index as usize].name(),
                why.unwrap_or_default(),
                self.options.initiator.name
            );
            let (kind, what) = (NoticeKind::PortalFailed, What::NoUnits);
            self.tell(Severity::Error, kind, Subject::Nexus(index), what, text);
        }
    }

    fn session_is_up(&mut self, index: u32) {
        let nexus = &mut self.nexuses[index as usize];
        let logins = nexus.logins;
        nexus.surveyed = logins;
        let text = format!("{}: session {logins} is up", nexus.name());
        self.record(Severity::Info, Subject::Nexus(index), What::SessionUp { logins }, text);
    }

    /// A logical unit that failed a question has not vanished: its path stays, down if its nexus was lost.
    fn remove_vanished(&mut self, index: u32, sightings: &Sightings) {
        let is_there = |lun: &Lun| sightings.found.contains(lun) || sightings.doubtful.contains(lun);
        self.nexuses[index as usize].unused.retain(|(_, lun)| is_there(lun));
        let paths = &self.nexuses[index as usize].paths;
        let vanished: Vec<Lun> = paths.keys().filter(|lun| !is_there(lun)).copied().collect();
        for lun in vanished {
            self.remove_path(index, lun);
        }
    }
}

fn is_deferred(reply: &Reply) -> bool {
    reply.sense.as_ref().and_then(|sense| sense.parse()).is_some_and(|sense| sense.deferred)
}
