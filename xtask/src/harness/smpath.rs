//! The `smpath` program, driven from outside as its users do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::process::{Finished, Process, free_address, run, wait_until};
use super::room::Room;

/// For starting, answering and ending.
const LIMIT: Duration = Duration::from_secs(30);

/// The binary that stands beside this one, built in the same profile, or the one that SMPATH names.
pub(crate) fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SMPATH") {
        return Ok(path.into());
    }
    let beside = std::env::current_exe()?.with_file_name("smpath");
    ensure!(beside.is_file(), "{} is not there: build it with the same profile first", beside.display());
    Ok(beside)
}

/// Runs `smpath` to its end.
pub(crate) fn smpath(arguments: &[&str], limit: Duration) -> Result<Finished> {
    run(binary()?, arguments, limit)
}

/// Whether a command of this build takes an option.
pub(crate) fn takes(command: &str, option: &str) -> Result<bool> {
    let help = smpath(&[command, "--help"], LIMIT)?;
    // Every mention of it is followed by a space, a bracket or the end of the line.
    Ok(help
        .stdout
        .split(|letter: char| !letter.is_alphanumeric() && letter != '-')
        .any(|word| word == option))
}

/// `smpath array`: the embedded array as a server of its own.
#[derive(Debug)]
pub(crate) struct Array {
    process: Process,
    /// One for each path to its first logical unit.
    pub(crate) routes: Vec<Route>,
    /// The first half belongs to one controller, the rest to the other.
    pub(crate) portals: Vec<SocketAddr>,
}

/// One way to a logical unit: `iscsi://portal/target/lun`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) portal: SocketAddr,
    pub(crate) target: String,
    pub(crate) lun: u32,
}

impl Route {
    pub(crate) fn url(&self) -> String {
        format!("iscsi://{}/{}/{}", self.portal, self.target, self.lun)
    }

    /// The same target and LUN behind another address.
    pub(crate) fn url_through(&self, address: SocketAddr) -> String {
        Self { portal: address, ..self.clone() }.url()
    }
}

impl Array {
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Four portals, two on each controller.
    pub(crate) fn start(units: &[&str]) -> Result<Self> {
        Self::start_with(units, &[])
    }

    /// With more of its own options.
    pub(crate) fn start_with(units: &[&str], options: &[&str]) -> Result<Self> {
        let portals: Vec<SocketAddr> = (0..4).map(|_| free_address()).collect::<Result<_>>()?;
        let list = portals.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut arguments = vec!["array", "--portals", &list];
        arguments.extend(units.iter().flat_map(|unit| ["--lu", *unit]));
        arguments.extend(options);
        let mut process = Process::start(binary()?, arguments)?;
        wait_until(LIMIT, "portal of smpath array", || {
            let listens = std::net::TcpStream::connect(portals[0]).is_ok();
            (listens || process.has_ended()).then_some(())
        })?;
        process.ensure_alive()?;
        let mut array = Self { process, routes: Vec::new(), portals };
        array.routes = discover(array.portals[0])?;
        ensure!(!array.routes.is_empty(), "smpath array shows no disk\n{}", array.process.output());
        Ok(array)
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        let status = self.process.terminate(LIMIT)?;
        ensure!(status.success(), "smpath array ended with {status}\n{}", self.process.output());
        Ok(())
    }
}

/// Every path to the lowest disk LUN behind a portal, as `iscsi-ls` sees it.
fn discover(portal: SocketAddr) -> Result<Vec<Route>> {
    let listing = run("iscsi-ls", ["-s", &format!("iscsi://{portal}")], LIMIT)?.good()?.stdout;
    parse_listing(&listing).with_context(|| format!("iscsi-ls says\n{listing}"))
}

/// Reads `Target:NAME Portal:ADDRESS,TAG` lines, each followed by `Lun:N Type:T` lines.
fn parse_listing(listing: &str) -> Result<Vec<Route>> {
    let mut found = BTreeSet::new();
    let mut lowest: Option<u32> = None;
    let mut current: Option<(SocketAddr, String)> = None;
    for line in listing.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let field = |name: &str| fields.iter().find_map(|field| field.strip_prefix(name));
        if let (Some(target), Some(portal)) = (field("Target:"), field("Portal:")) {
            let address = portal.rsplit_once(',').map_or(portal, |(address, _tag)| address);
            current = Some((address.parse().context("a portal's address")?, target.to_owned()));
        } else if let (Some(lun), Some("DIRECT_ACCESS"), Some((portal, target))) =
            (field("Lun:"), field("Type:"), &current)
        {
            let lun: u32 = lun.parse().context("a LUN")?;
            lowest = Some(lowest.map_or(lun, |lowest| lowest.min(lun)));
            found.insert(Route { portal: *portal, target: target.clone(), lun });
        }
    }
    Ok(found.into_iter().filter(|path| Some(path.lun) == lowest).collect())
}

/// `smpath run`: one disk on an NBD unix socket.
#[derive(Debug)]
pub(crate) struct Disk {
    process: Process,
    pub(crate) uri: String,
    pub(crate) control: PathBuf,
}

impl Disk {
    /// Serves the disk behind these paths, and waits until an NBD client can open it.
    pub(crate) fn start(room: &Room, arguments: &[String]) -> Result<Self> {
        let mut disk = Self::launch(room, arguments)?;
        disk.wait_until_open(LIMIT)?;
        Ok(disk)
    }

    /// Until an NBD client can open the disk.
    pub(crate) fn wait_until_open(&mut self, limit: Duration) -> Result<()> {
        let uri = self.uri.clone();
        wait_until(limit, "NBD export", || {
            let opens =
                run("nbdinfo", ["--size", &uri], LIMIT).is_ok_and(|finished| finished.status.success());
            (opens || self.process.has_ended()).then_some(())
        })
        .with_context(|| self.process.output())?;
        self.process.ensure_alive()
    }

    /// Starts it and looks no further.
    pub(crate) fn launch(room: &Room, arguments: &[String]) -> Result<Self> {
        let uri = nbd_unix_uri(&room.path("nbd"));
        let control = room.path("control");
        let mut all = vec!["run".to_owned(), "--export".to_owned(), uri.clone()];
        all.extend(["--control".to_owned(), control.display().to_string()]);
        if !arguments.iter().any(|argument| argument == "--state") {
            all.extend(["--state".to_owned(), room.path("state").display().to_string()]);
        }
        all.extend(["--initiator-name".to_owned(), initiator_name(room)]);
        all.extend_from_slice(arguments);
        Ok(Self { process: Process::start(binary()?, all)?, uri, control })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks the running program something, in JSON.
    pub(crate) fn ask(&self, question: &[&str]) -> Result<serde_json::Value> {
        let control = self.control.display().to_string();
        let arguments = [question, &["--json", "--control", &control]].concat();
        let answer = smpath(&arguments, LIMIT)?.good()?.stdout;
        serde_json::from_str(&answer)
            .with_context(|| format!("`smpath {}` says {answer}", question.join(" ")))
    }

    pub(crate) fn ensure_alive(&mut self) -> Result<()> {
        self.process.ensure_alive()
    }

    /// Where its disks are served.
    pub(crate) fn socket(&self) -> PathBuf {
        self.control.with_file_name("nbd")
    }

    /// What it wrote for programs.
    pub(crate) fn said(&self) -> String {
        self.process.stdout()
    }

    pub(crate) fn log(&self) -> String {
        self.process.stderr()
    }

    /// SIGKILL: it ends in the middle of whatever it does. What it had said is returned.
    pub(crate) fn kill(mut self) -> Result<String> {
        self.process.signal(Signal::KILL)?;
        self.process.wait(LIMIT)?;
        Ok(self.log())
    }

    /// SIGTERM: it must end by itself, well, and take its socket away.
    pub(crate) fn stop(mut self) -> Result<()> {
        let status = self.process.terminate(LIMIT)?;
        ensure!(status.success(), "smpath run ended with {status} on SIGTERM\n{}", self.process.output());
        Ok(())
    }
}

/// Each program under test is an initiator of its own: two with one name would end each other's sessions.
fn initiator_name(room: &Room) -> String {
    format!("iqn.2026-11.example.smpath:test.{}", room.name())
}

/// As the NBD project writes it.
pub(crate) fn nbd_unix_uri(socket: &Path) -> String {
    format!("nbd+unix:///?socket={}", socket.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_to_the_lowest_disk_are_read_from_a_listing() {
        let listing = "\
Target:iqn.a:c1 Portal:127.0.0.1:3261,1
Lun:0    Type:STORAGE_ARRAY_CONTROLLER
Lun:1    Type:DIRECT_ACCESS (Size:255M)
Lun:2    Type:DIRECT_ACCESS (Size:255M)
Target:iqn.a:c2 Portal:127.0.0.1:3262,2
Lun:1    Type:DIRECT_ACCESS (Size:255M)
";
        let urls: Vec<String> = parse_listing(listing).unwrap().iter().map(Route::url).collect();
        assert_eq!(urls, ["iscsi://127.0.0.1:3261/iqn.a:c1/1", "iscsi://127.0.0.1:3262/iqn.a:c2/1"]);
    }
}
