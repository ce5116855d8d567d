//! Each bad input has one error line that says whose fault it is and what to do; none stops what works.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use block::Durability;

use crate::common::{Array, Process, Room, nobody, stranger, text};

const NO_DISK: &[&str] = &["no disk was found"];

#[test]
fn a_name_that_no_initiator_may_have_is_told_before_anything_is_asked() {
    for (name, why) in [
        ("host1", "does not begin with `iqn.`"),
        ("iqn.2026-11", "iqn.YYYY-MM.REVERSED-DOMAIN"),
        ("iqn.2026-11.example:a b", "no iSCSI name may"),
    ] {
        let (portal, room) = (nobody(), Room::new());
        let mut run = room.run(&["--initiator-name", name, "--target", &portal]);
        run.fails(&["--initiator-name", name, why, "such as iqn."]);
        assert!(!run.said.contains(&portal), "{}", run.said);
    }
    let room = Room::new();
    let config = room.file("smpath.toml", "targets = [\"10.0.0.1\"]\ninitiator-name = \"host1\"\n");
    room.run(&["--config", &config]).fails(&["initiator-name 'host1'", "such as iqn."]);
}

#[test]
fn when_nothing_can_be_served_there_is_one_error_line_and_it_has_the_cause() {
    let (portals, room) = ([nobody(), nobody()], Room::new());
    let mut run = room.run(&["--target", &portals[0], "--target", &portals[1]]);
    run.fails(&["no disk was found", &portals[0], &portals[1], "nothing listens there"]);
    let errors = run.said.lines().filter(|line| line.starts_with("smpath: error:")).count();
    assert_eq!(errors, 1, "{}", run.said);
}

#[test]
fn a_portal_that_nobody_listens_on_is_named() {
    let (portal, room) = (nobody(), Room::new());
    let mut run = room.run(&["--target", &portal]);
    run.fails(&[&portal, "nothing listens there", "check address", "no disk was found"]);
}

#[test]
fn a_web_server_is_told_from_an_iscsi_target() {
    let portal = stranger(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    Room::new().run(&["--target", &portal]).fails(&[&portal, "not iSCSI", "HTTP", "check address and port"]);
}

#[test]
fn a_peer_that_says_nothing_is_given_up_after_the_login_timeout() {
    let room = Room::new();
    let portal = stranger(|mut stream| while stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {});
    let config = room.file("smpath.toml", "login-timeout = \"1s\"\n");
    let mut run = room.run(&["--config", &config, "--target", &portal]);
    run.fails(&[&portal, "not over in time", "check that this is the address of an iSCSI portal"]);
}

#[test]
fn a_target_that_is_not_there_is_named() {
    let array = Array::start(&["--lu", "size=1M"]);
    let url = format!("iscsi://{}/iqn.2026-11.example:none/0", array.portal(0));
    Room::new().run(&[&url]).fails(&["iqn.2026-11.example:none", &array.portal(0), "no target of that name"]);
}

#[test]
fn a_logical_unit_without_identity_is_not_served_and_another_one_is() {
    let (array, room) = (Array::start(&["--lu", "size=1M,no-identity", "--lu", "size=2M"]), Room::new());
    let mut run = room.serve(&["--target", &array.portal(0)]);
    assert_eq!(room.client("").export().size, 2 << 20);
    assert!(run.said.contains("LUN 0 is not used: it has no identity"), "{}", run.said);
    run.stop();
}

#[test]
fn where_no_logical_unit_can_be_used_the_error_says_why() {
    let (array, room) = (Array::start(&["--lu", "size=1M,no-identity"]), Room::new());
    let mut run = room.run(&["--target", &array.portal(0)]);
    run.fails(&["no disk was found", "no logical unit that we could use (LUN 0: it has no identity"]);
    let errors = run.said.lines().filter(|line| line.starts_with("smpath: error:")).count();
    assert_eq!(errors, 1, "{}", run.said);
}

#[test]
fn a_logical_unit_that_is_not_there_is_the_targets_to_map() {
    let (array, room) = (Array::start(&["--lu", "size=1M"]), Room::new());
    let mut run = room.run(&["--target", &array.portal(0), "--lun", "9"]);
    run.end();
    assert!(run.said.contains("LUN 9") && run.said.contains("there is no such logical unit"), "{}", run.said);
    run.has_error(NO_DISK);
}

#[test]
fn one_dead_portal_does_not_keep_the_other_from_serving() {
    let (array, room, dead) = (Array::start(&["--lu", "size=1M"]), Room::new(), nobody());
    let mut run = room.serve(&["--target", &dead, &array.url(0)]);
    assert_eq!(room.client("").export().size, 1 << 20);
    run.stop();
    run.has_error(&[&dead, "nothing listens there"]);
}

#[test]
fn one_identity_with_two_sizes_is_one_disk_and_a_refused_path() {
    let (small, large) = (Array::start(&["--lu", "size=1M,id=7"]), Array::start(&["--lu", "size=2M,id=7"]));
    let room = Room::new();
    let mut run = room.serve(&[&small.url(0), &large.url(0)]);
    let mut client = room.client("");
    client.write(0, &[7; 512], Durability::Volatile).unwrap();
    let mut data = [0; 512];
    client.read(0, &mut data).unwrap();
    assert_eq!(data, [7; 512]);
    drop(client);
    run.stop();
    run.has_error(&["is not used", "contradicts", "blocks, not", "check the target"]);
}

#[test]
fn an_export_that_a_server_listens_on_is_refused_and_goes_on() {
    let (array, room) = (Array::start(&["--lu", "size=1M"]), Room::new());
    let mut first = room.serve(&[&array.url(0)]);
    let other = text(&room.path("other.sock"));
    let export = room.export();
    Process::start(&["run", "--export", &export, "--control", &other, "--state", "none", &array.url(1)])
        .fails(&["disk.sock", "in use by another server", "--export"]);
    assert_eq!(room.client("").export().size, 1 << 20);
    first.stop();
}

#[test]
fn a_socket_file_that_nobody_listens_on_is_taken_over() {
    let (array, room) = (Array::start(&["--lu", "size=1M"]), Room::new());
    drop(UnixListener::bind(room.path("disk.sock")).unwrap());
    drop(UnixListener::bind(room.path("control.sock")).unwrap());
    let mut run = room.serve(&[&array.url(0)]);
    assert_eq!(room.client("").export().size, 1 << 20);
    run.stop();
}

#[test]
fn a_file_that_is_not_a_socket_is_never_removed() {
    let room = Room::new();
    let precious = room.file("disk.sock", "precious");
    room.run(&["--target", &nobody()]).fails(&["disk.sock", "not a socket", "--export"]);
    let export = format!("nbd+unix://{precious}2");
    let arguments =
        ["run", "--export", &export, "--control", &precious, "--state", "none", "--target", &nobody()];
    Process::start(&arguments).fails(&["disk.sock", "not a socket", "--control"]);
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
    assert!(!room.path("disk.sock2").exists(), "the export goes with the program");
}

#[test]
fn a_port_in_use_is_refused() {
    let (room, taken) = (Room::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = taken.local_addr().unwrap().to_string();
    let (export, control) = (format!("nbd://{address}"), room.control());
    let arguments =
        ["run", "--export", &export, "--control", &control, "--state", "none", "--target", &nobody()];
    Process::start(&arguments).fails(&[&address, "in use", "choose another port"]);
    Process::start(&["array", "--portals", &address]).fails(&[&address, "in use"]);
}

#[test]
fn a_control_socket_in_use_is_refused_and_leaves_no_export_behind() {
    let room = Room::new();
    let _other = UnixListener::bind(room.path("control.sock")).unwrap();
    room.run(&["--target", &nobody()]).fails(&["control.sock", "another running smpath", "--control"]);
    assert!(!room.path("disk.sock").exists());
}

#[test]
fn an_array_is_not_named_just_anything() {
    Process::start(&["array", "--portals", "127.0.0.1:0", "--target-name", "disk"])
        .fails(&["'disk' is not an iSCSI name"]);
}

#[test]
fn asking_where_nobody_answers_says_where() {
    let room = Room::new();
    let control = room.control();
    Process::start(&["list", "--control", &control]).fails(&[&control, "no smpath answers", "--control"]);
}
