//! What a survey finds behind a nexus, and what it makes of odd devices.

use std::collections::BTreeMap;

use block::Rotation;
use clock::Duration;
use scsi::cdb::{Cdb, operation as op};
use scsi::inquiry::{DeviceType, InquiryData, Peripheral, PortGroupSupport};
use scsi::luns::LunList;
use scsi::port_groups::AccessState;
use scsi::vpd::{CodeSet, Designator, DesignatorType};
use scsi::{AdditionalSense, Ascii, Ending, Lun, ParseError, Reply, Sense, SenseData, SenseKey, Status};
use scsi_multipath::{
    Addressing, CONCURRENCY, Command, Failure, LUNS_MAX, NoIdentity, Question, Rejection, Summary, Survey,
    SurveyError,
};

use crate::device::{Device, answer, refuse, sense};
use crate::rig::{Surveyed, survey};

/// A target with its logical units, at its port 1.
struct Target(BTreeMap<Lun, Device>);

impl Target {
    fn new(devices: impl IntoIterator<Item = (u16, Device)>) -> Self {
        Self(devices.into_iter().map(|(number, device)| (Lun::from(number), device)).collect())
    }

    fn answer(&mut self, lun: Lun, command: &mut Command) -> Reply {
        if command.cdb.operation_code() == op::REPORT_LUNS {
            let list = LunList { luns: self.0.keys().copied().collect() };
            return answer(command, &list.emit());
        }
        match self.0.get_mut(&lun) {
            Some(device) => device.execute(1, command),
            None if command.cdb.operation_code() == op::INQUIRY => {
                answer(command, &inquiry(Peripheral::NONE).emit())
            }
            None => refuse(0x25, 0x00),
        }
    }

    fn survey(&mut self) -> Surveyed {
        survey(Survey::new(), |lun, command| Ending::Reply(self.answer(lun, command)))
    }
}

fn inquiry(peripheral: Peripheral) -> InquiryData {
    InquiryData {
        peripheral,
        removable: false,
        version: 6,
        hierarchical: false,
        port_groups: PortGroupSupport::None,
        third_party_copy: false,
        protection: false,
        command_queuing: true,
        vendor: Ascii::new("ACME"),
        product: Ascii::new("Odd"),
        revision: Ascii::new("1"),
    }
}

/// Surveys one odd device: `odd` may answer in its place.
fn survey_odd(device: Device, mut odd: impl FnMut(&mut Command) -> Option<Ending>) -> Surveyed {
    let mut target = Target::new([(0, device)]);
    survey(Survey::new(), |lun, command| {
        odd(command).unwrap_or_else(|| Ending::Reply(target.answer(lun, command)))
    })
}

fn code(command: &Command) -> u8 {
    command.cdb.operation_code()
}

fn is_page(command: &Command, wanted: u8) -> bool {
    matches!(Cdb::parse(command.cdb.as_slice()), Ok(Cdb::Inquiry { page: Some(page), .. }) if page == wanted)
}

fn rejection(surveyed: &Surveyed) -> String {
    assert!(surveyed.found.is_empty());
    let [(_, reason)] = &surveyed.rejected[..] else { panic!("one is rejected: {surveyed:?}") };
    reason.to_string()
}

#[test]
fn every_logical_unit_is_found_with_what_a_disk_has_to_know() {
    let mut device = Device::new(64, 1);
    device.limits.transfer_max = 128;
    device.access.insert(1, AccessState::NonOptimized);
    let surveyed = Target::new([(0, device), (3, Device::new(8, 2))]).survey();
    assert_eq!(surveyed.done, Some(Ok(Summary { found: 2, rejected: 0, left_out: 0 })));
    let (lun, unit) = &surveyed.found[0];
    assert_eq!(*lun, Lun::from(0));
    assert_eq!(unit.identity.to_string(), "naa.60111111111111111111111111111101");
    assert_eq!((unit.vendor.as_str(), unit.product.as_str()), ("ACME", "Story disk"));
    assert_eq!(unit.serial.as_deref(), Some("SN0001"));
    let capacity = unit.capacity.expect("it is known");
    assert_eq!((capacity.blocks, capacity.block_size, capacity.bytes()), (64, 512, 32768));
    assert_eq!(unit.limits.transfer_max, Some(128));
    assert_eq!(unit.write_cache, block::WriteCache::Back);
    assert!(unit.force_unit_access && !unit.write_protected && unit.reports_access);
    assert_eq!((unit.port.group, unit.port.relative), (Some(1), Some(1)));
    assert_eq!(unit.access, AccessState::NonOptimized);
    assert_eq!(unit.transition_max, Some(Duration::from_secs(20)));
}

#[test]
fn whether_the_medium_turns_is_asked_of_a_device_that_lists_the_page() {
    for (said, expected) in [
        (0x0000, Rotation::Unknown),
        (0x0001, Rotation::Solid),
        (0x0400, Rotation::Unknown),
        (0x1c20, Rotation::PerMinute(7200)),
        (0xffff, Rotation::Unknown),
    ] {
        let device = Device { rotation_rate: Some(said), ..Device::new(8, 1) };
        let surveyed = Target::new([(0, device)]).survey();
        assert_eq!(surveyed.found[0].1.rotation, expected, "{said:x}");
    }
    let mut asked = false;
    let surveyed = survey_odd(Device::new(8, 1), |command| {
        asked |= is_page(command, 0xb1);
        None
    });
    assert_eq!((surveyed.found[0].1.rotation, asked), (Rotation::Unknown, false));
}

#[test]
fn no_more_than_a_few_questions_are_out_at_a_time() {
    let devices = (0..100u8).map(|number| (number.into(), Device::new(8, number)));
    let surveyed = Target::new(devices).survey();
    assert_eq!(surveyed.found.len(), 100);
    assert_eq!(surveyed.out_max, CONCURRENCY);
}

#[test]
fn only_the_units_that_are_asked_for_are_looked_at() {
    let mut target = Target::new([(0, Device::new(8, 1)), (1, Device::new(8, 2))]);
    let wanted = vec![Lun::from(1), Lun::from(9)];
    let surveyed = survey(Survey::for_luns(wanted), |lun, command| {
        assert_ne!(code(command), op::REPORT_LUNS);
        Ending::Reply(target.answer(lun, command))
    });
    assert_eq!(surveyed.found[0].0, Lun::from(1));
    assert_eq!(surveyed.rejected, [(Lun::from(9), Rejection::NotPresent)]);
}

#[test]
fn a_target_without_report_luns_has_unit_zero() {
    let surveyed = survey_odd(Device::new(8, 1), |command| {
        (code(command) == op::REPORT_LUNS).then(|| Ending::Reply(refuse(0x20, 0x00)))
    });
    assert_eq!(surveyed.found.len(), 1);
}

#[test]
fn a_target_need_not_have_unit_zero() {
    let surveyed = Target::new([(5, Device::new(8, 1))]).survey();
    assert_eq!(surveyed.found[0].0, Lun::from(5));
    assert_eq!(surveyed.rejected, []);
}

#[test]
fn more_units_than_are_looked_at_are_left_out_and_counted() {
    let luns: Vec<_> = (0..u16::try_from(LUNS_MAX + 10).expect("few")).map(Lun::from).collect();
    let list = LunList { luns }.emit();
    let surveyed = survey(Survey::new(), |_, command| {
        let none = inquiry(Peripheral::NONE).emit();
        let is_list = code(command) == op::REPORT_LUNS;
        Ending::Reply(answer(command, if is_list { &list } else { &none }))
    });
    assert_eq!(surveyed.done, Some(Ok(Summary { found: 0, rejected: LUNS_MAX, left_out: 10 })));
}

#[test]
fn unit_attentions_and_busy_answers_are_sat_out() {
    let mut left = vec![
        Ending::Reply(Reply { status: Status::Busy, ..Reply::good() }),
        Ending::Reply(sense(SenseKey::UnitAttention, 0x29, 0x01)),
        Ending::Reply(sense(SenseKey::UnitAttention, 0x3f, 0x0e)),
        Ending::Aborted,
        Ending::Reply(sense(SenseKey::UnitAttention, 0x29, 0x07)),
    ];
    let surveyed = survey_odd(Device::new(8, 1), |_| left.pop());
    assert_eq!(surveyed.found.len(), 1);
    assert_eq!(surveyed.took, Duration::from_millis(200), "busy and aborted have a pause");
}

#[test]
fn a_device_that_is_busy_for_ever_is_given_up() {
    let surveyed = survey_odd(Device::new(8, 1), |command| {
        let busy = Ending::Reply(Reply { status: Status::Busy, ..Reply::good() });
        (code(command) == op::INQUIRY).then_some(busy)
    });
    assert_eq!(rejection(&surveyed), "it fails INQUIRY: busy");
}

#[test]
fn an_answer_that_was_cut_off_is_asked_for_again_with_more_room() {
    let mut device = Device::new(8, 1);
    // 20 name strings of 200 bytes: more than is asked for at first.
    for each in 0..20 {
        let name = format!("iqn.{each:0196}");
        let kind = DesignatorType::NameString;
        device.designators.push(Designator::of_logical_unit(kind, CodeSet::Utf8, name.as_bytes()));
    }
    let mut asked = 0;
    let surveyed = survey_odd(device, |command| {
        asked += usize::from(is_page(command, 0x83));
        None
    });
    assert_eq!((surveyed.found.len(), asked), (1, 2));
}

#[test]
fn a_unit_without_an_identity_is_rejected_with_the_reason() {
    let mut device = Device::new(8, 1);
    device.designators.clear();
    let surveyed = survey_odd(device, |_| None);
    assert_eq!(
        rejection(&surveyed),
        "it has no identity: its device identification page names no logical unit"
    );
    let surveyed = survey_odd(Device::new(8, 1), |command| {
        is_page(command, 0x83).then(|| Ending::Reply(refuse(0x24, 0x00)))
    });
    assert_eq!(surveyed.rejected[0].1, Rejection::NoIdentity(NoIdentity::NoPage));
}

#[test]
fn what_is_no_disk_is_rejected() {
    let enclosure = Peripheral { device_type: DeviceType::EnclosureServices, ..Peripheral::DISK };
    let surveyed = survey_odd(Device::new(8, 1), |command| {
        let standard = matches!(Cdb::parse(command.cdb.as_slice()), Ok(Cdb::Inquiry { page: None, .. }));
        standard.then(|| Ending::Reply(answer(command, &inquiry(enclosure).emit())))
    });
    assert_eq!(rejection(&surveyed), "it is no disk but EnclosureServices");
}

#[test]
fn blocks_that_cannot_be_served_are_rejected() {
    let capacity = scsi::capacity::Capacity::new(scsi::Lba(7), 520);
    let surveyed = survey_odd(Device::new(8, 1), |command| {
        (code(command) == op::SERVICE_ACTION_IN_16).then(|| Ending::Reply(answer(command, &capacity.emit())))
    });
    assert_eq!(rejection(&surveyed), "blocks of 520 bytes cannot be served");
}

#[test]
fn a_device_that_knows_only_older_questions_is_asked_those() {
    let mut device = Device::new(8, 1);
    device.unknown = vec![op::SERVICE_ACTION_IN_16, op::MODE_SENSE_6];
    let surveyed = survey_odd(device, |command| {
        let cdb = Cdb::parse(command.cdb.as_slice());
        let extended = matches!(cdb, Ok(Cdb::ReportTargetPortGroups { format, .. })
            if format == scsi::cdb::PortGroupsFormat::Extended);
        extended.then(|| Ending::Reply(refuse(0x24, 0x00)))
    });
    let unit = &surveyed.found[0].1;
    assert_eq!(unit.addressing, Addressing::Ten);
    assert_eq!(unit.capacity.map(|capacity| capacity.blocks), Some(8));
    assert!(unit.force_unit_access, "MODE SENSE(10) was answered");
    assert_eq!(unit.access, AccessState::Optimized);
}

#[test]
fn what_a_device_need_not_know_it_is_found_without() {
    let mut device = Device::new(8, 1);
    device.unknown = vec![op::MODE_SENSE_6, op::MODE_SENSE_10, op::MAINTENANCE_IN];
    let surveyed = survey_odd(device, |_| None);
    let unit = &surveyed.found[0].1;
    assert_eq!(unit.write_cache, block::WriteCache::Back, "a cache that is not denied may be there");
    assert!(!unit.force_unit_access);
    assert_eq!(unit.access, AccessState::Optimized);
}

#[test]
fn a_port_in_standby_is_found_without_its_capacity() {
    for state in [AccessState::Standby, AccessState::Unavailable, AccessState::Transitioning] {
        let mut device = Device::new(8, 1);
        device.access.insert(1, state);
        let surveyed = survey_odd(device, |_| None);
        let unit = &surveyed.found[0].1;
        assert_eq!((unit.access, unit.capacity), (state, None));
    }
}

#[test]
fn a_lost_nexus_ends_the_survey() {
    let mut questions = 0;
    let surveyed = survey_odd(Device::new(8, 1), |_| {
        questions += 1;
        (questions > 3).then_some(Ending::Lost)
    });
    assert_eq!(surveyed.done, Some(Err(SurveyError::NexusLost)));
    assert_eq!(surveyed.found.len() + surveyed.rejected.len(), 0);
}

#[test]
fn a_list_that_makes_no_sense_ends_the_survey() {
    // A list length that is no multiple of eight.
    let surveyed = survey_odd(Device::new(8, 1), |command| {
        (code(command) == op::REPORT_LUNS)
            .then(|| Ending::Reply(answer(command, &[0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0])))
    });
    assert_eq!(surveyed.done, Some(Err(SurveyError::MalformedList(ParseError::Malformed { byte: 0 }))));
}

#[test]
fn a_capacity_that_is_failed_rejects_the_unit() {
    let surveyed = survey_odd(Device::new(8, 1), |command| {
        (code(command) == op::SERVICE_ACTION_IN_16)
            .then(|| Ending::Reply(sense(SenseKey::HardwareError, 0x3f, 0x00)))
    });
    let reason = Rejection::Failed { question: Question::Capacity16, failure: Failure::Hardware };
    assert_eq!(surveyed.rejected, [(Lun::from(0), reason)]);
}

mod garbage {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_answer_makes_a_survey_panic_or_go_on_for_ever(
            answers in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..80), 0..12u8), 1..40),
        ) {
            let mut device = Device::new(8, 1);
            let mut turn = 0;
            let surveyed = survey(Survey::new(), |_, command| {
                let (bytes, kind) = &answers[turn % answers.len()];
                turn += 1;
                assert!(turn < 100_000, "a survey ends");
                match kind {
                    0..4 => Ending::Reply(answer(command, bytes)),
                    4 => Ending::Reply(sense(SenseKey::UnitAttention, 0x29, 0x00)),
                    5 => Ending::Reply(refuse(0x24, 0x00)),
                    6 => Ending::Aborted,
                    7 if turn > 30 => Ending::Lost,
                    _ => Ending::Reply(device.execute(1, command)),
                }
            });
            prop_assert!(surveyed.done.is_some());
        }
    }
}

#[test]
fn a_unit_that_changes_while_it_is_examined_is_examined_again() {
    let mut device = Device::new(8, 1);
    let mut asked = 0;
    let surveyed = survey(Survey::for_luns(vec![Lun::from(0)]), |_, command| {
        asked += 1;
        // After the identity was read, another unit takes the place of the first.
        if asked == 6 {
            device.designators = Device::new(8, 2).designators;
            return Ending::Reply(sense(SenseKey::UnitAttention, 0x3f, 0x0e));
        }
        Ending::Reply(device.execute(1, command))
    });
    let name = surveyed.found[0].1.identity.name().to_string();
    assert!(name.ends_with("02"), "{name}");
}

#[test]
fn a_reset_that_a_later_survey_is_told_of_is_no_greeting() {
    for is_repeated in [false, true] {
        let mut device = Device::new(8, 1);
        let mut is_told = false;
        let mut identities = 0;
        let first = Survey::for_luns(vec![Lun::from(0)]);
        let surveyed = survey(if is_repeated { first.repeated() } else { first }, |_, command| {
            identities += usize::from(command.cdb.as_slice().starts_with(&[op::INQUIRY, 1, 0x83]));
            if code(command) == op::SERVICE_ACTION_IN_16 && !std::mem::replace(&mut is_told, true) {
                return Ending::Reply(sense(SenseKey::UnitAttention, 0x29, 0x03));
            }
            Ending::Reply(device.execute(1, command))
        });
        assert_eq!(surveyed.found.len(), 1);
        assert_eq!(identities, if is_repeated { 2 } else { 1 }, "repeated: {is_repeated}");
    }
}

#[test]
fn a_power_loss_that_a_survey_is_told_of_after_the_greeting_is_passed_on() {
    let mut device = Device::new(8, 1);
    let mut attentions = vec![(0x29, 0x04), (0x29, 0x00)];
    let surveyed = survey(Survey::for_luns(vec![Lun::from(0)]), |_, command| {
        if code(command) == op::SERVICE_ACTION_IN_16
            && let Some((asc, ascq)) = attentions.pop()
        {
            return Ending::Reply(sense(SenseKey::UnitAttention, asc, ascq));
        }
        Ending::Reply(device.execute(1, command))
    });
    assert_eq!(surveyed.found.len(), 1);
    assert_eq!(surveyed.losses, [sense(SenseKey::UnitAttention, 0x29, 0x04)]);
}

#[test]
fn a_deferred_error_that_a_survey_is_told_of_is_passed_on() {
    let mut device = Device::new(8, 1);
    let error = Sense::new(SenseKey::MediumError, AdditionalSense::WRITE_ERROR).as_deferred();
    let reply = Reply::check_condition(SenseData::fixed(&error));
    let mut told = Some(reply.clone());
    let surveyed = survey(Survey::for_luns(vec![Lun::from(0)]), |_, command| {
        match told.take_if(|_| code(command) == op::SERVICE_ACTION_IN_16) {
            Some(reply) => Ending::Reply(reply),
            None => Ending::Reply(device.execute(1, command)),
        }
    });
    assert_eq!((surveyed.found.len(), surveyed.losses), (1, vec![reply]));
}

/// Surveys that share what is reported of port groups.
mod sharing {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use clock::Instant;
    use scsi::port_groups::{PortGroup, PortGroups, StateChange, SupportedStates};
    use scsi_multipath::{SurveyAction, SurveyEvent, Unit};

    use super::*;
    use crate::device::LongHeader;

    /// One survey of a target, step by step.
    struct Story {
        now: Instant,
        survey: Survey,
        target: Target,
        /// What was asked, and not answered.
        out: VecDeque<(Lun, Command)>,
        found: Vec<Unit>,
        wanted: Vec<(u16, Instant)>,
        reported: Vec<(Instant, Option<Arc<PortGroups>>)>,
        group_reports: usize,
    }

    impl Story {
        fn new(device: Device, survey: Survey) -> Self {
            let mut story = Self {
                now: Instant::START,
                survey,
                target: Target::new([(0, device)]),
                out: VecDeque::new(),
                found: Vec::new(),
                wanted: Vec::new(),
                reported: Vec::new(),
                group_reports: 0,
            };
            story.tell(SurveyEvent::Start);
            story
        }

        fn tell(&mut self, event: SurveyEvent) {
            self.survey.handle(self.now, event);
            while let Some(action) = self.survey.poll_action() {
                match action {
                    SurveyAction::Send { lun, command } => {
                        self.group_reports += usize::from(code(&command) == op::MAINTENANCE_IN);
                        self.out.push_back((lun, command));
                    }
                    SurveyAction::WantReport { group, since, .. } => self.wanted.push((group, since)),
                    SurveyAction::Reported { asked, report, .. } => self.reported.push((asked, report)),
                    SurveyAction::Found { unit, .. } => self.found.push(*unit),
                    _ => {}
                }
            }
        }

        /// Answers what is asked, until nothing is.
        fn run(&mut self) {
            if self.survey.poll_timeout().is_some_and(|due| due <= self.now) {
                self.tell(SurveyEvent::Timeout);
            }
            while let Some((lun, mut command)) = self.out.pop_front() {
                let ending = Ending::Reply(self.target.answer(lun, &mut command));
                self.tell(SurveyEvent::Ended(command, ending));
            }
        }

        fn report(&mut self, state: Option<AccessState>) {
            let group = |state| PortGroup {
                id: 1,
                state,
                preferred: false,
                supported: SupportedStates::default(),
                status: StateChange::None,
                ports: Vec::new(),
            };
            let of = |state| PortGroups { transition_secs: None, groups: vec![group(state)] };
            let report = state.map(|state| Arc::new(of(state)));
            self.tell(SurveyEvent::Report { lun: Lun::from(0), report });
            self.run();
        }
    }

    #[test]
    fn a_report_that_another_survey_has_is_taken_and_nothing_asked() {
        let mut story = Story::new(Device::new(8, 1), Survey::new().sharing());
        story.run();
        assert_eq!((&story.wanted[..], story.found.len()), (&[(1, Instant::START)][..], 0));
        story.report(Some(AccessState::NonOptimized));
        assert_eq!((story.found[0].access, story.group_reports), (AccessState::NonOptimized, 0));
    }

    #[test]
    fn a_survey_that_is_told_nothing_asks_and_tells() {
        let mut story = Story::new(Device::new(8, 1), Survey::new().sharing());
        story.run();
        story.now = Instant::START + Duration::from_millis(3);
        story.report(None);
        assert_eq!((story.found.len(), story.group_reports), (1, 1));
        let [(asked, Some(report))] = &story.reported[..] else { panic!("{:?}", story.reported) };
        assert_eq!((*asked, report.groups.len()), (story.now, 4));
    }

    #[test]
    fn nobody_is_waited_for_longer_than_a_moment() {
        let mut story = Story::new(Device::new(8, 1), Survey::new().sharing());
        story.run();
        let due = story.survey.poll_timeout().unwrap();
        assert_eq!(due, Instant::START + Duration::from_millis(100));
        story.now = due;
        story.tell(SurveyEvent::Timeout);
        story.run();
        assert_eq!((story.found.len(), story.group_reports), (1, 1));
    }

    #[test]
    fn a_device_that_does_not_tell_has_that_said_to_those_that_wait() {
        let device = Device { unknown: vec![op::MAINTENANCE_IN], ..Device::new(8, 1) };
        let mut story = Story::new(device, Survey::new().sharing());
        story.run();
        story.report(None);
        assert_eq!(story.found.len(), 1);
        assert!(matches!(story.reported[..], [(_, None)]), "{:?}", story.reported);
    }

    #[test]
    fn after_a_unit_attention_an_older_report_does_not_do() {
        let mut story = Story::new(Device::new(8, 1), Survey::for_luns(vec![Lun::from(0)]).sharing());
        story.now = Instant::START + Duration::from_millis(5);
        let (_, question) = story.out.pop_front().unwrap();
        let changed = sense(SenseKey::UnitAttention, 0x2a, 0x06);
        story.tell(SurveyEvent::Ended(question, Ending::Reply(changed)));
        story.run();
        assert_eq!(story.wanted, [(1, story.now)]);
    }

    #[test]
    fn a_target_that_refuses_the_long_header_is_not_asked_for_it_again() {
        let short = || Device { long_header: LongHeader::Refused, ..Device::new(8, 1) };
        let mut story = Story::new(short(), Survey::new());
        story.run();
        assert_eq!((story.group_reports, story.found[0].knows_long_header), (2, false));
        let mut story = Story::new(short(), Survey::new().with_short_header());
        story.run();
        assert_eq!((story.group_reports, story.found[0].knows_long_header), (1, false));
    }
}
