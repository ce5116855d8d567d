//! User-mode Linux: the kernel built as a program of the host. It boots in a second and runs code at native speed, but
//! compiling it takes minutes, once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::build::Cache;
use super::debian::{Packages, lay_root, run_from};
use crate::harness::process::run;

/// Since Linux 6.19 user-mode Linux needs no ptrace, which some machines forbid; the stable suite's kernel is older.
const SUITE: &str = "trixie-backports";

/// What differs from the architecture's default configuration.
const CONFIGURATION: &str = include_str!("../../vm/uml.config");

/// For what only uses this machine; unpacking 90,000 files takes minutes on a busy one.
const LOCAL_LIMIT: Duration = Duration::from_secs(900);

/// For the compilation: about five minutes on two cores that nobody else uses.
const COMPILE_LIMIT: Duration = Duration::from_secs(3600);

/// What compiles a kernel, each with its package.
pub(super) const HOST_TOOLS: &[(&str, &str)] = &[
    ("gcc", "gcc"),
    ("make", "make"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("strip", "binutils"),
];

/// Compiles the kernel and its modules, unless that was done before with the same configuration.
pub(super) fn kernel(cache: &Cache, base: &Path) -> Result<PathBuf> {
    cache.make("uml-kernel", &format!("{SUITE}\n{CONFIGURATION}"), |folder| {
        println!("compiling user-mode Linux: this takes minutes");
        let (source, build, files) = (folder.join("source"), folder.join("build"), folder.join("files"));
        fetch_source(folder, &source)?;
        fs::create_dir(&build)?;
        let make = |goals: &[&str], limit| make(&source, &build, &files, goals, limit);
        make(&["defconfig"], LOCAL_LIMIT)?;
        configure(&build)?;
        make(&["olddefconfig"], LOCAL_LIMIT)?;
        ensure_configured(&build)?;
        make(&["linux", "modules"], COMPILE_LIMIT)?;
        lay_root(&files)?;
        make(&["modules_install"], LOCAL_LIMIT)?;
        let release = fs::read_to_string(build.join("include/config/kernel.release"))?;
        run_from(
            base,
            "usr/sbin/depmod",
            &["-b", &files.display().to_string(), release.trim()],
            LOCAL_LIMIT,
        )?;
        // A link to the folder of the compilation.
        let _ = fs::remove_file(files.join("lib/modules").join(release.trim()).join("build"));
        let (with_symbols, kernel) = (build.join("linux"), folder.join("kernel"));
        run("strip", [Path::new("-o"), &kernel, &with_symbols], LOCAL_LIMIT)?.good()?;
        for spent in [source, build] {
            fs::remove_dir_all(spent)?;
        }
        Ok(())
    })
}

fn fetch_source(folder: &Path, source: &Path) -> Result<()> {
    let packages = Packages::of(SUITE, &folder.join("apt"))?;
    let names = packages.search("^linux-source-[0-9]")?;
    let newest =
        names.into_iter().max_by_key(|name| version(name)).context("the suite has no source of Linux")?;
    let unpacked = folder.join("unpacked");
    packages.unpack_alone(&newest, &unpacked)?;
    fs::create_dir(source)?;
    let archive = unpacked.join(format!("usr/src/{newest}.tar.xz")).display().to_string();
    let to = source.display().to_string();
    // Half of the source describes graphics cards, and nothing here needs it.
    let without = ["--exclude=*/drivers/gpu/drm/*.[ch]", "--exclude=*/tools/testing/*"];
    run(
        "tar",
        ["-x", "-f", &archive, "-C", &to, "--strip-components=1", without[0], without[1]],
        LOCAL_LIMIT,
    )?
    .good()?;
    for spent in ["unpacked", "apt"] {
        fs::remove_dir_all(folder.join(spent))?;
    }
    Ok(())
}

/// `linux-source-7.3` is 7, 3.
fn version(name: &str) -> Vec<u32> {
    let number = name.rsplit('-').next().unwrap_or_default();
    number.split('.').filter_map(|part| part.parse().ok()).collect()
}

fn make(source: &Path, build: &Path, files: &Path, goals: &[&str], limit: Duration) -> Result<()> {
    let jobs = std::thread::available_parallelism()?;
    let mut words = vec!["make".to_owned(), "--silent".to_owned(), format!("--jobs={jobs}")];
    words.extend(["-C".to_owned(), source.display().to_string(), format!("O={}", build.display())]);
    words.extend(["ARCH=um".to_owned(), format!("INSTALL_MOD_PATH={}", files.display())]);
    // The index of the modules is made with the guest's own tool, so the host needs none.
    words.extend(["INSTALL_MOD_STRIP=1".to_owned(), "DEPMOD=true".to_owned()]);
    words.extend(goals.iter().map(|&goal| goal.to_owned()));
    run("nice", words, limit)?.good()?;
    Ok(())
}

/// The last setting of an option counts, so ours go behind the default ones.
fn configure(build: &Path) -> Result<()> {
    let path = build.join(".config");
    let defaults = fs::read_to_string(&path)?;
    Ok(fs::write(path, format!("{defaults}\n{CONFIGURATION}"))?)
}

/// An option that this version of the source does not know would be missed much later.
fn ensure_configured(build: &Path) -> Result<()> {
    let configured = fs::read_to_string(build.join(".config"))?;
    let set: BTreeSet<&str> =
        configured.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let wanted = CONFIGURATION.lines().filter_map(|line| line.split_once('='));
    let missing: Vec<&str> = wanted
        .filter(|(_, value)| ["y", "m"].contains(value))
        .map(|(name, _)| name)
        .filter(|name| !set.contains(name))
        .collect();
    ensure!(missing.is_empty(), "this source has no {}", missing.join(", "));
    Ok(())
}
