//! What an operator may ask of a host. Every verb can be said twice: what holds already is no error.

mod drain;
mod hold;

use std::fmt;

use clock::Duration;
use multipath::{NoPath, PathId, PathState, Policy};
use scsi::Lun;
use scsi_multipath::{Disk, Event};

use crate::event::{Action, NoticeKind, Severity};
use crate::host::{Host, Life};
use crate::log::{Subject, What};
use crate::names::NameError;
use crate::nexus::{Phase, Purpose, Stage};
use crate::state::HOLDS_MAX;

pub(crate) use drain::{Drain, Drains};
pub(crate) use hold::{Holds, recalled};

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
    #[error(
        "{done}; but that is not remembered over a restart, since the state cannot be stored: see `smpath events`"
    )]
    NotRemembered { done: String },
    #[error("this smpath is ending")]
    Ending,
}

/// Where a path is, whichever it is: a nexus and a number behind it.
pub(crate) type Seat = (u32, Lun);

impl Host {
    pub(crate) fn verb(&mut self, ticket: Ticket, verb: Verb) {
        if self.life != Life::Open {
            return self.answer(ticket, Err(VerbError::Ending));
        }
        let outcome = match verb {
            Verb::Policy { disk, policy } => self.policy(&disk, policy),
            Verb::NoPath { disk, no_path } => self.no_path(&disk, no_path),
            Verb::RemovalDelay { disk, delay } => self.removal_delay(&disk, delay),
            Verb::Fail { path, force } => {
                let outcome = self.fail(&path, force);
                return self.answer_once_stored(ticket, outcome);
            }
            Verb::Reinstate { path } => {
                let outcome = self.reinstate(&path);
                return self.answer_once_stored(ticket, outcome);
            }
            Verb::Drain { path, force, timeout } => return self.drain(ticket, &path, force, timeout),
            Verb::Rescan { portal } => self.rescan(portal.as_deref()),
            Verb::Waive { disk } => self.waive_named(&disk),
        };
        self.answer(ticket, outcome);
    }

    pub(crate) fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
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
