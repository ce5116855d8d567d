//! `smpath list`, `show` and `paths` ask a running process; `smpath waive` tells it something.

use std::time::Duration;

use anyhow::{Context, Result};
use engine::status::{DiskStatus, Snapshot};

use crate::cli::{Explain, Query, Show, Waive};
use crate::control::Question;
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

pub(crate) fn explain(said: &Explain) -> Result<()> {
    let control = said.query.control.clone().unwrap_or_else(config::default_control);
    let explained = control::explain(&control, said.name.clone())?;
    if said.query.json {
        json(&explained)
    } else {
        text(&explained.iter().map(render::explained).collect::<String>())
    }
}

pub(crate) fn waive(waive: &Waive) -> Result<()> {
    let control = waive.control.clone().unwrap_or_else(config::default_control);
    let snapshot = control::snapshot(&control)?;
    let disk = choose(&snapshot, Some(&waive.disk))?;
    if disk.fences.is_empty() {
        return text(&format!("no fence of {} is open: nothing waits\n", disk.identity));
    }
    control::tell(&control, &Question::Waive { disk: disk.identity.clone() }, Duration::ZERO)?;
    text(&format!("waived for {}:\n\n{}", disk.identity, render::fences(disk)))
}

fn ask(query: &Query) -> Result<Snapshot> {
    control::snapshot(&query.control.clone().unwrap_or_else(config::default_control))
}

/// The disk whose identity begins so; the only one if nothing is said.
fn choose<'a>(snapshot: &'a Snapshot, name: Option<&str>) -> Result<&'a DiskStatus> {
    let names: Vec<String> = snapshot.disks.iter().map(|disk| disk.identity.clone()).collect();
    Ok(&snapshot.disks[engine::choose_disk(&names, name)?])
}

pub(crate) fn text(text: &str) -> Result<()> {
    use std::io::Write;
    // A reader that went away (`| head`) is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<()> {
    text(&(serde_json::to_string_pretty(value).context("the answer cannot be written as JSON")? + "\n"))
}
