//! `xtask vm build`: what a guest is made of, in a folder that is kept between runs. A part whose ingredients have not
//! changed is not made again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::cpio::Archive;
use super::debian::{KEYRING, Packages, in_root, lay_root, run_from};
use super::uml;
use crate::harness::process::{is_installed, run};

/// The distribution that the guest is made of, and its kernel under QEMU.
const SUITE: &str = "trixie";

/// What the guest has besides its kernel: a shell and tools for devices. Programs that are built here find their C
/// library there.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "dash",
    "kmod",
    "iproute2",
    "dmsetup",
    "nbd-client",
    "libc6",
    "libgcc-s1",
    "xz-utils",
];

/// Drivers that the guest has under QEMU, and whatever these need.
const MODULES: &[&str] = &[
    "9p",
    "9pnet_virtio",
    "configfs",
    "crc32c_generic",
    "crc32c_intel",
    "dm_delay",
    "dm_flakey",
    "dm_mod",
    "dm_multipath",
    "dm_queue_length",
    "dm_round_robin",
    "dm_service_time",
    "iscsi_target_mod",
    "iscsi_tcp",
    "nbd",
    "null_blk",
    "sch_netem",
    "scsi_debug",
    "scsi_dh_alua",
    "sd_mod",
    "sg",
    "target_core_file",
    "target_core_iblock",
    "target_core_mod",
    "tcm_loop",
    "ublk_drv",
    "virtio_pci",
];

/// The first process of the guest.
const INIT: &str = include_str!("../../vm/init");

/// For what only uses this machine.
const LOCAL_LIMIT: Duration = Duration::from_secs(120);

/// Programs of the host that every guest needs, each with its package.
const HOST_TOOLS: &[(&str, &str)] = &[
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("tar", "tar"),
    ("setpriv", "util-linux"),
    ("xz", "xz-utils"),
];

/// Where all of it is kept.
#[derive(Clone, Debug)]
pub(super) struct Cache(PathBuf);

/// What boots: a kernel and its first file system.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
}

impl Cache {
    /// `SMPATH_VM_CACHE`, or a folder in the user's cache.
    pub(super) fn locate() -> Result<Self> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let of_user =
            || variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
        let found = variable("SMPATH_VM_CACHE").or_else(|| of_user().map(|cache| cache.join("smpath-vm")));
        found.map(Self).context("neither SMPATH_VM_CACHE nor HOME says where a guest may be kept")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The guest for QEMU, if it has been built.
    pub(super) fn tcg(&self) -> Option<Image> {
        self.image("tcg")
    }

    /// The guest as user-mode Linux, if it has been built.
    pub(super) fn uml(&self) -> Option<Image> {
        self.image("uml")
    }

    fn image(&self, name: &str) -> Option<Image> {
        let folder = self.path(name);
        let image = Image { kernel: folder.join("kernel"), initramfs: folder.join("initramfs") };
        (image.kernel.is_file() && image.initramfs.is_file()).then_some(image)
    }

    /// The command that starts QEMU: the host's own, or the one that was unpacked for a host without.
    pub(super) fn qemu(&self) -> Option<Vec<String>> {
        if is_installed(QEMU) {
            return Some(vec![QEMU.to_owned()]);
        }
        let root = self.path("qemu");
        let mut command = in_root(&root, &format!("usr/bin/{QEMU}")).ok()?;
        command.extend(["-L".to_owned(), root.join("usr/share/qemu").display().to_string()]);
        command.extend(["-L".to_owned(), root.join("usr/share/seabios").display().to_string()]);
        Some(command)
    }

    /// Makes `name` with `make` in an empty folder, unless it was made of the same `ingredients` before.
    pub(super) fn make(
        &self,
        name: &str,
        ingredients: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let folder = self.path(name);
        if fs::read_to_string(folder.join(".ingredients")).is_ok_and(|made_of| made_of == ingredients) {
            return Ok(folder);
        }
        let started = Instant::now();
        let unfinished = self.path(&format!("{name}.new"));
        for old in [&unfinished, &folder] {
            if old.exists() {
                fs::remove_dir_all(old).with_context(|| format!("{} cannot be removed", old.display()))?;
            }
        }
        fs::create_dir_all(&unfinished)?;
        make(&unfinished).with_context(|| format!("{name} cannot be made"))?;
        fs::write(unfinished.join(".ingredients"), ingredients)?;
        fs::rename(&unfinished, &folder)?;
        println!("{name}: made in {:.1} s", started.elapsed().as_secs_f32());
        Ok(folder)
    }
}

/// `xtask vm build [--uml]`.
pub(crate) fn command(arguments: &[String]) -> Result<ExitCode> {
    let with_uml = match arguments {
        [] => false,
        [flag] if flag == "--uml" => true,
        _ => bail!("usage: xtask vm build [--uml]"),
    };
    ensure_tools(with_uml)?;
    let cache = Cache::locate()?;
    let base = base(&cache)?;
    tcg(&cache, &base)?;
    qemu(&cache)?;
    if with_uml {
        let kernel = uml::kernel(&cache, &base)?;
        pack(&cache, "uml", &base, &kernel)?;
    }
    println!("the guest is in {}", cache.path("").display());
    Ok(ExitCode::SUCCESS)
}

/// Fails with the command that would install what is missing.
fn ensure_tools(with_uml: bool) -> Result<()> {
    let wanted = HOST_TOOLS.iter().chain(if with_uml { uml::HOST_TOOLS } else { &[] });
    let mut missing: BTreeSet<&str> =
        wanted.filter(|(tool, _)| !is_installed(tool)).map(|(_, package)| *package).collect();
    if !Path::new(KEYRING).is_file() {
        missing.insert("debian-archive-keyring");
    }
    let packages: Vec<&str> = missing.into_iter().collect();
    ensure!(packages.is_empty(), "not on this machine; as root: apt-get install {}", packages.join(" "));
    Ok(())
}

/// The guest's files without a kernel's.
fn base(cache: &Cache) -> Result<PathBuf> {
    let ingredients = format!("{SUITE} {PACKAGES:?}");
    cache.make("base", &ingredients, |folder| {
        let root = folder.join("root");
        lay_root(&root)?;
        let packages = Packages::of(SUITE, &folder.join("apt"))?;
        packages.unpack_with_dependencies(PACKAGES, &root)?;
        for unread in ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/perl5"] {
            let _ = fs::remove_dir_all(root.join(unread));
        }
        Ok(fs::remove_dir_all(folder.join("apt"))?)
    })?;
    Ok(cache.path("base/root"))
}

/// The distribution's own kernel, for QEMU.
fn tcg(cache: &Cache, base: &Path) -> Result<()> {
    let ingredients = format!("{SUITE} {PACKAGES:?} {MODULES:?}");
    let kernel = cache.make("tcg-kernel", &ingredients, |folder| {
        let packages = Packages::of(SUITE, &folder.join("apt"))?;
        let name = packages.dependency("linux-image-amd64", "linux-image-")?;
        let release = name.trim_start_matches("linux-image-");
        let unpacked = folder.join("unpacked");
        packages.unpack_alone(&name, &unpacked)?;
        fs::rename(unpacked.join(format!("boot/vmlinuz-{release}")), folder.join("kernel"))?;
        let all = ["usr/lib/modules", "lib/modules"].map(|modules| unpacked.join(modules).join(release));
        let all = all.iter().find(|folder| folder.is_dir()).context("the kernel has no modules")?;
        let files = folder.join("files");
        lay_root(&files)?;
        choose_modules(base, all, &files.join("lib/modules").join(release))?;
        run_from(base, "usr/sbin/depmod", &["-b", &files.display().to_string(), release], LOCAL_LIMIT)?;
        for spent in ["unpacked", "apt"] {
            fs::remove_dir_all(folder.join(spent))?;
        }
        Ok(())
    })?;
    pack(cache, "tcg", base, &kernel)
}

/// Copies [`MODULES`] and all that they need, uncompressed: emulated, that would take its time at each boot.
fn choose_modules(base: &Path, all: &Path, chosen: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    find_modules(all, &mut files)?;
    let mut wanted: Vec<String> = MODULES.iter().map(|&name| name.to_owned()).collect();
    let mut taken = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        // What is not a file is built in.
        let Some(file) = files.get(&name).filter(|_| !taken.contains(&name)) else { continue };
        let path = file.display().to_string();
        let depends = run_from(base, "usr/sbin/modinfo", &["-F", "depends", &path], LOCAL_LIMIT)?.stdout;
        wanted.extend(
            depends.trim().split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")),
        );
        let to = chosen.join(file.strip_prefix(all)?);
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        fs::copy(file, &to)?;
        if to.extension().is_some_and(|extension| extension == "xz") {
            run("xz", [Path::new("--decompress"), &to], LOCAL_LIMIT)?.good()?;
        }
        taken.insert(name);
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        fs::copy(all.join(list), chosen.join(list)).with_context(|| format!("no {list}"))?;
    }
    Ok(())
}

/// Every module below `folder` by the name that the kernel knows it by.
fn find_modules(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_modules(&path, files)?;
        } else if let Some((name, _)) = path.to_string_lossy().split_once(".ko") {
            let name = name.rsplit('/').next().unwrap_or_default().replace('-', "_");
            files.insert(name, path);
        }
    }
    Ok(())
}

/// Puts a kernel beside the file system that it boots into.
fn pack(cache: &Cache, name: &str, base: &Path, kernel: &Path) -> Result<()> {
    let read = |folder: &Path| fs::read_to_string(folder.join(".ingredients")).unwrap_or_default();
    let ingredients = format!("{}\n{}\n{INIT}", read(base.parent().unwrap_or(base)), read(kernel));
    cache.make(name, &ingredients, |folder| {
        fs::copy(kernel.join("kernel"), folder.join("kernel"))?;
        let mut archive = Archive::new(BufWriter::new(File::create(folder.join("initramfs"))?))?;
        archive.add_tree(base)?;
        archive.add_tree(&kernel.join("files"))?;
        archive.add_program("init", INIT.as_bytes())?;
        archive.finish()?;
        Ok(())
    })?;
    Ok(())
}

/// QEMU itself, for a host that has none.
fn qemu(cache: &Cache) -> Result<()> {
    if is_installed(QEMU) {
        return Ok(());
    }
    cache.make("qemu", SUITE, |folder| {
        lay_root(folder)?;
        let packages = Packages::of(SUITE, &folder.join("apt"))?;
        packages.unpack_with_dependencies(&["qemu-system-x86", "libc6"], folder)?;
        for unused in ["apt", "usr/share/doc", "usr/share/man", "usr/share/locale"] {
            let _ = fs::remove_dir_all(folder.join(unused));
        }
        Ok(())
    })?;
    Ok(())
}

/// The program that emulates a machine.
const QEMU: &str = "qemu-system-x86_64";
