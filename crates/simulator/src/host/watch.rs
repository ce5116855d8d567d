//! What the checkers see of what goes on inside the host.

use ::host::{DiskIndex, Trace};
use multipath::PathId;
use scsi::{AdditionalSense, CdbBytes, CommandId, Ending, SenseKey};

use super::Host;
use crate::check::{Epoch, Rule, ShownCheck};
use crate::log::Part;
use crate::scene::Scene;

impl Host {
    pub(super) fn watch(&mut self, scene: &mut Scene, trace: Trace) {
        match trace {
            Trace::Started { path, id, cdb } => self.command_started(scene, path, id, cdb),
            Trace::Ended { path, id, cdb, ending } => self.command_ended(scene, path, id, &cdb, &ending),
            Trace::Report { disk, report } => {
                scene.note(Part::Disk, [5, disk.0.into(), 0], || format!("disk {}: {report}", disk.0));
                scene.checks.report(scene.now, disk.0, &report);
                let view = self.machine.disk(disk).and_then(|view| view.disk);
                let finding = scene.checks.pace.reported(disk, view, &report);
                scene.checks.found(scene.now, Rule::Pace, finding);
            }
            Trace::Settled { disk } => self.disk_settled(scene, disk),
            Trace::Up { nexus } => {
                scene.checks.up.insert(nexus.0);
                scene.note(Part::Nexus, [5, nexus.0.into(), 0], || format!("nexus {} is up", nexus.0));
            }
            Trace::Fenced { path, proof } => {
                scene
                    .note(Part::Disk, [7, path.0.into(), proof as u64], || format!("{path} fenced: {proof}"));
            }
            Trace::Lost { nexus, was_up } => {
                scene.checks.up.remove(&nexus.0);
                scene.note(Part::Nexus, [3, nexus.0.into(), 0], || format!("nexus {} is lost", nexus.0));
                self.nexuses_lost += u64::from(was_up);
            }
        }
    }

    fn command_started(&mut self, scene: &mut Scene, path: PathId, id: CommandId, cdb: CdbBytes) {
        scene.note(Part::Disk, [4, path.0.into(), id.0], || {
            format!("{path} command {:x} {:02x?}", id.0, cdb.as_slice())
        });
        let epoch = Epoch(self.access_epoch);
        let lun = self.machine.path(path).map(|view| view.lun);
        self.in_flight.insert((path, id), (epoch, lun));
        if let Some(view) = self.machine.path(path) {
            let finding = scene.checks.fences.started(view.lun, cdb);
            scene.checks.found(scene.now, Rule::Fence, finding);
            let finding = scene.checks.pace.started(path, id, view.lun, &cdb);
            scene.checks.found(scene.now, Rule::Pace, finding);
        }
        scene.checks.found(scene.now, Rule::Classes, ShownCheck::started(&cdb));
        let finding = scene.checks.questions.started(scene.now, &cdb);
        scene.checks.found(scene.now, Rule::Questions, finding);
        if is_medium(&cdb) {
            let finding = scene.checks.access.started(scene.now, path, epoch);
            scene.checks.found(scene.now, Rule::Access, finding);
        }
    }

    fn command_ended(
        &mut self,
        scene: &mut Scene,
        path: PathId,
        id: CommandId,
        cdb: &CdbBytes,
        ending: &Ending,
    ) {
        scene.note(Part::Disk, [1, path.0.into(), id.0], || {
            format!("{path} command {:x} ended: {ending:?}", id.0)
        });
        self.commands_lost += u64::from(*ending == Ending::Lost);
        scene.checks.pace.ended(path, id);
        let (sent_in, lun) = self.in_flight.remove(&(path, id)).unzip();
        if *ending == Ending::Lost && changes_medium(cdb) {
            scene.checks.fences.lost(scene.now, path, lun.flatten(), *cdb);
        }
        // A refusal that crossed a change of the access state says nothing about the new one.
        let epoch = Epoch(self.access_epoch);
        if sent_in == Some(epoch) && refuses_for_access(ending) && is_medium(cdb) {
            scene.checks.access.refused(scene.now, path, epoch);
        }
    }

    fn disk_settled(&self, scene: &mut Scene, index: DiskIndex) {
        let Some(disk) = self.machine.disk(index).and_then(|view| view.disk) else { return };
        let status = disk.status();
        let finding = scene.checks.bounds.disk(disk.requests(), disk.moot(), status.parked + status.pausing);
        scene.checks.found(scene.now, Rule::Bounds, finding);
        let finding = scene.checks.shown.settled(index, disk);
        scene.checks.found(scene.now, Rule::Shown, finding);
        let finding = scene.checks.pace.counted(index, &status);
        scene.checks.found(scene.now, Rule::Pace, finding);
        scene.checks.wait_for_path(scene.now, index.0, status.parked);
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
const fn changes_medium(cdb: &CdbBytes) -> bool {
    matches!(cdb.operation_code(), 0x2a | 0x8a | 0x41 | 0x93 | 0x42)
}

/// READ, WRITE, WRITE SAME, UNMAP and SYNCHRONIZE CACHE, in the forms that a disk sends.
const fn is_medium(cdb: &CdbBytes) -> bool {
    matches!(cdb.operation_code(), 0x28 | 0x88 | 0x2a | 0x8a | 0x35 | 0x91 | 0x41 | 0x93 | 0x42)
}
