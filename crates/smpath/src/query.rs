//! `smpath list`, `show` and `paths` ask a running process; `smpath waive` tells it something.

use anyhow::{Context, Result, bail};
use engine::status::{DiskStatus, Snapshot};

use crate::cli::{Query, Show, Waive};
use crate::{config, control, render};

pub(crate) fn list(query: &Query) -> Result<()> {
    let snapshot = ask(query)?;
    if query.json { json(&snapshot.disks) } else { text(&render::disks(&snapshot)) }
}

pub(crate) fn paths(query: &Query) -> Result<()> {
    let snapshot = ask(query)?;
    if query.json { json(&snapshot) } else { text(&render::paths(&snapshot)) }
}

pub(crate) fn show(show: &Show) -> Result<()> {
    let snapshot = ask(&show.query)?;
    let disk = choose(&snapshot, show.disk.as_deref())?;
    if show.query.json { json(disk) } else { text(&render::disk(disk)) }
}

pub(crate) fn waive(waive: &Waive) -> Result<()> {
    let control = waive.control.clone().unwrap_or_else(config::default_control);
    let snapshot = control::snapshot(&control)?;
    let disk = choose(&snapshot, Some(&waive.disk))?;
    if disk.fences.is_empty() {
        return text(&format!("no fence of {} is open: nothing waits\n", disk.identity));
    }
    control::waive(&control, &disk.identity)?;
    text(&format!("waived for {}:\n\n{}", disk.identity, render::fences(disk)))
}

fn ask(query: &Query) -> Result<Snapshot> {
    control::snapshot(&query.control.clone().unwrap_or_else(config::default_control))
}

/// The disk whose identity begins so; the only one if nothing is said.
fn choose<'a>(snapshot: &'a Snapshot, name: Option<&str>) -> Result<&'a DiskStatus> {
    let found: Vec<&DiskStatus> = snapshot
        .disks
        .iter()
        .filter(|disk| name.is_none_or(|name| disk.identity.starts_with(name)))
        .collect();
    match (found.as_slice(), name) {
        ([disk], _) => Ok(disk),
        ([], Some(name)) => bail!("no disk {name}: `smpath list` shows what is there"),
        ([], None) => bail!("there is no disk"),
        (_, None) => bail!("there are {} disks: name one of those that `smpath list` shows", found.len()),
        (_, Some(name)) => bail!("{} disks begin with {name}: give more of the name", found.len()),
    }
}

fn text(text: &str) -> Result<()> {
    use std::io::Write;
    // A reader that went away (`| head`) is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<()> {
    text(&(serde_json::to_string_pretty(value).context("the answer cannot be written as JSON")? + "\n"))
}
