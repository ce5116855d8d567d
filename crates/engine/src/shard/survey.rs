//! Finding the logical units behind a nexus.

use scsi::{Ending, Lun};
use scsi_multipath::{Command, Rejection, SurveyAction, SurveyEvent};

use super::nexus::{Sightings, Stage};
use super::{Shard, Source};
use crate::status::{NoticeKind, Severity};

impl Shard {
    pub(super) fn survey_answered(&mut self, index: u32, command: Command, ending: Ending) {
        let now = self.now;
        let Some(Stage::Survey { survey, .. }) = self.nexuses[index as usize].stage_mut() else { return };
        survey.handle(now, SurveyEvent::Ended(command, ending));
        self.touched.add(Source::Nexus(index));
    }

    pub(super) fn drain_survey(&mut self, index: u32) {
        loop {
            let Some(Stage::Survey { survey, .. }) = self.nexuses[index as usize].stage_mut() else { return };
            let Some(action) = survey.poll_action() else { return };
            match action {
                SurveyAction::Send { lun, command } => self.send(index, lun, command),
                SurveyAction::Found { lun, unit } => {
                    if let Some(Stage::Survey { sightings, .. }) = self.nexuses[index as usize].stage_mut() {
                        sightings.found.insert(lun);
                    }
                    self.path_found(index, lun, unit);
                }
                SurveyAction::Rejected { lun, reason } => self.rejected(index, lun, &reason),
                SurveyAction::Done(outcome) => {
                    self.survey_done(index, outcome.err().map(|error| error.to_string()));
                }
            }
        }
    }

    fn rejected(&mut self, index: u32, lun: Lun, reason: &Rejection) {
        let nexus = &mut self.nexuses[index as usize];
        if let (Rejection::Failed { .. }, Some(Stage::Survey { sightings, .. })) = (reason, nexus.stage_mut())
        {
            sightings.doubtful.insert(lun);
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
        self.notice(severity, NoticeKind::PortalFailed, text);
    }

    fn survey_done(&mut self, index: u32, failed: Option<String>) {
        let Some(Stage::Survey { sightings, .. }) = self.nexuses[index as usize].stage_mut() else { return };
        let sightings = std::mem::take(sightings);
        if let Some(reason) = failed {
            self.lose_nexus(index, format!("cannot find out what is there: {reason}"));
            return;
        }
        self.nexuses[index as usize].survey_over();
        self.remove_vanished(index, &sightings);
        if !sightings.doubtful.is_empty() {
            self.survey_later(index);
        } else if sightings.found.is_empty() {
            let text = format!(
                "{}: no logical unit that we could use; map one to the initiator name {}",
                self.nexuses[index as usize].name(),
                self.config.initiator.name
            );
            self.notice(Severity::Error, NoticeKind::PortalFailed, text);
        }
    }

    /// A logical unit that failed a question has not vanished: its path stays, down if its nexus was lost.
    fn remove_vanished(&mut self, index: u32, sightings: &Sightings) {
        let is_there = |lun: &Lun| sightings.found.contains(lun) || sightings.doubtful.contains(lun);
        let paths = &self.nexuses[index as usize].paths;
        let vanished: Vec<Lun> = paths.keys().filter(|lun| !is_there(lun)).copied().collect();
        for lun in vanished {
            self.remove_path(index, lun);
        }
    }
}
