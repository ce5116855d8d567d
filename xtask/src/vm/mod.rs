//! `xtask vm`: a guest with a kernel of its own, for what needs one: the kernel's iSCSI target (LIO), device mapper,
//! drivers. Built from packages without being root, booted as user-mode Linux or in QEMU.

mod build;
mod cpio;
mod debian;
mod run;
mod uml;

use std::process::ExitCode;

use anyhow::{Result, bail};

pub(crate) fn command(arguments: &[String]) -> Result<ExitCode> {
    match arguments.first().map(String::as_str) {
        Some("build") => build::command(&arguments[1..]),
        Some("run") => run::command(&arguments[1..]),
        _ => bail!("usage: xtask vm build|run"),
    }
}
