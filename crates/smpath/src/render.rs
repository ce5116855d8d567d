//! Snapshots for people: stable tables.

use comfy_table::{ContentArrangement, Table, presets};
use engine::status::{DiskStatus, ExplainStatus, PathStatus, Snapshot};

use crate::events;
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
    if !snapshot.kept_out.is_empty() {
        text.push_str("\nkept out by operator, and not there now:\n");
        text.push_str(&kept_out(snapshot));
    }
    text
}

fn kept_out(snapshot: &Snapshot) -> String {
    let mut table = table(&["DISK", "PORTAL", "TARGET", "STATE"]);
    for path in &snapshot.kept_out {
        table.add_row([path.disk.clone(), path.portal.to_string(), path.target.clone(), path.held.clone()]);
    }
    lines(&table)
}

/// All that is known of one disk.
pub(crate) fn disk(disk: &DiskStatus) -> String {
    let usable = disk.paths.iter().filter(|path| is_usable(path)).count();
    let text = format!(
        "{}\n  product      {} {} {}\n  serial       {}\n  size         {} ({} bytes, blocks of {})\n  medium       {}\n  \
         policy       {}; {}\n  \
         paths        {usable} of {} usable\n  parked       {}\n  failed over  {}\n  \
         fences       {} open, {} proved, {} waived\n  held writes  {}\n\n{}",
        disk.identity,
        disk.vendor,
        disk.product,
        disk.revision,
        disk.serial,
        show_size(disk.size),
        disk.size,
        disk.block_size,
        disk.medium,
        disk.policy,
        without_path(disk),
        disk.paths.len(),
        disk.parked,
        disk.failed_over,
        disk.fences.len(),
        disk.fences_proved,
        disk.fences_waived,
        disk.held_writes,
        path_table(std::iter::once(disk)),
    );
    let text = if disk.unused.is_empty() {
        text
    } else {
        text + "\nnot used, by the mode of multipath:\n" + &unused(disk)
    };
    let text = if disk.fences.is_empty() { text } else { text + "\nopen fences:\n" + &fences(disk) };
    if disk.failovers.is_empty() { text } else { text + "\nlast failovers:\n" + &failovers(disk) }
}

/// What happens to requests, and to the disk, when there is no path.
fn without_path(disk: &DiskStatus) -> String {
    let requests = match disk.no_path.as_str() {
        "fail" => String::from("requests fail without a path"),
        "queue" | "" => String::from("requests wait for a path"),
        time => format!("requests wait for a path for {time}"),
    };
    match disk.removal_delay_ms {
        0 => requests,
        delay => format!("{requests}, the disk outlives its last one by {}", seconds(delay)),
    }
}

fn failovers(disk: &DiskStatus) -> String {
    let mut table = table(&[
        "NOTICED",
        "PATH",
        "BY",
        "TOUCHED",
        "RE-SENT",
        "FAILED",
        "FIRST-DONE",
        "LONGEST-WAIT",
        "FENCE",
    ]);
    for failover in &disk.failovers {
        table.add_row([
            events::utc(failover.unix_ms),
            format!("P{}", failover.path),
            failover.cause.clone(),
            failover.touched.to_string(),
            failover.resent.to_string(),
            (failover.failed + failover.unfinished).to_string(),
            failover.first_completion_us.map_or_else(|| String::from("-"), micros),
            micros(failover.longest_wait_us),
            failover.fence.clone(),
        ]);
    }
    lines(&table)
}

/// One line for each way that was found and is not used.
fn unused(disk: &DiskStatus) -> String {
    let mut table = table(&["PORTAL", "LUN"]);
    for way in &disk.unused {
        table.add_row([way.portal.clone(), way.lun.clone()]);
    }
    lines(&table)
}

/// One line for each fence that is open.
pub(crate) fn fences(disk: &DiskStatus) -> String {
    let mut table = table(&["PATH", "PORTAL", "OPEN FOR", "WRITES"]);
    for fence in &disk.fences {
        table.add_row([
            format!("P{}", fence.path),
            fence.portal.clone(),
            seconds(fence.since_ms),
            if fence.writes == 0 { String::from("of an earlier smpath") } else { fence.writes.to_string() },
        ]);
    }
    lines(&table)
}

/// Why a disk does what it does.
pub(crate) fn explained(disk: &ExplainStatus) -> String {
    let next = match disk.next {
        Some(path) => format!("the next small read takes P{path}"),
        None => String::from("no path can take a read now"),
    };
    let mut text = format!("{}: {next} ({})\n", disk.disk, disk.policy);
    for path in &disk.paths {
        text += &format!("  P{} {} LUN {}, {}: {}", path.path, path.portal, path.lun, path.state, path.why);
        text += &times(Some(path.since_ms), path.for_ms);
        if let Some(took) = path.nop_us {
            text += &format!("; last NOP round trip {}", micros(took));
        }
        if !path.remedy.is_empty() {
            text += &format!("\n      what changes it: {}", path.remedy);
        }
        text.push('\n');
    }
    if !disk.waits.is_empty() {
        text += "waits:\n";
    }
    for wait in &disk.waits {
        text += &format!("  {} {}: {}", wait.count, wait.code.replace('-', " "), wait.why);
        text += &times(wait.since_ms, wait.for_ms);
        text.push('\n');
    }
    if !disk.events.is_empty() {
        text += "lately:\n";
    }
    for event in &disk.events {
        text += &format!("  {} {:<20} {}\n", events::utc(event.unix_ms), event.code, event.text);
    }
    text
}

fn times(since_ms: Option<u64>, for_ms: Option<u64>) -> String {
    let mut text = since_ms.map_or_else(String::new, |since| format!("; for {} now", seconds(since)));
    if let Some(left) = for_ms {
        text += &format!(", {} at the most from now", seconds(left));
    }
    text
}

fn path_table<'a>(disks: impl Iterator<Item = &'a DiskStatus>) -> String {
    let mut table = table(&[
        "PATH",
        "DISK",
        "PORTAL",
        "LUN",
        "GROUP",
        "ACCESS",
        "STATE",
        "IN-FLIGHT",
        "COMPLETED",
        "FAILED",
        "P50",
        "P99",
        "NOP",
    ]);
    for disk in disks {
        for path in &disk.paths {
            table.add_row([
                format!("P{}", path.id),
                disk.identity.clone(),
                path.portal.to_string(),
                path.lun.clone(),
                group(path),
                access(path),
                shown_state(path),
                path.in_flight.to_string(),
                path.completed.to_string(),
                path.failed.to_string(),
                micros(path.latency.p50_us),
                micros(path.latency.p99_us),
                path.nop_us.map_or_else(|| String::from("-"), micros),
            ]);
        }
    }
    lines(&table)
}

/// `2`, or `2*` if the device prefers it.
fn group(path: &PathStatus) -> String {
    let mark = if path.preferred { "*" } else { "" };
    path.port_group.map_or_else(|| String::from("-"), |group| format!("{group}{mark}"))
}

/// `standby`, or `standby?` as long as it is assumed.
fn access(path: &PathStatus) -> String {
    let mark = if path.access_assumed { "?" } else { "" };
    format!("{}{mark}", path.access)
}

/// With the word of an operator, if there is one.
fn shown_state(path: &PathStatus) -> String {
    match &path.held {
        Some(held) => format!("{} ({held} by operator)", path.state),
        None => path.state.clone(),
    }
}

pub(crate) fn is_usable(path: &PathStatus) -> bool {
    path.state.contains("optimized")
}

/// `0.4s`, `75.0s`.
fn seconds(millis: u64) -> String {
    format!("{}.{}s", millis / 1_000, millis % 1_000 / 100)
}

/// `87us`, `1.2ms`.
/// Nothing is that fast: zero is that nothing was measured.
fn micros(micros: u64) -> String {
    if micros == 0 {
        return String::from("-");
    }
    if micros < 1_000 { format!("{micros}us") } else { format!("{:.1}ms", micros as f64 / 1_000.0) }
}

#[cfg(test)]
mod tests {
    use engine::status::{FailoverStatus, FenceStatus, KeptOutStatus};

    use super::*;

    fn status() -> DiskStatus {
        DiskStatus {
            number: 0,
            identity: String::from("naa.6001405"),
            export: String::from("naa.6001405"),
            serial: String::from("S1"),
            vendor: String::from("V"),
            product: String::from("P"),
            revision: String::from("R"),
            size: 1 << 20,
            block_size: 512,
            medium: String::new(),
            policy: String::from("queue-depth"),
            no_path: String::new(),
            removal_delay_ms: 0,
            parked: 0,
            failed_over: 0,
            fences: Vec::new(),
            held_writes: 0,
            fences_proved: 5,
            fences_waived: 1,
            failovers: Vec::new(),
            paths: Vec::new(),
            unused: Vec::new(),
        }
    }

    fn fenced() -> DiskStatus {
        let fence = |path, port, since_ms, writes| FenceStatus {
            path,
            portal: format!("192.0.2.1:{port}"),
            since_ms,
            writes,
        };
        let fences = vec![fence(2, 3260, 75_040, 0), fence(7, 3261, 380, 4)];
        DiskStatus { fences, held_writes: 3, ..status() }
    }

    #[test]
    fn a_disk_says_which_fences_are_open_and_what_waits() {
        let shown = disk(&fenced());
        assert!(shown.contains("  fences       2 open, 5 proved, 1 waived\n  held writes  3\n"), "{shown}");
        let table = shown.split("open fences:\n").nth(1).unwrap();
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["P2", "192.0.2.1:3260", "75.0s", "of", "an", "earlier", "smpath"]);
        assert_eq!(rows[2], ["P7", "192.0.2.1:3261", "0.3s", "4"]);
    }

    #[test]
    fn a_path_shows_its_group_and_how_that_stands() {
        let path = PathStatus {
            id: 3,
            portal: "192.0.2.1:3260".parse().unwrap(),
            target: String::from("iqn.2026-01.example:array"),
            lun: String::from("0"),
            state: String::from("down"),
            cause: String::from("access-state-assumed"),
            since_ms: 0,
            held: None,
            port_group: Some(2),
            access: String::from("standby"),
            access_assumed: true,
            preferred: true,
            in_flight: 0,
            completed: 0,
            failed: 0,
            nop_us: Some(350),
            latency: engine::status::LatencyStatus::default(),
        };
        let shown = disk(&DiskStatus { paths: vec![path], ..status() });
        let row = shown.lines().last().unwrap();
        let columns: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(columns[3..7], ["0", "2*", "standby?", "down"]);
        assert_eq!(columns.last(), Some(&"350us"));
    }

    #[test]
    fn what_is_kept_out_and_not_there_is_listed_with_the_paths() {
        let kept_out = KeptOutStatus {
            disk: String::from("naa.6001405"),
            portal: "192.0.2.1:3260".parse().unwrap(),
            target: String::from("iqn.2026-01.example:array"),
            held: String::from("drained"),
        };
        let shown = paths(&Snapshot { kept_out: vec![kept_out], ..Snapshot::default() });
        let row: Vec<&str> = shown.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(row, ["naa.6001405", "192.0.2.1:3260", "iqn.2026-01.example:array", "drained"]);
        assert!(!paths(&Snapshot::default()).contains("kept out"));
    }

    #[test]
    fn a_disk_without_open_fences_shows_no_table_of_them() {
        let shown = disk(&status());
        assert!(shown.contains("0 open, 5 proved") && !shown.contains("open fences:"), "{shown}");
    }

    #[test]
    fn a_disk_says_what_happens_without_a_path() {
        let shown = |no_path: &str, removal_delay_ms| {
            without_path(&DiskStatus { no_path: no_path.to_owned(), removal_delay_ms, ..status() })
        };
        assert_eq!(shown("fail", 0), "requests fail without a path");
        let expected = "requests wait for a path for 60s, the disk outlives its last one by 30.0s";
        assert_eq!(shown("60s", 30_000), expected);
    }

    #[test]
    fn a_disk_shows_what_its_last_failovers_came_to() {
        let failover = FailoverStatus {
            unix_ms: 0,
            path: 3,
            cause: String::from("nop-timeout"),
            touched: 4,
            resent: 4,
            failed: 0,
            unfinished: 1,
            first_completion_us: Some(870),
            longest_wait_us: 4_100_000,
            fence: String::from("proved"),
        };
        let shown = disk(&DiskStatus { failovers: vec![failover], ..status() });
        let row: Vec<&str> = shown.lines().last().unwrap().split_whitespace().collect();
        let expected =
            ["1970-01-01T00:00:00.000Z", "P3", "nop-timeout", "4", "4", "1", "870us", "4100.0ms", "proved"];
        assert_eq!(row, expected);
    }

    #[test]
    fn a_snapshot_of_a_process_that_knows_no_fences_can_be_read() {
        let mut json = serde_json::to_value(fenced()).unwrap();
        assert_eq!(json["fences"][0]["since_ms"], 75_040);
        for key in ["fences", "held_writes", "fences_proved", "fences_waived", "failovers"] {
            json.as_object_mut().unwrap().remove(key).unwrap();
        }
        let read: DiskStatus = serde_json::from_value(json).unwrap();
        assert_eq!(read, DiskStatus { fences_proved: 0, fences_waived: 0, ..status() });
    }
}
