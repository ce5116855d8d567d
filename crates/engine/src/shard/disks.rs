//! What the host of a shard says of its disks, for exports and for people.

use host::failover::FailoverReport;
use host::state::HoldRecord;
use host::verbs::ShowNoPath;
use host::{DiskView, NexusIndex};
use scsi::Lun;
use scsi_multipath::{Disk, FenceView, Hold, PathView};

use super::Shard;
use crate::status::{
    DiskStatus, FailoverStatus, FenceStatus, KeptOutStatus, LatencyStatus, PathStatus, PortalStatus,
    UnusedStatus,
};

impl Shard {
    /// What a new NBD client can choose from: disk number and export, the first found first.
    pub(super) fn exports(&self) -> impl Iterator<Item = (u32, nbd::Export)> {
        self.host.disks().filter_map(|view| {
            let geometry = view.geometry?;
            let export = nbd::Export {
                name: view.identity.to_string(),
                description: format!("{} {}", view.vendor, view.product),
                geometry,
                // A flush covers what every connection wrote: it is one SYNCHRONIZE CACHE of the logical unit,
                // sent after all writes that were answered before.
                multi_conn: true,
            };
            Some((view.index.0, export))
        })
    }

    pub(super) fn disk_statuses(&self) -> Vec<DiskStatus> {
        self.host.disks().map(|view| self.disk_status(&view)).collect()
    }

    fn disk_status(&self, view: &DiskView<'_>) -> DiskStatus {
        let head = view.disk.map(Disk::status);
        let paths = view.disk.into_iter().flat_map(Disk::paths);
        let fences = view.disk.into_iter().flat_map(Disk::fences);
        let name = view.identity.to_string();
        DiskStatus {
            number: view.index.0,
            identity: name.clone(),
            export: name,
            serial: view.serial.to_owned(),
            vendor: view.vendor.to_owned(),
            product: view.product.to_owned(),
            revision: view.revision.to_owned(),
            size: view.geometry.map_or(0, |geometry| geometry.size),
            block_size: view.geometry.map_or(0, |geometry| geometry.block_size),
            medium: view.geometry.map(|geometry| geometry.rotation).unwrap_or_default().to_string(),
            policy: head.as_ref().map_or_else(|| String::from("direct"), |head| head.policy.to_string()),
            no_path: ShowNoPath(view.no_path).to_string(),
            removal_delay_ms: view.delayed_removal.as_millis(),
            parked: head.as_ref().map_or(0, |head| head.parked),
            failed_over: head.as_ref().map_or(0, |head| head.counters.failed_over),
            fences: fences.map(|fence| self.fence_status(&fence)).collect(),
            held_writes: view.disk.map_or(0, Disk::held),
            fences_proved: view.fences_proved,
            fences_waived: view.fences_waived,
            failovers: view.failovers.iter().map(|report| self.failover_status(report)).collect(),
            paths: paths.filter_map(|path| self.path_status(&path)).collect(),
            unused: view.unused.iter().map(|unused| self.unused_status(*unused)).collect(),
        }
    }

    fn failover_status(&self, report: &FailoverReport) -> FailoverStatus {
        FailoverStatus {
            unix_ms: self.unix_ms(report.at),
            path: report.path.0,
            cause: report.by.code().to_owned(),
            touched: report.touched,
            resent: report.resent,
            failed: report.failed,
            unfinished: report.unfinished,
            first_completion_us: report.first_completion.map(clock::Duration::as_micros),
            longest_wait_us: report.longest_wait.as_micros(),
            fence: report.fence.code().to_owned(),
        }
    }

    fn unused_status(&self, (nexus, lun): (NexusIndex, Lun)) -> UnusedStatus {
        let portal = self.host.nexus(nexus).map_or_else(String::new, |nexus| nexus.portal.to_string());
        UnusedStatus { portal, lun: lun.to_string() }
    }

    fn fence_status(&self, view: &FenceView) -> FenceStatus {
        let nexus = self.host.path(view.path).and_then(|path| self.host.nexus(path.nexus));
        FenceStatus {
            path: view.path.0,
            portal: nexus.map_or_else(String::new, |nexus| nexus.portal.to_string()),
            since_ms: self.now.since(view.since).as_millis(),
            writes: view.writes,
        }
    }

    fn path_status(&self, view: &PathView) -> Option<PathStatus> {
        let path = self.host.path(view.status.id)?;
        let nexus = self.host.nexus(path.nexus)?;
        Some(PathStatus {
            id: view.status.id.0,
            portal: nexus.portal,
            target: nexus.target.unwrap_or_default().to_owned(),
            lun: path.lun.to_string(),
            state: view.status.state.to_string(),
            cause: host::log::cause_of_path(view.reason).to_owned(),
            since_ms: self.now.since(view.status.since).as_millis(),
            held: path.hold.map(|hold| hold_name(hold).to_owned()),
            port_group: path.port_group,
            access: view.access.to_string(),
            access_assumed: view.is_assumed,
            preferred: view.preferred,
            nop_us: nexus.ping.map(clock::Duration::as_micros),
            in_flight: path.in_flight,
            completed: path.completed,
            failed: path.failed,
            latency: LatencyStatus {
                p50_us: path.latency.p50_us,
                p99_us: path.latency.p99_us,
                max_us: path.latency.max_us,
            },
        })
    }

    pub(super) fn portal_statuses(&self) -> Vec<PortalStatus> {
        let status = |nexus: host::NexusView<'_>| PortalStatus {
            portal: nexus.portal,
            target: nexus.target.map(str::to_owned),
            state: nexus.state.to_owned(),
            last_error: nexus.last_error.map(str::to_owned),
            logins: nexus.logins,
        };
        self.host.nexuses().map(status).collect()
    }

    pub(super) fn kept_out_statuses(&self) -> Vec<KeptOutStatus> {
        let status = |record: HoldRecord| KeptOutStatus {
            disk: record.identity,
            portal: record.portal,
            target: record.target,
            held: hold_name(record.hold).to_owned(),
        };
        self.host.holds_without_path().into_iter().map(status).collect()
    }
}

pub(super) const fn hold_name(hold: Hold) -> &'static str {
    match hold {
        Hold::Failed => "failed",
        Hold::Drained => "drained",
    }
}
