//! The host's event log, in the words of [`crate::status`].

use std::collections::BTreeMap;

use clock::Instant;
use host::log::{Entry, Input};
use host::names::choose_disk;

use super::Shard;
use crate::status::{EventStatus, EventsStatus, InputStatus};

/// Events in one answer; whoever wants more asks again.
const EVENTS_PER_ANSWER: usize = 1024;

impl Shard {
    /// The events after `since`, of one disk if one is named; it may have gone.
    pub(super) fn events(&self, since: u64, disk: Option<&str>) -> Result<EventsStatus, String> {
        let disk = disk.map(|name| self.disk_of_events(name)).transpose()?;
        let events = self.host.events(since);
        let (missed, newest) = (events.missed, events.newest);
        let mut found = Vec::new();
        let mut next = since.min(newest);
        for entry in events {
            if found.len() >= EVENTS_PER_ANSWER {
                break;
            }
            next = entry.sequence;
            if disk.is_none() || disk.as_deref() == entry.disk.as_deref() {
                found.push(self.event_status(entry));
            }
        }
        Ok(EventsStatus { started_ms: self.unix_ms(Instant::START), missed, next, newest, events: found })
    }

    fn disk_of_events(&self, name: &str) -> Result<String, String> {
        let present = self.host.disks().map(|view| view.identity.to_string());
        let told = self.host.events(0).filter_map(|entry| entry.disk.as_deref().map(str::to_owned));
        let mut names: Vec<String> = present.chain(told).collect();
        names.sort();
        names.dedup();
        let place = choose_disk(&names, Some(name)).map_err(|error| error.to_string())?;
        Ok(names.swap_remove(place))
    }

    pub(super) fn event_status(&self, entry: &Entry) -> EventStatus {
        let input = |(name, input): (&str, Input)| {
            let input = match input {
                Input::Text(text) => InputStatus::Text(text),
                Input::Number(number) => InputStatus::Number(number),
            };
            (name.to_owned(), input)
        };
        EventStatus {
            sequence: entry.sequence,
            unix_ms: self.unix_ms(entry.at),
            severity: entry.severity.to_string(),
            code: entry.what.code().to_owned(),
            disk: entry.disk.as_deref().map(str::to_owned),
            path: entry.path.map(|path| path.0),
            portal: entry.portal,
            lun: entry.lun.map(|lun| lun.to_string()),
            inputs: entry.what.inputs().into_iter().map(input).collect::<BTreeMap<_, _>>(),
            text: entry.text.clone(),
        }
    }

    /// Wall clock, as it was set when the shard started.
    pub(super) fn unix_ms(&self, at: Instant) -> u64 {
        self.started_unix_ms.saturating_add(at.since(Instant::START).as_millis())
    }
}
