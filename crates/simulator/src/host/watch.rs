//! What the checkers see of what goes on inside the host.

use ::host::{DiskIndex, Trace};
use multipath::{PathId, PathState};
use scsi::{AdditionalSense, CdbBytes, CommandId, Ending, SenseKey, Status};
use scsi_multipath::{Disk, PathView, Reason, Report};

use super::{Host, Sent};
use crate::check::{Rule, Seat, ShownCheck, TakenOut};
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
                self.taken_out(scene, disk, &report);
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
        let epoch = scene.checks.access.epoch();
        let seat = self.seat_of(path);
        self.in_flight.insert((path, id), Sent { epoch, seat });
        if let Some(view) = self.machine.path(path) {
            let finding = scene.checks.fences.started(view.lun, cdb);
            scene.checks.found(scene.now, Rule::Fence, finding);
            let finding = scene.checks.pace.started(path, id, view.lun, &cdb);
            scene.checks.found(scene.now, Rule::Pace, finding);
        }
        if let Some(seat) = seat {
            let name = || self.machine.disk(self.disk_of(path)?.0).map(|view| view.identity.to_string());
            let finding = scene.checks.operators.started(scene.now, seat, &cdb, name);
            scene.checks.found(scene.now, Rule::Operator, finding);
        }
        let finding = scene.checks.ways.started(scene.now, path, &cdb, || self.disk_of(path));
        scene.checks.found(scene.now, Rule::Ways, finding);
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
        let sent = self.in_flight.remove(&(path, id));
        let (sent_in, seat) = (sent.map(|sent| sent.epoch), sent.and_then(|sent| sent.seat));
        if *ending == Ending::Lost && changes_medium(cdb) {
            scene.checks.fences.lost(scene.now, path, seat.map(|(_, lun)| lun), *cdb);
        }
        let is_good = matches!(ending, Ending::Reply(reply) if reply.status == Status::Good);
        if let (true, 0x28 | 0x88, Some(seat)) = (is_good, cdb.operation_code(), seat)
            && let Some((disk, _)) = self.disk_of(path)
        {
            scene.checks.operators.has_read(disk, seat);
        }
        // A refusal that crossed a change of the access state says nothing about the new one.
        let epoch = scene.checks.access.epoch();
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
        let finding = scene.checks.fences.settled(scene.now, index.0);
        scene.checks.found(scene.now, Rule::Fence, finding);
        let seats = disk.paths().filter_map(|view| self.seat_of(view.status.id));
        let finding = scene.checks.ways.settled(seats);
        scene.checks.found(scene.now, Rule::Ways, finding);
        self.paths_settled(scene, disk);
    }

    /// How long usable paths have had nothing to do, while nothing is wrong.
    fn paths_settled(&self, scene: &mut Scene, disk: &Disk) {
        let (resting, busy): (Vec<PathView>, Vec<PathView>) = disk.paths().partition(|view| {
            let in_flight = self.machine.path(view.status.id).map_or(0, |path| path.in_flight);
            matches!(view.status.state, PathState::Usable(_)) && in_flight == 0
        });
        busy.iter().for_each(|view| scene.checks.ways.is_busy(view.status.id));
        if scene.checks.weather.is_fair_for_host(scene.now) {
            let paths = resting.iter().map(|view| view.status.id);
            let finding = scene.checks.ways.rested(scene.now, paths);
            scene.checks.found(scene.now, Rule::Ways, finding);
        }
    }

    /// A path that is not used any more because of what an operator said.
    fn taken_out(&self, scene: &mut Scene, disk: DiskIndex, report: &Report) {
        let Report::PathState { path, from, to: PathState::Down, reason } = report else { return };
        if !matches!(reason, Reason::FailedByOperator | Reason::Drained) {
            return;
        }
        let Some(seat) = self.seat_of(*path) else { return };
        let Some(view) = self.machine.disk(disk) else { return };
        // It may be another way to the disk than the one that was named.
        scene.checks.operators.name(seat, view.identity.to_string());
        let others: Vec<Seat> = view.disk.into_iter().flat_map(|disk| self.usable_seats_of(disk)).collect();
        let taken = TakenOut { disk, seat, from: *from, reason: *reason };
        let finding = scene.checks.operators.taken_out(scene.now, taken, &others);
        scene.checks.found(scene.now, Rule::Operator, finding);
        scene.checks.weather.hold(scene.now, seat);
    }

    fn disk_of(&self, path: PathId) -> Option<(DiskIndex, &Disk)> {
        let mut disks = self.machine.disks().filter_map(|view| Some((view.index, view.disk?)));
        disks.find(|(_, disk)| disk.paths().any(|view| view.status.id == path))
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
