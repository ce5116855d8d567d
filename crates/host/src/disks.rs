//! The disks of a host and the paths that lead to them.

use std::collections::{BTreeMap, VecDeque};

use block::{Geometry, Request};
use clock::{Duration, Instant};
use hdrhistogram::Histogram;
use multipath::{Change, HeadIndex, NoPath, Node, PathId, Policy, Registry};
use scsi::{CommandId, Ending, Lun};
use scsi_multipath::{Command, Contradiction, Direct, Disk, Event, Issuer, Name, Report, TargetId, Unit};

use crate::access;
use crate::agenda::Source;
use crate::config::{DiskConfig, Layer, Multipath};
use crate::device::Device;
use crate::event::{Action, DiskIndex, NoticeKind, Severity, Trace};
use crate::failover::FailoverReport;
use crate::host::{Host, Life};
use crate::log::{Cause, Subject, What};
use crate::survey::SURVEY_CONTRADICTED;

/// Latencies are kept from 1 µs to 1 minute with two digits: about 13 KiB a path.
const LATENCY_MAX_US: u64 = 60_000_000;

/// One disk, and what its exports have to know of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) device: Device,
    pub(crate) facts: Facts,
    /// Known once the first path joined.
    pub(crate) geometry: Option<Geometry>,
    pub(crate) fences_proved: u64,
    pub(crate) fences_waived: u64,
    pub(crate) no_path: NoPath,
    pub(crate) delayed_removal: Duration,
    /// The last ones, the oldest first.
    pub(crate) failovers: VecDeque<FailoverReport>,
}

impl Entry {
    const fn new(device: Device, facts: Facts, config: &DiskConfig) -> Self {
        Self {
            device,
            facts,
            geometry: None,
            fences_proved: 0,
            fences_waived: 0,
            no_path: config.no_path,
            delayed_removal: config.delayed_removal,
            failovers: VecDeque::new(),
        }
    }
}

/// What a disk is called, from the first path that showed it, or showed something new.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) vendor: String,
    pub(crate) product: String,
    pub(crate) revision: String,
    pub(crate) serial: String,
}

impl Facts {
    fn of(unit: &Unit) -> Self {
        Self {
            vendor: unit.vendor.clone(),
            product: unit.product.clone(),
            revision: unit.revision.clone(),
            serial: unit.serial.clone().unwrap_or_default(),
        }
    }
}

/// The disks of a host, one for each identity.
#[derive(Debug)]
pub(crate) struct Disks {
    pub(crate) config: DiskConfig,
    pub(crate) registry: Registry<Name, Entry>,
}

/// What the host knows of a path. Its state is the disk's to know.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) nexus: u32,
    pub(crate) lun: Lun,
    pub(crate) disk: u32,
    pub(crate) port_group: Option<u16>,
    /// The number of the nexus's session that it is a path of; 0 for one of a process before this.
    pub(crate) session: u64,
    /// The target portal group that the session is with.
    pub(crate) group: Option<u16>,
    pub(crate) standing: Standing,
    pub(crate) claim: Claim,
    /// It was left by a process before this one, or by a disk before this one.
    pub(crate) is_heir: bool,
    /// Commands that the session holds and when it was given them, oldest first.
    pub(crate) in_flight: VecDeque<(CommandId, Instant)>,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    /// None before the first answer.
    pub(crate) latency: Option<Histogram<u32>>,
}

/// Whether the disk still counts with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Member,
    /// Its nexus was lost; what the next login finds takes its place.
    Lost,
    /// It is known only until its last command came back.
    Removed,
}

/// What the disk wants of a path that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    None,
    /// It was told that something may be left of it, and has not said yet what it wants.
    Offered,
    /// A proof that nothing that was sent on it can take effect any more.
    Owed,
}

impl Disks {
    pub(crate) fn new(config: DiskConfig) -> Self {
        Self { config, registry: Registry::new() }
    }

    pub(crate) fn are_gone(&self) -> bool {
        self.registry.is_empty()
    }

    pub(crate) fn entry_mut(&mut self, disk: u32) -> Option<&mut Entry> {
        self.registry.get_mut(HeadIndex(disk))
    }
}

impl Host {
    /// A survey found a logical unit: find or create its disk, and offer it the path.
    pub(crate) fn path_found(&mut self, nexus: u32, lun: Lun, unit: Box<Unit>) {
        let identity = unit.identity.name().clone();
        self.remove_replaced(nexus, lun, &identity);
        if !self.wanted(&identity) {
            let text = format!("{identity} is not served: it is not among the wanted ones");
            let subject = Subject::Unit(nexus, lun);
            self.tell(Severity::Info, NoticeKind::Other, subject, What::DiskNotServed, text);
            return;
        }
        let Some(unit) = self.may_join(nexus, lun, unit) else { return };
        let path = PathId(self.path_ids);
        let Some(device) = self.device(path, &unit) else {
            let text = format!("{identity} does not say how large it is");
            let subject = Subject::Unit(nexus, lun);
            self.tell(Severity::Error, NoticeKind::Other, subject, What::DiskNotServed, text);
            return;
        };
        let facts = Facts::of(&unit);
        let config = self.disks.config;
        let entry = self.disks.registry.find_or_create(&identity, |_| Entry::new(device, facts, &config));
        let (disk, is_new) = match entry {
            Ok(entry) => (entry.index().0, matches!(entry, multipath::Entry::Created(_))),
            Err(full) => {
                let text = format!("{identity} is not served: {full}");
                let subject = Subject::Unit(nexus, lun);
                self.tell(Severity::Error, NoticeKind::Other, subject, What::DiskNotServed, text);
                return;
            }
        };
        if self.is_member(nexus, lun, disk) {
            // Another survey of a nexus that was not lost found what was known.
            return;
        }
        if !self.may_have_another(nexus, lun, disk, &unit) {
            return self.leave_unused(nexus, lun, disk);
        }
        self.path_ids += 1;
        let mut unit = unit;
        if let Some(groups) = unit.groups.take() {
            let target = self.nexuses[nexus as usize].target;
            self.tell_access(target, disk, access::Event::Surveyed { groups: groups.into() });
        }
        if is_new {
            self.bequeath(disk);
        }
        let port_group = unit.port.group;
        let place = nexus;
        let nexus = &mut self.nexuses[place as usize];
        let member = Path {
            port_group,
            session: nexus.logins,
            group: nexus.group,
            standing: Standing::Member,
            ..Path::new(place, lun, disk)
        };
        self.paths.insert(path, member);
        let before = nexus.paths.insert(lun, path);
        let target = nexus.target;
        let hold = self.hold_at(place, disk);
        let loss = self.nexuses[place as usize].losses.remove(&lun);
        self.tell_disk(disk, Event::PathFound { path, node: None, target, unit, hold });
        if let Some(reply) = loss {
            self.tell_disk(disk, Event::Overheard { path, reply });
        }
        // Not earlier: a disk ends with its last path, and this one is there to stay.
        if let Some(before) = before {
            self.retire_path(before);
        }
    }

    /// Whether the mode lets a disk have this path besides those that it has.
    fn may_have_another(&self, nexus: u32, lun: Lun, disk: u32, unit: &Unit) -> bool {
        let is_multipath = match self.disks.config.multipath {
            Multipath::Off => false,
            Multipath::On => unit.reports_access,
            Multipath::Always => true,
        };
        if is_multipath || self.disks.config.layer == Layer::Direct {
            return true;
        }
        let disk = self.disks.registry.get(HeadIndex(disk)).and_then(|entry| entry.device.disk());
        let mut paths =
            disk.into_iter().flat_map(Disk::paths).filter_map(|path| self.paths.get(&path.status.id));
        // The same way again, after its session was lost, is no other one.
        paths.all(|path| (path.nexus, path.lun) == (nexus, lun))
    }

    fn leave_unused(&mut self, place: u32, lun: Lun, disk: u32) {
        self.pass_on_loss(place, lun, disk);
        let nexus = &mut self.nexuses[place as usize];
        if nexus.unused.insert((disk, lun)) {
            let portal = nexus.portal;
            let text = format!(
                "{}: the path through {portal}, LUN {lun}, is not used: the mode of multipath lets it have one",
                self.disk_name(disk)
            );
            let subject = Subject::Unit(place, lun);
            self.tell(Severity::Info, NoticeKind::Other, subject, What::PathUnused, text);
        }
    }

    /// A cache that was lost is the disk's, whichever way that is told. Without a path it hears of it with its next one.
    fn pass_on_loss(&mut self, place: u32, lun: Lun, disk: u32) {
        if !self.nexuses[place as usize].losses.contains_key(&lun) {
            return;
        }
        let of_disk =
            self.paths.iter().find(|(_, path)| path.disk == disk && path.standing != Standing::Removed);
        if let Some(path) = of_disk.map(|(path, _)| *path)
            && let Some(reply) = self.nexuses[place as usize].losses.remove(&lun)
        {
            self.tell_disk(disk, Event::Overheard { path, reply });
        }
    }

    /// What a unit that was not seen before becomes.
    fn device(&self, path: PathId, unit: &Unit) -> Option<Device> {
        let config = self.disks.config;
        if config.layer == Layer::Direct {
            return Direct::new(path, unit).map(Device::Direct);
        }
        let head = multipath::Options {
            policy: config.policy,
            no_path: config.no_path,
            delayed_removal: config.delayed_removal,
            slow_paths: config.slow_paths,
            hedging: config.hedging,
            ..scsi_multipath::Options::default().head
        };
        let disk = Disk::new(
            unit.identity.clone(),
            scsi_multipath::Options {
                head,
                sharing: config.sharing,
                fence: config.fence,
                alua: config.alua,
                path_check: config.path_check,
            },
        );
        Some(Device::Disk(Box::new(disk)))
    }

    fn is_member(&self, nexus: u32, lun: Lun, disk: u32) -> bool {
        let path = self.nexuses[nexus as usize].paths.get(&lun).and_then(|path| self.paths.get(path));
        path.is_some_and(|path| path.standing == Standing::Member && path.disk == disk)
    }

    fn wanted(&self, identity: &Name) -> bool {
        let identities = &self.options.filter.identities;
        identities.is_empty() || identities.contains(&identity.to_string())
    }

    /// The logical unit is not behind this nexus any more.
    pub(crate) fn remove_path(&mut self, nexus: u32, lun: Lun) {
        if let Some(path) = self.nexuses[nexus as usize].paths.remove(&lun) {
            self.retire_path(path);
        }
    }

    /// The number stands for another unit than before, whatever becomes of that one.
    fn remove_replaced(&mut self, nexus: u32, lun: Lun, identity: &Name) {
        let before = self.nexuses[nexus as usize].paths.get(&lun).and_then(|path| self.paths.get(path));
        let Some(disk) = before.map(|path| path.disk) else { return };
        if self.disks.registry.key(HeadIndex(disk)) != Some(identity) {
            self.remove_path(nexus, lun);
        }
    }

    fn retire_path(&mut self, path: PathId) {
        let Some(removed) = self.paths.get_mut(&path) else { return };
        removed.standing = Standing::Removed;
        let disk = removed.disk;
        self.leaving.push(path);
        self.tell_disk(disk, Event::PathRemoved { path });
    }

    /// A removed path is needed until its last command came back.
    pub(crate) fn forget_idle_path(&mut self, path: PathId) {
        if self.paths.get(&path).is_some_and(Path::is_idle) {
            self.paths.remove(&path);
        }
    }

    /// The nexus is lost; the path stays known, so that it is seen that it is down.
    pub(crate) fn path_lost(&mut self, path: PathId, cause: Cause) {
        let Some(found) = self.paths.get_mut(&path) else { return };
        if found.standing == Standing::Member {
            found.standing = Standing::Lost;
            let disk = found.disk;
            self.failover_begins(disk, path, cause);
            self.tell_disk(disk, Event::PathLost { path });
        }
    }

    pub(crate) fn submit(&mut self, disk: u32, request: Request) {
        let now = self.now;
        let Some(entry) = self.disks.entry_mut(disk) else {
            return self.actions.push_back(Action::Complete(request, Err(block::Error::Shutdown)));
        };
        entry.device.handle(now, Event::Block(request, Node(0)));
        self.touched.add(Source::Disk(disk));
    }

    /// A command came back from a session: to the disk that its path belongs to.
    pub(crate) fn command_ended(&mut self, command: Command, ending: Ending) {
        let Issuer::Disk(path) = command.context.issuer() else { return };
        let Some(found) = self.paths.get_mut(&path) else { return };
        let started = found.end(self.now, command.id, &ending);
        self.answered += 1;
        let disk = found.disk;
        if found.is_idle() {
            self.leaving.push(path);
        }
        if !self.failovers.is_empty() {
            self.failover_returned(path, &command, started);
        }
        self.command_bounced(disk, path, &command, &ending, started);
        self.trace(|| Trace::Ended { path, id: command.id, cdb: command.cdb, ending: ending.clone() });
        self.tell_disk(disk, Event::Ended(command, ending));
    }

    pub(crate) fn tell_disk(&mut self, disk: u32, event: Event) {
        let now = self.now;
        if let Some(entry) = self.disks.entry_mut(disk) {
            entry.device.handle(now, event);
            self.touched.add(Source::Disk(disk));
        }
    }

    pub(crate) fn arm_disk(&mut self, disk: u32) {
        let deadline = self.disks.entry_mut(disk).and_then(|entry| entry.device.poll_timeout());
        self.timers.arm(Source::Disk(disk), deadline);
    }

    /// Does what a disk wants done, until it wants something of the driver, or nothing more.
    pub(crate) fn drain_disk(&mut self, disk: u32) -> Option<Action> {
        while let Some(action) = self.disks.entry_mut(disk).and_then(|entry| entry.device.poll_action()) {
            match action {
                scsi_multipath::Action::Start { path, command } => self.start(disk, path, command),
                scsi_multipath::Action::Finish(request, completion) => {
                    if !self.failovers.is_empty() || !self.bounced.is_empty() {
                        self.failover_finished(disk, &request, &completion);
                    }
                    return Some(Action::Complete(request, completion));
                }
                scsi_multipath::Action::Fence { path } => self.fence(path),
                scsi_multipath::Action::Unfence { path } => self.unfence(path),
                scsi_multipath::Action::Withdraw { path } => self.withdraw(path),
                scsi_multipath::Action::Abort { path, command } => self.abort(path, command),
                scsi_multipath::Action::Manage { path, function } => self.manage(disk, path, function),
                scsi_multipath::Action::Geometry(geometry) => self.disk_changed(disk, geometry),
                scsi_multipath::Action::Checked { path, outcome } => self.checked(path, outcome),
                scsi_multipath::Action::Joined { path } => self.path_joined(disk, path),
                scsi_multipath::Action::Refused { path, reason } => self.path_refused(disk, path, &reason),
                scsi_multipath::Action::WantAccess { target, path, cause, is_urgent } => {
                    let group = self.paths.get(&path).and_then(|path| path.port_group);
                    self.tell_access(target, disk, access::Event::Wanted { cause, group, is_urgent });
                }
                scsi_multipath::Action::AccessAnswered { target, answer } => {
                    self.tell_access(target, disk, access::Event::Answered(answer));
                }
                scsi_multipath::Action::WantActivation { target } => {
                    self.activations.want(target, disk);
                    self.touched.add(Source::Access);
                }
                scsi_multipath::Action::ActivationEnded { target } => {
                    self.activations.ended(target, disk);
                    self.touched.add(Source::Access);
                }
                scsi_multipath::Action::Report(report) => self.report(disk, report),
                scsi_multipath::Action::Gone => self.disk_gone(disk),
            }
        }
        self.forget_leaving_paths(disk);
        None
    }

    /// The disk has said what it had to say: what it does not want to have fenced may go.
    fn forget_leaving_paths(&mut self, disk: u32) {
        let is_its = |paths: &BTreeMap<PathId, Path>, path: &PathId| {
            paths.get(path).is_none_or(|known| known.disk == disk)
        };
        for path in self.leaving.extract_if(.., |path| is_its(&self.paths, path)).collect::<Vec<_>>() {
            self.forget_idle_path(path);
        }
    }

    fn start(&mut self, disk: u32, path: PathId, command: Command) {
        if !self.failovers.is_empty() {
            self.failover_started(disk, &command);
        }
        self.trace(|| Trace::Started { path, id: command.id, cdb: command.cdb });
        match self.paths.get_mut(&path) {
            Some(found) => {
                found.in_flight.push_back((command.id, self.now));
                let (nexus, lun) = (found.nexus, found.lun);
                self.send(nexus, lun, command);
            }
            // The disk was told that the path is gone; this command crossed the news.
            None => self.tell_disk(disk, Event::Ended(command, Ending::NotSent)),
        }
    }

    fn tell_access(&mut self, target: TargetId, disk: u32, event: access::Event) {
        self.access.handle(self.now, target, disk, event);
        self.touched.add(Source::Access);
    }

    /// Lets those ask whose turn it is, and tells others what is known.
    pub(crate) fn drain_access(&mut self) {
        while let Some(action) = self.access.poll_action(self.now) {
            match action {
                access::Action::Ask { target, disk } => self.tell_disk(disk, Event::MayAskAccess { target }),
                access::Action::Assume { target, disk, groups } => {
                    self.tell_disk(disk, Event::AccessAssumed { target, groups });
                }
            }
        }
        while let Some((target, disk)) = self.activations.next(self.now) {
            self.tell_disk(disk, Event::MayActivate { target });
        }
    }

    fn report(&mut self, disk: u32, report: Report) {
        self.log_report(disk, &report);
        self.failover_heard(disk, &report);
        if let Some(entry) = self.disks.entry_mut(disk) {
            match report {
                Report::FenceProved { .. } => entry.fences_proved += 1,
                Report::FenceWaived { .. } => entry.fences_waived += 1,
                _ => {}
            }
        }
        match &report {
            Report::Head(Change::NoPath) => _ = self.hasten(disk),
            Report::Head(Change::Alone { path, .. }) if self.hasten(disk) > 0 => {
                let (subject, text) =
                    (Subject::Path(disk, *path), format!("{}: {report}", self.disk_name(disk)));
                self.record(Severity::Info, subject, What::Disk(report.clone()), text);
            }
            _ => {}
        }
        if let Report::Redefined { path, .. } = &report {
            self.disk_redefined(disk, *path);
        }
        if let Report::PathQuarantined { path, .. } = &report
            && let Some(found) = self.paths.get_mut(path).filter(|found| found.standing == Standing::Member)
        {
            // Whatever the next survey finds behind it takes its place, be it this disk's again.
            found.standing = Standing::Lost;
        }
        if let Report::Rediscover { path } = report
            && let Some(nexus) = self.paths.get(&path).map(|path| path.nexus)
        {
            self.doubt_paths(nexus);
            self.survey_again(nexus);
            self.discover_again();
        }
        self.trace(|| Trace::Report { disk: DiskIndex(disk), report });
    }

    fn disk_redefined(&mut self, disk: u32, path: PathId) {
        let Some(entry) = self.disks.entry_mut(disk) else { return };
        if let Some(unit) = entry.device.disk().and_then(|disk| disk.unit(path)) {
            entry.facts = Facts::of(unit);
        }
        // It may report port groups now, and so be served over more paths than one.
        self.look_again_at_unused(disk);
    }

    /// What a disk reports is an event, and mostly a notice; `path_joined` and `path_refused` say the rest, with the
    /// portal.
    fn log_report(&mut self, disk: u32, report: &Report) {
        let text = format!("{}: {report}", self.disk_name(disk));
        let subject = path_of(report).map_or(Subject::Disk(disk), |path| Subject::Path(disk, path));
        match (severity(report), report) {
            (Some(severity), _) => {
                self.tell(severity, NoticeKind::Other, subject, What::Disk(report.clone()), text);
            }
            (None, Report::PathRemoved { .. }) => {
                self.record(Severity::Info, subject, What::Disk(report.clone()), text);
            }
            (None, _) => {}
        }
    }

    /// The disk that counts with a path.
    pub(crate) fn disk_of_member(&self, path: PathId) -> Option<u32> {
        self.paths.get(&path).filter(|found| found.standing == Standing::Member).map(|found| found.disk)
    }

    /// What is behind the logical unit numbers of a nexus may have changed, behind all of them.
    pub(crate) fn doubt_paths(&mut self, nexus: u32) {
        let paths: Vec<PathId> = self.nexuses[nexus as usize].paths.values().copied().collect();
        for path in paths {
            if let Some(found) = self.paths.get(&path).filter(|found| found.standing == Standing::Member) {
                self.tell_disk(found.disk, Event::Doubt { path });
            }
        }
    }

    fn disk_changed(&mut self, disk: u32, geometry: Geometry) {
        let Some(entry) = self.disks.entry_mut(disk) else { return };
        let before = entry.geometry.replace(geometry);
        let (name, place) = (self.disk_name(disk), disk);
        let disk = DiskIndex(disk);
        if let Some(from) = before {
            self.actions.push_back(Action::Resized { disk, geometry });
            let what = What::DiskChanged { from, to: geometry };
            // A change of the size is told by the disk itself.
            if geometry.size == from.size && !what.inputs().is_empty() {
                let changes: Vec<String> =
                    what.inputs().iter().map(|(name, value)| format!("{name} {value}")).collect();
                let text = format!("{name}: changed: {}", changes.join(", "));
                self.tell(Severity::Info, NoticeKind::Other, Subject::Disk(place), what, text);
            }
        } else {
            self.actions.push_back(Action::Ready { disk, geometry });
            let size = geometry.size >> 20;
            let text = format!("{name}: {size} MiB, ready");
            let what = What::DiskReady { size: geometry.size };
            self.tell(Severity::Info, NoticeKind::DiskReady(name), Subject::Disk(place), what, text);
        }
    }

    fn path_joined(&mut self, disk: u32, path: PathId) {
        let text = format!("{}: path {} joined", self.disk_name(disk), self.path_name(path));
        if let Some(found) = self.paths.get(&path) {
            self.nexuses[found.nexus as usize].complained.remove(&found.lun);
        }
        let subject = Subject::Path(disk, path);
        self.tell(Severity::Info, NoticeKind::PathUp, subject, What::PathJoined, text);
        self.tell_if_held(disk, path);
    }

    fn path_refused(&mut self, disk: u32, path: PathId, reason: &Contradiction) {
        let name = self.disk_name(disk);
        let text = format!(
            "{name}: path {} is not used, the logical unit behind it contradicts the other paths: {reason}; \
             two units must not share an identity, check the target",
            self.path_name(path)
        );
        let Some((place, lun)) = self.paths.get(&path).map(|found| (found.nexus, found.lun)) else { return };
        let nexus = &mut self.nexuses[place as usize];
        nexus.paths.remove(&lun);
        if nexus.complained.insert(lun) {
            let (subject, what) = (Subject::Path(disk, path), What::PathRefused(reason.clone()));
            self.tell(Severity::Error, NoticeKind::PathFailed, subject, what, text);
        }
        self.paths.remove(&path);
        // A disk that is going makes way for a new one, and a size may be about to change on every path.
        if matches!(reason, Contradiction::Ending | Contradiction::Blocks { .. }) {
            self.survey_later(place);
        } else {
            self.survey_by(place, SURVEY_CONTRADICTED);
        }
    }

    fn disk_gone(&mut self, disk: u32) {
        let name = self.disk_name(disk);
        self.drop_claims(disk, &name);
        self.drop_latecomers(disk);
        self.end_failovers_of(disk);
        self.look_again_at_unused(disk);
        let text = format!("{name}: removed");
        self.tell(Severity::Info, NoticeKind::Other, Subject::Disk(disk), What::DiskRemoved, text);
        self.disks.registry.remove(HeadIndex(disk));
        self.access.forget(disk);
        self.activations.forget(disk);
        self.timers.forget(Source::Disk(disk));
        self.actions.push_back(Action::Gone { disk: DiskIndex(disk) });
    }

    /// Paths that were found when the disk had already gone, so that it could not refuse them: its successor is to have
    /// them.
    fn drop_latecomers(&mut self, disk: u32) {
        let is_late = |(_, path): &(&PathId, &Path)| path.disk == disk && path.standing == Standing::Member;
        let late: Vec<PathId> = self.paths.iter().filter(is_late).map(|(id, _)| *id).collect();
        for path in late {
            let Some(found) = self.paths.remove(&path) else { continue };
            self.nexuses[found.nexus as usize].paths.remove(&found.lun);
            if self.life == Life::Open {
                self.survey_later(found.nexus);
            }
        }
    }

    /// Ways to the logical unit that the disk was not to have: one of them may be used now.
    fn look_again_at_unused(&mut self, disk: u32) {
        for index in 0..self.nexuses.len() {
            let unused = &mut self.nexuses[index].unused;
            let before = unused.len();
            unused.retain(|(of, _)| *of != disk);
            if unused.len() < before && self.life == Life::Open {
                self.survey_later(u32::try_from(index).expect("bounded by NEXUSES_MAX"));
            }
        }
    }

    /// Nobody is left to be told of a fence. What it was about is still open.
    fn drop_claims(&mut self, disk: u32, identity: &str) {
        let is_claimed = |(_, path): &(&PathId, &Path)| path.disk == disk && path.claim != Claim::None;
        let claimed: Vec<PathId> = self.paths.iter().filter(is_claimed).map(|(id, _)| *id).collect();
        for path in claimed {
            self.left_open = true;
            self.leave_unit(path, identity);
            self.release(path);
        }
    }

    pub(crate) fn shut_down_disks(&mut self) {
        let disks: Vec<u32> = self.disks.registry.iter().map(|(index, _, _)| index.0).collect();
        for disk in disks {
            self.tell_disk(disk, Event::Shutdown);
        }
    }

    pub(crate) fn waive(&mut self, disk: Option<u32>) {
        let all = self.disks.registry.iter().map(|(index, _, _)| index.0);
        let disks: Vec<u32> = all.filter(|index| disk.is_none_or(|disk| disk == *index)).collect();
        for disk in disks {
            self.tell_disk(disk, Event::Waive);
        }
    }

    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.disks.config.policy = policy;
        let disks: Vec<u32> = self.disks.registry.iter().map(|(index, _, _)| index.0).collect();
        for disk in disks {
            self.tell_disk(disk, Event::SetPolicy(policy));
        }
    }

    pub(crate) fn disk_name(&self, disk: u32) -> String {
        self.disks.registry.key(HeadIndex(disk)).map_or_else(|| format!("disk {disk}"), Name::to_string)
    }

    pub(crate) fn path_name(&self, path: PathId) -> String {
        match self.paths.get(&path) {
            Some(found) => {
                format!("P{} ({}, LUN {})", path.0, self.nexuses[found.nexus as usize].portal, found.lun)
            }
            None => format!("P{}", path.0),
        }
    }
}

/// How much a report matters; none if nobody is to be told, or was told already by `path_joined` or `path_refused`, with
/// the portal.
const fn severity(report: &Report) -> Option<Severity> {
    match report {
        Report::PathJoined { .. } | Report::PathRefused { .. } | Report::PathRemoved { .. } => None,
        // Said each second that it lasts. It is an event if something comes of it.
        Report::Head(Change::Alone { .. }) => None,
        Report::CacheLost { .. } | Report::PathQuarantined { .. } => Some(Severity::Error),
        Report::RequestFailed { .. }
        | Report::WeakName { .. }
        | Report::FenceWaived { .. }
        | Report::GroupNotActivated { .. } => Some(Severity::Warning),
        _ => Some(Severity::Info),
    }
}

/// The path that a report is about, if it is about one.
const fn path_of(report: &Report) -> Option<PathId> {
    match report {
        Report::PathJoined { path, .. }
        | Report::PathRefused { path, .. }
        | Report::PathState { path, .. }
        | Report::PathRemoved { path }
        | Report::PathQuarantined { path, .. }
        | Report::Attention { path, .. }
        | Report::Redefined { path, .. }
        | Report::CacheLost { path }
        | Report::Rediscover { path }
        | Report::FenceOpened { path }
        | Report::GroupActivated { path, .. }
        | Report::GroupNotActivated { path, .. }
        | Report::FenceProved { path, .. }
        | Report::FenceWaived { path, .. } => Some(*path),
        Report::Head(change) => match change {
            Change::PathAdded { path, .. }
            | Change::Path { path, .. }
            | Change::PathRemoved { path }
            | Change::BackedOff { path, .. }
            | Change::TrialDue { path }
            | Change::Restored { path }
            | Change::Alone { path, .. }
            | Change::Refused { path, .. } => Some(*path),
            _ => None,
        },
        Report::Resized { .. }
        | Report::FeatureMissing { .. }
        | Report::RequestFailed { .. }
        | Report::WeakName { .. } => None,
    }
}

impl Path {
    /// One that is no member of its disk.
    pub(crate) const fn new(nexus: u32, lun: Lun, disk: u32) -> Self {
        Self {
            nexus,
            lun,
            disk,
            port_group: None,
            session: 0,
            group: None,
            standing: Standing::Removed,
            claim: Claim::None,
            is_heir: false,
            in_flight: VecDeque::new(),
            completed: 0,
            failed: 0,
            latency: None,
        }
    }

    /// Nothing of it can come back any more, and nobody asks for it.
    fn is_idle(&self) -> bool {
        self.standing == Standing::Removed && self.claim == Claim::None && self.in_flight.is_empty()
    }

    /// When it was started.
    fn end(&mut self, now: Instant, command: CommandId, ending: &Ending) -> Option<Instant> {
        // Endings come nearly in the order of the starts, so the search is short.
        let place = self.in_flight.iter().position(|(id, _)| *id == command)?;
        let (_, started) = self.in_flight.remove(place)?;
        if matches!(ending, Ending::Reply(_)) {
            self.completed += 1;
            let latency = self.latency.get_or_insert_with(|| {
                Histogram::new_with_bounds(1, LATENCY_MAX_US, 2).expect("the bounds are in order")
            });
            latency.saturating_record(now.since(started).as_micros().max(1));
        } else {
            self.failed += 1;
        }
        Some(started)
    }
}
