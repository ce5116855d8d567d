//! A tgtd of our own: its own control port, its own TCP portals, gone when dropped. The system's is never touched.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::process::{Finished, Process, free_address, run, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

/// tgtd takes a signed 16-bit number as its control port.
const CONTROL_MAX: u16 = 32_767;

/// The LUN that every target shows the logical unit as. tgtd keeps LUN 0 for its own controller.
pub(crate) const LUN: u32 = 1;

/// What initiators must say when a target asks for CHAP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account<'a> {
    pub(crate) name: &'a str,
    pub(crate) secret: &'a str,
}

/// Whether the logical unit takes UNMAP.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Provisioning {
    /// Takes it. tgtd fails more of its conformance tests so.
    Thin,
    Full,
}

/// What tgtd is started with besides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start<'a> {
    pub(crate) environment: &'a [(&'a str, String)],
    pub(crate) arguments: &'a [&'a str],
}

#[derive(Debug)]
pub(crate) struct Tgt {
    process: Process,
    /// tgtd's name for its control socket.
    control: u16,
    pub(crate) portals: Vec<SocketAddr>,
    pub(crate) targets: Vec<String>,
}

impl Tgt {
    /// Two portals and two targets over one file: four paths to one logical unit.
    pub(crate) fn start(file: &Path, provisioning: Provisioning) -> Result<Self> {
        Self::start_in(file, provisioning, Start::default())
    }

    pub(crate) fn start_in(file: &Path, provisioning: Provisioning, start: Start<'_>) -> Result<Self> {
        let mut tgt = Self::empty_in(2, start)?;
        tgt.add_target("one", file, "shared01", provisioning)?;
        tgt.add_target("two", file, "shared01", provisioning)?;
        Ok(tgt)
    }

    pub(crate) fn empty(portals: usize) -> Result<Self> {
        Self::empty_in(portals, Start::default())
    }

    pub(crate) fn empty_in(portals: usize, start: Start<'_>) -> Result<Self> {
        let portals: Vec<SocketAddr> = (0..portals).map(|_| free_address()).collect::<Result<_>>()?;
        let first = portals.first().context("a target needs a portal")?;
        // Nobody else has this number as a TCP port now, so nobody else is likely to use it as a control port.
        // Zero is the system's.
        let control = 1 + free_address()?.port() % CONTROL_MAX;
        let (number, portal) = (control.to_string(), format!("portal={first}"));
        let arguments = ["-f", "-C", &number, "--iscsi", &portal];
        let arguments = arguments.iter().chain(start.arguments);
        let process = Process::start_in("tgtd", arguments, start.environment)?;
        let mut tgt = Self { process, control, portals, targets: Vec::new() };
        tgt.wait_until_it_answers()?;
        for portal in &tgt.portals[1..] {
            tgt.admin(&["--mode", "portal", "--op", "new", "--param", &format!("portal={portal}")])?;
        }
        Ok(tgt)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let control = self.control;
        let show = || run("tgtadm", ["-C", &control.to_string(), "--mode", "sys", "--op", "show"], LIMIT);
        wait_until(LIMIT, "answer of tgtd", || {
            let answered = show().is_ok_and(|finished| finished.status.success());
            (answered || self.process.has_ended()).then_some(())
        })?;
        self.process.ensure_alive()
    }

    /// A target whose LUN 1 is `file`. Units with one `serial` report one identity, whatever target shows them.
    pub(crate) fn add_target(
        &mut self,
        name: &str,
        file: &Path,
        serial: &str,
        provisioning: Provisioning,
    ) -> Result<()> {
        let target = format!("iqn.2026-11.example.smpath:tgt.{name}");
        let tid = (self.targets.len() + 1).to_string();
        let (lun, file) = (LUN.to_string(), file.to_string_lossy());
        let unit = ["--mode", "logicalunit", "--tid", &tid, "--lun", &lun];
        // tgtd derives the NAA 6h designator from the serial number and the T10 one from the SCSI id.
        let thin = u8::from(matches!(provisioning, Provisioning::Thin));
        let identity = format!("scsi_id=SMPATH-{serial},scsi_sn={serial},thin_provisioning={thin}");
        self.admin(&["--mode", "target", "--op", "new", "--tid", &tid, "--targetname", &target])?;
        self.admin(&[&unit[..], &["--op", "new", "--backing-store", &file]].concat())?;
        self.admin(&[&unit[..], &["--op", "update", "--params", &identity]].concat())?;
        self.admin(&["--mode", "target", "--op", "bind", "--tid", &tid, "--initiator-address", "ALL"])?;
        self.targets.push(target);
        Ok(())
    }

    /// From now on, every target asks for CHAP.
    pub(crate) fn require(&self, account: Account<'_>) -> Result<()> {
        let Account { name, secret } = account;
        self.admin(&["--mode", "account", "--op", "new", "--user", name, "--password", secret])?;
        for tid in 1..=self.targets.len() {
            let tid = tid.to_string();
            self.admin(&["--mode", "account", "--op", "bind", "--tid", &tid, "--user", name])?;
        }
        Ok(())
    }

    /// How many I_T nexuses a target says that it has.
    pub(crate) fn nexuses(&self, target: usize) -> Result<usize> {
        let shown = self.admin(&["--mode", "target", "--op", "show"])?.stdout;
        let ours = |line: &&str| line.starts_with("Target ");
        let mut sections = Vec::new();
        for line in shown.lines() {
            if ours(&line) {
                sections.push(0);
            } else if line.trim().starts_with("I_T nexus: ")
                && let Some(count) = sections.last_mut()
            {
                *count += 1;
            }
        }
        sections.get(target).copied().with_context(|| format!("no target {target} in\n{shown}"))
    }

    /// The address of one path: portal and target.
    pub(crate) fn url(&self, portal: usize, target: usize) -> String {
        format!("iscsi://{}/{}/{LUN}", self.portals[portal], self.targets[target])
    }

    fn admin(&self, arguments: &[&str]) -> Result<Finished> {
        let control = self.control.to_string();
        let common = ["-C", control.as_str(), "--lld", "iscsi"];
        run("tgtadm", common.iter().chain(arguments), LIMIT)?.good()
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        // tgtd ignores SIGTERM while it has targets, and leaves its control socket behind; `process` kills it.
        for suffix in ["", ".lock"] {
            let _ =
                std::fs::remove_file(PathBuf::from(format!("/var/run/tgtd/socket.{}{suffix}", self.control)));
        }
    }
}
