//! The event log: what happened, in order, for people and for programs. Whatever is worth a notice is an event here
//! with the same text, so that nothing is told twice in different words.
//!
//! The log is a ring. Whoever reads it by sequence numbers and falls behind is told how many events were missed.

mod what;

use std::collections::VecDeque;
use std::net::SocketAddr;

use clock::Instant;
use multipath::PathId;
use scsi::Lun;

use crate::event::{Action, Notice, NoticeKind, Severity};
use crate::host::Host;

pub use what::{CODES, Cause, Input, What, cause_of_path};

/// Events that are kept: some minutes of a host whose thousand paths come and go, days of a quiet one; about 2 MiB.
pub const EVENTS_MAX: usize = 4096;

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Counts from 1, without gaps.
    pub sequence: u64,
    pub at: Instant,
    pub severity: Severity,
    /// The identity of the disk that it is about, if it is about one.
    pub disk: Option<Box<str>>,
    pub path: Option<PathId>,
    /// Where the path leads, or the session.
    pub portal: Option<SocketAddr>,
    pub lun: Option<Lun>,
    pub what: What,
    /// One line for people.
    pub text: String,
}

/// The events after some sequence number.
#[derive(Debug)]
pub struct Events<'a> {
    /// So many of those that were asked for are not kept any more.
    pub missed: u64,
    /// Of the newest event that there is, whether it was asked for or not; 0 if there was none yet.
    pub newest: u64,
    entries: std::collections::vec_deque::Iter<'a, Entry>,
}

impl<'a> Iterator for Events<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        self.entries.next()
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    newest: u64,
}

/// What an event is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    Nobody,
    Nexus(u32),
    Unit(u32, Lun),
    Disk(u32),
    /// Of a disk, and a path that is known or was.
    Path(u32, PathId),
}

impl Log {
    fn push(&mut self, mut entry: Entry) {
        debug_assert!(CODES.contains(&entry.what.code()), "{} is not in the table", entry.what.code());
        if self.entries.len() >= EVENTS_MAX {
            self.entries.pop_front();
        }
        self.newest += 1;
        entry.sequence = self.newest;
        self.entries.push_back(entry);
    }

    fn since(&self, sequence: u64) -> Events<'_> {
        let kept = self.entries.len() as u64;
        let oldest = self.newest - kept + 1;
        let missed = oldest.saturating_sub(sequence.saturating_add(1)).min(self.newest);
        let skip = usize::try_from((sequence + 1).saturating_sub(oldest).min(kept)).unwrap_or(usize::MAX);
        Events { missed, newest: self.newest, entries: self.entries.range(skip..) }
    }
}

impl Host {
    /// The events after `sequence`, the oldest first; all that are kept after 0.
    #[must_use]
    pub fn events(&self, sequence: u64) -> Events<'_> {
        self.log.since(sequence.min(self.log.newest))
    }

    /// Puts something into the log that the driver has to say, and says as a notice itself.
    pub fn note(&mut self, now: Instant, severity: Severity, text: String) {
        self.now = now;
        self.record(severity, Subject::Nobody, What::Program, text);
    }

    /// Puts an event into the log, and says it as a notice as well.
    pub(crate) fn tell(
        &mut self,
        severity: Severity,
        kind: NoticeKind,
        subject: Subject,
        what: What,
        text: String,
    ) {
        self.record(severity, subject, what, text.clone());
        self.actions.push_back(Action::Notice(Notice { severity, kind, text }));
    }

    /// Puts an event into the log that nobody has to be disturbed for.
    pub(crate) fn record(&mut self, severity: Severity, subject: Subject, what: What, text: String) {
        let (disk, path) = match subject {
            Subject::Nobody | Subject::Nexus(_) | Subject::Unit(..) => (None, None),
            Subject::Disk(disk) => (Some(disk), None),
            Subject::Path(disk, path) => (Some(disk), Some(path)),
        };
        let place = match subject {
            Subject::Nobody | Subject::Disk(_) => None,
            Subject::Nexus(nexus) => Some((nexus, None)),
            Subject::Unit(nexus, lun) => Some((nexus, Some(lun))),
            Subject::Path(_, path) => self.paths.get(&path).map(|path| (path.nexus, Some(path.lun))),
        };
        let portal = place.map(|(nexus, _)| self.nexuses[nexus as usize].portal);
        self.log.push(Entry {
            sequence: 0,
            at: self.now,
            severity,
            disk: disk.map(|disk| self.disk_name(disk).into_boxed_str()),
            path,
            portal,
            lun: place.and_then(|(_, lun)| lun),
            what,
            text,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            sequence: 0,
            at: Instant::START,
            severity: Severity::Info,
            disk: None,
            path: None,
            portal: None,
            lun: None,
            what: What::DiskRemoved,
            text: String::new(),
        }
    }

    fn read(log: &Log, since: u64) -> (u64, Vec<u64>) {
        let events = log.since(since);
        (events.missed, events.map(|entry| entry.sequence).collect())
    }

    #[test]
    fn a_reader_gets_what_came_after_the_last_event_that_it_knows() {
        let mut log = Log::default();
        assert_eq!(read(&log, 0), (0, vec![]));
        (0..3).for_each(|_| log.push(entry()));
        assert_eq!(read(&log, 0), (0, vec![1, 2, 3]));
        assert_eq!(read(&log, 2), (0, vec![3]));
        assert_eq!(read(&log, 3), (0, vec![]));
    }

    #[test]
    fn a_reader_that_falls_behind_is_told_how_much_it_missed() {
        let mut log = Log::default();
        (0..EVENTS_MAX + 5).for_each(|_| log.push(entry()));
        let (missed, kept) = read(&log, 2);
        assert_eq!((missed, kept.len(), kept[0]), (3, EVENTS_MAX, 6));
        assert_eq!(read(&log, 5).0, 0);
    }

    #[test]
    fn every_code_stands_in_the_specification_once() {
        let specification = include_str!("../../../../SPECIFICATION.md");
        for code in CODES {
            let rows =
                specification.lines().filter(|line| line.starts_with(&format!("| `{code}` |"))).count();
            assert_eq!(rows, 1, "a row for {code}");
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{code}");
        }
    }
}
