//! CHAP: who may come in, and that no secret is ever printed, not even in the log.

use crate::common::{Array, Process, Room};

const OURS: &str = "name = \"host\"\nsecret = \"our-secret-of-20-bytes\"\n";
const THEIRS: &str = "target_name = \"array\"\ntarget_secret = \"their-secret-of-22-bytes\"\n";

fn array(room: &Room) -> Array {
    Array::start(&["--lu", "size=1M", "--chap-file", &room.file("array.toml", &(OURS.to_owned() + THEIRS))])
}

fn assert_discreet(process: &Process) {
    for secret in ["our-secret", "their-secret", "wrong-secret", "new-secret"] {
        assert!(!process.said.contains(secret), "{}", process.said);
    }
}

#[test]
fn the_right_secret_lets_us_in_one_way_and_mutually() {
    let room = Room::new();
    let mut array = array(&room);
    for content in [OURS.to_owned(), OURS.to_owned() + THEIRS] {
        let mut run = room.serve(&["--chap-file", &room.file("chap.toml", &content), &array.url(0)]);
        run.stop();
        assert_discreet(&run);
    }
    array.process.stop();
    assert_discreet(&array.process);
}

#[test]
fn a_wrong_secret_is_ours_to_correct() {
    let room = Room::new();
    let array = array(&room);
    let chap = room.file("chap.toml", "name = \"host\"\nsecret = \"wrong-secret-of-many-bytes\"\n");
    let mut run = room.run(&["--chap-file", &chap, &array.url(0)]);
    run.fails(&[&array.portal(0), "CHAP name and secret", "check --chap-file"]);
    assert_discreet(&run);
}

#[test]
fn a_target_with_a_wrong_secret_is_not_believed() {
    let room = Room::new();
    let array = array(&room);
    let theirs = "target_name = \"array\"\ntarget_secret = \"wrong-secret-of-many-bytes\"\n";
    let chap = room.file("chap.toml", &(OURS.to_owned() + theirs));
    let mut run = room.run(&["--chap-file", &chap, &array.url(0)]);
    run.fails(&[&array.portal(0), "authentication failed", "`array`", "check the CHAP names and secrets"]);
    assert_discreet(&run);
}

#[test]
fn the_environment_may_hold_the_credentials_and_half_of_them_is_refused() {
    let room = Room::new();
    let array = array(&room);
    let (url, export, control) = (array.url(0), room.export(), room.control());
    let arguments = ["run", "--export", &export, "--control", &control, "--state", "none", &url];
    let name = ("SMPATH_CHAP_NAME", "host");
    let secret = ("SMPATH_CHAP_SECRET", "our-secret-of-20-bytes");
    let mut run = Process::start_with(&arguments, &[name, secret]);
    run.line("serving ");
    run.stop();
    assert_discreet(&run);
    Process::start_with(&arguments, &[name]).fails(&["both SMPATH_CHAP_NAME and SMPATH_CHAP_SECRET"]);
}

#[test]
fn a_secret_that_changes_on_both_sides_is_read_again_after_the_first_refusal() {
    let room = Room::new();
    let mut array = array(&room);
    let portal = array.portal(0);
    let chap = room.file("chap.toml", OURS);
    let mut run = room.serve(&["--chap-file", &chap, &array.url(0)]);
    array.process.stop();
    let renewed = OURS.replace("our-secret", "new-secret");
    let theirs = room.file("array.toml", &renewed);
    let mut again =
        Process::start(&["array", "--portals", &portal, "--lu", "size=1M", "--chap-file", &theirs]);
    again.line("iscsi://");
    run.line("login failed");
    room.file("chap.toml", &renewed);
    run.line("CHAP credentials changed");
    run.line(" joined");
    run.stop();
    again.stop();
    assert_discreet(&run);
    assert_discreet(&again);
}

#[test]
fn a_secret_in_a_url_is_refused_and_not_repeated() {
    for url in ["iscsi://me%our-secret@127.0.0.1/iqn.2026-11.example:a/0", "me%our-secret@127.0.0.1"] {
        let room = Room::new();
        let mut run = room.run(&["--target", url]);
        run.fails(&["credentials in a URL", "--chap-file"]);
        assert_discreet(&run);
    }
}

#[test]
fn a_broken_chap_file_is_not_quoted() {
    let room = Room::new();
    let chap = room.file("chap.toml", "name = \"host\"\nsecret = \"our-secret\n");
    let mut run = room.run(&["--chap-file", &chap, "--target", "127.0.0.1"]);
    run.fails(&["chap.toml", "expected name, secret"]);
    assert_discreet(&run);
}
