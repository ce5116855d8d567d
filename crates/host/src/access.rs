//! Who may ask about target port groups, and when: REPORT TARGET PORT GROUPS, shared and paced.
//!
//! An access state belongs to a logical unit and a target port group (SPC, 5.15), so that only the logical unit itself
//! can say how it stands. But at one event all of them change, and asking each at once over each of its paths makes
//! thousands of questions at the worst moment. So: of logical units of one target that stood alike and have news, one
//! asks; what it is told is *assumed* for the others at once, and each of them asks for itself later, at a low pace. One
//! that has no news of its own assumes nothing: an array may move a single logical unit to its other controller, and
//! the I/O of the rest must not follow it there. What a logical unit refuses counts more than what is assumed of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use clock::{Duration, Instant};
use scsi_multipath::{AccessAnswer, AccessCause, GroupAccess, TargetId, is_usable};

/// At most so often one target is asked in the long run: a thousand logical units have verified what they assumed
/// after 50 s, and a controller that has just lost its partner is not kept busy by it.
pub(crate) const ASK_EVERY: Duration = Duration::from_millis(50);
/// So many questions may come at once when there is news: one for each way in which logical units can stand, which is
/// two for two controllers, and some for those that contradict.
const ASK_BURST: u32 = 8;
/// A question that is not answered by then does not keep the others waiting any longer.
const ASK_PATIENCE: Duration = Duration::from_secs(2);
/// How old an answer may be to be assumed: signs of one event come as fast as commands do; later ones may be of the
/// next event.
const ASSUME_FOR: Duration = Duration::from_secs(1);
/// Answers that are remembered so long: more than there are ways to stand in.
const ANSWERS_MAX: usize = 32;
/// A logical unit that has news again within this time of its last question is asked at a pace of its own, that ...
const FLAPPING: Duration = Duration::from_secs(20);
/// … begins with this pause and doubles …
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// … up to this one if there is news all the time (a change is known a second after it, whatever was before; and after
/// the first pause, if no path is usable), …
const PAUSE_FLAPPING: Duration = Duration::from_secs(1);
/// … or to this one if the question fails.
const PAUSE_FAILING: Duration = Duration::from_secs(10);

/// What the pace-maker is told. Disks are named by their index, for as long as they are there.
#[derive(Debug)]
pub(crate) enum Event {
    /// A survey was told how the groups stand.
    Surveyed {
        groups: Groups,
    },
    /// The disk wants to ask; it refused a command on a path of the group if the cause is that.
    Wanted {
        cause: AccessCause,
        group: Option<u16>,
        /// It has no usable path.
        is_urgent: bool,
    },
    Answered(AccessAnswer),
}

pub(crate) type Groups = Arc<[GroupAccess]>;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Ask { target: TargetId, disk: u32 },
    Assume { target: TargetId, disk: u32, groups: Groups },
}

/// Decides for all targets.
#[derive(Debug, Default)]
pub(crate) struct AccessPace {
    targets: BTreeMap<TargetId, Target>,
    actions: VecDeque<Action>,
    due: Option<Instant>,
}

#[derive(Debug, Default)]
struct Target {
    /// By disk.
    units: BTreeMap<u32, Unit>,
    /// When the next question would be due if they came evenly.
    even_at: Instant,
    /// The questions that are out, and since when.
    out: BTreeMap<u32, Instant>,
    answers: VecDeque<Answer>,
    /// Wants are served in the order in which they came.
    tickets: u64,
    due: Option<Instant>,
}

/// A logical unit that stood like this was told that.
#[derive(Debug)]
struct Answer {
    from: Groups,
    to: Groups,
    at: Instant,
}

#[derive(Debug, Default)]
struct Unit {
    /// What it was told last, or what is assumed.
    groups: Option<Groups>,
    is_assumed: bool,
    want: Option<Want>,
    /// Groups through which it refused a command since it was told.
    refused: Vec<u16>,
    asked_at: Option<Instant>,
    /// Questions in a row that came too soon or to nothing.
    strikes: u32,
    /// Its last question came to nothing.
    is_failing: bool,
    not_before: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Want {
    rank: Rank,
    ticket: u64,
}

/// Who asks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// What was assumed, or told a moment ago, is wrong.
    Contradicted,
    News,
    NoPath,
    /// It goes by what is assumed.
    Verify,
    Poll,
}

impl AccessPace {
    pub(crate) fn handle(&mut self, now: Instant, target: TargetId, disk: u32, event: Event) {
        let known = self.targets.entry(target).or_default();
        match event {
            Event::Surveyed { groups } => known.unit(disk).surveyed(groups),
            Event::Wanted { cause, group, is_urgent } => {
                if let Some(groups) = known.wanted(now, disk, (cause, is_urgent), group) {
                    self.actions.push_back(Action::Assume { target, disk, groups });
                }
            }
            Event::Answered(answer) => {
                for (disk, groups) in known.answered(now, disk, answer) {
                    self.actions.push_back(Action::Assume { target, disk, groups });
                }
            }
        }
        // It is seen to when all else is done.
        self.due = Some(now);
    }

    /// The disk is gone.
    pub(crate) fn forget(&mut self, disk: u32) {
        for target in self.targets.values_mut() {
            target.units.remove(&disk);
            target.out.remove(&disk);
        }
        self.targets.retain(|_, target| !target.units.is_empty());
    }

    pub(crate) fn poll_action(&mut self, now: Instant) -> Option<Action> {
        if self.actions.is_empty() && self.due.is_some_and(|due| due <= now) {
            for (id, target) in &mut self.targets {
                while let Some(disk) = target.next(now) {
                    self.actions.push_back(Action::Ask { target: *id, disk });
                }
            }
            self.due = self.targets.values().filter_map(|target| target.due).min();
        }
        self.actions.pop_front()
    }

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }
}

impl Target {
    fn unit(&mut self, disk: u32) -> &mut Unit {
        self.units.entry(disk).or_default()
    }

    /// What is known that may be assumed at once.
    fn wanted(
        &mut self,
        now: Instant,
        disk: u32,
        cause: (AccessCause, bool),
        group: Option<u16>,
    ) -> Option<Groups> {
        self.tickets += 1;
        let ticket = self.tickets;
        let answers = &self.answers;
        let unit = self.units.entry(disk).or_default();
        unit.want(now, cause, group, ticket);
        let want = unit.want.filter(|want| matches!(want.rank, Rank::News | Rank::NoPath))?;
        let fresh = answers.iter().find(|answer| {
            now < answer.at + ASSUME_FOR && unit.stood_like(&answer.from) && unit.may_assume(&answer.to)
        })?;
        let groups = Arc::clone(&fresh.to);
        unit.assume(want, groups)
    }

    fn answered(&mut self, now: Instant, disk: u32, answer: AccessAnswer) -> Vec<(u32, Groups)> {
        self.out.remove(&disk);
        self.tickets += 1;
        let Some(unit) = self.units.get_mut(&disk) else { return Vec::new() };
        let groups: Groups = match answer {
            AccessAnswer::Groups(groups) => groups.into(),
            AccessAnswer::Failed => {
                unit.strike(now, PAUSE_FAILING);
                unit.is_failing = true;
                // The others first.
                unit.want = unit.want.map(|want| Want { ticket: self.tickets, ..want });
                return Vec::new();
            }
            AccessAnswer::Nothing => {
                unit.want = None;
                return Vec::new();
            }
        };
        let rank = unit.want.map(|want| want.rank);
        let from = unit.groups.clone();
        unit.learn(Arc::clone(&groups));
        // What one is told that only verifies, or contradicts, is its own affair.
        match from {
            Some(from) if matches!(rank, Some(Rank::News | Rank::NoPath)) => self.share(now, from, groups),
            _ => Vec::new(),
        }
    }

    /// Those that stood alike and have news of their own take it over.
    fn share(&mut self, now: Instant, from: Groups, to: Groups) -> Vec<(u32, Groups)> {
        let mut assumed = Vec::new();
        for (disk, unit) in &mut self.units {
            let Some(want) = unit.want else { continue };
            let takes = match want.rank {
                Rank::News => true,
                // That nothing has changed is no news to whoever has no path.
                Rank::NoPath => from != to,
                Rank::Contradicted | Rank::Verify | Rank::Poll => false,
            };
            if takes && unit.stood_like(&from) && unit.may_assume(&to) {
                assumed.extend(unit.assume(want, Arc::clone(&to)).map(|groups| (*disk, groups)));
            }
        }
        self.answers.retain(|answer| now < answer.at + ASSUME_FOR && answer.from != from);
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back(Answer { from, to, at: now });
        assumed
    }

    /// The disk that may ask now, if one may. Says otherwise when to look again.
    fn next(&mut self, now: Instant) -> Option<u32> {
        self.due = None;
        let wants = self.units.iter().filter(|(disk, _)| !self.out.contains_key(disk));
        let mut wants = wants.filter_map(|(disk, unit)| Some((*disk, unit.want?, unit.not_before)));
        let first =
            wants.clone().filter(|(_, _, at)| *at <= now).min_by_key(|(_, want, _)| (want.rank, want.ticket));
        let Some((disk, want, _)) = first else {
            self.due = wants.by_ref().map(|(_, _, at)| at).min();
            return None;
        };
        let patience =
            self.out.values().map(|since| *since + ASK_PATIENCE).filter(|until| *until > now).max();
        let ahead = match want.rank {
            Rank::Contradicted | Rank::News | Rank::NoPath => {
                ASK_EVERY.saturating_mul((ASK_BURST - 1).into())
            }
            Rank::Verify | Rank::Poll => Duration::ZERO,
        };
        let paced = (self.even_at > now + ahead).then(|| now + self.even_at.since(now + ahead));
        // Whoever becomes able to ask meanwhile may come first.
        if let Some(at) = patience.max(paced) {
            let sooner = wants.map(|(_, _, at)| at).filter(|sooner| *sooner > now).min();
            self.due = Some(sooner.map_or(at, |sooner| sooner.min(at)));
            return None;
        }
        self.even_at = self.even_at.max(now) + ASK_EVERY;
        self.out.insert(disk, now);
        self.unit(disk).asked_at = Some(now);
        Some(disk)
    }
}

impl Unit {
    /// A survey need not be as young as the news that the disk has.
    fn surveyed(&mut self, groups: Groups) {
        if self.want.is_none() {
            self.learn(groups);
        }
    }

    /// It was told by its device.
    fn learn(&mut self, groups: Groups) {
        self.groups = Some(groups);
        (self.is_assumed, self.is_failing) = (false, false);
        self.want = None;
        self.refused.clear();
    }

    fn want(
        &mut self,
        now: Instant,
        (cause, is_urgent): (AccessCause, bool),
        group: Option<u16>,
        ticket: u64,
    ) {
        let is_soon = self.asked_at.is_some_and(|at| now < at + FLAPPING);
        let rank = match cause {
            AccessCause::Poll => Rank::Poll,
            AccessCause::NoPath => Rank::NoPath,
            AccessCause::Again | AccessCause::Told => Rank::News,
            AccessCause::Refused if self.is_assumed || is_soon => Rank::Contradicted,
            AccessCause::Refused => Rank::News,
        };
        if cause == AccessCause::Refused
            && let Some(group) = group
            && !self.refused.contains(&group)
        {
            self.refused.push(group);
        }
        let is_new = self.want.is_none();
        let pressing = matches!(cause, AccessCause::Told | AccessCause::Refused);
        if is_new && pressing && is_soon {
            self.strike(self.asked_at.unwrap_or(now), PAUSE_FLAPPING);
        } else if is_new && !is_soon {
            self.strikes = 0;
        }
        if is_urgent
            && !self.is_failing
            && let Some(asked_at) = self.asked_at
        {
            self.not_before = self.not_before.min(asked_at + PAUSE_FIRST);
        }
        // Its place in the queue stays unless there is a reason to go ahead.
        let before = self.want.filter(|before| before.rank <= rank);
        self.want = Some(before.unwrap_or(Want { rank, ticket }));
    }

    fn strike(&mut self, since: Instant, longest: Duration) {
        let pause = PAUSE_FIRST.saturating_mul(1 << self.strikes.min(10)).min(longest);
        self.strikes += 1;
        self.not_before = since + pause;
    }

    fn stood_like(&self, groups: &Groups) -> bool {
        self.groups.as_ref() == Some(groups)
    }

    /// Whether nothing that it refused contradicts this.
    fn may_assume(&self, groups: &Groups) -> bool {
        let contradicts = |group: &GroupAccess| is_usable(group.state) && self.refused.contains(&group.id);
        !groups.iter().any(contradicts)
    }

    /// It goes by this until it is told itself. None if that is what it went by.
    fn assume(&mut self, want: Want, groups: Groups) -> Option<Groups> {
        self.want = Some(Want { rank: Rank::Verify, ..want });
        let is_news = self.groups.as_ref() != Some(&groups);
        self.is_assumed |= is_news;
        self.groups = Some(Arc::clone(&groups));
        is_news.then_some(groups)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use scsi_multipath::AccessState;

    use super::*;

    const TARGET: TargetId = TargetId(1);
    const OPTIMIZED: AccessState = AccessState::Optimized;
    const NON_OPTIMIZED: AccessState = AccessState::NonOptimized;
    const STANDBY: AccessState = AccessState::Standby;

    fn groups(states: &[AccessState]) -> Groups {
        let group = |(id, state): (u16, &AccessState)| GroupAccess { id, state: *state, preferred: false };
        (1..).zip(states).map(group).collect()
    }

    /// Logical units of one target, which answer at once with how they stand.
    struct Rig {
        now: Instant,
        pace: AccessPace,
        stand: Vec<Groups>,
        /// Who asked, and when.
        asked: Vec<(Instant, u32)>,
        /// What each goes by.
        believed: Vec<Groups>,
        /// These never answer.
        silent: Vec<u32>,
        failing: bool,
    }

    impl Rig {
        fn new(units: u32, state: impl Fn(u32) -> Groups) -> Self {
            let mut pace = AccessPace::default();
            let stand: Vec<Groups> = (0..units).map(state).collect();
            for (disk, groups) in (0..).zip(&stand) {
                let groups = Arc::clone(groups);
                pace.handle(Instant::START, TARGET, disk, Event::Surveyed { groups });
            }
            let believed = stand.clone();
            let now = Instant::START + Duration::from_secs(100);
            let mut rig =
                Self { now, pace, stand, asked: Vec::new(), believed, silent: Vec::new(), failing: false };
            rig.drain();
            rig
        }

        fn want(&mut self, disk: u32, cause: AccessCause, group: Option<u16>) {
            let is_urgent = false;
            self.pace.handle(self.now, TARGET, disk, Event::Wanted { cause, group, is_urgent });
        }

        fn all_told(&mut self) {
            for disk in 0..u32::try_from(self.stand.len()).unwrap() {
                self.want(disk, AccessCause::Told, None);
            }
            self.drain();
        }

        fn drain(&mut self) {
            while let Some(action) = self.pace.poll_action(self.now) {
                match action {
                    Action::Ask { disk, .. } => {
                        self.asked.push((self.now, disk));
                        if self.silent.contains(&disk) {
                            continue;
                        }
                        let groups = self.stand[disk as usize].to_vec().into_boxed_slice();
                        let answer = match self.failing {
                            true => AccessAnswer::Failed,
                            false => AccessAnswer::Groups(groups),
                        };
                        if !self.failing {
                            self.believed[disk as usize] = Arc::clone(&self.stand[disk as usize]);
                        }
                        self.pace.handle(self.now, TARGET, disk, Event::Answered(answer));
                    }
                    Action::Assume { disk, groups, .. } => self.believed[disk as usize] = groups,
                }
            }
        }

        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while let Some(due) = self.pace.poll_timeout().filter(|due| *due <= end) {
                assert!(due > self.now, "what was seen to is not due again at once");
                self.now = due;
                self.drain();
            }
            self.now = end;
        }

        fn believes(&self, disk: u32) -> bool {
            self.believed[disk as usize] == self.stand[disk as usize]
        }
    }

    #[test]
    fn a_change_of_a_thousand_units_groups_costs_one_question_at_once_and_the_rest_twenty_a_second() {
        let mut rig = Rig::new(1000, |_| groups(&[OPTIMIZED, NON_OPTIMIZED]));
        rig.stand.fill(groups(&[STANDBY, OPTIMIZED]));
        rig.all_told();
        assert_eq!(rig.asked.len(), 1);
        assert!((0..1000).all(|disk| rig.believes(disk)), "all go by the one answer");
        rig.pass(Duration::from_secs(10));
        assert_eq!(rig.asked.len(), 1 + 200);
        rig.pass(Duration::from_secs(40));
        assert_eq!(rig.asked.len(), 1000, "each has asked for itself, once");
        rig.pass(Duration::from_secs(100));
        assert_eq!(rig.asked.len(), 1000);
    }

    #[test]
    fn units_of_different_owners_are_asked_once_for_each_owner() {
        let owned = |disk: u32, first, other| {
            groups(&if disk.is_multiple_of(2) { [first, other] } else { [other, first] })
        };
        let mut rig = Rig::new(1000, |disk| owned(disk, OPTIMIZED, NON_OPTIMIZED));
        for disk in 0..1000 {
            rig.stand[disk as usize] = groups(&[AccessState::Unavailable, OPTIMIZED]);
        }
        rig.all_told();
        assert_eq!(rig.asked.len(), 2);
        assert!((0..1000).all(|disk| rig.believes(disk)));
    }

    #[test]
    fn whoever_has_no_news_assumes_nothing() {
        let mut rig = Rig::new(10, |_| groups(&[OPTIMIZED, NON_OPTIMIZED]));
        rig.stand[3] = groups(&[NON_OPTIMIZED, OPTIMIZED]);
        rig.want(3, AccessCause::Told, None);
        rig.drain();
        rig.pass(Duration::from_secs(60));
        assert_eq!(rig.asked.len(), 1);
        assert!((0..10).all(|disk| rig.believes(disk)));
    }

    #[test]
    fn news_that_come_a_moment_later_are_answered_at_once_by_what_is_known() {
        let mut rig = Rig::new(3, |_| groups(&[OPTIMIZED, NON_OPTIMIZED]));
        rig.stand.fill(groups(&[STANDBY, OPTIMIZED]));
        rig.want(0, AccessCause::Told, None);
        rig.drain();
        rig.pass(Duration::from_millis(20));
        rig.want(1, AccessCause::Told, None);
        rig.drain();
        assert!(rig.believes(1));
        assert_eq!(rig.asked.len(), 1);
        rig.pass(Duration::from_secs(2));
        rig.want(2, AccessCause::Told, None);
        rig.drain();
        assert_eq!(rig.asked.last().unwrap().1, 2, "an old answer is of another event, perhaps");
    }

    #[test]
    fn a_unit_that_refuses_what_is_assumed_asks_before_the_others() {
        let mut rig = Rig::new(100, |_| groups(&[OPTIMIZED, NON_OPTIMIZED]));
        rig.stand.fill(groups(&[STANDBY, OPTIMIZED]));
        rig.stand[70] = groups(&[OPTIMIZED, STANDBY]);
        rig.all_told();
        assert!(!rig.believes(70));
        rig.want(70, AccessCause::Refused, Some(2));
        rig.drain();
        assert_eq!(rig.asked.last().unwrap().1, 70);
        assert!(rig.believes(70));
    }

    #[test]
    fn a_unit_that_is_contradicted_asks_before_one_that_has_only_news() {
        let mut rig = Rig::new(10, |_| groups(&[OPTIMIZED, NON_OPTIMIZED]));
        rig.stand.fill(groups(&[STANDBY, OPTIMIZED]));
        rig.want(0, AccessCause::Told, None);
        rig.want(1, AccessCause::Told, None);
        rig.drain();
        rig.silent.push(2);
        rig.pass(Duration::from_millis(20));
        rig.stand[2] = groups(&[NON_OPTIMIZED, NON_OPTIMIZED]);
        rig.pace.handle(rig.now, TARGET, 2, Event::Surveyed { groups: groups(&[OPTIMIZED, OPTIMIZED]) });
        rig.want(2, AccessCause::Told, None);
        rig.drain();
        let before = rig.asked.len();
        rig.pace.handle(rig.now, TARGET, 3, Event::Surveyed { groups: groups(&[OPTIMIZED, STANDBY]) });
        rig.want(3, AccessCause::Told, None);
        rig.want(1, AccessCause::Refused, Some(2));
        rig.drain();
        assert_eq!(rig.asked.len(), before, "the question of the third is out");
        rig.pass(Duration::from_secs(2));
        assert_eq!(rig.asked[before].1, 1);
    }

    #[test]
    fn who_only_polls_assumes_nothing() {
        let mut rig = Rig::new(2, |_| groups(&[OPTIMIZED, NON_OPTIMIZED]));
        rig.stand[0] = groups(&[NON_OPTIMIZED, OPTIMIZED]);
        rig.want(0, AccessCause::Told, None);
        rig.want(1, AccessCause::Poll, None);
        rig.drain();
        assert_eq!(rig.asked.len(), 1);
        assert!(rig.believes(0) && rig.believes(1));
    }

    #[test]
    fn what_a_unit_has_refused_is_not_assumed_of_it() {
        let mut rig = Rig::new(2, |_| groups(&[OPTIMIZED, OPTIMIZED]));
        rig.stand[0] = groups(&[OPTIMIZED, STANDBY]);
        rig.stand[1] = groups(&[STANDBY, OPTIMIZED]);
        rig.want(0, AccessCause::Refused, Some(2));
        rig.want(1, AccessCause::Refused, Some(1));
        rig.drain();
        assert_eq!(rig.asked.iter().map(|(_, disk)| *disk).collect::<Vec<_>>(), [0, 1]);
        assert!(rig.believes(1));
    }

    #[test]
    fn a_unit_whose_own_answer_differs_is_not_taken_for_one_of_the_others_again() {
        let mut rig = Rig::new(3, |_| groups(&[OPTIMIZED, NON_OPTIMIZED]));
        rig.stand.fill(groups(&[STANDBY, OPTIMIZED]));
        rig.stand[2] = groups(&[NON_OPTIMIZED, OPTIMIZED]);
        rig.all_told();
        rig.pass(Duration::from_secs(60));
        assert!(rig.believes(2), "it was told itself");
        rig.stand[0] = groups(&[OPTIMIZED, OPTIMIZED]);
        rig.want(0, AccessCause::Told, None);
        rig.want(2, AccessCause::Told, None);
        rig.drain();
        assert!(rig.believes(2));
    }

    #[test]
    fn groups_that_flap_are_asked_about_once_a_second_in_the_end() {
        let mut rig = Rig::new(1, |_| groups(&[OPTIMIZED]));
        for _ in 0..6_000 {
            rig.want(0, AccessCause::Told, None);
            rig.drain();
            rig.pass(Duration::from_millis(10));
        }
        assert!((55..=65).contains(&rig.asked.len()), "{}", rig.asked.len());
        rig.pass(Duration::from_secs(60));
        let before = rig.asked.len();
        rig.want(0, AccessCause::Told, None);
        rig.drain();
        assert_eq!(rig.asked.len(), before + 1, "what was calm is asked at once");
    }

    #[test]
    fn whoever_has_no_usable_path_waits_a_tenth_of_a_second_although_its_groups_flap() {
        let mut rig = Rig::new(1, |_| groups(&[OPTIMIZED]));
        for _ in 0..500 {
            rig.want(0, AccessCause::Told, None);
            rig.drain();
            rig.pass(Duration::from_millis(10));
        }
        let before = rig.asked.len();
        for _ in 0..100 {
            let wanted = Event::Wanted { cause: AccessCause::Refused, group: Some(1), is_urgent: true };
            rig.pace.handle(rig.now, TARGET, 0, wanted);
            rig.drain();
            rig.pass(Duration::from_millis(10));
        }
        assert!((9..=11).contains(&(rig.asked.len() - before)), "{}", rig.asked.len() - before);
        rig.failing = true;
        let before = rig.asked.len();
        for _ in 0..1000 {
            let wanted = Event::Wanted { cause: AccessCause::Refused, group: Some(1), is_urgent: true };
            rig.pace.handle(rig.now, TARGET, 0, wanted);
            rig.drain();
            rig.pass(Duration::from_millis(10));
        }
        assert!(rig.asked.len() - before <= 4, "what fails is not asked more often for it");
    }

    #[test]
    fn a_target_that_fails_the_question_is_asked_at_a_pace_that_falls_and_by_each_unit_in_its_turn() {
        for (units, least, most) in [(50, 20, 40), (400, 5, 7)] {
            let mut rig = Rig::new(units, |_| groups(&[OPTIMIZED]));
            rig.failing = true;
            rig.all_told();
            rig.pass(Duration::from_secs(if units == 50 { 300 } else { 120 }));
            for disk in [0, units - 1] {
                let times = rig.asked.iter().filter(|(_, asked)| *asked == disk).count();
                assert!((least..=most).contains(&times), "of {units}, {disk}: {times}");
            }
            rig.failing = false;
            rig.stand.fill(groups(&[STANDBY]));
            rig.pass(Duration::from_secs(25));
            assert!((0..units).all(|disk| rig.believes(disk)));
        }
    }

    #[test]
    fn a_question_that_hangs_keeps_the_others_waiting_for_two_seconds() {
        let mut rig = Rig::new(10, |_| groups(&[OPTIMIZED, STANDBY]));
        rig.silent.push(0);
        rig.stand.fill(groups(&[STANDBY, OPTIMIZED]));
        rig.all_told();
        assert_eq!(rig.asked.len(), 1);
        rig.pass(Duration::from_millis(1999));
        assert_eq!(rig.asked.len(), 1);
        rig.pass(Duration::from_millis(1));
        assert!((1..10).all(|disk| rig.believes(disk)));
        rig.pass(Duration::from_secs(60));
        assert_eq!(rig.asked.iter().filter(|(_, disk)| *disk == 0).count(), 1, "its question is out");
    }

    #[test]
    fn without_any_path_the_first_that_finds_one_tells_the_others() {
        let mut rig = Rig::new(1000, |_| groups(&[STANDBY, STANDBY]));
        for disk in 0..1000 {
            rig.want(disk, AccessCause::NoPath, None);
        }
        rig.drain();
        let at_once = rig.asked.len();
        assert!(at_once <= 8, "{at_once}");
        rig.stand.fill(groups(&[STANDBY, OPTIMIZED]));
        rig.pass(Duration::from_millis(100));
        assert!((10..1000).all(|disk| rig.believes(disk)));
        assert!(rig.asked.len() <= at_once + 3);
    }

    #[test]
    fn a_survey_does_not_answer_what_a_disk_wants_to_know() {
        let mut rig = Rig::new(1, |_| groups(&[OPTIMIZED]));
        rig.want(0, AccessCause::Told, None);
        let surveyed = Event::Surveyed { groups: groups(&[STANDBY]) };
        rig.pace.handle(rig.now, TARGET, 0, surveyed);
        rig.drain();
        assert_eq!(rig.asked.len(), 1);
    }

    #[test]
    fn targets_do_not_wait_for_each_other() {
        let mut pace = AccessPace::default();
        for target in [TargetId(1), TargetId(2)] {
            let wanted = Event::Wanted { cause: AccessCause::Told, group: None, is_urgent: false };
            pace.handle(Instant::START, target, 0, wanted);
        }
        let asked: Vec<Action> = std::iter::from_fn(|| pace.poll_action(Instant::START)).collect();
        assert_eq!(asked.len(), 2);
    }

    #[test]
    fn a_disk_that_is_gone_is_not_asked_and_holds_nobody_up() {
        let mut rig = Rig::new(2, |_| groups(&[OPTIMIZED]));
        rig.silent.push(0);
        rig.want(0, AccessCause::Told, None);
        rig.drain();
        rig.want(1, AccessCause::Told, None);
        rig.drain();
        assert_eq!(rig.asked.len(), 1);
        rig.pace.forget(0);
        rig.want(1, AccessCause::Told, None);
        rig.drain();
        assert_eq!(rig.asked.last().unwrap().1, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever comes: the pace is kept, and in the end everybody who had news knows how it stands.
        #[test]
        fn the_pace_is_kept_and_everybody_is_told_in_the_end(
            steps in proptest::collection::vec((0_u32..20, 0_u8..6, 0_u64..300), 1..200),
        ) {
            let states = [OPTIMIZED, NON_OPTIMIZED, STANDBY];
            let mut rig = Rig::new(20, |_| groups(&[OPTIMIZED, STANDBY]));
            for (disk, what, time) in steps {
                let other = states[usize::from(what) % 3];
                rig.stand[disk as usize] = groups(&[states[disk as usize % 3], other]);
                let cause = [AccessCause::Told, AccessCause::Refused, AccessCause::Again][usize::from(what) % 3];
                rig.want(disk, cause, Some(1 + u16::from(what) % 2));
                rig.drain();
                rig.pass(Duration::from_millis(time));
            }
            rig.pass(Duration::from_secs(60));
            prop_assert!((0..20).all(|disk| rig.believes(disk)));
            for (place, (at, _)) in rig.asked.iter().enumerate() {
                let within = rig.asked[place..].iter().filter(|(other, _)| *other < *at + Duration::from_secs(1));
                prop_assert!(within.count() <= 28);
            }
        }
    }
}
