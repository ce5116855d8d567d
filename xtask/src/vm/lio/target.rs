//! LIO, set up through configfs: one logical unit, shown by one target through two portal groups, of which the first
//! has two portals, and by another target. Its back end is a block device that a program of ours serves, so that single writes can be held.

use std::fmt;
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

/// Another target over the same logical unit, and its portal.
pub(super) const OTHER_TARGET: &str = "iqn.2026-11.example.smpath:other";
pub(super) const THIRD_PORTAL: &str = "127.0.0.3:3260";

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
        for address in ["127.0.0.2/8", "127.0.0.3/8"] {
            run("ip", ["address", "add", address, "dev", "lo"], LIMIT)?.good()?;
        }
        let socket = Path::new("/run/backend");
        let arguments = [socket.as_os_str(), BACKEND_MEBIBYTES.as_ref()];
        let backend = Process::start(programs.join("examples/late"), arguments)?;
        let device = Device::attach(socket, BACKEND_DEVICE)?;
        let lio = Self { _device: device, backend, programs: programs.to_path_buf() };
        make_unit().context("the logical unit cannot be set up")?;
        make_group(TARGET, 1, &FIRST_GROUP).context("the first portal group cannot be set up")?;
        make_group(TARGET, 2, &[SECOND_GROUP]).context("the second portal group cannot be set up")?;
        make_group(OTHER_TARGET, 1, &[THIRD_PORTAL]).context("the other target cannot be set up")?;
        Ok(lio)
    }

    /// An example that was built on the host.
    pub(super) fn example(&self, name: &str) -> PathBuf {
        self.programs.join("examples").join(name)
    }

    /// Puts portal groups of the first target into target port groups of their own, unless they are there.
    pub(super) fn make_port_groups(&self, groups: &[PortGroup]) -> Result<()> {
        for group in groups.iter().filter(|group| !group.folder().exists()) {
            fs::create_dir(group.folder())?;
            group.set("tg_pt_gp_id", &group.number.to_string())?;
            write(&group.lun().join("alua_tg_pt_gp"), group.name)?;
        }
        Ok(())
    }

    /// How many sessions the first target has.
    pub(super) fn sessions(&self) -> Result<u64> {
        let target = Path::new(CONFIGURATION).join("iscsi").join(TARGET);
        number_in(&target.join("fabric_statistics/iscsi_instance/sessions"))
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

/// A target port group, with the portal group of the first target that is in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortGroup {
    pub(super) name: &'static str,
    /// Of both: the portal group and the target port group.
    pub(super) number: u16,
    pub(super) portal: &'static str,
}

/// Asymmetric access states that LIO lets a group have (SPC, REPORT TARGET PORT GROUPS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Optimized = 0,
    NonOptimized = 1,
    Standby = 2,
    Unavailable = 3,
    Transitioning = 15,
}

/// Who may change states: what LIO reports as TPGS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessType {
    Implicit = 1,
    /// Initiators, too.
    Both = 3,
}

impl fmt::Display for State {
    /// As smpath shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
            Self::Standby => "standby",
            Self::Unavailable => "unavailable",
            Self::Transitioning => "transitioning",
        })
    }
}

impl State {
    pub(super) const fn is_usable(self) -> bool {
        matches!(self, Self::Optimized | Self::NonOptimized)
    }
}

impl PortGroup {
    fn folder(&self) -> PathBuf {
        unit().join("alua").join(self.name)
    }

    fn lun(&self) -> PathBuf {
        folder_of(TARGET, self.number).join("lun/lun_0")
    }

    pub(super) fn set(&self, attribute: &str, value: &str) -> Result<()> {
        write(&self.folder().join(attribute), value)
    }

    /// Returns when the change has been made, after all of its delay.
    pub(super) fn change_to(&self, state: State) -> Result<()> {
        self.set("alua_access_state", &(state as u8).to_string())
    }

    /// Whether LIO has it in this state.
    pub(super) fn is(&self, state: State) -> Result<bool> {
        Ok(number_in(&self.folder().join("alua_access_state"))? == state as u64)
    }

    pub(super) fn allow(&self, access: AccessType) -> Result<()> {
        self.set("alua_access_type", &(access as u8).to_string())
    }

    /// The secondary state of its port.
    pub(super) fn set_offline(&self, is_offline: bool) -> Result<()> {
        write(&self.lun().join("alua_tg_pt_offline"), if is_offline { "1" } else { "0" })
    }

    /// As it began, and quick: LIO makes commands in a group that is not optimized wait unless it is told not to.
    pub(super) fn reset(&self) -> Result<()> {
        self.allow(AccessType::Both)?;
        for attribute in ["trans_delay_msecs", "implicit_trans_secs", "nonop_delay_msecs", "preferred"] {
            self.set(attribute, "0")?;
        }
        self.set_offline(false)?;
        self.change_to(State::Optimized)
    }

    /// How many commands came to its port.
    pub(super) fn commands(&self) -> Result<u64> {
        number_in(&self.lun().join("statistics/scsi_tgt_port/in_cmds"))
    }
}

fn write(file: &Path, value: &str) -> Result<()> {
    fs::write(file, value).with_context(|| format!("{value} cannot be written to {}", file.display()))
}

fn number_in(file: &Path) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    text.trim().parse().with_context(|| format!("{} reads {text:?}", file.display()))
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
    format!("{}/enable", folder_of(TARGET, group).display())
}

fn folder_of(target: &str, group: u16) -> PathBuf {
    Path::new(CONFIGURATION).join("iscsi").join(target).join(format!("tpgt_{group}"))
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

fn make_group(target: &str, group: u16, portals: &[&str]) -> Result<()> {
    let folder = folder_of(target, group);
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
