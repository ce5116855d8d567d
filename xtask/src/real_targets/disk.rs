//! Clients that nobody here wrote on the exported disk, over tgtd and over our own array, while every path is well.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::initiators::io;
use super::{BACKENDS, Case, Outcome, passed};
use crate::harness::backend::{Backend, Kind};
use crate::harness::fio::{Job, Length, run_job};
use crate::harness::process::run;
use crate::harness::room::{Room, first_difference};
use crate::harness::smpath::Disk;

const LIMIT: Duration = Duration::from_secs(120);
const MEBIBYTES: u64 = 128;
const BYTES: u64 = MEBIBYTES << 20;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in BACKENDS {
        let mut add = |what: &str, tools, check: fn(&mut Stand) -> Result<Outcome>| {
            cases.push(Case::new(format!("disk over {kind}: {what}"), tools, move || {
                on_four_paths(kind, check)
            }));
        };
        add("nbdinfo tells its size and abilities", &["tgtd", "iscsi-ls", "nbdinfo"], nbdinfo);
        add("nbdcopy there and back", &["tgtd", "iscsi-ls", "nbdinfo", "nbdcopy"], nbdcopy);
        add("qemu-img there and back", &["tgtd", "iscsi-ls", "nbdinfo", "qemu-img"], qemu_img);
        add(
            "qemu-io writes, zeroes, discards and reads",
            &["tgtd", "iscsi-ls", "nbdinfo", "qemu-io"],
            qemu_io,
        );
        add("fio verifies crc32c", &["tgtd", "iscsi-ls", "nbdinfo", "fio"], fio_verify);
        add("list, show and paths answer in JSON", &["tgtd", "iscsi-ls", "nbdinfo"], questions);
        cases.push(Case::new(
            format!("disk over {kind}: --target discovers every path"),
            &["tgtd", "iscsi-ls", "nbdinfo", "nbdcopy"],
            move || discovered(kind),
        ));
        cases.push(Case::new(
            format!("disk over {kind}: SIGTERM ends it well"),
            &["tgtd", "iscsi-ls", "nbdinfo"],
            move || ends_well(kind),
        ));
    }
    cases
}

/// What a check has in hand.
struct Stand {
    room: Room,
    disk: Disk,
}

fn on_four_paths(kind: Kind, check: fn(&mut Stand) -> Result<Outcome>) -> Result<Outcome> {
    let room = Room::new()?;
    let backend = Backend::start(kind, &room, MEBIBYTES)?;
    let disk = Disk::start(&room, &backend.urls())?;
    let mut stand = Stand { room, disk };
    let outcome = check(&mut stand).with_context(|| log_of(&stand.disk))?;
    stand.disk.ensure_alive()?;
    Ok(outcome)
}

/// The last words of the program, for a failed case.
pub(super) fn log_of(disk: &Disk) -> String {
    let log = disk.log();
    let lines: Vec<&str> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(15)..];
    format!("smpath run said:\n{}\n", last.join("\n"))
}

fn nbdinfo(stand: &mut Stand) -> Result<Outcome> {
    let info = run("nbdinfo", ["--json", &stand.disk.uri], LIMIT)?.good()?.stdout;
    let info: serde_json::Value = serde_json::from_str(&info).context("nbdinfo's JSON")?;
    let export = &info["exports"][0];
    ensure!(export["export-size"].as_u64() == Some(BYTES), "{info}");
    for ability in ["can_flush", "can_fua", "can_multi_conn"] {
        ensure!(export[ability].as_bool() == Some(true), "no {ability}: {info}");
    }
    passed()
}

fn nbdcopy(stand: &mut Stand) -> Result<Outcome> {
    copy_both_ways(&stand.room, &stand.disk.uri)?;
    passed()
}

/// Writes a pattern to the disk with nbdcopy, reads it back with nbdcopy, and compares.
fn copy_both_ways(room: &Room, uri: &str) -> Result<()> {
    let (pattern, back) = (room.pattern("pattern", BYTES)?, room.zeroes("back", BYTES)?);
    run("nbdcopy", ["--flush", &pattern.to_string_lossy(), uri], LIMIT)?.good()?;
    run("nbdcopy", [uri, &back.to_string_lossy()], LIMIT)?.good()?;
    let difference = first_difference(&pattern, &back, BYTES)?;
    ensure!(difference.is_none(), "byte {difference:?} differs from what was written");
    Ok(())
}

fn qemu_img(stand: &mut Stand) -> Result<Outcome> {
    let (uri, pattern) = (&stand.disk.uri, stand.room.pattern("pattern", BYTES)?);
    let back = stand.room.path("back");
    let file = pattern.to_string_lossy();
    run("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", &file, uri], LIMIT)?.good()?;
    run("qemu-img", ["compare", "-f", "raw", "-F", "raw", &file, uri], LIMIT)?.good()?;
    run("qemu-img", ["convert", "-f", "raw", "-O", "raw", uri, &back.to_string_lossy()], LIMIT)?.good()?;
    ensure!(first_difference(&pattern, &back, BYTES)?.is_none(), "what came back is not what was written");
    passed()
}

fn qemu_io(stand: &mut Stand) -> Result<Outcome> {
    let script = [
        "write -P 0xa5 0 2M",
        "aio_write -P 0x5a 2M 512k",
        "aio_write -P 0x77 2560k 512k",
        "aio_flush",
        "write -f -P 0x11 3M 64k",
        "flush",
        "write -z 64k 64k",
        "discard 4M 1M",
        "read -P 0xa5 0 64k",
        "read -P 0 64k 64k",
        "read -P 0xa5 128k 1920k",
        "read -P 0x5a 2M 512k",
        "read -P 0x77 2560k 512k",
        "read -P 0x11 3M 64k",
    ];
    io(&stand.disk.uri, &script)?;
    passed()
}

fn fio_verify(stand: &mut Stand) -> Result<Outcome> {
    for (block_bytes, depth, bytes) in [(4096, 32, BYTES / 8), (65536, 8, BYTES / 4), (1 << 20, 4, BYTES)] {
        let length = Length::VerifiedBytes(bytes);
        let job = Job { uri: &stand.disk.uri, pattern: "randwrite", block_bytes, depth, length };
        run_job(&job, LIMIT).with_context(|| format!("blocks of {block_bytes}"))?;
    }
    passed()
}

fn questions(stand: &mut Stand) -> Result<Outcome> {
    let list = stand.disk.ask(&["list"])?;
    let paths = stand.disk.ask(&["paths"])?;
    let text = paths.to_string();
    ensure!(list.is_array() || list.is_object(), "{list}");
    ensure!(text.matches("iqn.").count() >= 4, "four paths are expected: {text}");
    let name = disk_name(&list).context("the list names no disk")?;
    let show = stand.disk.ask(&["show", &name])?;
    ensure!(show.is_object(), "{show}");
    Ok(Outcome::Passed(format!("the disk is {name}")))
}

/// The first identity in the list.
fn disk_name(list: &serde_json::Value) -> Option<String> {
    let text = list.to_string();
    let start = ["\"naa.", "\"eui.", "\"t10."].iter().find_map(|prefix| text.find(prefix))?;
    text[start + 1..].split('"').next().map(str::to_owned)
}

fn discovered(kind: Kind) -> Result<Outcome> {
    let room = Room::new()?;
    let backend = Backend::start(kind, &room, MEBIBYTES)?;
    // Our array tells all of its portals through any; tgtd tells only of the one that is asked.
    let portals = match kind {
        Kind::Tgt => &backend.routes[..],
        Kind::Array => &backend.routes[..1],
    };
    let portals: BTreeSet<String> = portals.iter().map(|route| route.portal.to_string()).collect();
    let portals = portals.into_iter().collect::<Vec<_>>().join(",");
    let disk = Disk::start(&room, &["--target".to_owned(), portals])?;
    let paths = disk.ask(&["paths"])?.to_string();
    for route in &backend.routes {
        let portal = route.portal.to_string();
        ensure!(paths.contains(&portal), "no path through {portal}: {paths}\n{}", log_of(&disk));
    }
    copy_both_ways(&room, &disk.uri).with_context(|| log_of(&disk))?;
    passed()
}

fn ends_well(kind: Kind) -> Result<Outcome> {
    let room = Room::new()?;
    let backend = Backend::start(kind, &room, MEBIBYTES)?;
    let disk = Disk::start(&room, &backend.urls())?;
    disk.stop()?;
    ensure!(!room.path("nbd").exists(), "it left its socket behind");
    passed()
}
