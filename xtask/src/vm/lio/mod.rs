//! `xtask vm lio`: smpath and the kernel's iSCSI target (LIO). What becomes of a write that is stuck when its path is
//! lost, and access states that change under load. The cases run in the guest, by this same program; see [`guest`].

mod alua;
pub(super) mod guest;
mod product;
mod raw;
mod target;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::build::Cache;
use super::run::{self, Accelerator, Options, Share};

/// All cases, emulated on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(1200);

/// Where the guest finds what was built here.
const PROGRAMS: &str = "/programs";

/// `xtask vm lio [--accel tcg|uml|auto] [--fence MODE]... [--detail] [FILTER]...`.
pub(super) fn command(arguments: &[String]) -> Result<ExitCode> {
    let (mut accelerator, mut for_guest) = (None, Vec::new());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--accel" => accelerator = run::accelerator(words.next().context("--accel needs a value")?)?,
            _ => for_guest.push(word.clone()),
        }
    }
    guest::Options::parse(&for_guest)?;
    if let Some(reason) = why_not(accelerator)? {
        println!("SKIP  LIO: {reason}");
        return Ok(ExitCode::SUCCESS);
    }
    let program = std::env::current_exe()?;
    let folder = program.parent().context("a program is in a folder")?;
    build_examples(folder)?;
    ensure!(folder.join("smpath").is_file(), "build smpath with the same profile first");
    let name = program.file_name().context("a program has a name")?.to_string_lossy();
    let mut command = vec![format!("{PROGRAMS}/{name}"), "vm".to_owned(), "lio-in-guest".to_owned()];
    command.extend(for_guest);
    let shares = vec![Share { host: folder.to_path_buf(), guest: PROGRAMS.to_owned() }];
    Ok(ExitCode::from(run::run(&Options { accelerator, shares, timeout: TIMEOUT, command })?))
}

/// Why this machine cannot run the cases.
fn why_not(wanted: Option<Accelerator>) -> Result<Option<String>> {
    let cache = Cache::locate()?;
    Ok(match (wanted, cache.tcg(), cache.uml()) {
        (Some(Accelerator::Uml), _, None) => {
            Some("no guest is built: `xtask vm build --uml` makes one".to_owned())
        }
        (_, None, None) => {
            Some("no guest is built: `xtask vm build` makes one, or says what it needs".to_owned())
        }
        (Some(Accelerator::Tcg), None, _) => {
            Some("no guest for QEMU is built: `xtask vm build` makes one".to_owned())
        }
        _ => None,
    })
}

/// The stuck back end and the raw initiator are examples of the crates whose protocols they speak.
fn build_examples(folder: &Path) -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "-p",
        "nbd",
        "-p",
        "iscsi",
        "--example",
        "late",
        "--example",
        "fences",
    ]);
    cargo.arg("--manifest-path").arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
    cargo.arg("--target-dir").arg(folder.parent().context("a profile's folder is in the target folder")?);
    // A profile's folder has its name, but for the default one's.
    if let Some(profile) = folder.file_name().filter(|profile| *profile != "debug") {
        cargo.arg("--profile").arg(profile);
    }
    if !cargo.status().context("cargo does not start")?.success() {
        bail!("the examples do not build");
    }
    Ok(())
}
