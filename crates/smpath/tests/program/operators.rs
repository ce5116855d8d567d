//! What operators tell a running process, and what it tells them.

use serde_json::Value;

use crate::common::{Array, Process, Room, ask};

/// The events so far, by their codes.
fn codes(control: &str) -> Vec<String> {
    let events = ask(&["events", "--json", "--control", control]);
    let code = |line: &str| serde_json::from_str::<Value>(line).unwrap()["code"].as_str().unwrap().to_owned();
    events.lines().map(code).collect()
}

/// The paths of the only disk: name, portal, state, and who keeps it out.
fn paths(control: &str) -> Vec<(String, String, String, Value)> {
    let shown: Value = serde_json::from_str(&ask(&["show", "--json", "--control", control])).unwrap();
    let paths = shown["paths"].as_array().unwrap().iter();
    let text = |path: &Value, key: &str| path[key].as_str().unwrap().to_owned();
    paths
        .map(|path| {
            (format!("P{}", path["id"]), text(path, "portal"), text(path, "state"), path["held"].clone())
        })
        .collect()
}

#[test]
fn a_path_is_failed_and_reinstated_and_the_events_say_so() {
    let (array, room) = (Array::start(&["--lu", "size=1M,id=1"]), Room::new());
    let mut run = room.serve(&["--target", &array.portal(0)]);
    let control = room.control();
    let path = paths(&control)[0].0.clone();
    let said = ask(&["fail", &path, "--control", &control]);
    assert!(said.contains("not used until `smpath reinstate`"), "{said}");
    let failed = &paths(&control)[0];
    assert_eq!((failed.2.as_str(), &failed.3), ("down", &Value::from("failed")));
    let table = ask(&["paths", "--control", &control]);
    assert!(table.contains("down (failed by operator)"), "{table}");
    let other = paths(&control)[1].0.clone();
    let why = ask(&["explain", "--control", &control]);
    assert!(why.contains(&format!("the next small read takes {other}")), "{why}");
    assert!(why.contains(&format!("`smpath reinstate {path}`")), "{why}");
    let why = ask(&["explain", &path, "--control", &control]);
    assert!(why.contains("lately:") && why.contains("operator-failed"), "{why}");
    assert!(!why.contains(&format!("  {other} ")), "only what was asked about: {why}");
    Process::start(&["fail", &other, "--control", &control]).fails(&["without a usable path", "--force"]);
    Process::start(&["fail", "P99", "--control", &control]).fails(&["no path P99", &path, &other]);
    ask(&["reinstate", &path, "--control", &control]);
    let codes = codes(&control);
    for code in
        ["session-up", "disk-ready", "program", "path-joined", "operator-failed", "operator-reinstated"]
    {
        assert!(codes.iter().any(|each| each == code), "{code} in {codes:?}");
    }
    let told = ask(&["events", "naa.", "--control", &control]);
    assert!(told.contains(" operator-failed ") && told.contains("failed by operator"), "{told}");
    run.stop();
}

#[test]
fn what_was_failed_is_kept_out_by_the_next_process_until_it_is_reinstated() {
    let (array, room) = (Array::start(&["--lu", "size=1M,id=1"]), Room::new());
    let first = room.serve(&["--target", &array.portal(0)]);
    let control = room.control();
    let path = paths(&control).into_iter().find(|path| path.1 == array.portal(1)).unwrap();
    ask(&["fail", &path.0, "--control", &control]);
    // Killed: nothing is told it.
    drop(first);
    let mut run = room.serve(&["--target", &array.portal(0)]);
    assert!(codes(&control).iter().any(|code| code == "operator-failed"), "{}", run.said);
    let shown = || paths(&control).into_iter().find(|path| path.1 == array.portal(1)).unwrap();
    assert_eq!((shown().2.as_str(), shown().3), ("down", Value::from("failed")));
    ask(&["reinstate", &array.portal(1), "--control", &control]);
    run.stop();
    let mut run = room.serve(&["--target", &array.portal(0)]);
    assert_eq!(shown().3, Value::Null);
    run.stop();
}

#[test]
fn a_portal_is_drained_and_looked_at_again() {
    let (array, room) = (Array::start(&["--lu", "size=1M,id=1"]), Room::new());
    let mut run = room.serve(&["--target", &array.portal(0)]);
    let control = room.control();
    let said = ask(&["drain", &array.portal(0), "--control", &control]);
    assert!(said.contains("may be unplugged"), "{said}");
    Process::start(&["drain", &array.portal(1), "--control", &control]).fails(&["without a usable path"]);
    let said = ask(&["rescan", "--control", &control]);
    assert!(said.contains("2 session(s) surveyed again, 1 discovery portal(s)"), "{said}");
    let drained = paths(&control).into_iter().find(|path| path.1 == array.portal(0)).unwrap();
    assert_eq!(drained.3, "drained", "a rescan gives nothing back");
    ask(&["reinstate", &array.portal(0), "--control", &control]);
    let codes = codes(&control);
    for code in ["operator-drain", "drained", "rescan", "operator-reinstated"] {
        assert!(codes.iter().any(|each| each == code), "{code} in {codes:?}");
    }
    run.stop();
}

#[test]
fn settings_are_changed_while_it_runs() {
    let (array, room) = (Array::start(&["--lu", "size=1M,id=1"]), Room::new());
    let mut run = room.serve(&["--target", &array.portal(0)]);
    let control = room.control();
    let say = |words: &[&str]| ask(&[words, &["--control", &control]].concat());
    assert!(say(&["policy", "all", "numa"]).contains("set for 1 of 1 disk(s)"));
    assert!(say(&["policy", "naa.", "numa"]).contains("numa already"));
    assert!(say(&["no-path", "naa.", "5s"]).contains("no-path policy 5s"));
    assert!(say(&["removal-delay", "all", "30s"]).contains("removal delay 30s"));
    assert!(say(&["show"]).contains("numa"));
    Process::start(&["policy", "eui.1", "numa", "--control", &control]).fails(&["no disk eui.1", "naa."]);
    Process::start(&["policy", "all", "fastest", "--control", &control]).fails(&["unknown policy"]);
    run.stop();
}

#[test]
fn whoever_follows_the_events_hears_of_a_lost_session_and_of_the_end() {
    let (mut array, room) = (Array::start(&["--lu", "size=1M,id=1"]), Room::new());
    let mut run = room.serve(&["--target", &array.portal(0)]);
    let control = room.control();
    let mut follower = Process::start(&["events", "--follow", "--json", "--control", &control]);
    follower.line("\"code\":\"disk-ready\"");
    array.process.stop();
    let line = follower.line("\"code\":\"session-lost\"");
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["inputs"]["cause"], "connection-lost");
    run.stop();
    follower.line("has ended");
    assert!(follower.end().success());
    Process::start(&["events", "--control", &control]).fails(&["no smpath answers"]);
}
