//! `xtask vm`: a guest with a kernel of its own, for what needs one: the kernel's iSCSI target (LIO), device mapper,
//! drivers. Built from packages without being root, booted as user-mode Linux or in QEMU.

mod build;
mod cpio;
mod debian;
mod lio;
mod run;
mod uml;

use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "\
usage: xtask vm COMMAND

  build [--uml]            make the guest, with --uml as user-mode Linux too
  run [OPTIONS] -- COMMAND run a command in the guest (--accel tcg|uml|auto, --share DIR[:PATH], --timeout SECONDS)
  lio [OPTIONS] [FILTER]...  LIO and smpath: stuck writes, access states (--accel A, --fence MODE, --detail)";

pub(crate) fn command(arguments: &[String]) -> Result<ExitCode> {
    let rest = arguments.get(1..).unwrap_or_default();
    match arguments.first().map(String::as_str) {
        Some("build") => build::command(rest),
        Some("run") => run::command(rest),
        Some("lio") => lio::command(rest),
        // What `lio` starts in the guest.
        Some("lio-in-guest") => lio::guest::command(rest),
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}
