//! The disks of a shard and the paths that lead to them.

use std::collections::VecDeque;

use block::{Geometry, Request};
use clock::Instant;
use hdrhistogram::Histogram;
use multipath::{HeadIndex, Node, PathId, Policy, Registry};
use scsi::{CommandId, Ending, Lun};
use scsi_multipath::{Command, Contradiction, Direct, Disk, Issuer, Name, Report, Unit};

use super::device::Device;
use super::{Shard, Source};
use crate::config::{DiskConfig, Layer};
use crate::status::{DiskStatus, LatencyStatus, NoticeKind, PathStatus, Severity};

/// Latencies are kept from 1 µs to 1 minute with two digits: about 13 KiB a path.
const LATENCY_MAX_US: u64 = 60_000_000;

/// One disk, and what its exports have to know of it.
#[derive(Debug)]
struct Host {
    device: Device,
    facts: Facts,
    /// Known once the first path joined.
    geometry: Option<Geometry>,
}

/// What a disk is called, from the first path that showed it.
#[derive(Debug)]
struct Facts {
    vendor: String,
    product: String,
    serial: String,
}

impl Facts {
    fn of(unit: &Unit) -> Self {
        Self {
            vendor: unit.vendor.clone(),
            product: unit.product.clone(),
            serial: unit.serial.clone().unwrap_or_default(),
        }
    }
}

/// The disks of a shard, one for each identity.
#[derive(Debug)]
pub(super) struct Disks {
    config: DiskConfig,
    registry: Registry<Name, Host>,
}

/// What the driver knows of a path. Its state is the disk's to know.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) nexus: u32,
    pub(super) lun: Lun,
    disk: u32,
    port_group: Option<u16>,
    standing: Standing,
    /// Commands that the session holds and when it was given them, oldest first.
    in_flight: VecDeque<(CommandId, Instant)>,
    completed: u64,
    failed: u64,
    latency: Histogram<u32>,
}

/// Whether the disk still counts with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Member,
    /// Its nexus was lost; what the next login finds takes its place.
    Lost,
    /// It is known only until its last command came back.
    Removed,
}

impl Disks {
    pub(super) fn new(config: DiskConfig) -> Self {
        Self { config, registry: Registry::new() }
    }

    /// How many disks can be served.
    pub(super) fn ready(&self) -> usize {
        self.registry.iter().filter(|(_, _, host)| host.geometry.is_some()).count()
    }

    pub(super) fn are_gone(&self) -> bool {
        self.registry.is_empty()
    }

    /// What a new NBD client can choose from: disk number and export, the first found first.
    pub(super) fn exports(&self) -> impl Iterator<Item = (u32, nbd::Export)> {
        self.registry.iter().filter_map(|(index, name, host)| {
            let geometry = host.geometry?;
            let export = nbd::Export {
                name: name.to_string(),
                description: format!("{} {}", host.facts.vendor, host.facts.product),
                geometry,
                // A flush covers what every connection wrote: it is one SYNCHRONIZE CACHE of the logical unit,
                // sent after all writes that were answered before.
                multi_conn: true,
            };
            Some((index.0, export))
        })
    }

    fn get_mut(&mut self, disk: u32) -> Option<&mut Host> {
        self.registry.get_mut(HeadIndex(disk))
    }
}

impl Shard {
    /// A survey found a logical unit: find or create its disk, and offer it the path.
    pub(super) fn path_found(&mut self, nexus: u32, lun: Lun, unit: Box<Unit>) {
        let identity = unit.identity.name().clone();
        if !self.wanted(&identity) {
            let text = format!("{identity} is not served: it is not among the wanted ones");
            self.notice(Severity::Info, NoticeKind::Other, text);
            return;
        }
        let path = PathId(self.path_ids);
        let Some(device) = self.device(path, &unit) else {
            self.notice(
                Severity::Error,
                NoticeKind::Other,
                format!("{identity} does not say how large it is"),
            );
            return;
        };
        let facts = Facts::of(&unit);
        let entry = self.disks.registry.find_or_create(&identity, |_| Host { device, facts, geometry: None });
        let disk = match entry {
            Ok(entry) => entry.index().0,
            Err(full) => {
                self.notice(Severity::Error, NoticeKind::Other, format!("{identity} is not served: {full}"));
                return;
            }
        };
        if self.is_member(nexus, lun, disk) {
            // Another survey of a nexus that was not lost found what was known.
            return;
        }
        self.path_ids += 1;
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_US, 2).expect("the bounds are in order");
        let port_group = unit.port.group;
        let path_of = Path {
            nexus,
            lun,
            disk,
            port_group,
            standing: Standing::Member,
            in_flight: VecDeque::new(),
            completed: 0,
            failed: 0,
            latency,
        };
        self.paths.insert(path, path_of);
        let before = self.nexuses[nexus as usize].paths.insert(lun, path);
        self.tell_disk(
            disk,
            scsi_multipath::Event::PathFound { path, node: None, target: scsi_multipath::TargetId(0), unit },
        );
        // Not earlier: a disk ends with its last path, and this one is there to stay.
        if let Some(before) = before {
            self.retire_path(before);
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
            ..scsi_multipath::Options::default().head
        };
        let disk = Disk::new(
            unit.identity.clone(),
            scsi_multipath::Options { head, sharing: config.sharing, fence: config.fence },
        );
        Some(Device::Disk(Box::new(disk)))
    }

    fn is_member(&self, nexus: u32, lun: Lun, disk: u32) -> bool {
        let path = self.nexuses[nexus as usize].paths.get(&lun).and_then(|path| self.paths.get(path));
        path.is_some_and(|path| path.standing == Standing::Member && path.disk == disk)
    }

    fn wanted(&self, identity: &Name) -> bool {
        let identities = &self.config.filter.identities;
        identities.is_empty() || identities.contains(&identity.to_string())
    }

    /// The logical unit is not behind this nexus any more.
    pub(super) fn remove_path(&mut self, nexus: u32, lun: Lun) {
        if let Some(path) = self.nexuses[nexus as usize].paths.remove(&lun) {
            self.retire_path(path);
        }
    }

    fn retire_path(&mut self, path: PathId) {
        let Some(removed) = self.paths.get_mut(&path) else { return };
        removed.standing = Standing::Removed;
        let disk = removed.disk;
        self.forget_idle_path(path);
        self.tell_disk(disk, scsi_multipath::Event::PathRemoved { path });
    }

    /// A removed path is needed until its last command came back.
    fn forget_idle_path(&mut self, path: PathId) {
        if self
            .paths
            .get(&path)
            .is_some_and(|found| found.standing == Standing::Removed && found.in_flight.is_empty())
        {
            self.paths.remove(&path);
        }
    }

    /// The nexus is lost; the path stays known, so that it is seen that it is down.
    pub(super) fn path_lost(&mut self, path: PathId) {
        let Some(found) = self.paths.get_mut(&path) else { return };
        if found.standing == Standing::Member {
            found.standing = Standing::Lost;
            let disk = found.disk;
            self.tell_disk(disk, scsi_multipath::Event::PathLost { path });
        }
    }

    pub(super) fn submit_to_disk(&mut self, disk: u32, request: Request) {
        if self.disks.get_mut(disk).is_none() {
            self.complete(request, Err(block::Error::Shutdown));
            return;
        }
        self.tell_disk(disk, scsi_multipath::Event::Block(request, Node(0)));
    }

    /// A command came back from a session: to the disk that its path belongs to.
    pub(super) fn command_ended(&mut self, command: Command, ending: Ending) {
        let Issuer::Disk(path) = command.context.issuer() else { return };
        let Some(found) = self.paths.get_mut(&path) else { return };
        found.end(self.now, command.id, &ending);
        self.answers += 1;
        let disk = found.disk;
        self.forget_idle_path(path);
        self.tell_disk(disk, scsi_multipath::Event::Ended(command, ending));
    }

    fn tell_disk(&mut self, disk: u32, event: scsi_multipath::Event) {
        let now = self.now;
        if let Some(host) = self.disks.get_mut(disk) {
            host.device.handle(now, event);
            self.touched.add(Source::Disk(disk));
        }
    }

    pub(super) fn expire_disk(&mut self, disk: u32) {
        self.tell_disk(disk, scsi_multipath::Event::Timeout);
    }

    pub(super) fn arm_disk(&mut self, disk: u32) {
        let deadline = self.disks.get_mut(disk).and_then(|host| host.device.poll_timeout());
        self.timers.arm(Source::Disk(disk), deadline);
    }

    pub(super) fn drain_disk(&mut self, disk: u32) {
        while let Some(action) = self.disks.get_mut(disk).and_then(|host| host.device.poll_action()) {
            match action {
                scsi_multipath::Action::Start { path, command } => self.start(disk, path, command),
                scsi_multipath::Action::Fence { .. }
                | scsi_multipath::Action::Unfence { .. }
                | scsi_multipath::Action::Manage { .. } => {}
                scsi_multipath::Action::Finish(request, completion) => self.complete(request, completion),
                scsi_multipath::Action::Geometry(geometry) => self.disk_changed(disk, geometry),
                scsi_multipath::Action::Joined { path } => self.path_joined(disk, path),
                scsi_multipath::Action::Refused { path, reason } => self.path_refused(disk, path, &reason),
                scsi_multipath::Action::Report(report) => self.report(disk, &report),
                scsi_multipath::Action::Gone => self.disk_gone(disk),
            }
        }
    }

    fn start(&mut self, disk: u32, path: PathId, command: Command) {
        match self.paths.get_mut(&path) {
            Some(found) => {
                found.in_flight.push_back((command.id, self.now));
                let (nexus, lun) = (found.nexus, found.lun);
                self.send(nexus, lun, command);
            }
            // The disk was told that the path is gone; this command crossed the news.
            None => self.tell_disk(disk, scsi_multipath::Event::Ended(command, Ending::NotSent)),
        }
    }

    fn report(&mut self, disk: u32, report: &Report) {
        let severity = match report {
            // Said by `path_joined` and `path_refused`, with the portal's address.
            Report::PathJoined { .. } | Report::PathRefused { .. } | Report::PathRemoved { .. } => return,
            Report::CacheLost { .. } | Report::PathQuarantined { .. } => Severity::Error,
            Report::RequestFailed { .. } | Report::WeakName { .. } => Severity::Warning,
            _ => Severity::Info,
        };
        let text = format!("{}: {report}", self.disk_name(disk));
        self.notice(severity, NoticeKind::Other, text);
        if let Report::Rediscover { path } = report
            && let Some(nexus) = self.paths.get(path).map(|path| path.nexus)
        {
            self.survey_again(nexus);
        }
    }

    fn disk_changed(&mut self, disk: u32, geometry: Geometry) {
        let Some(host) = self.disks.get_mut(disk) else { return };
        let first = host.geometry.replace(geometry).is_none();
        let name = self.disk_name(disk);
        if first {
            let size = geometry.size >> 20;
            let text = format!("{name}: {size} MiB, ready");
            self.notice(Severity::Info, NoticeKind::DiskReady(name), text);
        } else {
            self.resize_clients(disk, &name, geometry);
        }
    }

    fn path_joined(&mut self, disk: u32, path: PathId) {
        let text = format!("{}: path {} joined", self.disk_name(disk), self.path_name(path));
        if let Some(found) = self.paths.get(&path) {
            self.nexuses[found.nexus as usize].complained.remove(&found.lun);
        }
        self.notice(Severity::Info, NoticeKind::PathUp, text);
    }

    fn path_refused(&mut self, disk: u32, path: PathId, reason: &Contradiction) {
        let name = self.disk_name(disk);
        let text = format!(
            "{name}: path {} is not used, the logical unit behind it contradicts the other paths: {reason}; \
             two units must not share an identity, check the target",
            self.path_name(path)
        );
        let Some(refused) = self.paths.remove(&path) else { return };
        let nexus = &mut self.nexuses[refused.nexus as usize];
        nexus.paths.remove(&refused.lun);
        if nexus.complained.insert(refused.lun) {
            self.notice(Severity::Error, NoticeKind::PathFailed, text);
        }
        // A disk that is going makes way for a new one, and a size may be about to change on every path.
        if matches!(reason, Contradiction::Ending | Contradiction::Blocks { .. }) {
            self.survey_later(refused.nexus);
        }
    }

    fn disk_gone(&mut self, disk: u32) {
        let name = self.disk_name(disk);
        self.disks.registry.remove(HeadIndex(disk));
        self.timers.forget(Source::Disk(disk));
        self.detach_clients(disk);
        self.notice(Severity::Info, NoticeKind::Other, format!("{name}: removed"));
    }

    pub(super) fn shut_down_disks(&mut self) {
        let disks: Vec<u32> = self.disks.registry.iter().map(|(index, _, _)| index.0).collect();
        for disk in disks {
            self.tell_disk(disk, scsi_multipath::Event::Shutdown);
        }
    }

    pub(super) fn set_policy(&mut self, policy: Policy) {
        self.disks.config.policy = policy;
        let disks: Vec<u32> = self.disks.registry.iter().map(|(index, _, _)| index.0).collect();
        for disk in disks {
            self.tell_disk(disk, scsi_multipath::Event::SetPolicy(policy));
        }
    }

    fn disk_name(&self, disk: u32) -> String {
        self.disks.registry.key(HeadIndex(disk)).map_or_else(|| format!("disk {disk}"), Name::to_string)
    }

    fn path_name(&self, path: PathId) -> String {
        match self.paths.get(&path) {
            Some(found) => {
                format!("P{} ({}, LUN {})", path.0, self.nexuses[found.nexus as usize].portal, found.lun)
            }
            None => format!("P{}", path.0),
        }
    }

    pub(super) fn disk_statuses(&self) -> Vec<DiskStatus> {
        self.disks.registry.iter().map(|(index, name, host)| self.disk_status(index.0, name, host)).collect()
    }

    fn disk_status(&self, disk: u32, name: &Name, host: &Host) -> DiskStatus {
        let head = host.device.disk().map(Disk::status);
        let paths = host.device.disk().into_iter().flat_map(Disk::paths);
        DiskStatus {
            number: disk,
            identity: name.to_string(),
            export: name.to_string(),
            serial: host.facts.serial.clone(),
            vendor: host.facts.vendor.clone(),
            product: host.facts.product.clone(),
            size: host.geometry.map_or(0, |geometry| geometry.size),
            block_size: host.geometry.map_or(0, |geometry| geometry.block_size),
            policy: head.as_ref().map_or_else(|| String::from("direct"), |head| head.policy.to_string()),
            parked: head.as_ref().map_or(0, |head| head.parked),
            failed_over: head.as_ref().map_or(0, |head| head.counters.failed_over),
            fences: Vec::new(),
            held_writes: 0,
            fences_proved: 0,
            fences_waived: 0,
            paths: paths.filter_map(|path| self.path_status(&path)).collect(),
        }
    }

    fn path_status(&self, view: &scsi_multipath::PathView) -> Option<PathStatus> {
        let path = self.paths.get(&view.status.id)?;
        let nexus = &self.nexuses[path.nexus as usize];
        Some(PathStatus {
            id: view.status.id.0,
            portal: nexus.portal,
            target: nexus.target_name().to_owned(),
            lun: path.lun.to_string(),
            state: view.status.state.to_string(),
            port_group: path.port_group,
            in_flight: path.in_flight.len(),
            completed: path.completed,
            failed: path.failed,
            latency: LatencyStatus {
                p50_us: path.latency.value_at_quantile(0.5),
                p99_us: path.latency.value_at_quantile(0.99),
                max_us: path.latency.max(),
            },
        })
    }
}

impl Path {
    fn end(&mut self, now: Instant, command: CommandId, ending: &Ending) {
        // Endings come nearly in the order of the starts, so the search is short.
        let Some(place) = self.in_flight.iter().position(|(id, _)| *id == command) else { return };
        let Some((_, started)) = self.in_flight.remove(place) else { return };
        if matches!(ending, Ending::Reply(_)) {
            self.completed += 1;
            self.latency.saturating_record(now.since(started).as_micros().max(1));
        } else {
            self.failed += 1;
        }
    }
}
