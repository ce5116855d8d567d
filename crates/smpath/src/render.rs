//! Snapshots for people: stable tables.

use comfy_table::{ContentArrangement, Table, presets};
use engine::status::{DiskStatus, PathStatus, Snapshot};

use crate::units::show_size;

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    table
}

/// Without the spaces that fill the last column.
fn lines(table: &Table) -> String {
    table.to_string().lines().map(|line| line.trim().to_owned() + "\n").collect()
}

/// One line for each disk.
pub(crate) fn disks(snapshot: &Snapshot) -> String {
    let mut table = table(&["DISK", "SIZE", "PATHS", "POLICY", "PRODUCT", "SERIAL"]);
    for disk in &snapshot.disks {
        let usable = disk.paths.iter().filter(|path| is_usable(path)).count();
        table.add_row([
            disk.identity.clone(),
            show_size(disk.size),
            format!("{usable}/{}", disk.paths.len()),
            disk.policy.clone(),
            format!("{} {}", disk.vendor, disk.product),
            disk.serial.clone(),
        ]);
    }
    lines(&table)
}

/// One line for each path of every disk, and one for each portal that has none.
pub(crate) fn paths(snapshot: &Snapshot) -> String {
    let mut text = path_table(snapshot.disks.iter());
    let idle: Vec<String> = snapshot
        .portals
        .iter()
        .filter(|portal| portal.state != "up" && portal.state != "done")
        .map(|portal| {
            let target = portal.target.as_deref().unwrap_or("(discovery)");
            let error = portal.last_error.as_deref().unwrap_or("");
            format!("{} {target} {} {error}\n", portal.portal, portal.state)
        })
        .collect();
    if !idle.is_empty() {
        text.push_str("\nportals without a session:\n");
        text.extend(idle);
    }
    text
}

/// All that is known of one disk.
pub(crate) fn disk(disk: &DiskStatus) -> String {
    let usable = disk.paths.iter().filter(|path| is_usable(path)).count();
    format!(
        "{}\n  product      {} {}\n  serial       {}\n  size         {} ({} bytes, blocks of {})\n  policy       {}\n  \
         paths        {usable} of {} usable\n  parked       {}\n  failed over  {}\n\n{}",
        disk.identity,
        disk.vendor,
        disk.product,
        disk.serial,
        show_size(disk.size),
        disk.size,
        disk.block_size,
        disk.policy,
        disk.paths.len(),
        disk.parked,
        disk.failed_over,
        path_table(std::iter::once(disk)),
    )
}

fn path_table<'a>(disks: impl Iterator<Item = &'a DiskStatus>) -> String {
    let mut table = table(&[
        "PATH",
        "DISK",
        "PORTAL",
        "LUN",
        "GROUP",
        "STATE",
        "IN-FLIGHT",
        "COMPLETED",
        "FAILED",
        "P50",
        "P99",
    ]);
    for disk in disks {
        for path in &disk.paths {
            table.add_row([
                format!("P{}", path.id),
                disk.identity.clone(),
                path.portal.to_string(),
                path.lun.clone(),
                path.port_group.map_or_else(|| String::from("-"), |group| group.to_string()),
                path.state.clone(),
                path.in_flight.to_string(),
                path.completed.to_string(),
                path.failed.to_string(),
                micros(path.latency.p50_us),
                micros(path.latency.p99_us),
            ]);
        }
    }
    lines(&table)
}

pub(crate) fn is_usable(path: &PathStatus) -> bool {
    path.state.contains("optimized")
}

/// `87us`, `1.2ms`.
fn micros(micros: u64) -> String {
    if micros < 1_000 { format!("{micros}us") } else { format!("{:.1}ms", micros as f64 / 1_000.0) }
}
