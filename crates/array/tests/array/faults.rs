//! Faults: commands that wait, are answered wrongly, or are lost. The ghost write is here.

use array::{
    Chance, Class, Coordination, Effect, Event, Fault, FaultId, Function, NexusLoss, Options, Place, PortId,
    Remapping, Response, Scope, ShownIdentity, Treatment, UnitId, UnitOptions, Until, When,
};
use clock::{Duration, Instant};
use scsi::{AdditionalSense, Lun, Reply, Sense, SenseData, SenseKey, Status, TaskAttribute};

use crate::bench::{A, B, Bench, TEST_UNIT_READY, UNIT, attention, options, read_10, sense, write_10};

const FAULT: FaultId = FaultId(1);

fn scope(class: Class) -> Scope {
    Scope { class, ..Scope::default() }
}

fn hold(place: Place, until: Until) -> Effect {
    Effect::Hold { place, until }
}

fn next(class: Class, effect: Effect) -> Event {
    Event::SetFault(FAULT, Fault { scope: scope(class), when: When::times(1), effect })
}

#[test]
fn a_held_write_takes_effect_when_it_is_released_and_not_before() {
    let mut bench = Bench::new(options());
    bench.handle(next(Class::Write, hold(Place::BackEnd, Until::Released)));
    let tag = bench.send(A, 0, &write_10(0, 1), &[1; 512], 512);
    bench.nothing_happens();
    assert_eq!(bench.read(0, 1), [0; 512]);
    bench.handle(Event::Release(FAULT));
    assert_eq!(bench.reply_to(tag).0, Reply::good());
    assert_eq!(bench.read(0, 1), [1; 512]);
}

#[test]
fn a_delayed_command_is_executed_at_its_time() {
    let mut bench = Bench::new(options());
    bench.handle(next(Class::Read, hold(Place::Queue, Until::After(Duration::from_millis(30)))));
    let tag = bench.send(A, 0, &read_10(0, 1), &[], 512);
    assert_eq!(bench.array.poll_timeout(), Some(Instant::START + Duration::from_millis(30)));
    bench.pass(Duration::from_millis(29));
    bench.nothing_happens();
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.reply_to(tag).0, Reply::good());
    assert_eq!(bench.array.poll_timeout(), None);
}

#[test]
fn clearing_a_fault_releases_what_it_holds_in_order() {
    let mut bench = Bench::new(options());
    let effect = hold(Place::Queue, Until::Released);
    bench.handle(Event::SetFault(FAULT, Fault { scope: scope(Class::Write), when: When::ALWAYS, effect }));
    let first = bench.send(A, 0, &write_10(0, 1), &[1; 512], 512);
    let second = bench.send(B, 0, &write_10(0, 1), &[2; 512], 512);
    bench.handle(Event::ClearFault(FAULT));
    bench.reply_to(first);
    bench.reply_to(second);
    assert_eq!(bench.read(0, 1), [2; 512]);
}

#[test]
fn a_command_can_be_answered_with_anything() {
    let mut bench = Bench::new(options());
    let busy = Reply { status: Status::Busy, ..Reply::good() };
    bench.handle(next(Class::Medium, Effect::Reply(busy.clone())));
    assert_eq!(bench.tell(&write_10(0, 1), &[1; 512]), busy);
    let medium_error = Sense::new(SenseKey::MediumError, AdditionalSense::new(0x11, 0x00));
    let reply = Reply::check_condition(SenseData::fixed(&medium_error));
    let scope = Scope { blocks: Some((5, 9)), ..scope(Class::Read) };
    bench.handle(Event::SetFault(FAULT, Fault { scope, when: When::ALWAYS, effect: Effect::Reply(reply) }));
    assert_eq!(bench.read(0, 5), [0; 5 * 512]);
    assert_eq!(sense(&bench.ask(&read_10(4, 2)).0), (SenseKey::MediumError, 0x11, 0x00));
    assert_eq!(bench.array.fault_hits(FAULT), 1);
}

#[test]
fn a_lost_status_hides_a_write_that_happened() {
    let mut bench = Bench::new(options());
    bench.handle(next(Class::Write, Effect::LoseStatus));
    bench.send(A, 0, &write_10(0, 1), &[1; 512], 512);
    bench.nothing_happens();
    assert_eq!(bench.read(0, 1), [1; 512]);
}

#[test]
fn a_lost_command_never_happened_and_a_lost_write_pretends_it_did() {
    let mut bench = Bench::new(options());
    bench.handle(next(Class::Write, Effect::LoseCommand));
    bench.send(A, 0, &write_10(0, 1), &[1; 512], 512);
    bench.nothing_happens();
    bench.handle(next(Class::Write, Effect::LoseWrite));
    assert_eq!(bench.tell(&write_10(0, 1), &[1; 512]), Reply::good());
    assert_eq!(bench.read(0, 1), [0; 512]);
}

#[test]
fn a_fault_at_a_port_leaves_the_other_ports_alone() {
    let mut bench = Bench::new(options());
    let scope = Scope { port: Some(PortId(1)), ..scope(Class::Any) };
    let when = When { chance: Chance::Always, ..When::ALWAYS };
    bench.handle(Event::SetFault(FAULT, Fault { scope, when, effect: Effect::LoseCommand }));
    bench.send(A, 0, &read_10(0, 1), &[], 512);
    bench.nothing_happens();
    assert_eq!(bench.ask_as(B, 0, &read_10(0, 1)).0.status, Status::Good);
}

#[test]
fn a_task_set_that_is_full_says_so() {
    let mut bench = Bench::new(Options { tasks_max: 2, ..options() });
    let effect = hold(Place::Queue, Until::Released);
    bench.handle(Event::SetFault(FAULT, Fault { scope: scope(Class::Any), when: When::ALWAYS, effect }));
    for _ in 0..2 {
        bench.send(A, 0, &read_10(0, 1), &[], 512);
    }
    let tag = bench.send(B, 0, &read_10(0, 1), &[], 512);
    assert_eq!(bench.reply_to(tag).0.status, Status::TaskSetFull);
    assert_eq!(bench.array.units().next().unwrap().held(), 2);
}

#[test]
fn an_ordered_command_waits_for_older_ones_and_younger_ones_for_it() {
    let mut bench = Bench::new(options());
    bench.handle(next(Class::Write, hold(Place::Queue, Until::Released)));
    let first = bench.send(A, 0, &write_10(0, 1), &[1; 512], 512);
    let ordered = bench.send_as(TaskAttribute::Ordered, A, 0, &write_10(0, 1), &[2; 512], 512);
    let simple = bench.send(A, 0, &read_10(0, 1), &[], 512);
    bench.nothing_happens();
    let head = bench.send_as(TaskAttribute::HeadOfQueue, A, 0, &read_10(0, 1), &[], 512);
    assert_eq!(bench.reply_to(head).1, [0; 512]);
    bench.handle(Event::Release(FAULT));
    bench.reply_to(first);
    bench.reply_to(ordered);
    assert_eq!(bench.reply_to(simple).1, [2; 512]);
}

#[test]
fn a_ghost_write_undoes_a_newer_one_when_the_array_lies_about_the_abort() {
    let mut bench = Bench::new(options());
    bench.handle(next(Class::Write, hold(Place::BackEnd, Until::Released)));
    let old = bench.send(A, 0, &write_10(0, 1), &[1; 512], 512);
    let lie = Fault {
        scope: Scope::default(),
        when: When::ALWAYS,
        effect: Effect::Function(Treatment::AnswerEarly),
    };
    bench.handle(Event::SetFault(FaultId(2), lie));
    let abort = bench.manage(A, Function::AbortTask, Some(old));
    bench.is_aborted(old);
    assert_eq!(bench.response_to(abort), Response::Complete);
    bench.tell_as(B, &write_10(0, 1), &[2; 512]);
    bench.handle(Event::Release(FAULT));
    bench.nothing_happens();
    assert_eq!(bench.read(0, 1), [1; 512], "the old data is back");
}

#[test]
fn an_honest_abort_is_answered_only_after_the_ghost_is_out() {
    let mut bench = Bench::new(options());
    bench.handle(next(Class::Write, hold(Place::BackEnd, Until::Released)));
    let old = bench.send(A, 0, &write_10(0, 1), &[1; 512], 512);
    let abort = bench.manage(A, Function::AbortTask, Some(old));
    bench.is_aborted(old);
    bench.nothing_happens();
    bench.handle(Event::Release(FAULT));
    assert_eq!(bench.response_to(abort), Response::Complete);
    bench.nothing_happens();
    assert_eq!(bench.read(0, 1), [1; 512]);
}

#[test]
fn a_function_can_be_refused_or_never_answered() {
    let mut bench = Bench::new(options());
    for treatment in [Treatment::Answer(Response::Rejected), Treatment::NeverAnswer] {
        bench.handle(next(Class::Any, Effect::Function(treatment)));
        let tag = bench.manage(A, Function::LogicalUnitReset, None);
        match treatment {
            Treatment::Answer(response) => assert_eq!(bench.response_to(tag), response),
            _ => bench.nothing_happens(),
        }
    }
    // The second was done nevertheless.
    assert_eq!(sense(&bench.ask(&read_10(0, 1)).0), attention(0x29, 0x03));
}

#[test]
fn an_array_that_keeps_tasks_lets_a_ghost_out_after_the_nexus_is_gone() {
    let mut bench = Bench::new(Options { nexus_loss: NexusLoss::KeepTasks, ..options() });
    bench.handle(next(Class::Write, hold(Place::Queue, Until::Released)));
    bench.send(A, 0, &write_10(0, 1), &[1; 512], 512);
    bench.handle(Event::NexusClosed { nexus: A });
    bench.nothing_happens();
    assert_eq!(bench.ask_as(B, 0, &read_10(0, 1)).1, [0; 512]);
    bench.handle(Event::Release(FAULT));
    assert!(matches!(bench.array.poll_action(), Some(array::Action::NexusDrained { nexus: A })));
    assert_eq!(bench.ask_as(B, 0, &read_10(0, 1)).1, [1; 512]);
}

#[test]
fn a_torn_write_leaves_its_first_blocks_and_fails() {
    let mut bench = Bench::new(options());
    let until = Until::After(Duration::from_secs(1));
    bench.handle(next(Class::Write, Effect::Tear { until, blocks: 1 }));
    let torn = bench.send(A, 0, &write_10(0, 2), &[7; 1024], 1024);
    bench.nothing_happens();
    bench.pass(Duration::from_secs(1));
    assert_eq!(sense(&bench.reply_to(torn).0), (SenseKey::MediumError, 0x0c, 0x00));
    assert_eq!(bench.read(0, 2), [[7; 512], [0; 512]].concat());
}

#[test]
fn a_misdirected_write_says_nothing_of_it() {
    let mut bench = Bench::new(options());
    bench.handle(next(Class::Write, Effect::Misdirect { blocks: 8 }));
    bench.write(0, &[7; 512]);
    assert_eq!((bench.read(0, 1), bench.read(8, 1)), (vec![0; 512], vec![7; 512]));
}

#[test]
fn an_abort_of_what_is_not_there_can_be_claimed_as_complete() {
    let mut bench = Bench::new(options());
    bench.handle(next(Class::Any, Effect::Function(Treatment::ClaimComplete)));
    let claimed = bench.manage(A, Function::AbortTask, Some(999));
    assert_eq!(bench.response_to(claimed), Response::Complete);
    let honest = bench.manage(A, Function::AbortTask, Some(999));
    assert_eq!(bench.response_to(honest), Response::TaskDoesNotExist);
}

#[test]
fn a_fault_of_one_function_leaves_the_others_alone() {
    let mut bench = Bench::new(options());
    let scope = Scope { function: Some(Function::LogicalUnitReset), ..Scope::default() };
    let effect = Effect::Function(Treatment::Answer(Response::Rejected));
    bench.handle(Event::SetFault(FAULT, Fault { scope, when: When::ALWAYS, effect }));
    let abort = bench.manage(A, Function::AbortTaskSet, None);
    assert_eq!(bench.response_to(abort), Response::Complete);
    let reset = bench.manage(A, Function::LogicalUnitReset, None);
    assert_eq!(bench.response_to(reset), Response::Rejected);
}

#[test]
fn a_reset_does_not_wait_for_the_commands_of_a_nexus_that_was_disowned() {
    let mut bench = Bench::new(options());
    bench.handle(next(Class::Write, hold(Place::BackEnd, Until::Released)));
    bench.send(A, 0, &write_10(0, 1), &[1; 512], 512);
    bench.handle(Event::NexusClosed { nexus: A });
    bench.handle(Event::Disown { nexus: A });
    let reset = bench.manage(B, Function::LogicalUnitReset, None);
    assert_eq!(bench.response_to(reset), Response::Complete);
    bench.handle(Event::Release(FAULT));
    assert!(matches!(bench.array.poll_action(), Some(array::Action::NexusDrained { nexus: A })));
    bench.ask_as(B, 0, &TEST_UNIT_READY);
    assert_eq!(bench.ask_as(B, 0, &read_10(0, 1)).1, [1; 512]);
}

#[test]
fn gateways_over_one_store_neither_end_nor_tell_of_each_others_commands() {
    let mut bench = Bench::new(Options { coordination: Coordination::PerController, ..options() });
    bench.handle(next(Class::Write, hold(Place::BackEnd, Until::Released)));
    let old = bench.send(A, 0, &write_10(0, 1), &[1; 512], 512);
    let reset = bench.manage(B, Function::LogicalUnitReset, None);
    assert_eq!(bench.response_to(reset), Response::Complete);
    bench.handle(Event::Release(FAULT));
    assert_eq!(bench.reply_to(old).0.status, Status::Good);
    assert_eq!(bench.ask(&TEST_UNIT_READY).0.status, Status::Good);
}

#[test]
fn a_power_cycle_ends_what_was_held_and_tells_everybody() {
    let mut bench = Bench::new(options());
    bench.handle(next(Class::Write, hold(Place::BackEnd, Until::Released)));
    let lost = bench.send(A, 0, &write_10(0, 1), &[1; 512], 512);
    bench.handle(Event::PowerCycle { unit: UnitId(0), attention: AdditionalSense::POWER_ON });
    bench.is_aborted(lost);
    bench.handle(Event::Release(FAULT));
    bench.nothing_happens();
    for nexus in [A, B] {
        assert_eq!(sense(&bench.ask_as(nexus, 0, &read_10(0, 1)).0), attention(0x29, 0x01));
    }
    assert_eq!(bench.read(0, 1), [0; 512]);
}

#[test]
fn a_frozen_report_of_port_groups_tells_the_state_of_then() {
    let mut bench = Bench::new(options());
    let report = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let before = bench.get(&report);
    bench.handle(Event::FreezeReport { unit: UnitId(0), frozen: true });
    let (group, state) = (array::GroupId(1), array::AccessState::Standby);
    bench.handle(Event::SetUnitAccess { unit: UnitId(0), group, state });
    bench.ask(&TEST_UNIT_READY);
    assert_eq!(bench.get(&report), before);
    assert_eq!(sense(&bench.ask(&read_10(0, 1)).0), (SenseKey::NotReady, 0x04, 0x0b));
    bench.handle(Event::FreezeReport { unit: UnitId(0), frozen: false });
    assert_ne!(bench.get(&report), before);
}

#[test]
fn a_lun_that_stands_for_another_unit_is_refused_until_its_identity_was_read() {
    let units = vec![UnitOptions::memory(0, UNIT), UnitOptions { lun: None, ..UnitOptions::memory(1, UNIT) }];
    let mut bench = Bench::new(Options { units, remapping: Remapping::ToldUntilIdentified, ..options() });
    bench.handle(Event::Map { port: None, lun: Lun::from(0), unit: Some(UnitId(1)) });
    for _ in 0..3 {
        assert_eq!(sense(&bench.tell(&write_10(0, 1), &[1; 512])), attention(0x3f, 0x0e));
    }
    bench.get(&[0x12, 1, 0x83, 0, 255, 0]);
    bench.write(0, &[1; 512]);
}

#[test]
fn a_unit_can_show_no_name_or_another_ones() {
    let mut bench = Bench::new(options());
    let inquiry = [0x12, 1, 0x83, 0, 255, 0];
    let own = bench.get(&inquiry);
    bench.handle(Event::SetShown { unit: UnitId(0), shown: ShownIdentity::Naa([0x60; 16]) });
    assert!(bench.get(&inquiry).windows(16).any(|part| part == [0x60; 16]));
    bench.handle(Event::SetShown { unit: UnitId(0), shown: ShownIdentity::Nothing });
    assert!(bench.get(&inquiry).len() < own.len());
    bench.handle(Event::SetShown { unit: UnitId(0), shown: ShownIdentity::Own });
    assert_eq!(bench.get(&inquiry), own);
}
