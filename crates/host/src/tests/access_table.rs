//! What each access state means for requests, under each policy and multipath mode.

use std::path::Path;

use array::GroupId;
use clock::Duration;
use multipath::{NoPath, Policy};
use scsi::port_groups::AccessState;

use super::rig::{Rig, options};
use crate::config::Multipath;

const STATES: [AccessState; 7] = [
    AccessState::Optimized,
    AccessState::NonOptimized,
    AccessState::LogicalBlockDependent,
    AccessState::Standby,
    AccessState::Unavailable,
    AccessState::Offline,
    AccessState::Transitioning,
];
const OTHERS: [AccessState; 3] =
    [AccessState::Optimized, AccessState::NonOptimized, AccessState::Unavailable];
const MODES: [Multipath; 3] = [Multipath::Off, Multipath::On, Multipath::Always];
const POLICIES: [Policy; 4] = [Policy::Numa, Policy::RoundRobin, Policy::QueueDepth, Policy::Latency];

/// Where four reads go, one after the other, when the first path is in one state and the second in another.
fn outcome(first: AccessState, second: AccessState, mode: Multipath, policy: Policy) -> String {
    let mut settings = options(2);
    settings.disks.policy = policy;
    settings.disks.multipath = mode;
    settings.disks.no_path = NoPath::Fail;
    let mut rig = Rig::with_controllers(settings, 2, 1, 1);
    rig.advance(Duration::from_millis(10));
    let disk = rig.disk(0);
    for (group, state) in [(1, first), (2, second)] {
        rig.tell_array(array::Event::SetAccess { group: GroupId(group), state });
    }
    // Each path has its unit attention to tell of first.
    for _ in 0..4 {
        rig.read(disk, 0);
        rig.advance(Duration::from_millis(50));
    }
    let served = |rig: &Rig| [0, 1].map(|port| rig.reads(port));
    let before = served(&rig);
    let tags: Vec<_> = (0..4)
        .map(|_| {
            let tag = rig.read(disk, 0);
            rig.advance(Duration::from_millis(1));
            tag
        })
        .collect();
    let after = served(&rig);
    let completions: Vec<_> = tags.iter().map(|tag| rig.completed.get(tag)).collect();
    if completions.iter().all(Option::is_none) {
        return "parked".to_owned();
    }
    if completions.iter().all(|it| matches!(it, Some(Err(_)))) {
        return "failed".to_owned();
    }
    assert!(completions.iter().all(|it| matches!(it, Some(Ok(())))), "{completions:?}");
    match [0, 1].map(|port| after[port] > before[port]) {
        [true, true] => "both",
        [true, false] => "first",
        [false, true] => "second",
        [false, false] => unreachable!("a read that succeeded was served"),
    }
    .to_owned()
}

fn table() -> String {
    let mut table = format!(
        "{:<24}{:<16}{:<8}{:<8}{:<13}{:<13}{}\n",
        "first path", "second path", "mode", "numa", "round-robin", "queue-depth", "latency"
    );
    for first in STATES {
        for second in OTHERS {
            for mode in MODES {
                let mut row = POLICIES.map(|policy| outcome(first, second, mode, policy));
                // Of two that stand alike, `latency` takes whichever it has measured to be faster, by nothing here.
                if row[1] == "both" && ["first", "second", "both"].contains(&row[3].as_str()) {
                    row[3] = "either".to_owned();
                }
                table += &format!(
                    "{:<24}{:<16}{:<8}{:<8}{:<13}{:<13}{}\n",
                    first.to_string(),
                    second.to_string(),
                    mode.to_string(),
                    row[0],
                    row[1],
                    row[2],
                    row[3]
                );
            }
        }
    }
    table
}

/// `BLESS=1` writes the table anew; what changed in it is then for a person to judge.
#[test]
fn the_table_of_access_states_is_the_one_that_was_judged() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/access_table.golden.txt");
    let table = table();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &table).expect("the table can be written");
    }
    let judged = std::fs::read_to_string(&path).expect("the judged table is there");
    for (ours, judged) in table.lines().zip(judged.lines()) {
        assert_eq!(ours, judged, "BLESS=1 writes the table anew");
    }
    assert_eq!(table.lines().count(), judged.lines().count());
}
