//! A path is lost in the middle of other people's copies and verifiers: they must not notice, and the data is whole.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::disk::log_of;
use super::{BACKENDS, Case, Outcome};
use crate::harness::backend::{Backend, Kind};
use crate::harness::fio::{self, Job, Length};
use crate::harness::link::Link;
use crate::harness::process::{Process, run, wait_until};
use crate::harness::room::{Room, first_difference};
use crate::harness::smpath::Disk;

/// Includes the time to notice that a silent path is gone.
const LIMIT: Duration = Duration::from_secs(100);
const MEBIBYTES: u64 = 512;
const BYTES: u64 = MEBIBYTES << 20;

/// What passes over a path before it is lost: it is then certainly in use.
const CARRIED_BEFORE: u64 = 4 << 20;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in BACKENDS {
        for loss in [Loss::Cut, Loss::Stalled] {
            cases.push(Case::new(
                format!("disk over {kind}: a path is {loss} while fio verifies"),
                &["tgtd", "iscsi-ls", "nbdinfo", "fio"],
                move || under_fio(kind, loss),
            ));
            cases.push(Case::new(
                format!("disk over {kind}: a path is {loss} while nbdcopy writes"),
                &["tgtd", "iscsi-ls", "nbdinfo", "nbdcopy"],
                move || under_nbdcopy(kind, loss),
            ));
        }
        cases.push(Case::new(
            format!("disk over {kind}: every path is cut in turn and comes back"),
            &["tgtd", "iscsi-ls", "nbdinfo", "fio"],
            move || each_in_turn(kind),
        ));
    }
    cases
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Cut,
    Stalled,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cut => "reset",
            Self::Stalled => "black-holed",
        })
    }
}

struct Stand {
    room: Room,
    links: Vec<Link>,
    disk: Disk,
    // Last, so that it ends after the disk.
    _backend: Backend,
}

impl Stand {
    fn new(kind: Kind) -> Result<Self> {
        let room = Room::new()?;
        let backend = Backend::start(kind, &room, MEBIBYTES)?;
        let (links, urls) = backend.links()?;
        let disk = Disk::start(&room, &urls)?;
        Ok(Self { room, links, disk, _backend: backend })
    }

    /// Loses the path that is busiest first, once it is certainly in use; returns which.
    fn lose_a_busy_path(&self, client: &mut Process, loss: Loss) -> Result<usize> {
        let before: Vec<u64> = self.links.iter().map(Link::carried).collect();
        let busy = || {
            let carried = self.links.iter().map(Link::carried);
            carried.zip(&before).position(|(now, before)| now - before > CARRIED_BEFORE)
        };
        let lost = wait_until(LIMIT, "busy path", busy)?;
        match loss {
            Loss::Cut => self.links[lost].cut(),
            Loss::Stalled => self.links[lost].stall(),
        }
        ensure!(!client.has_ended(), "the client was done before the path was lost\n{}", client.output());
        Ok(lost)
    }

    /// Restores a path, and waits until the program calls all of its paths usable again.
    fn bring_back(&self, path: usize) -> Result<Duration> {
        let restored = Instant::now();
        self.links[path].restore();
        wait_until(LIMIT, "return of the lost path", || {
            (self.usable_paths().ok()? == self.links.len()).then_some(())
        })
        .with_context(|| log_of(&self.disk))?;
        Ok(restored.elapsed())
    }

    fn usable_paths(&self) -> Result<usize> {
        let show = self.disk.ask(&["show"])?;
        let paths = show["paths"].as_array().context("a disk has paths")?;
        let usable =
            |path: &&serde_json::Value| path["state"].as_str().is_some_and(|it| it.contains("optimized"));
        Ok(paths.iter().filter(usable).count())
    }
}

fn under_fio(kind: Kind, loss: Loss) -> Result<Outcome> {
    let stand = Stand::new(kind)?;
    let mut fio = start_fio(&stand)?;
    let lost = stand.lose_a_busy_path(&mut fio, loss)?;
    finish(&stand, &mut fio)?;
    let returned = stand.bring_back(lost)?;
    Ok(Outcome::Passed(format!("path {lost} came back {returned:.1?} after it was restored")))
}

fn start_fio(stand: &Stand) -> Result<Process> {
    let length = Length::VerifiedBytes(BYTES / 2);
    let job = Job { uri: &stand.disk.uri, pattern: "randwrite", block_bytes: 16384, depth: 16, length };
    Process::start("fio", fio::arguments(&job))
}

/// The client must end well, as if nothing had happened.
fn finish(stand: &Stand, client: &mut Process) -> Result<()> {
    let status = client.wait(LIMIT).with_context(|| log_of(&stand.disk))?;
    ensure!(
        status.success(),
        "the client saw an error ({status}):\n{}{}",
        client.output(),
        log_of(&stand.disk)
    );
    Ok(())
}

fn under_nbdcopy(kind: Kind, loss: Loss) -> Result<Outcome> {
    let stand = Stand::new(kind)?;
    let (pattern, back) = (stand.room.pattern("pattern", BYTES)?, stand.room.zeroes("back", BYTES)?);
    let (file, uri) = (pattern.to_string_lossy(), stand.disk.uri.as_str());
    let mut copy = Process::start("nbdcopy", ["--flush", &file, uri])?;
    let lost = stand.lose_a_busy_path(&mut copy, loss)?;
    finish(&stand, &mut copy)?;
    let returned = stand.bring_back(lost)?;
    run("nbdcopy", [uri, &back.to_string_lossy()], LIMIT)?.good()?;
    let difference = first_difference(&pattern, &back, BYTES)?;
    ensure!(
        difference.is_none(),
        "byte {difference:?} differs from what was written\n{}",
        log_of(&stand.disk)
    );
    Ok(Outcome::Passed(format!("path {lost} came back {returned:.1?} after it was restored")))
}

fn each_in_turn(kind: Kind) -> Result<Outcome> {
    let stand = Stand::new(kind)?;
    let mut fio = start_fio(&stand)?;
    let mut rounds = 0;
    while !fio.has_ended() {
        let path = rounds % stand.links.len();
        stand.links[path].cut();
        stand.bring_back(path)?;
        rounds += 1;
    }
    finish(&stand, &mut fio)?;
    Ok(Outcome::Passed(format!("{rounds} cuts")))
}
