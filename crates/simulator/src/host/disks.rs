//! The disks and the paths that lead to them.

use std::collections::BTreeMap;

use block::{Geometry, Request};
use multipath::{HeadIndex, Node, PathId, Registry};
use scsi::{AdditionalSense, CommandId, Ending, Lun, SenseKey};
use scsi_multipath::{Action, Command, Disk, Event, Issuer, Name, Report, Unit};

use super::Host;
use crate::check::{Epoch, Rule};
use crate::log::Part;
use crate::scene::{Scene, Source};

/// One disk, and what its exports have to know of it.
#[derive(Debug)]
pub(super) struct Entry {
    disk: Disk,
    geometry: Option<Geometry>,
}

#[derive(Debug)]
pub(super) struct Disks {
    pub(super) registry: Registry<Name, Entry>,
}

#[derive(Debug)]
pub(super) struct Path {
    nexus: u32,
    lun: Lun,
    disk: u32,
    standing: Standing,
    /// Commands out, with the access epoch that they were sent in.
    in_flight: BTreeMap<CommandId, Epoch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Member,
    Lost,
    Removed,
}

impl Disks {
    pub(super) fn ready(&self) -> usize {
        self.registry.iter().filter(|(_, _, entry)| entry.geometry.is_some()).count()
    }

    /// Disks with a path that commands can take.
    pub(super) fn usable(&self) -> usize {
        let is_usable = |entry: &Entry| {
            entry.disk.paths().any(|path| matches!(path.status.state, multipath::PathState::Usable(_)))
        };
        self.registry.iter().filter(|(_, _, entry)| is_usable(entry)).count()
    }

    /// Disk number and export, in the order of the logical units.
    pub(super) fn exports(&self) -> impl Iterator<Item = (u32, nbd::Export)> {
        self.registry.iter().filter_map(|(index, name, entry)| {
            let geometry = entry.geometry?;
            let name = name.to_string();
            Some((index.0, nbd::Export { name, description: String::new(), geometry, multi_conn: true }))
        })
    }

    fn get_mut(&mut self, disk: u32) -> Option<&mut Entry> {
        self.registry.get_mut(HeadIndex(disk))
    }
}

impl Host {
    /// A survey found a logical unit: find or create its disk, and offer it the path.
    pub(super) fn path_found(&mut self, scene: &mut Scene, nexus: u32, lun: Lun, unit: Box<Unit>) {
        let options = self.settings.disk.clone();
        let entry = self.disks.registry.find_or_create(unit.identity.name(), |_| Entry {
            disk: Disk::new(unit.identity.clone(), options),
            geometry: None,
        });
        let disk = entry.expect("there are few disks").index().0;
        if self.is_member(nexus, lun, disk) {
            return;
        }
        let path = PathId(self.path_ids);
        self.path_ids += 1;
        self.paths
            .insert(path, Path { nexus, lun, disk, standing: Standing::Member, in_flight: BTreeMap::new() });
        let before = self.nexuses[nexus as usize].paths.insert(lun, path);
        let target = scsi_multipath::TargetId(self.nexuses[nexus as usize].target);
        self.tell_disk(scene, disk, Event::PathFound { path, node: None, target, unit });
        // Not earlier: a disk ends with its last path, and this one is there to stay.
        if let Some(before) = before {
            self.retire_path(scene, before);
        }
    }

    fn is_member(&self, nexus: u32, lun: Lun, disk: u32) -> bool {
        let path = self.nexuses[nexus as usize].paths.get(&lun).and_then(|path| self.paths.get(path));
        path.is_some_and(|path| path.standing == Standing::Member && path.disk == disk)
    }

    pub(super) fn remove_path(&mut self, scene: &mut Scene, nexus: u32, lun: Lun) {
        if let Some(path) = self.nexuses[nexus as usize].paths.remove(&lun) {
            self.retire_path(scene, path);
        }
    }

    fn retire_path(&mut self, scene: &mut Scene, path: PathId) {
        let Some(removed) = self.paths.get_mut(&path) else { return };
        removed.standing = Standing::Removed;
        let disk = removed.disk;
        self.forget_idle_path(path);
        self.tell_disk(scene, disk, Event::PathRemoved { path });
    }

    /// A removed path is needed until its last command came back.
    fn forget_idle_path(&mut self, path: PathId) {
        let is_idle = |path: &Path| path.standing == Standing::Removed && path.in_flight.is_empty();
        if self.paths.get(&path).is_some_and(is_idle) {
            self.paths.remove(&path);
        }
    }

    pub(super) fn path_lost(&mut self, scene: &mut Scene, path: PathId) {
        let Some(found) = self.paths.get_mut(&path) else { return };
        if found.standing == Standing::Member {
            found.standing = Standing::Lost;
            let disk = found.disk;
            self.tell_disk(scene, disk, Event::PathLost { path });
        }
    }

    pub(super) fn submit_to_disk(&mut self, scene: &mut Scene, disk: u32, request: Request) {
        if self.disks.get_mut(disk).is_none() {
            self.complete(scene, request, Err(block::Error::Shutdown));
            return;
        }
        self.tell_disk(scene, disk, Event::Block(request, Node(0)));
    }

    /// A command came back from a session: to the disk that its path belongs to.
    pub(super) fn command_ended(&mut self, scene: &mut Scene, command: Command, ending: Ending) {
        let Issuer::Disk(path) = command.context.issuer() else { return };
        let Some(found) = self.paths.get_mut(&path) else { return };
        let sent_in = found.in_flight.remove(&command.id);
        let disk = found.disk;
        scene.note(Part::Disk, [1, path.0.into(), command.id.0], || {
            format!("{path} command {:x} {:?} ended: {ending:?}", command.id.0, command.context)
        });
        self.commands_lost += u64::from(ending == Ending::Lost);
        if ending == Ending::Lost && changes_medium(&command) {
            scene.checks.fences.lost(scene.now, disk, path);
        }
        // A refusal that crossed a change of the access state says nothing about the new one.
        let epoch = Epoch(self.access_epoch);
        if sent_in == Some(epoch) && refuses_for_access(&ending) && is_medium(&command) {
            scene.checks.access.refused(path, epoch);
        }
        self.forget_idle_path(path);
        self.tell_disk(scene, disk, Event::Ended(command, ending));
    }

    pub(super) fn tell_disk(&mut self, scene: &mut Scene, disk: u32, event: Event) {
        if let Some(entry) = self.disks.get_mut(disk) {
            entry.disk.handle(scene.now, event);
            scene.touched.add(Source::Disk(disk));
        }
    }

    pub(super) fn arm_disk(&mut self, scene: &mut Scene, disk: u32) {
        let deadline = self.disks.get_mut(disk).and_then(|entry| entry.disk.poll_timeout());
        scene.timers.arm(Source::Disk(disk), deadline);
    }

    pub(super) fn drain_disk(&mut self, scene: &mut Scene, disk: u32) {
        while let Some(action) = self.disks.get_mut(disk).and_then(|entry| entry.disk.poll_action()) {
            match action {
                Action::Start { path, command } => self.start_command(scene, disk, path, command),
                Action::Fence { .. } | Action::Unfence { .. } | Action::Manage { .. } => {}
                Action::Finish(request, completion) => self.complete(scene, request, completion),
                Action::Geometry(geometry) => self.disk_changed(scene, disk, geometry),
                Action::Joined { .. } => {}
                Action::Refused { path, reason } => {
                    scene.note(Part::Disk, [2, path.0.into(), 0], || format!("{path} refused: {reason}"));
                    if let Some(refused) = self.paths.remove(&path) {
                        self.nexuses[refused.nexus as usize].paths.remove(&refused.lun);
                    }
                }
                Action::Report(report) => self.report(scene, disk, &report),
                Action::Gone => {
                    scene.note(Part::Disk, [3, disk.into(), 0], || format!("disk {disk} is gone"));
                    scene.checks.disk_gone();
                    self.disks.registry.remove(HeadIndex(disk));
                    scene.timers.forget(Source::Disk(disk));
                    self.detach_servers(scene, disk);
                }
            }
        }
        if let Some(entry) = self.disks.get_mut(disk) {
            let status = entry.disk.status();
            let finding = scene.checks.bounds.disk(entry.disk.requests(), status.parked + status.pausing);
            scene.checks.found(scene.now, Rule::Bounds, finding);
        }
    }

    fn start_command(&mut self, scene: &mut Scene, disk: u32, path: PathId, command: Command) {
        let Some(found) = self.paths.get_mut(&path) else {
            // The disk was told that the path is gone; this command crossed the news.
            return self.tell_disk(scene, disk, Event::Ended(command, Ending::NotSent));
        };
        found.in_flight.insert(command.id, Epoch(self.access_epoch));
        let (nexus, lun) = (found.nexus, found.lun);
        scene.note(Part::Disk, [4, path.0.into(), command.id.0], || {
            let cdb = command.cdb.as_slice();
            format!("{path} command {:x} {:?} {cdb:02x?}", command.id.0, command.context)
        });
        if is_medium(&command) {
            let finding = scene.checks.access.started(path, Epoch(self.access_epoch));
            scene.checks.found(scene.now, Rule::Access, finding);
        }
        self.send(scene, nexus, lun, command);
    }

    fn report(&mut self, scene: &mut Scene, disk: u32, report: &Report) {
        scene.note(Part::Disk, [5, disk.into(), 0], || format!("disk {disk}: {report}"));
        scene.checks.report(scene.now, disk, report);
        if let Report::Rediscover { path } = report
            && let Some(nexus) = self.paths.get(path).map(|path| path.nexus)
        {
            self.survey_again(scene, nexus);
        }
    }

    fn disk_changed(&mut self, scene: &mut Scene, disk: u32, geometry: Geometry) {
        let Some(entry) = self.disks.get_mut(disk) else { return };
        let first = entry.geometry.replace(geometry).is_none();
        scene.note(Part::Disk, [6, disk.into(), geometry.size], || format!("disk {disk}: {geometry:?}"));
        if !first && let Some(name) = self.disks.registry.key(HeadIndex(disk)).map(Name::to_string) {
            self.resize_servers(scene, disk, &name, geometry);
        }
    }
}

/// 02/04/0B and 02/04/0C: the port group serves no medium commands (SPC, 5.15.2).
fn refuses_for_access(ending: &Ending) -> bool {
    let Ending::Reply(reply) = ending else { return false };
    let Some(sense) = reply.sense.as_deref().and_then(|sense| sense.parse()) else { return false };
    sense.key == SenseKey::NotReady
        && [AdditionalSense::LUN_NOT_READY_ALUA_STANDBY, AdditionalSense::LUN_NOT_READY_ALUA_UNAVAILABLE]
            .contains(&sense.additional)
}

/// WRITE, WRITE SAME and UNMAP, in the forms that a disk sends.
fn changes_medium(command: &Command) -> bool {
    matches!(command.cdb.operation_code(), 0x2a | 0x8a | 0x41 | 0x93 | 0x42)
}

/// READ, WRITE, WRITE SAME, UNMAP and SYNCHRONIZE CACHE, in the forms that a disk sends.
fn is_medium(command: &Command) -> bool {
    matches!(command.cdb.operation_code(), 0x28 | 0x88 | 0x2a | 0x8a | 0x35 | 0x91 | 0x41 | 0x93 | 0x42)
}
