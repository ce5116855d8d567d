//! What operators keep out: paths that were failed or drained. It is known by what stays the same over new logins and
//! over restarts, and it is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use multipath::PathId;
use scsi_multipath::{Event, Hold};

use super::{HOLDS_MAX, Outcome, Ticket, VerbError};
use crate::event::{NoticeKind, Severity};
use crate::host::Host;
use crate::log::{Subject, What};
use crate::names::Portal;
use crate::state::HoldRecord;

/// Where a path leads, whatever its number, its LUN and its session are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    portal: SocketAddr,
    target: String,
    /// Of the disk, as it is printed.
    identity: String,
}

pub(crate) type Holds = BTreeMap<Place, Hold>;

/// What a process before this one was told to keep out.
pub(crate) fn recalled(records: Vec<HoldRecord>) -> Holds {
    let holds = records.into_iter().map(|record| {
        let HoldRecord { portal, target, identity, hold } = record;
        (Place { portal, target, identity }, hold)
    });
    holds.collect()
}

impl Host {
    /// What a process after this one is to keep out.
    pub(crate) fn hold_records(&self) -> Vec<HoldRecord> {
        let records = self.holds.iter().map(|(place, hold)| HoldRecord {
            portal: place.portal,
            target: place.target.clone(),
            identity: place.identity.clone(),
            hold: *hold,
        });
        records.collect()
    }

    /// What is kept out and leads nowhere now: its portal, target or logical unit has not been found.
    #[must_use]
    pub fn holds_without_path(&self) -> Vec<HoldRecord> {
        if self.holds.is_empty() {
            return Vec::new();
        }
        let present = self.places_of(&self.known_paths().collect::<Vec<_>>());
        let mut records = self.hold_records();
        records.retain(|record| {
            let HoldRecord { portal, target, identity, .. } = record.clone();
            !present.contains(&Place { portal, target, identity })
        });
        records
    }

    fn place(&self, nexus: u32, identity: String) -> Place {
        let nexus = &self.nexuses[nexus as usize];
        Place { portal: nexus.portal, target: nexus.purpose.target_name().to_owned(), identity }
    }

    fn place_of(&self, path: PathId) -> Option<Place> {
        let path = self.paths.get(&path)?;
        Some(self.place(path.nexus, self.disk_name(path.disk)))
    }

    pub(super) fn places_of(&self, paths: &[PathId]) -> BTreeSet<Place> {
        paths.iter().filter_map(|path| self.place_of(*path)).collect()
    }

    /// These paths, and others to the same logical units through the same ports: a second LUN, or a second session.
    pub(super) fn with_twins(&self, paths: &[PathId]) -> Vec<PathId> {
        self.paths_in(&self.places_of(paths))
    }

    fn paths_in(&self, places: &BTreeSet<Place>) -> Vec<PathId> {
        let is_in = |path: &PathId| self.place_of(*path).is_some_and(|place| places.contains(&place));
        self.known_paths().filter(is_in).collect()
    }

    /// What an operator has said of the way to this disk.
    pub(crate) fn hold_at(&self, nexus: u32, disk: u32) -> Option<Hold> {
        if self.holds.is_empty() {
            return None;
        }
        self.holds.get(&self.place(nexus, self.disk_name(disk))).copied()
    }

    pub(crate) fn hold_of(&self, path: PathId) -> Option<Hold> {
        let path = self.paths.get(&path)?;
        self.hold_at(path.nexus, path.disk)
    }

    pub(super) fn fail(&mut self, name: &str, force: bool) -> Outcome {
        let paths = self.with_twins(&self.paths_named(name)?);
        let todo: Vec<PathId> =
            paths.into_iter().filter(|path| self.hold_of(*path) != Some(Hold::Failed)).collect();
        if todo.is_empty() {
            return Ok(format!("{name}: failed by an operator already"));
        }
        self.all_have_heads(&self.disks_of(&todo))?;
        if !force {
            self.leaves_a_path(&todo)?;
        }
        self.hold_all(self.places_of(&todo), Hold::Failed)?;
        let memory = if self.memory.is_on() { "" } else { " or a restart" };
        Ok(format!("{}: not used until `smpath reinstate`{memory}", self.names_of(&todo)))
    }

    /// Those of some places that no operator has taken out.
    pub(super) fn free_of(&self, places: &BTreeSet<Place>) -> BTreeSet<Place> {
        places.iter().filter(|place| !self.holds.contains_key(place)).cloned().collect()
    }

    /// Takes paths out.
    pub(super) fn hold_all(&mut self, places: BTreeSet<Place>, hold: Hold) -> Result<(), VerbError> {
        if self.holds.len() + places.len() > HOLDS_MAX {
            return Err(VerbError::TooMany);
        }
        let paths = self.paths_in(&places);
        self.holds.extend(places.into_iter().map(|place| (place, hold)));
        self.memory.touch_holds();
        for path in paths {
            let Some(disk) = self.paths.get(&path).map(|path| path.disk) else { continue };
            let done = match hold {
                Hold::Failed => "failed by operator",
                Hold::Drained => "to be drained, by operator",
            };
            self.tell_of_hold(disk, path, hold, done);
            self.tell_disk(disk, Event::Hold { path, hold: Some(hold) });
        }
        Ok(())
    }

    /// A path has joined that an operator keeps out since before, be it since before this process.
    pub(crate) fn tell_if_held(&mut self, disk: u32, path: PathId) {
        if let Some(hold) = self.hold_of(path) {
            let done = match hold {
                Hold::Failed => "stays out: failed by operator",
                Hold::Drained => "stays out: drained by operator",
            };
            self.tell_of_hold(disk, path, hold, done);
        }
    }

    fn tell_of_hold(&mut self, disk: u32, path: PathId, hold: Hold, done: &str) {
        let code = match hold {
            Hold::Failed => "operator-failed",
            Hold::Drained => "operator-drain",
        };
        let text = format!("{}: path {} {done}", self.disk_name(disk), self.path_name(path));
        let subject = Subject::Path(disk, path);
        self.tell(Severity::Warning, NoticeKind::Other, subject, What::Operator(code), text);
    }

    pub(super) fn reinstate(&mut self, name: &str) -> Outcome {
        let portal = Portal::parse(name);
        let is_meant = |place: &Place| portal.is_some_and(|portal| portal.is(place.portal));
        let paths = match self.paths_named(name) {
            // A process before this one may have known it.
            Err(_) if self.holds.keys().any(is_meant) => Vec::new(),
            paths => self.with_twins(&paths?),
        };
        // One that is only about to be taken out as well.
        self.end_drains_of(&self.seats_of(&paths));
        let held: Vec<PathId> = paths.into_iter().filter(|path| self.hold_of(*path).is_some()).collect();
        for place in self.places_of(&held) {
            self.holds.remove(&place);
        }
        for path in &held {
            let Some(disk) = self.paths.get(path).map(|path| path.disk) else { continue };
            let text =
                format!("{}: path {} reinstated by operator", self.disk_name(disk), self.path_name(*path));
            let (subject, what) = (Subject::Path(disk, *path), What::Operator("operator-reinstated"));
            self.tell(Severity::Info, NoticeKind::Other, subject, what, text);
            self.tell_disk(disk, Event::Hold { path: *path, hold: None });
        }
        // A portal may have been unplugged since: then no path stands for what was drained there.
        let before = self.holds.len();
        self.holds.retain(|place, _| !is_meant(place));
        let more = before - self.holds.len();
        if held.len() + more > 0 {
            self.memory.touch_holds();
        }
        match (held.len(), more) {
            (0, 0) => Ok(format!("{name}: not kept out by an operator: nothing to do")),
            (0, more) => Ok(format!("{name}: {more} path(s) may be used when they are found")),
            _ => Ok(format!("{}: used again once the identity was read", self.names_of(&held))),
        }
    }

    /// Says what was done when it is remembered: at once if nothing is to be stored of it.
    pub(super) fn answer_once_stored(&mut self, ticket: Ticket, outcome: Outcome) {
        match outcome {
            Ok(done) if self.memory.has_unstored_holds() => self.memory.answer_later(ticket, done),
            outcome => self.answer(ticket, outcome),
        }
    }
}
