//! The reset of a fence, while the target's back end still works on writes of the paths that are left.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::disk::log_of;
use super::{Case, Outcome};
use crate::harness::link::Link;
use crate::harness::nbd::Client;
use crate::harness::process::wait_until;
use crate::harness::room::Room;
use crate::harness::shim::{Gate, TOKENS};
use crate::harness::smpath::{Disk, Route};
use crate::harness::tgt::{self, Provisioning, Tgt};

const LIMIT: Duration = Duration::from_secs(60);
const BYTES: u64 = 16 << 20;
const BLOCK: usize = 4096;
/// The back end is busy for so long after the loss: the surviving path hears of the reset meanwhile.
const BUSY: Duration = Duration::from_millis(1500);
/// When the back end is done, the reset is answered at once. A fence that is not proved then waits for its time, or
/// for the reset to be asked for again.
const PROVED_AFTER: Duration = Duration::from_secs(2);
const PATHS: usize = 2;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new(
        "disk over tgt: a reset that still drains is answered, whatever the other path hears of it",
        &["tgtd", "cc", "nbdinfo"],
        reset_while_busy,
    )]
}

fn reset_while_busy() -> Result<Outcome> {
    let room = Room::new()?;
    let gate = Gate::new(&room, "")?;
    let environment = &gate.environment();
    let mut tgt = Tgt::empty_in(PATHS, tgt::Start { environment, ..tgt::Start::default() })?;
    tgt.add_target("one", &room.zeroes("lu", BYTES)?, "resets01", Provisioning::Full)?;
    let links: Vec<Link> = tgt.portals.iter().map(|portal| Link::to(*portal)).collect::<Result<_>>()?;
    let mut arguments = vec!["--policy".to_owned(), "round-robin".to_owned()];
    for (link, portal) in links.iter().zip(&tgt.portals) {
        let route = Route { portal: *portal, target: tgt.targets[0].clone(), lun: tgt::LUN };
        arguments.push(route.url_through(link.address()));
    }
    let disk = Disk::start(&room, &arguments)?;
    play(&room, &gate, &links, &disk).with_context(|| log_of(&disk))
}

fn play(room: &Room, gate: &Gate, links: &[Link], disk: &Disk) -> Result<Outcome> {
    let connect = || Client::connect(&room.path("nbd"), LIMIT);
    wait_until(LIMIT, "second path", || {
        let show = disk.ask(&["show"]).ok()?;
        (show["paths"].as_array()?.len() == PATHS).then_some(())
    })?;
    let (mut first, mut second, mut reader) = (connect()?, connect()?, connect()?);
    gate.arm(TOKENS)?;
    write_all(&mut first, b'o')?;
    // Each path has some of them.
    gate.wait_until_stuck(TOKENS)?;
    links[0].cut();
    links[0].restore();
    write_all(&mut second, b'N')?;
    let lost = Instant::now();
    while lost.elapsed() < BUSY {
        reader.read(BYTES / 2, BLOCK)?;
        thread::sleep(BUSY / 50);
    }
    let released = Instant::now();
    gate.release();
    for client in [&mut first, &mut second] {
        for _ in 0..TOKENS {
            let reply = client.receive()?;
            ensure!(reply.error == 0, "a write failed with error {}", reply.error);
        }
    }
    let after = released.elapsed();
    let log = disk.log();
    ensure!(after < PROVED_AFTER, "the overlapping writes took {after:.1?} when the back end was done");
    ensure!(log.contains("proved"), "no fence was proved");
    ensure!(!log.contains("cache was lost"), "the reset of the fence is no lost cache");
    Ok(Outcome::Passed(format!("proved {after:.1?} after the back end was done")))
}

/// Puts a write to each of the blocks in flight.
fn write_all(client: &mut Client, byte: u8) -> Result<()> {
    (0..TOKENS as u64).try_for_each(|place| client.send_write(place, place * 64 * 1024, &[byte; BLOCK]))
}
