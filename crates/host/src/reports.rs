//! What logical units report of their port groups to surveys, so that one answer does for the paths of a unit that are
//! surveyed at one time.
//!
//! A report is of one logical unit and came through one target; it is never taken for another unit's. It does for a path
//! whose survey began before the report was asked for, if the path has met no unit attention since then and the report
//! lists its group. While somebody asks, others wait for a moment ([`scsi_multipath::SurveyAction::WantReport`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use clock::Instant;
use scsi::Lun;
use scsi::port_groups::PortGroups;
use scsi_multipath::{Name, SurveyEvent, TargetId};

use crate::agenda::Source;
use crate::host::Host;
use crate::nexus::Stage;

/// Of all logical units that are surveyed now: bounded by what surveys look at.
pub(crate) type Reports = BTreeMap<(TargetId, Name), Report>;

/// Of one logical unit through one target.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What it said last, and when it was asked.
    last: Option<(Instant, Arc<PortGroups>)>,
    /// Who asks, and since when.
    asking: Option<(Place, Instant)>,
    waiting: Vec<Waiting>,
}

/// A logical unit number behind a nexus.
type Place = (u32, Lun);

#[derive(Clone, Copy, Debug)]
struct Waiting {
    place: Place,
    group: u16,
    since: Instant,
}

impl Waiting {
    fn takes(&self, asked: Instant, groups: &PortGroups) -> bool {
        asked >= self.since && groups.group(self.group).is_some()
    }
}

impl Report {
    /// What this one is told now: nothing if it has to wait, none if it is to ask.
    fn wanted(&mut self, now: Instant, wanted: Waiting) -> Option<Option<Arc<PortGroups>>> {
        if let Some((asked, groups)) = &self.last
            && wanted.takes(*asked, groups)
        {
            return Some(Some(Arc::clone(groups)));
        }
        match self.asking {
            Some((place, since)) if place != wanted.place && since >= wanted.since => {
                self.waiting.push(wanted);
                None
            }
            _ => {
                self.asking = Some((wanted.place, now));
                Some(None)
            }
        }
    }

    /// Somebody has asked, and was told or not: who else is told what now.
    fn came(
        &mut self,
        now: Instant,
        place: Place,
        asked: Instant,
        groups: Option<Arc<PortGroups>>,
    ) -> Vec<(Place, Option<Arc<PortGroups>>)> {
        self.asking.take_if(|(asking, _)| *asking == place);
        let Some(groups) = groups else { return self.next_asks(now) };
        self.last = Some((asked, Arc::clone(&groups)));
        let told = std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|waiting| (waiting.place, waiting.takes(asked, &groups).then(|| Arc::clone(&groups))));
        told.collect()
    }

    /// Nobody asks any more: the first of those that wait does, and the others wait for it.
    fn next_asks(&mut self, now: Instant) -> Vec<(Place, Option<Arc<PortGroups>>)> {
        if self.asking.is_some() || self.waiting.is_empty() {
            return Vec::new();
        }
        let next = self.waiting.remove(0);
        self.asking = Some((next.place, now));
        vec![(next.place, None)]
    }

    /// Nothing comes of what was asked through a nexus, and nobody waits there.
    fn leave(&mut self, now: Instant, nexus: u32) -> Vec<(Place, Option<Arc<PortGroups>>)> {
        self.waiting.retain(|waiting| waiting.place.0 != nexus);
        self.asking.take_if(|((asking, _), _)| *asking == nexus);
        self.next_asks(now)
    }
}

impl Host {
    /// A survey has come to the port groups of a logical unit.
    pub(crate) fn report_wanted(&mut self, index: u32, lun: Lun, name: Name, group: u16, since: Instant) {
        let key = (self.nexuses[index as usize].target, name);
        let place = (index, lun);
        let report = self.reports.entry(key).or_default();
        if let Some(answer) = report.wanted(self.now, Waiting { place, group, since }) {
            self.tell_survey(place, answer);
        }
    }

    /// A logical unit has told a survey, or has not.
    pub(crate) fn report_came(
        &mut self,
        index: u32,
        lun: Lun,
        name: Name,
        asked: Instant,
        groups: Option<Arc<PortGroups>>,
    ) {
        let (now, target) = (self.now, self.nexuses[index as usize].target);
        let Some(report) = self.reports.get_mut(&(target, name)) else { return };
        for (place, answer) in report.came(now, (index, lun), asked, groups) {
            self.tell_survey(place, answer);
        }
    }

    /// The survey of a nexus is over, in whatever way.
    pub(crate) fn leave_reports(&mut self, index: u32) {
        if self.reports.is_empty() {
            return;
        }
        let (now, target) = (self.now, self.nexuses[index as usize].target);
        let is_surveyed = |nexus: &mut crate::nexus::Nexus| {
            nexus.target == target && matches!(nexus.stage_mut(), Some(Stage::Survey { .. }))
        };
        if !self.nexuses.iter_mut().any(is_surveyed) {
            // What comes later is of another time.
            self.reports.retain(|(of, _), _| *of != target);
            return;
        }
        let of_target = self.reports.iter_mut().filter(|((of, _), _)| *of == target);
        let told: Vec<_> = of_target.flat_map(|(_, report)| report.leave(now, index)).collect();
        for (place, answer) in told {
            self.tell_survey(place, answer);
        }
    }

    fn tell_survey(&mut self, (index, lun): Place, report: Option<Arc<PortGroups>>) {
        let now = self.now;
        if let Some(Stage::Survey { survey, .. }) = self.nexuses[index as usize].stage_mut() {
            survey.handle(now, SurveyEvent::Report { lun, report });
            self.touched.add(Source::Nexus(index));
        }
    }
}

#[cfg(test)]
mod tests {
    use scsi::port_groups::{AccessState, PortGroup, StateChange, SupportedStates};

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::START + clock::Duration::from_millis(millis)
    }

    fn groups(ids: &[u16]) -> Option<Arc<PortGroups>> {
        let group = |id: &u16| PortGroup {
            id: *id,
            state: AccessState::Optimized,
            preferred: false,
            supported: SupportedStates::default(),
            status: StateChange::None,
            ports: Vec::new(),
        };
        Some(Arc::new(PortGroups { transition_secs: None, groups: ids.iter().map(group).collect() }))
    }

    fn place(nexus: u32) -> Place {
        (nexus, Lun::from(0))
    }

    /// What a nexus, whose survey began then, is told.
    fn want(report: &mut Report, now: u64, nexus: u32, group: u16, since: u64) -> &'static str {
        match report.wanted(at(now), Waiting { place: place(nexus), group, since: at(since) }) {
            None => "waits",
            Some(None) => "asks",
            Some(Some(_)) => "knows",
        }
    }

    fn told(answers: Vec<(Place, Option<Arc<PortGroups>>)>) -> Vec<(u32, bool)> {
        answers.into_iter().map(|((nexus, _), answer)| (nexus, answer.is_some())).collect()
    }

    #[test]
    fn the_first_asks_and_the_others_wait_for_its_answer() {
        let mut report = Report::default();
        assert_eq!(want(&mut report, 2, 0, 1, 0), "asks");
        assert_eq!(want(&mut report, 2, 1, 2, 1), "waits");
        assert_eq!(told(report.came(at(3), place(0), at(2), groups(&[1, 2]))), [(1, true)]);
        assert_eq!(want(&mut report, 4, 2, 2, 2), "knows");
    }

    #[test]
    fn an_answer_that_was_asked_for_before_a_survey_began_is_not_taken() {
        let mut report = Report::default();
        assert_eq!(want(&mut report, 2, 0, 1, 0), "asks");
        assert_eq!(want(&mut report, 4, 1, 1, 3), "asks", "what is out may be older than its reason");
        report.came(at(5), place(0), at(2), groups(&[1]));
        assert_eq!(want(&mut report, 6, 2, 1, 3), "waits", "for the second one");
        assert_eq!(told(report.came(at(7), place(1), at(4), groups(&[1]))), [(2, true)]);
        assert_eq!(want(&mut report, 8, 3, 1, 5), "asks");
    }

    #[test]
    fn an_answer_without_the_group_of_a_path_is_not_taken() {
        let mut report = Report::default();
        assert_eq!(want(&mut report, 0, 0, 1, 0), "asks");
        assert_eq!(want(&mut report, 0, 1, 2, 0), "waits");
        assert_eq!(told(report.came(at(1), place(0), at(0), groups(&[1]))), [(1, false)]);
        assert_eq!(want(&mut report, 1, 2, 2, 0), "asks");
    }

    #[test]
    fn when_there_is_no_answer_one_of_those_that_wait_asks() {
        let mut report = Report::default();
        assert_eq!(want(&mut report, 0, 0, 1, 0), "asks");
        assert_eq!(want(&mut report, 0, 1, 1, 0), "waits");
        assert_eq!(want(&mut report, 0, 2, 1, 0), "waits");
        assert_eq!(told(report.came(at(1), place(0), at(0), None)), [(1, false)]);
        assert_eq!(told(report.leave(at(2), 1)), [(2, false)], "its nexus is lost");
        assert_eq!(told(report.leave(at(3), 2)), []);
    }
}
