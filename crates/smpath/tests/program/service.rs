//! Disks that are served: data that stays, exports by name, tables for people and JSON for programs.

use block::Durability;
use nbd::protocol::transmission_flags::ROTATIONAL;
use serde_json::Value;

use crate::common::{Array, Process, Room, TARGET, ask, text};

#[test]
fn what_was_written_is_there_after_a_restart_of_everything() {
    let room = Room::new();
    let unit = format!("size=1M,file={}", text(&room.path("lu")));
    let data: Vec<u8> = (0..8192_u32).map(|byte| byte.to_le_bytes()[0]).collect();
    {
        let mut array = Array::start(&["--lu", &unit]);
        let mut run = room.serve(&["--target", &array.portal(0)]);
        let mut client = room.client("");
        client.write(4096, &data, Durability::Volatile).unwrap();
        client.flush().unwrap();
        client.disconnect().unwrap();
        run.stop();
        array.process.stop();
    }
    let array = Array::start(&["--lu", &unit]);
    let mut run = room.serve(&["--target", &array.portal(1)]);
    let mut client = room.client("");
    let mut found = vec![0; data.len()];
    client.read(4096, &mut found).unwrap();
    assert_eq!(found, data);
    drop(client);
    run.stop();
}

#[test]
fn two_logical_units_are_two_exports_by_name() {
    let array = Array::start(&["--lu", "size=1M,id=1", "--lu", "size=2M,id=2,serial=second"]);
    let room = Room::new();
    let mut run = room.serve(&["--target", &array.portal(0)]);
    let control = room.control();
    let disks: Value = serde_json::from_str(&ask(&["list", "--json", "--control", &control])).unwrap();
    let disks = disks.as_array().unwrap();
    assert_eq!(disks.len(), 2);
    for disk in disks {
        let size = room.client(disk["export"].as_str().unwrap()).export().size;
        assert_eq!(disk["size"], size);
        assert_eq!(disk["paths"].as_array().unwrap().len(), 2);
        assert_eq!(disk["paths"][0]["target"], TARGET);
    }
    let name = disks.iter().find(|disk| disk["serial"] == "second").unwrap()["identity"].as_str().unwrap();
    let shown: Value = serde_json::from_str(&ask(&["show", name, "--json", "--control", &control])).unwrap();
    assert_eq!(shown["size"], 2 << 20);
    run.stop();
}

#[test]
fn tables_keep_their_columns() {
    let (array, room) = (Array::start(&["--lu", "size=1M,id=1"]), Room::new());
    let mut run = room.serve(&["--target", &array.portal(0)]);
    let control = room.control();
    let words = |text: &str| text.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let list = ask(&["list", "--control", &control]);
    assert_eq!(words(&list), "DISK SIZE PATHS POLICY PRODUCT SERIAL");
    assert!(list.contains("naa.") && list.contains("1 MiB") && list.contains("2/2"), "{list}");
    let paths = ask(&["paths", "--control", &control]);
    assert_eq!(
        words(&paths),
        "PATH DISK PORTAL LUN GROUP ACCESS STATE IN-FLIGHT COMPLETED FAILED P50 P99 NOP"
    );
    assert_eq!(paths.matches(" optimized  optimized ").count(), 2, "{paths}");
    let show = ask(&["show", "--control", &control]);
    assert!(show.contains("2 of 2 usable"), "{show}");
    assert!(show.contains("0 open, 0 proved, 0 waived") && show.contains("held writes  0"), "{show}");
    let all: Value = serde_json::from_str(&ask(&["paths", "--json", "--control", &control])).unwrap();
    assert_eq!(all["disks"].as_array().unwrap().len(), 1);
    run.stop();
}

#[test]
fn a_waiver_names_a_disk_and_does_nothing_without_an_open_fence() {
    let (array, room) = (Array::start(&["--lu", "size=1M,id=1"]), Room::new());
    let mut run = room.serve(&["--target", &array.portal(0)]);
    let control = room.control();
    let said = ask(&["waive", "naa.", "--control", &control]);
    assert!(said.starts_with("no fence of naa.") && said.ends_with("is open: nothing waits\n"), "{said}");
    Process::start(&["waive", "eui.1", "--control", &control]).fails(&["no disk eui.1", "smpath list"]);
    Process::start(&["waive"]).fails(&["required arguments"]);
    run.stop();
}

#[test]
fn a_medium_that_turns_is_told_to_clients_and_shown() {
    let turning = ["--lu", "size=1M,id=1,rpm=7200", "--lu", "size=2M,id=2"];
    let (array, room) = (Array::start(&turning), Room::new());
    let mut run = room.serve(&["--target", &array.portal(0)]);
    for (disk, shown, is_rotational) in
        [("01", "medium       7200 rpm", true), ("02", "medium       solid", false)]
    {
        let name = format!("naa.6025a4d00000000100000000000000{disk}");
        let text = ask(&["show", &name, "--control", &room.control()]);
        assert!(text.contains(shown), "{text}");
        let flags = room.client(&name).export().flags;
        assert_eq!(flags & ROTATIONAL != 0, is_rotational, "{flags:x}");
    }
    run.stop();
}
