//! The configuration file: wrong lines are named, options override it.

use crate::common::{Array, Process, Room, ask, nobody, text};

fn refused(content: &str, words: &[&str]) {
    let room = Room::new();
    let config = room.file("smpath.toml", content);
    room.run(&["--config", &config]).fails(words);
}

#[test]
fn wrong_keys_and_types_are_refused_with_their_line() {
    refused("\npolicy = \"numa\"\ncolour = \"red\"\n", &["smpath.toml, line 3", "colour"]);
    refused("targets = [\"10.0.0.1\"]\nluns = \"all\"\n", &["smpath.toml, line 2"]);
    refused("targets = [\n", &["smpath.toml, line"]);
}

#[test]
fn wrong_values_are_refused_with_their_key() {
    refused("targets = [\"10.0.0.1\"]\nlogin-timeout = \"0s\"\n", &["login-timeout", "zero"]);
    refused("targets = [\"10.0.0.1\"]\nno-path = \"never\"\n", &["no-path", "'never'"]);
    refused("targets = [\"ftp://10.0.0.1\"]\n", &["targets", "ftp://"]);
    for (line, words) in [
        ("fence = \"soon\"", ["fence: 'soon' is not bounded", "strict or unsafe"]),
        ("fence = \"bounded:0s\"", ["fence: ", "waits for no time"]),
        ("fence = \"strict:30s\"", ["fence: 'strict:30s'", "bounded:45s"]),
        ("sharing = \"both\"", ["sharing: 'both'", "exclusive or shared"]),
        ("early-data = \"maybe\"", ["early-data: 'maybe'", "on or off"]),
        ("state = \"\"", ["state: a folder is expected", "none"]),
    ] {
        let room = Room::new();
        let content = format!("targets = [\"10.0.0.1\"]\n{line}\n");
        let config = room.file("smpath.toml", &content);
        let export = room.export();
        Process::start(&["run", "--config", &config, "--export", &export]).fails(&words);
    }
    refused("", &["no target", "--target"]);
}

#[test]
fn wrong_options_are_refused_with_what_is_expected() {
    for (option, value, words) in [
        ("--fence", "none", "'none' is not bounded, bounded:TIME"),
        ("--fence", "bounded:soon", "such as bounded:45s"),
        ("--sharing", "no", "'no' is not exclusive or shared"),
        ("--early-data", "yes", "'yes' is not on or off"),
        ("--state", "", "a folder is expected"),
    ] {
        Process::start(&["run", option, value]).fails(&[option, words]);
    }
}

#[test]
fn an_unsafe_fence_is_warned_of_and_no_other_one() {
    let words = "warning: fence = unsafe: when a path is lost, an old write can overwrite newer data";
    for (fence, warned) in [("unsafe", true), ("bounded:45s", false), ("strict", false)] {
        let room = Room::new();
        let mut run = room.run(&["--fence", fence, "--target", &nobody()]);
        run.end();
        assert_eq!(run.said.contains(words), warned, "{fence}:\n{}", run.said);
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let room = Room::new();
    room.run(&["--config", &text(&room.path("none.toml"))]).fails(&["cannot read", "none.toml"]);
}

#[test]
fn options_override_the_file() {
    let (array, room) = (Array::start(&["--lu", "size=1M"]), Room::new());
    let content = format!(
        "targets = [\"{}\"]\npolicy = \"numa\"\nexports = [\"nbd+unix://{}\"]\ncontrol = \"{}\"\n",
        nobody(),
        text(&room.path("other.sock")),
        room.control()
    );
    let config = room.file("smpath.toml", &content);
    let export = room.export();
    let url = array.url(0);
    let overrides = ["--policy", "round-robin", "--export", &export, "--state", "none"];
    let mut run = Process::start(&[&["run", "--config", &config, &url][..], &overrides].concat());
    run.line("serving ");
    assert!(!room.path("other.sock").exists());
    assert!(ask(&["list", "--control", &room.control()]).contains("round-robin"));
    run.stop();
}
