//! SIGTERM: in order, in time, and with nothing left behind.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{Array, Room, TARGET, ask};

/// What SIGTERM may take when nobody answers: ten seconds and the end of the process.
const BOUND: Duration = Duration::from_secs(12);

#[test]
fn sigterm_logs_out_and_removes_the_sockets() {
    let (mut array, room) = (Array::start(&["--lu", "size=1M"]), Room::new());
    let mut run = room.serve(&[&array.url(0)]);
    run.stop();
    assert!(!room.path("disk.sock").exists() && !room.path("control.sock").exists());
    array.process.line("logged out");
}

#[test]
fn sigterm_with_a_silent_target_ends_in_time_and_says_what_was_not_done() {
    let (array, room) = (Array::start(&["--lu", "size=1M"]), Room::new());
    let mut run = room.serve(&[&array.url(0)]);
    array.process.signal(Signal::STOP);
    let asked = Instant::now();
    run.signal(Signal::TERM);
    run.end();
    assert!(asked.elapsed() < BOUND, "{:?}", asked.elapsed());
    // The session is left behind: that is said, whether or not there was data to lose.
    let told = format!("smpath: warning: {TARGET} at {}: not logged out", array.portal(0));
    assert!(run.said.contains(&told), "{}", run.said);
}

#[test]
fn a_second_sigterm_does_not_wait() {
    let (array, room) = (Array::start(&["--lu", "size=1M"]), Room::new());
    let mut run = room.serve(&[&array.url(0)]);
    array.process.signal(Signal::STOP);
    run.signal(Signal::TERM);
    run.line("flushing and logging out");
    run.signal(Signal::TERM);
    assert!(!run.end().success(), "{}", run.said);
}

#[test]
fn the_demonstration_checks_itself() {
    let report = ask(&["demo", "--for", "3s", "--check", "--size", "16M"]);
    assert!(report.contains("result       0 errors, 0 mismatches"), "{report}");
}
