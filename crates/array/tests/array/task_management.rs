//! Task management functions and the loss of a nexus, done honestly.

use array::{Action, Class, Effect, Event, Fault, FaultId, Function, Place, Response, Scope, Until, When};
use scsi::{Lun, Status};

use crate::bench::{A, B, Bench, TEST_UNIT_READY, attention, options, read_10, sense, write_10};

const FAULT: FaultId = FaultId(1);

/// From now on writes wait.
fn hold_writes(bench: &mut Bench, place: Place) {
    let scope = Scope { class: Class::Write, ..Scope::default() };
    let effect = Effect::Hold { place, until: Until::Released };
    bench.handle(Event::SetFault(FAULT, Fault { scope, when: When::ALWAYS, effect }));
}

fn write(bench: &mut Bench, nexus: array::NexusId, fill: u8) -> u64 {
    bench.send(nexus, 0, &write_10(0, 1), &[fill; 512], 512)
}

fn run(bench: &mut Bench, nexus: array::NexusId, function: Function, referenced: Option<u64>) -> Response {
    let tag = bench.manage(nexus, function, referenced);
    bench.response_to(tag)
}

#[test]
fn an_aborted_task_is_neither_executed_nor_answered() {
    let mut bench = Bench::new(options());
    hold_writes(&mut bench, Place::Queue);
    let tag = write(&mut bench, A, 1);
    assert_eq!(run(&mut bench, B, Function::AbortTask, Some(tag)), Response::TaskDoesNotExist);
    assert_eq!(run(&mut bench, A, Function::QueryTask, Some(tag)), Response::Succeeded);
    let abort = bench.manage(A, Function::AbortTask, Some(tag));
    bench.is_aborted(tag);
    assert_eq!(bench.response_to(abort), Response::Complete);
    assert_eq!(run(&mut bench, A, Function::QueryTask, Some(tag)), Response::Complete);
    assert_eq!(run(&mut bench, A, Function::AbortTask, Some(tag)), Response::TaskDoesNotExist);
    bench.handle(Event::Release(FAULT));
    bench.nothing_happens();
    assert_eq!(bench.read(0, 1), [0; 512]);
}

#[test]
fn abort_task_set_ends_only_ones_own_tasks() {
    let mut bench = Bench::new(options());
    hold_writes(&mut bench, Place::Queue);
    let own = write(&mut bench, A, 1);
    let other = write(&mut bench, B, 2);
    let abort = bench.manage(A, Function::AbortTaskSet, None);
    bench.is_aborted(own);
    assert_eq!(bench.response_to(abort), Response::Complete);
    assert_eq!(run(&mut bench, A, Function::QueryTaskSet, None), Response::Complete);
    assert_eq!(run(&mut bench, B, Function::QueryTaskSet, None), Response::Succeeded);
    bench.handle(Event::Release(FAULT));
    bench.reply_to(other);
    bench.nothing_happens();
}

#[test]
fn clear_task_set_tells_the_others_what_became_of_their_tasks() {
    let mut bench = Bench::new(options());
    hold_writes(&mut bench, Place::Queue);
    let tag = write(&mut bench, B, 2);
    let clear = bench.manage(A, Function::ClearTaskSet, None);
    bench.is_aborted(tag);
    assert_eq!(bench.response_to(clear), Response::Complete);
    assert_eq!(sense(&bench.ask_as(B, 0, &TEST_UNIT_READY).0), attention(0x2f, 0x00));
    assert_eq!(bench.ask(&TEST_UNIT_READY).0.status, Status::Good);
}

#[test]
fn with_tas_the_others_get_a_status_instead() {
    let mut bench = Bench::new(options());
    // MODE SELECT(6): control page with TAS.
    let list = [0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0, 0x40, 0, 0, 0xff, 0xff, 0, 0];
    bench.tell(&[0x15, 0x10, 0, 0, 16, 0], &list);
    assert_eq!(sense(&bench.ask_as(B, 0, &TEST_UNIT_READY).0), attention(0x2a, 0x01));
    hold_writes(&mut bench, Place::Queue);
    let tag = write(&mut bench, B, 2);
    let clear = bench.manage(A, Function::ClearTaskSet, None);
    assert_eq!(bench.reply_to(tag).0.status, Status::TaskAborted);
    assert_eq!(bench.response_to(clear), Response::Complete);
    assert_eq!(bench.ask_as(B, 0, &TEST_UNIT_READY).0.status, Status::Good);
}

#[test]
fn a_reset_ends_all_tasks_and_is_told_to_everybody() {
    for function in [Function::LogicalUnitReset, Function::TargetWarmReset, Function::TargetColdReset] {
        let mut bench = Bench::new(options());
        hold_writes(&mut bench, Place::Queue);
        let tags = [write(&mut bench, A, 1), write(&mut bench, B, 2)];
        let reset = bench.manage(A, function, None);
        tags.into_iter().for_each(|tag| bench.is_aborted(tag));
        assert_eq!(bench.response_to(reset), Response::Complete);
        assert_eq!(sense(&bench.ask_as(B, 0, &TEST_UNIT_READY).0), attention(0x29, 0x03));
        assert_eq!(sense(&bench.ask_as(B, 0, &TEST_UNIT_READY).0), attention(0x2f, 0x00));
        assert_eq!(sense(&bench.ask(&TEST_UNIT_READY).0), attention(0x29, 0x03));
        assert_eq!(bench.ask(&TEST_UNIT_READY).0.status, Status::Good);
        bench.handle(Event::Release(FAULT));
        bench.nothing_happens();
    }
}

#[test]
fn a_reset_is_answered_when_the_back_end_is_drained() {
    let mut bench = Bench::new(options());
    hold_writes(&mut bench, Place::BackEnd);
    let tag = write(&mut bench, A, 1);
    let reset = bench.manage(B, Function::LogicalUnitReset, None);
    bench.is_aborted(tag);
    bench.nothing_happens();
    bench.handle(Event::ClearFault(FAULT));
    assert_eq!(bench.response_to(reset), Response::Complete);
    bench.nothing_happens();
}

#[test]
fn a_closed_nexus_is_drained_when_its_last_task_ended() {
    let mut bench = Bench::new(options());
    hold_writes(&mut bench, Place::Queue);
    write(&mut bench, A, 1);
    bench.handle(Event::NexusClosed { nexus: A });
    assert!(matches!(bench.array.poll_action(), Some(Action::NexusDrained { nexus: A })));

    hold_writes(&mut bench, Place::BackEnd);
    write(&mut bench, B, 2);
    bench.handle(Event::NexusClosed { nexus: B });
    bench.nothing_happens();
    bench.handle(Event::ClearFault(FAULT));
    assert!(matches!(bench.array.poll_action(), Some(Action::NexusDrained { nexus: B })));
    bench.nothing_happens();
}

#[test]
fn a_function_that_waits_is_not_answered_to_a_nexus_that_is_gone() {
    let mut bench = Bench::new(options());
    hold_writes(&mut bench, Place::BackEnd);
    let tag = write(&mut bench, B, 2);
    bench.manage(A, Function::LogicalUnitReset, None);
    bench.is_aborted(tag);
    bench.handle(Event::NexusClosed { nexus: A });
    assert!(matches!(bench.array.poll_action(), Some(Action::NexusDrained { nexus: A })));
    bench.handle(Event::ClearFault(FAULT));
    bench.nothing_happens();
}

#[test]
fn functions_for_a_lun_that_is_not_there_or_that_are_not_there_say_so() {
    let mut bench = Bench::new(options());
    let lun = Lun::from(9);
    bench.handle(Event::TaskManagement {
        nexus: A,
        tag: 77,
        function: Function::LogicalUnitReset,
        lun,
        referenced: None,
    });
    assert_eq!(bench.response_to(77), Response::LunDoesNotExist);
    assert_eq!(run(&mut bench, A, Function::ClearAca, None), Response::NotSupported);
}

#[test]
fn a_command_of_a_nexus_that_is_gone_is_dropped() {
    let mut bench = Bench::new(options());
    bench.handle(Event::NexusClosed { nexus: A });
    bench.array.poll_action();
    bench.send(A, 0, &read_10(0, 1), &[], 512);
    bench.nothing_happens();
}
