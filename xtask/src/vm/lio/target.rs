//! LIO, set up through configfs: one logical unit, shown by one target through two portal groups. The first group has
//! two portals. Its back end is a block device that a program of ours serves, so that single writes can be held.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::harness::process::{Process, run, wait_until};

/// For any one step of the set-up, emulated.
const LIMIT: Duration = Duration::from_secs(60);

/// The kernel's interface to LIO.
const CONFIGURATION: &str = "/sys/kernel/config/target";

pub(super) const TARGET: &str = "iqn.2026-11.example.smpath:lio";

/// The portals of the first group.
pub(super) const FIRST_GROUP: [&str; 2] = ["127.0.0.1:3260", "127.0.0.1:3261"];

/// The portal of the second group.
pub(super) const SECOND_GROUP: &str = "127.0.0.2:3260";

/// The device that the kernel's NBD client makes of the back end.
const BACKEND_DEVICE: &str = "/dev/nbd0";

const BACKEND_MEBIBYTES: &str = "16";

/// Drivers that nothing loads by itself.
const MODULES: &[&str] = &["nbd", "target_core_mod", "target_core_iblock", "iscsi_target_mod"];

#[derive(Debug)]
pub(super) struct Lio {
    _device: Device,
    backend: Process,
    programs: PathBuf,
}

impl Lio {
    /// `programs` holds what was built on the host.
    pub(super) fn set_up(programs: &Path) -> Result<Self> {
        for module in MODULES {
            run("modprobe", [module], LIMIT)?.good()?;
        }
        run("ip", ["address", "add", "127.0.0.2/8", "dev", "lo"], LIMIT)?.good()?;
        let socket = Path::new("/run/backend");
        let arguments = [socket.as_os_str(), BACKEND_MEBIBYTES.as_ref()];
        let backend = Process::start(programs.join("examples/late"), arguments)?;
        let device = Device::attach(socket, BACKEND_DEVICE)?;
        let lio = Self { _device: device, backend, programs: programs.to_path_buf() };
        make_unit().context("the logical unit cannot be set up")?;
        make_group(1, &FIRST_GROUP).context("the first portal group cannot be set up")?;
        make_group(2, &[SECOND_GROUP]).context("the second portal group cannot be set up")?;
        Ok(lio)
    }

    /// An example that was built on the host.
    pub(super) fn example(&self, name: &str) -> PathBuf {
        self.programs.join("examples").join(name)
    }

    /// What the back end held, and when it let go.
    pub(super) fn backend_said(&self) -> Vec<String> {
        self.backend.output().lines().map(str::to_owned).collect()
    }

    pub(super) fn count_held(&self) -> usize {
        self.count("held for")
    }

    pub(super) fn count_executed_late(&self) -> usize {
        self.count("executed late")
    }

    fn count(&self, words: &str) -> usize {
        self.backend.output().lines().filter(|line| line.contains(words)).count()
    }
}

/// A block device that the kernel's NBD client makes of an export without a name.
#[derive(Debug)]
pub(super) struct Device(&'static str);

impl Device {
    pub(super) fn attach(socket: &Path, device: &'static str) -> Result<Self> {
        wait_until(LIMIT, "socket of the NBD server", || socket.exists().then_some(()))?;
        let socket = socket.to_string_lossy();
        // The client may be refused while the server still looks for its disk.
        wait_until(LIMIT, "NBD export", || {
            let attached = run("nbd-client", ["-unix", &socket, device], LIMIT);
            attached.is_ok_and(|finished| finished.status.success()).then_some(())
        })?;
        Ok(Self(device))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = run("nbd-client", ["-d", self.0], LIMIT);
    }
}

/// The file that opens and closes a portal group.
pub(super) fn switch_of(group: u16) -> String {
    format!("{}/enable", folder_of(group).display())
}

fn folder_of(group: u16) -> PathBuf {
    Path::new(CONFIGURATION).join("iscsi").join(TARGET).join(format!("tpgt_{group}"))
}

fn unit() -> PathBuf {
    Path::new(CONFIGURATION).join("core/iblock_0/unit")
}

fn make_unit() -> Result<()> {
    let unit = unit();
    fs::create_dir_all(&unit)?;
    fs::write(unit.join("control"), format!("udev_path={BACKEND_DEVICE}"))?;
    fs::write(unit.join("enable"), "1")?;
    // Its identity comes from its serial number.
    Ok(fs::write(unit.join("wwn/vpd_unit_serial"), "5a5a0001")?)
}

fn make_group(group: u16, portals: &[&str]) -> Result<()> {
    let folder = folder_of(group);
    let lun = folder.join("lun/lun_0");
    fs::create_dir_all(&lun)?;
    symlink(unit(), lun.join("unit"))?;
    for portal in portals {
        fs::create_dir(folder.join("np").join(portal))?;
    }
    // Whoever comes may log in and write.
    let open = [
        ("authentication", "0"),
        ("generate_node_acls", "1"),
        ("demo_mode_write_protect", "0"),
        ("cache_dynamic_acls", "1"),
    ];
    for (attribute, value) in open {
        fs::write(folder.join("attrib").join(attribute), value)?;
    }
    Ok(fs::write(folder.join("enable"), "1")?)
}
