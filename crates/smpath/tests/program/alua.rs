//! Access states that an operator changes at the embedded array, and what the disk over it shows.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Array, Process, Room, ask, text};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The access states of the paths of the only disk, in the order of their groups.
fn access(control: &str) -> Vec<String> {
    let shown: Value = serde_json::from_str(&ask(&["show", "--json", "--control", control])).unwrap();
    let mut paths: Vec<(u64, String)> = shown["paths"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| {
            let mark = if path["preferred"] == true { "*" } else { "" };
            (path["port_group"].as_u64().unwrap(), format!("{}{mark}", path["access"].as_str().unwrap()))
        })
        .collect();
    paths.sort();
    paths.into_iter().map(|(_, access)| access).collect()
}

#[test]
fn a_group_that_is_changed_by_hand_is_shown_so_by_the_array_and_by_the_disk() {
    let room = Room::new();
    let operator = text(&room.path("array"));
    let array = Array::start(&["--lu", "size=1M,owner=a", "--control", &operator]);
    let mut run = room.serve(&["--target", &array.portal(0)]);
    let control = room.control();
    assert_eq!(access(&control), ["optimized*", "non-optimized"]);
    let mut client = room.client("");
    let mut bytes = [0; 512];
    for (group, state, expected) in
        [("1", "standby", ["standby*", "non-optimized"]), ("2", "optimized", ["standby*", "optimized"])]
    {
        let change = ["alua", "--control", &operator, "--group", group, "--state", state, "--lun", "0"];
        assert_eq!(ask(&change), "");
        let limit = Instant::now() + PATIENCE;
        while access(&control) != expected {
            assert!(Instant::now() < limit, "{:?}", access(&control));
            client.read(0, &mut bytes).unwrap();
        }
    }
    ask(&["alua", "--control", &operator, "--group", "2", "--preferred"]);
    let shown = ask(&["alua", "--control", &operator]);
    assert!(shown.starts_with("1 unit(s): group 1 standby group 2 optimized*\nportal 1: "), "{shown}");
    let mut wrong = Process::start(&["alua", "--control", &operator, "--group", "3", "--state", "offline"]);
    wrong.fails(&["no group 3", "there are 2"]);
    drop(client);
    run.stop();
}

/// SET TARGET PORT GROUPS that the array has seen.
fn changes(operator: &str) -> u64 {
    let status: Value = serde_json::from_str(&ask(&["alua", "--json", "--control", operator])).unwrap();
    status["ports"].as_array().unwrap().iter().filter_map(|port| port["group_changes"].as_u64()).sum()
}

#[test]
fn groups_that_do_not_serve_are_changed_only_if_that_was_asked_for() {
    for (mode, is_changed) in
        [(&[][..], false), (&["--alua", "implicit"], false), (&["--alua", "explicit"], true)]
    {
        let room = Room::new();
        let operator = text(&room.path("array"));
        let array = Array::start(&["--lu", "size=1M", "--tpgs", "both", "--control", &operator]);
        let target = array.portal(0);
        let mut run = room.serve(&[&["--target", &target, "--no-path", "2s"], mode].concat());
        let mut client = room.client("");
        let mut bytes = [0; 512];
        for (group, state) in [("1", "unavailable"), ("2", "standby")] {
            ask(&["alua", "--control", &operator, "--group", group, "--state", state]);
        }
        assert_eq!(client.read(0, &mut bytes).is_ok(), is_changed, "{mode:?}");
        assert_eq!(changes(&operator) > 0, is_changed, "{mode:?}");
        drop(client);
        run.stop();
    }
}
