//! Finding the logical units behind a nexus.

use std::collections::BTreeSet;

use scsi::{Ending, Lun};
use scsi_multipath::{Command, SurveyAction, SurveyEvent};

use super::Host;
use super::nexus::Stage;
use crate::log::Part;
use crate::scene::{Scene, Source};

impl Host {
    pub(super) fn survey_answered(
        &mut self,
        scene: &mut Scene,
        index: u32,
        command: Command,
        ending: Ending,
    ) {
        let Some(Stage::Survey { survey, .. }) = self.nexuses[index as usize].stage_mut() else { return };
        survey.handle(scene.now, SurveyEvent::Ended(command, ending));
        scene.touched.add(Source::Nexus(index));
    }

    pub(super) fn drain_survey(&mut self, scene: &mut Scene, index: u32) {
        loop {
            let Some(Stage::Survey { survey, .. }) = self.nexuses[index as usize].stage_mut() else { return };
            let Some(action) = survey.poll_action() else { return };
            match action {
                SurveyAction::Send { lun, command } => self.send(scene, index, lun, command),
                SurveyAction::Found { lun, unit } => {
                    if let Some(Stage::Survey { seen, .. }) = self.nexuses[index as usize].stage_mut() {
                        seen.insert(lun);
                    }
                    self.path_found(scene, index, lun, unit);
                }
                SurveyAction::Rejected { lun, reason } => {
                    scene.note(Part::Nexus, [4, index.into(), 0], || {
                        format!("port {index} LUN {lun} is not used: {reason}")
                    });
                }
                SurveyAction::Done(outcome) => match outcome {
                    Ok(_) => self.survey_done(scene, index),
                    Err(error) => self.lose_nexus(scene, index, &error.to_string()),
                },
            }
        }
    }

    fn survey_done(&mut self, scene: &mut Scene, index: u32) {
        let Some(Stage::Survey { seen, .. }) = self.nexuses[index as usize].stage_mut() else { return };
        let seen: BTreeSet<Lun> = std::mem::take(seen);
        self.nexuses[index as usize].survey_over();
        scene.note(Part::Nexus, [5, index.into(), seen.len() as u64], || {
            format!("port {index} is up with {} logical units", seen.len())
        });
        let vanished: Vec<Lun> =
            self.nexuses[index as usize].paths.keys().filter(|lun| !seen.contains(lun)).copied().collect();
        for lun in vanished {
            self.remove_path(scene, index, lun);
        }
    }
}
