//! `smpath events`: the event log of a running process.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use engine::status::EventStatus;

use crate::cli::Events;
use crate::signals::Signals;
use crate::{control, verbs};

/// How often it is looked for more: as soon as people notice, seldom enough to cost nothing.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A process that does not answer so often in a row is given up: each time takes seconds.
const FAILURES_MAX: u32 = 5;

pub(crate) fn events(said: &Events) -> Result<()> {
    let signals = Signals::install()?;
    let control = verbs::socket(&said.control);
    let (mut since, mut began, mut failures) = (said.since, None, 0);
    loop {
        let part = match control::events(&control, since, said.disk.clone()) {
            Ok(part) if began.is_none_or(|began| began == part.started_ms) => part,
            Err(error) if began.is_none() => return Err(error),
            // It answered before, and is busy.
            Err(error) if control::is_there(&control) => {
                failures += 1;
                if failures >= FAILURES_MAX {
                    return Err(error);
                }
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            // It has ended, and another one may have taken its place.
            _ => {
                eprintln!("smpath: the process at {} has ended", control.display());
                return Ok(());
            }
        };
        (began, failures) = (Some(part.started_ms), 0);
        if part.missed > 0 {
            eprintln!("smpath: {} events were missed: they are not kept any more", part.missed);
        }
        for event in &part.events {
            if !show(event, said.json)? {
                return Ok(());
            }
        }
        since = part.next;
        if since >= part.newest {
            if !said.follow {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        if signals.received() {
            return Ok(());
        }
    }
}

/// False if nobody reads any more.
fn show(event: &EventStatus, json: bool) -> Result<bool> {
    let line = if json {
        serde_json::to_string(event).context("an event cannot be written as JSON")?
    } else {
        let EventStatus { sequence, unix_ms, severity, code, text, .. } = event;
        format!("{sequence:>5} {} {severity:<7} {code:<20} {text}", utc(*unix_ms))
    };
    Ok(writeln!(std::io::stdout(), "{line}").is_ok())
}

/// `2026-11-27T20:15:16.123Z`.
pub(crate) fn utc(unix_ms: u64) -> String {
    let (seconds, millis) = (unix_ms / 1_000, unix_ms % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(unix_ms), expected);
        }
    }
}
