//! Modes of multipath: how many of the paths that were found a disk has.

use serde_json::Value;

use crate::common::{Array, Process, Room, ask};

/// Of the only disk: paths that it has, and ways that are not used.
fn counts(control: &str) -> (usize, usize) {
    let shown: Value = serde_json::from_str(&ask(&["show", "--json", "--control", control])).unwrap();
    (shown["paths"].as_array().unwrap().len(), shown["unused"].as_array().unwrap().len())
}

#[test]
fn the_mode_says_how_many_paths_a_unit_has() {
    for (array_options, mode, expected) in [
        (&[][..], &[][..], (2, 0)),
        (&[], &["--multipath", "always"], (2, 0)),
        (&[], &["--multipath", "on"], (2, 0)),
        (&[], &["--multipath", "off"], (1, 1)),
        (&["--tpgs", "none"], &[], (2, 0)),
        (&["--tpgs", "none"], &["--multipath", "on"], (1, 1)),
    ] {
        let array = Array::start(&[&["--lu", "size=1M"], array_options].concat());
        let room = Room::new();
        let target = array.portal(0);
        let mut run = room.serve(&[&["--target", &target], mode].concat());
        let control = room.control();
        assert_eq!(counts(&control), expected, "{array_options:?} {mode:?}");
        let mut client = room.client("");
        client.read(0, &mut [0; 512]).unwrap();
        drop(client);
        let shown = ask(&["show", "--control", &control]);
        assert_eq!(shown.contains("not used, by the mode of multipath:"), expected.1 > 0, "{shown}");
        run.stop();
    }
}

#[test]
fn a_mode_that_is_none_is_refused() {
    for wrong in ["On", "of", "both"] {
        let mut run = Process::start(&["run", "--target", "192.0.2.1", "--multipath", wrong]);
        run.fails(&[&format!("'{wrong}' is not off, on or always")]);
    }
    let room = Room::new();
    let file = room.file(
        "smpath.toml",
        "targets = [\"192.0.2.1\"]\nexports = [\"nbd://127.0.0.1:1\"]\nmultipath = \"ON\"\n",
    );
    let mut run = Process::start(&["run", "--config", &file]);
    run.fails(&["multipath: 'ON' is not off, on or always"]);
}
