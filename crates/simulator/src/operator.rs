//! What an operator says to the host. What he means is known by port and unit; what that is called, only the host knows.

use ::host::{DiskIndex, Event, Ticket, Verb, VerbError};
use clock::Duration;
use multipath::{NoPath, PathId, PathState, Policy};
use scsi::Lun;
use scsi_multipath::Disk;

use crate::check::{Force, Meant, OperatorCheck, Rule, Seat};
use crate::fault::Kind;
use crate::host::Host;
use crate::log::Part;
use crate::scene::{Scene, Source};
use crate::target::portal_address;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saying {
    Fail {
        whom: Whom,
        force: bool,
    },
    Drain {
        whom: Whom,
        force: bool,
        timeout: Duration,
    },
    Reinstate {
        whom: Whom,
    },
    /// One portal, or all.
    Rescan {
        port: Option<usize>,
    },
    /// One unit's disk, or all.
    Policy {
        disk: Option<u32>,
        policy: Policy,
    },
    NoPath {
        disk: Option<u32>,
        no_path: NoPath,
    },
    Removal {
        disk: Option<u32>,
        delay: Duration,
    },
    Waive {
        unit: u32,
    },
}

/// No unit of a run has a number as high as this.
const LUNS_MAX: u32 = 16;

/// Which paths are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Path { port: usize, unit: u32 },
    Portal(usize),
}

impl Host {
    /// Says it, if what it is about has a name now.
    pub(crate) fn hear(&mut self, scene: &mut Scene, kind: Kind, saying: Saying) {
        let Some((verb, meant)) = self.verb(scene, saying) else { return };
        match &meant {
            Meant::Reinstate { seats } => {
                seats.iter().for_each(|seat| scene.checks.weather.release(scene.now, *seat));
            }
            Meant::Waive { disk } if !scene.checks.fences.are_open_for(disk.0) => return,
            Meant::Waive { disk } => scene.checks.fences.waived_by_operator(scene.now, Some(disk.0)),
            _ => {}
        }
        scene.note(Part::Run, [5, kind as u64, 0], || format!("an operator says {verb:?}"));
        if let Meant::Fail { seats, .. } | Meant::Drain { seats, .. } = &meant {
            self.named(seats).for_each(|(seat, name)| scene.checks.operators.name(seat, name));
        }
        let usable = self.usable_seats();
        let ticket = scene.checks.operators.said(kind, meant.clone());
        self.tell(scene, Event::Verb { ticket, verb });
        // Whatever else comes at the same instant comes later.
        self.drain(scene, Source::Host);
        if let Meant::Fail { seats, force: Force::Spared } = &meant
            && scene.checks.operators.is_done(ticket)
        {
            for of_disk in usable.iter().filter(|of_disk| of_disk.iter().any(|seat| seats.contains(seat))) {
                let finding = OperatorCheck::failed(seats, of_disk);
                scene.checks.found(scene.now, Rule::Operator, finding);
            }
        }
    }

    /// What some seats lead to.
    fn named<'a>(&'a self, seats: &'a [Seat]) -> impl Iterator<Item = (Seat, String)> + 'a {
        let disks = self.machine.disks().filter_map(|view| Some((view.identity.to_string(), view.disk?)));
        let all = disks.flat_map(move |(name, disk)| {
            disk.paths().filter_map(move |view| Some((self.seat_of(view.status.id)?, name.clone())))
        });
        all.filter(|(seat, _)| seats.contains(seat))
    }

    /// Where each disk has usable paths.
    fn usable_seats(&self) -> Vec<Vec<Seat>> {
        let disks = self.machine.disks().filter_map(|view| view.disk);
        disks.map(|disk| self.usable_seats_of(disk).collect()).collect()
    }

    pub(crate) fn usable_seats_of(&self, disk: &Disk) -> impl Iterator<Item = Seat> {
        let usable = disk.paths().filter(|view| matches!(view.status.state, PathState::Usable(_)));
        usable.filter_map(|view| self.seat_of(view.status.id))
    }

    pub(crate) fn seat_of(&self, path: PathId) -> Option<Seat> {
        self.machine.path(path).map(|view| (view.nexus.0, view.lun))
    }

    pub(crate) fn answered(
        &mut self,
        scene: &mut Scene,
        ticket: Ticket,
        outcome: &Result<String, VerbError>,
    ) {
        scene.note(Part::Run, [6, ticket.0, u64::from(outcome.is_ok())], || match outcome {
            Ok(text) => format!("an operator is told: {text}"),
            Err(error) => format!("an operator is told: not done: {error}"),
        });
        let stays_out = matches!(outcome, Err(VerbError::StillInFlight { .. }));
        let in_flight = |seats: &[Seat]| {
            self.in_flight.values().filter(|sent| sent.seat.is_some_and(|seat| seats.contains(&seat))).count()
        };
        let operators = &mut scene.checks.operators;
        let answer = operators.answered(scene.now, ticket, outcome.is_ok(), stays_out, in_flight);
        scene.checks.follow(scene.now, answer);
    }

    /// The verb with its names, and what is meant by it.
    fn verb(&self, scene: &Scene, saying: Saying) -> Option<(Verb, Meant)> {
        let force_of = |force| if force { Force::Used } else { Force::Spared };
        Some(match saying {
            Saying::Fail { whom, force } => {
                let (path, seats) = self.paths_of(whom)?;
                (Verb::Fail { path, force }, Meant::Fail { seats, force: force_of(force) })
            }
            Saying::Drain { whom, force, timeout } => {
                let (path, seats) = self.paths_of(whom)?;
                (Verb::Drain { path, force, timeout }, Meant::Drain { seats, force: force_of(force) })
            }
            Saying::Reinstate { whom } => {
                let (path, seats) = self.kept_out(scene, whom)?;
                (Verb::Reinstate { path }, Meant::Reinstate { seats })
            }
            Saying::Rescan { port } => {
                (Verb::Rescan { portal: port.map(|port| portal_address(port).to_string()) }, Meant::Else)
            }
            Saying::Policy { disk, policy } => {
                (Verb::Policy { disk: self.disk_name(disk)?.0, policy }, Meant::Else)
            }
            Saying::NoPath { disk, no_path } => {
                let (disk, index) = self.disk_name(disk)?;
                (Verb::NoPath { disk, no_path }, Meant::NoPath { disk: index, no_path })
            }
            Saying::Removal { disk, delay } => {
                (Verb::RemovalDelay { disk: self.disk_name(disk)?.0, delay }, Meant::Else)
            }
            Saying::Waive { unit } => {
                let (disk, index) = self.disk_name(Some(unit))?;
                (Verb::Waive { disk }, Meant::Waive { disk: index? })
            }
        })
    }

    /// What is kept out, by its path if that leads to the disk that was meant; else only the portal has a name.
    fn kept_out(&self, scene: &Scene, whom: Whom) -> Option<(String, Vec<Seat>)> {
        let is_meant = |seats: &[Seat]| {
            let mut named = self.named(seats);
            named.all(|(seat, name)| scene.checks.operators.is_named(seat, &name))
        };
        if let Whom::Path { .. } = whom
            && let Some((path, seats)) = self.paths_of(whom)
            && is_meant(&seats)
        {
            return Some((path, seats));
        }
        let (Whom::Path { port, .. } | Whom::Portal(port)) = whom;
        let nexus = u32::try_from(port).ok()?;
        let seats = (0..LUNS_MAX).map(|lun| (nexus, lun_of(lun))).collect();
        Some((portal_address(port).to_string(), seats))
    }

    /// The name of a unit's disk, with its number; of all if no unit is meant.
    fn disk_name(&self, unit: Option<u32>) -> Option<(String, Option<DiskIndex>)> {
        let Some(unit) = unit else { return Some((String::from("all"), None)) };
        let lun = lun_of(unit);
        let leads_there = |disk: &Disk| {
            disk.paths().filter_map(|view| self.seat_of(view.status.id)).any(|(_, behind)| behind == lun)
        };
        let view = self.machine.disks().find(|view| view.disk.is_some_and(leads_there))?;
        Some((view.identity.to_string(), Some(view.index)))
    }

    /// What paths are called, and where they lead.
    fn paths_of(&self, whom: Whom) -> Option<(String, Vec<Seat>)> {
        let paths = || self.machine.disks().filter_map(|view| view.disk).flat_map(Disk::paths);
        let known = || paths().filter_map(|view| Some((view.status.id, self.seat_of(view.status.id)?)));
        match whom {
            Whom::Path { port, unit } => {
                let seat = (u32::try_from(port).ok()?, lun_of(unit));
                let (path, _) = known().filter(|(_, at)| *at == seat).last()?;
                Some((path.to_string(), vec![seat]))
            }
            Whom::Portal(port) => {
                let nexus = u32::try_from(port).ok()?;
                let mut seats: Vec<Seat> =
                    known().map(|(_, seat)| seat).filter(|(of, _)| *of == nexus).collect();
                seats.sort_unstable();
                seats.dedup();
                Some((portal_address(port).ip().to_string(), seats))
            }
        }
    }
}

fn lun_of(unit: u32) -> Lun {
    Lun::from(u16::try_from(unit).expect("few units"))
}
