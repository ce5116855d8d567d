//! Initiators that nobody here wrote against `smpath array`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Case, Outcome, passed};
use crate::harness::process::run;
use crate::harness::room::{Room, first_difference};
use crate::harness::smpath::{Array, Route};

const LIMIT: Duration = Duration::from_secs(60);
const BYTES: u64 = 64 << 20;
const UNIT: &str = "size=64M";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("array: iscsi-ls sees four portals of two targets", &["iscsi-ls"], listing),
        Case::new("array: iscsi-inq reads every page", &["iscsi-ls", "iscsi-inq"], inquiry),
        Case::new("array: two logical units keep to themselves", &["iscsi-ls", "qemu-io"], two_units),
        Case::new("array: qemu-img tells the size", &["iscsi-ls", "qemu-img"], || through_qemu(qemu_info)),
        Case::new("array: qemu-img writes, reads and compares", &["iscsi-ls", "qemu-img"], || {
            through_qemu(qemu_convert)
        }),
        Case::new("array: qemu-io writes, zeroes, discards and reads", &["iscsi-ls", "qemu-io"], || {
            through_qemu(qemu_io)
        }),
        Case::new(
            "array: a file keeps what was written after a restart",
            &["iscsi-ls", "qemu-io"],
            file_store,
        ),
        Case::new("array: SIGTERM ends it well", &["iscsi-ls"], || {
            Array::start(&[UNIT])?.stop().and_then(|()| passed())
        }),
    ]
}

/// QEMU's iSCSI driver is a module in a package of its own.
pub(super) fn qemu_speaks_iscsi() -> bool {
    let probe = run("qemu-img", ["info", "iscsi://127.0.0.1:1/none/0"], LIMIT);
    probe.is_ok_and(|finished| !finished.stderr.contains("Unknown protocol"))
}

fn through_qemu(check: fn(&Room, &Route) -> Result<Outcome>) -> Result<Outcome> {
    if !qemu_speaks_iscsi() {
        return Ok(Outcome::Skipped("qemu-utils has no iSCSI driver (package qemu-block-extra)".to_owned()));
    }
    let array = Array::start(&[UNIT])?;
    check(&Room::new()?, &array.routes[0])
}

fn listing() -> Result<Outcome> {
    let array = Array::start(&[UNIT])?;
    let targets: std::collections::BTreeSet<_> = array.routes.iter().map(|route| &route.target).collect();
    let routes = &array.routes;
    ensure!(routes.len() == 4, "four portals were asked for, {} shown: {routes:?}", routes.len());
    Ok(Outcome::Passed(format!("{} target name(s)", targets.len())))
}

fn inquiry() -> Result<Outcome> {
    let array = Array::start(&[UNIT])?;
    let mut identities = Vec::new();
    for route in &array.routes {
        let url = route.url();
        let standard = run("iscsi-inq", [url.as_str()], LIMIT)?.good()?;
        ensure!(standard.stdout.contains("DIRECT_ACCESS"), "{standard}");
        for page in ["0", "128", "131", "176", "177", "178"] {
            let page = run("iscsi-inq", ["-e", "1", "-c", page, &url], LIMIT)?.good()?;
            ensure!(!page.stdout.trim().is_empty(), "{page}");
        }
        let identity = run("iscsi-inq", ["-e", "1", "-c", "131", &url], LIMIT)?.good()?.stdout;
        identities.push(logical_unit_designators(&identity));
    }
    let first = &identities[0];
    ensure!(!first.is_empty(), "no designator of the logical unit");
    ensure!(identities.iter().all(|identity| identity == first), "paths differ: {identities:?}");
    passed()
}

/// The designators that belong to the unit, not to the port that was asked.
fn logical_unit_designators(page: &str) -> Vec<String> {
    let designators = page.split("DEVICE DESIGNATOR").skip(1);
    let of_the_unit = designators.filter(|text| text.contains("LOGICAL_UNIT"));
    of_the_unit.map(|text| text.lines().skip(1).collect::<Vec<_>>().join(" ")).collect()
}

fn two_units() -> Result<Outcome> {
    if !qemu_speaks_iscsi() {
        return Ok(Outcome::Skipped("qemu-utils has no iSCSI driver (package qemu-block-extra)".to_owned()));
    }
    let array = Array::start(&[UNIT, "size=32M"])?;
    let first = array.routes[0].clone();
    let second = Route { lun: first.lun + 1, ..first.clone() };
    io(&first.url(), &["write -P 0x11 0 1M"])?;
    io(&second.url(), &["write -P 0x22 0 1M", "read -P 0x22 0 1M"])?;
    io(&first.url(), &["read -P 0x11 0 1M"])?;
    passed()
}

fn qemu_info(_: &Room, route: &Route) -> Result<Outcome> {
    let info = run("qemu-img", ["info", "--output=json", &route.url()], LIMIT)?.good()?.stdout;
    let info: serde_json::Value = serde_json::from_str(&info).context("qemu-img's JSON")?;
    ensure!(info["virtual-size"].as_u64() == Some(BYTES), "{info}");
    passed()
}

fn qemu_convert(room: &Room, route: &Route) -> Result<Outcome> {
    let (url, pattern, back) = (route.url(), room.pattern("pattern", BYTES)?, room.path("back"));
    let file = pattern.to_string_lossy();
    run("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", &file, &url], LIMIT)?.good()?;
    run("qemu-img", ["compare", "-f", "raw", "-F", "raw", &file, &url], LIMIT)?.good()?;
    run("qemu-img", ["convert", "-f", "raw", "-O", "raw", &url, &back.to_string_lossy()], LIMIT)?.good()?;
    ensure!(first_difference(&pattern, &back, BYTES)?.is_none(), "what came back is not what was written");
    passed()
}

fn qemu_io(_: &Room, route: &Route) -> Result<Outcome> {
    let script = [
        "write -P 0xa5 0 1M",
        "aio_write -P 0x5a 1M 512k",
        "aio_write -P 0x77 1536k 512k",
        "aio_flush",
        "flush",
        "write -z 64k 64k",
        "discard 2M 1M",
        "read -P 0xa5 0 64k",
        "read -P 0 64k 64k",
        "read -P 0xa5 128k 896k",
        "read -P 0x5a 1M 512k",
        "read -P 0x77 1536k 512k",
        "write -P 0x3c 67108352 512",
        "read -P 0x3c 67108352 512",
    ];
    io(&route.url(), &script)?;
    passed()
}

fn file_store() -> Result<Outcome> {
    if !qemu_speaks_iscsi() {
        return Ok(Outcome::Skipped("qemu-utils has no iSCSI driver (package qemu-block-extra)".to_owned()));
    }
    let room = Room::new()?;
    let unit = format!("{UNIT},file={}", room.path("lu").display());
    let array = Array::start(&[&unit])?;
    io(&array.routes[0].url(), &["write -P 0x42 4M 1M", "flush"])?;
    array.stop()?;
    let array = Array::start(&[&unit])?;
    io(&array.routes[0].url(), &["read -P 0x42 4M 1M", "read -P 0 5M 1M"])?;
    passed()
}

/// Runs qemu-io commands; one that reads the wrong pattern fails.
pub(super) fn io(address: &str, commands: &[&str]) -> Result<()> {
    let mut arguments = vec!["-f", "raw"];
    arguments.extend(commands.iter().flat_map(|command| ["-c", *command]));
    arguments.push(address);
    let finished = run("qemu-io", arguments, LIMIT)?.good()?;
    let told = finished.stdout.to_lowercase();
    ensure!(!told.contains("verification failed") && !told.contains("error"), "{finished}");
    Ok(())
}
