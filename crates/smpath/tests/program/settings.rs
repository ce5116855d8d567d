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
    refused("", &["no target", "--target"]);
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
    let mut run =
        Process::start(&["run", "--config", &config, "--policy", "round-robin", "--export", &export, &url]);
    run.line("serving ");
    assert!(!room.path("other.sock").exists());
    assert!(ask(&["list", "--control", &room.control()]).contains("round-robin"));
    run.stop();
}
