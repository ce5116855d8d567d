//! What an operator may ask of a host. Every verb can be said twice: what holds already is no error.

mod drain;

use std::fmt;
use std::net::SocketAddr;

use clock::Duration;
use multipath::{NoPath, PathId, PathState, Policy};
use scsi::Lun;
use scsi_multipath::{Disk, Event, Hold};

use crate::event::{Action, NoticeKind, Severity};
use crate::host::{Host, Life};
use crate::log::{Subject, What};
use crate::names::{NameError, Portal};
use crate::nexus::{Phase, Purpose, Stage};

pub(crate) use drain::{Drain, Drains};

/// Paths that operators may keep out at the same time: as many as all portals have paths of sixteen units.
pub(crate) const HOLDS_MAX: usize = 131_072;

/// One thing to do. Names are those of [`Host::disk_named`] and [`Host::paths_named`]; `all` stands for every disk,
/// and for those that are found later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    Policy {
        disk: String,
        policy: Policy,
    },
    NoPath {
        disk: String,
        no_path: NoPath,
    },
    /// How long a disk outlives its last path.
    RemovalDelay {
        disk: String,
        delay: Duration,
    },
    /// The paths are not used until they are reinstated.
    Fail {
        path: String,
        force: bool,
    },
    Reinstate {
        path: String,
    },
    /// The paths take no new requests; answered when nothing is in flight on them any more.
    Drain {
        path: String,
        force: bool,
        timeout: Duration,
    },
    /// Look anew at what is behind a portal, or behind all.
    Rescan {
        portal: Option<String>,
    },
    /// Nothing is left of what the open fences of a disk are about.
    Waive {
        disk: String,
    },
}

/// Whoever waits for the outcome of a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What was done, or that it was done already, as one line.
pub type Outcome = Result<String, VerbError>;

/// Why a verb was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerbError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{disk} is served without the multipath layer (--direct): it has nothing to set")]
    NoLayer { disk: String },
    #[error("{paths}: {disk} would be left without a usable path; repair another path first, or say --force")]
    LastPath { disk: String, paths: String },
    #[error("{disk}: no other path can read a block ({failures}); repair one first, or say --force")]
    NothingElseWorks { disk: String, failures: String },
    #[error(
        "{in_flight} requests are still in flight after {after:?}; the path takes no new ones: say it again to wait \
         on, or `smpath reinstate` to go back"
    )]
    StillInFlight { in_flight: usize, after: Duration },
    #[error("it was reinstated while it was drained")]
    Reinstated,
    #[error("more than {HOLDS_MAX} paths are kept out already: reinstate some")]
    TooMany,
    #[error("this smpath is ending")]
    Ending,
}

/// Where a path is, whichever it is: a nexus and a number behind it.
pub(crate) type Seat = (u32, Lun);

/// The same by what outlives the nexus.
pub(crate) type Place = (SocketAddr, String, Lun);

impl Host {
    pub(crate) fn verb(&mut self, ticket: Ticket, verb: Verb) {
        if self.life != Life::Open {
            return self.answer(ticket, Err(VerbError::Ending));
        }
        let outcome = match verb {
            Verb::Policy { disk, policy } => self.policy(&disk, policy),
            Verb::NoPath { disk, no_path } => self.no_path(&disk, no_path),
            Verb::RemovalDelay { disk, delay } => self.removal_delay(&disk, delay),
            Verb::Fail { path, force } => self.fail(&path, force),
            Verb::Reinstate { path } => self.reinstate(&path),
            Verb::Drain { path, force, timeout } => return self.drain(ticket, &path, force, timeout),
            Verb::Rescan { portal } => self.rescan(portal.as_deref()),
            Verb::Waive { disk } => self.waive_named(&disk),
        };
        self.answer(ticket, outcome);
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        self.actions.push_back(Action::Answer { ticket, outcome });
    }

    /// The disks that are meant, and whether later ones are too.
    fn disks_meant(&self, name: &str) -> Result<(Vec<u32>, bool), NameError> {
        match name {
            "all" => Ok((self.disks.registry.iter().map(|(index, _, _)| index.0).collect(), true)),
            name => Ok((vec![self.disk_named(Some(name))?.0], false)),
        }
    }

    fn policy(&mut self, name: &str, policy: Policy) -> Outcome {
        let (disks, is_all) = self.disks_meant(name)?;
        self.all_have_heads(&disks)?;
        if is_all {
            self.disks.config.policy = policy;
        }
        let mut set = Set::default();
        for disk in disks {
            let from = self.head_of(disk).map(|disk| disk.status().policy);
            if let Some(from) = from.filter(|from| *from != policy) {
                self.tell_disk(disk, Event::SetPolicy(policy));
                self.was_set(disk, "policy-set", "iopolicy", &from, &policy);
                set.changed += 1;
            }
            set.all += 1;
        }
        Ok(set.to_line("iopolicy", &policy))
    }

    fn no_path(&mut self, name: &str, no_path: NoPath) -> Outcome {
        let (disks, is_all) = self.disks_meant(name)?;
        self.all_have_heads(&disks)?;
        if is_all {
            self.disks.config.no_path = no_path;
        }
        let mut set = Set::default();
        for disk in disks {
            let from = self.disks.entry_mut(disk).map(|entry| std::mem::replace(&mut entry.no_path, no_path));
            if let Some(from) = from.filter(|from| *from != no_path) {
                self.tell_disk(disk, Event::SetNoPath(no_path));
                self.was_set(disk, "no-path-set", "no-path policy", &ShowNoPath(from), &ShowNoPath(no_path));
                set.changed += 1;
            }
            set.all += 1;
        }
        Ok(set.to_line("no-path policy", &ShowNoPath(no_path)))
    }

    fn removal_delay(&mut self, name: &str, delay: Duration) -> Outcome {
        let (disks, is_all) = self.disks_meant(name)?;
        self.all_have_heads(&disks)?;
        if is_all {
            self.disks.config.delayed_removal = delay;
        }
        let mut set = Set::default();
        for disk in disks {
            let entry = self.disks.entry_mut(disk);
            let from = entry.map(|entry| std::mem::replace(&mut entry.delayed_removal, delay));
            if let Some(from) = from.filter(|from| *from != delay) {
                self.tell_disk(disk, Event::SetDelayedRemoval(delay));
                let (from, to) = (format!("{from:?}"), format!("{delay:?}"));
                self.was_set(disk, "removal-delay-set", "removal delay", &from, &to);
                set.changed += 1;
            }
            set.all += 1;
        }
        Ok(set.to_line("removal delay", &format!("{delay:?}")))
    }

    fn all_have_heads(&self, disks: &[u32]) -> Result<(), VerbError> {
        match disks.iter().find(|disk| self.head_of(**disk).is_none()) {
            Some(disk) => Err(VerbError::NoLayer { disk: self.disk_name(*disk) }),
            None => Ok(()),
        }
    }

    fn was_set(
        &mut self,
        disk: u32,
        code: &'static str,
        setting: &str,
        from: &dyn fmt::Display,
        to: &dyn fmt::Display,
    ) {
        let text = format!("{}: {setting} {from} -> {to}, by operator", self.disk_name(disk));
        let what = What::Set { code, from: from.to_string(), to: to.to_string() };
        self.tell(Severity::Info, NoticeKind::Other, Subject::Disk(disk), what, text);
    }

    fn fail(&mut self, name: &str, force: bool) -> Outcome {
        let paths = self.paths_named(name)?;
        let todo: Vec<PathId> =
            paths.into_iter().filter(|path| self.hold_of(*path) != Some(Hold::Failed)).collect();
        if todo.is_empty() {
            return Ok(format!("{name}: failed by an operator already"));
        }
        self.all_have_heads(&self.disks_of(&todo))?;
        if !force {
            self.leaves_a_path(&todo)?;
        }
        self.hold_all(&self.seats_of(&todo), Hold::Failed)?;
        Ok(format!("{}: not used until `smpath reinstate`", self.names_of(&todo)))
    }

    /// Every disk keeps a usable path besides these, or loses none that is usable.
    fn leaves_a_path(&self, paths: &[PathId]) -> Result<(), VerbError> {
        for disk in self.disks_of(paths) {
            let usable = self.usable_paths(disk);
            if usable.iter().any(|path| paths.contains(path))
                && usable.iter().all(|path| paths.contains(path))
            {
                return Err(VerbError::LastPath { disk: self.disk_name(disk), paths: self.names_of(paths) });
            }
        }
        Ok(())
    }

    pub(crate) fn usable_paths(&self, disk: u32) -> Vec<PathId> {
        let paths = self.head_of(disk).into_iter().flat_map(Disk::paths);
        let usable = paths.filter(|path| matches!(path.status.state, PathState::Usable(_)));
        usable.map(|path| path.status.id).collect()
    }

    pub(crate) fn disks_of(&self, paths: &[PathId]) -> Vec<u32> {
        let mut disks: Vec<u32> =
            paths.iter().filter_map(|path| self.paths.get(path)).map(|path| path.disk).collect();
        disks.sort_unstable();
        disks.dedup();
        disks
    }

    pub(crate) fn names_of(&self, paths: &[PathId]) -> String {
        paths.iter().map(|path| self.path_name(*path)).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn seats_of(&self, paths: &[PathId]) -> Vec<Seat> {
        paths.iter().filter_map(|path| self.paths.get(path)).map(|path| (path.nexus, path.lun)).collect()
    }

    /// The paths that are there now.
    pub(crate) fn paths_at(&self, seats: &[Seat]) -> Vec<PathId> {
        let path = |(nexus, lun): &Seat| self.nexuses[*nexus as usize].paths.get(lun).copied();
        seats.iter().filter_map(path).collect()
    }

    fn place_of(&self, (nexus, lun): Seat) -> Place {
        let nexus = &self.nexuses[nexus as usize];
        (nexus.portal, nexus.purpose.target_name().to_owned(), lun)
    }

    /// What an operator has said of whatever is behind this logical unit number.
    pub(crate) fn hold_at(&self, nexus: u32, lun: Lun) -> Option<Hold> {
        if self.holds.is_empty() {
            return None;
        }
        self.holds.get(&self.place_of((nexus, lun))).copied()
    }

    pub(crate) fn hold_of(&self, path: PathId) -> Option<Hold> {
        let path = self.paths.get(&path)?;
        self.hold_at(path.nexus, path.lun)
    }

    /// Takes paths out.
    fn hold_all(&mut self, seats: &[Seat], hold: Hold) -> Result<(), VerbError> {
        if self.holds.len() + seats.len() > HOLDS_MAX {
            return Err(VerbError::TooMany);
        }
        for seat in seats {
            let place = self.place_of(*seat);
            self.holds.insert(place, hold);
        }
        for path in self.paths_at(seats) {
            let Some(disk) = self.paths.get(&path).map(|path| path.disk) else { continue };
            let (code, done) = match hold {
                Hold::Failed => ("operator-failed", "failed by operator"),
                Hold::Drained => ("operator-drain", "to be drained, by operator"),
            };
            let text = format!("{}: path {} {done}", self.disk_name(disk), self.path_name(path));
            let subject = Subject::Path(disk, path);
            self.tell(Severity::Warning, NoticeKind::Other, subject, What::Operator(code), text);
            self.tell_disk(disk, Event::Hold { path, hold: Some(hold) });
        }
        Ok(())
    }

    fn reinstate(&mut self, name: &str) -> Outcome {
        let paths = self.paths_named(name)?;
        let portal = Portal::parse(name);
        // One that is only about to be taken out as well.
        self.end_drains_of(&self.seats_of(&paths));
        let held: Vec<PathId> = paths.into_iter().filter(|path| self.hold_of(*path).is_some()).collect();
        for seat in self.seats_of(&held) {
            let place = self.place_of(seat);
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
        self.holds.retain(|(address, ..), _| portal.is_none_or(|portal| !portal.is(*address)));
        match (held.len(), before - self.holds.len()) {
            (0, 0) => Ok(format!("{name}: not kept out by an operator: nothing to do")),
            (0, more) => Ok(format!("{name}: {more} path(s) may be used when they are found")),
            _ => Ok(format!("{}: used again once the identity was read", self.names_of(&held))),
        }
    }

    fn waive_named(&mut self, name: &str) -> Outcome {
        let disk = self.disk_named(Some(name))?.0;
        let open = self.head_of(disk).map_or(0, |disk| disk.fences().count());
        let name = self.disk_name(disk);
        if open == 0 {
            return Ok(format!("no fence of {name} is open: nothing waits"));
        }
        self.waive(Some(disk));
        Ok(format!("waived for {name}: {open} fence(s)"))
    }

    /// Looks again at logical units, and asks again for portals.
    fn rescan(&mut self, name: Option<&str>) -> Outcome {
        let (mut sessions, mut portals, mut logins) = (0, 0, 0);
        for index in self.nexuses_named(name)? {
            let now = self.now;
            let nexus = &mut self.nexuses[index as usize];
            if nexus.is_stray {
                continue;
            }
            nexus.complained.clear();
            let is_discovery = nexus.purpose == Purpose::Discovery;
            match (&mut nexus.phase, is_discovery) {
                (Phase::Ended, true) => {
                    portals += 1;
                    self.connect(index);
                }
                (Phase::Waiting { until }, _) => {
                    logins += 1;
                    *until = now;
                    nexus.backoff.reset();
                    self.arm_nexus(index);
                }
                (Phase::Open(link), false) if matches!(link.stage, Stage::Up | Stage::Survey { .. }) => {
                    sessions += 1;
                    self.survey_again(index);
                }
                _ => {}
            }
        }
        let what = What::Rescan { sessions, portals };
        let text = format!(
            "rescan by operator: {sessions} session(s) surveyed again, {portals} discovery portal(s) asked again, \
             {logins} login(s) tried at once"
        );
        self.tell(Severity::Info, NoticeKind::Other, Subject::Nobody, what, text.clone());
        Ok(text)
    }

    pub(crate) fn head_of(&self, disk: u32) -> Option<&Disk> {
        self.disks.registry.get(multipath::HeadIndex(disk)).and_then(|entry| entry.device.disk())
    }
}

/// How many disks a setting was for, and for how many it was new.
#[derive(Default)]
struct Set {
    all: usize,
    changed: usize,
}

impl Set {
    fn to_line(&self, setting: &str, value: &dyn fmt::Display) -> String {
        match self {
            Self { all: 0, .. } => format!("{setting} {value}: for disks that are found from now on"),
            Self { changed: 0, .. } => format!("{setting} is {value} already"),
            Self { all, changed } => format!("{setting} {value}: set for {changed} of {all} disk(s)"),
        }
    }
}

/// As it is written on the command line.
#[derive(Debug)]
pub struct ShowNoPath(pub NoPath);

impl fmt::Display for ShowNoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            NoPath::Fail => f.write_str("fail"),
            NoPath::Queue => f.write_str("queue"),
            NoPath::QueueFor(time) => write!(f, "{time:?}"),
        }
    }
}
