//! Faults: commands that wait, are answered wrongly, or are lost. The ghost write is here.

use array::{
    Chance, Class, Effect, Event, Fault, FaultId, Function, NexusLoss, Options, Place, PortId, Response,
    Scope, Treatment, Until, When,
};
use clock::{Duration, Instant};
use scsi::{Reply, Sense, SenseData, SenseKey, Status, TaskAttribute};

use crate::bench::{A, B, Bench, attention, options, read_10, sense, write_10};

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
    let medium_error = Sense::new(SenseKey::MediumError, scsi::AdditionalSense::new(0x11, 0x00));
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
