//! What a host can be asked about itself.

use std::net::SocketAddr;

use block::Geometry;
use clock::Duration;
use hdrhistogram::Histogram;
use multipath::{HeadIndex, NoPath, PathId};
use scsi::Lun;
use scsi_multipath::{Disk, Hold, Name};

use crate::disks::Entry;
use crate::event::{DiskIndex, NexusIndex};
use crate::failover::FailoverReport;
use crate::host::Host;
use crate::nexus::{Nexus, Purpose};

/// One disk, as seen now.
#[derive(Debug)]
pub struct DiskView<'a> {
    pub index: DiskIndex,
    pub identity: &'a Name,
    pub vendor: &'a str,
    pub product: &'a str,
    pub revision: &'a str,
    pub serial: &'a str,
    /// None before the first path has joined: it cannot be served yet.
    pub geometry: Option<Geometry>,
    /// Fences that ended with a proof, ever.
    pub fences_proved: u64,
    /// Fences that ended without one, by the timer or by an operator, ever.
    pub fences_waived: u64,
    pub no_path: NoPath,
    /// How long it outlives its last path.
    pub delayed_removal: Duration,
    /// What the last failovers came to, the oldest first.
    pub failovers: Vec<FailoverReport>,
    /// Ways to it that were found and are not used, because of the mode of multipath.
    pub unused: Vec<(NexusIndex, Lun)>,
    /// None without the multipath layer.
    pub disk: Option<&'a Disk>,
}

/// What the driver's side of a path looks like now.
#[derive(Debug)]
pub struct PathView {
    pub nexus: NexusIndex,
    pub lun: Lun,
    pub port_group: Option<u16>,
    /// An operator keeps it out.
    pub hold: Option<Hold>,
    pub in_flight: usize,
    /// Commands that were answered, ever.
    pub completed: u64,
    /// Commands that came back without an answer.
    pub failed: u64,
    pub latency: Latency,
}

/// From the moment a command went to the session to its ending, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

/// One nexus, as seen now.
#[derive(Debug)]
pub struct NexusView<'a> {
    pub portal: SocketAddr,
    /// None while the portal is only asked for its targets.
    pub target: Option<&'a str>,
    /// `connecting`, `login`, `fencing`, `survey`, `up`, `waiting`, `logout`, `done`.
    pub state: &'static str,
    /// It carries commands.
    pub is_up: bool,
    /// Why the last connection ended or could not be made.
    pub last_error: Option<&'a str>,
    pub logins: u64,
    /// What the last ping of the present session took (NOP-Out to NOP-In); it is pinged only while it is silent.
    pub ping: Option<Duration>,
}

impl Host {
    /// The disks in the order in which they were found.
    pub fn disks(&self) -> impl Iterator<Item = DiskView<'_>> {
        self.disks.registry.iter().map(|(index, name, entry)| self.view_of_disk(index, name, entry))
    }

    #[must_use]
    pub fn disk(&self, disk: DiskIndex) -> Option<DiskView<'_>> {
        let index = HeadIndex(disk.0);
        Some(self.view_of_disk(index, self.disks.registry.key(index)?, self.disks.registry.get(index)?))
    }

    #[must_use]
    pub fn path(&self, path: PathId) -> Option<PathView> {
        let found = self.paths.get(&path)?;
        Some(PathView {
            nexus: NexusIndex(found.nexus),
            lun: found.lun,
            port_group: found.port_group,
            hold: self.hold_of(path),
            in_flight: found.in_flight.len(),
            completed: found.completed,
            failed: found.failed,
            latency: found.latency.as_ref().map(latency_of).unwrap_or_default(),
        })
    }

    pub fn nexuses(&self) -> impl Iterator<Item = NexusView<'_>> {
        self.nexuses.iter().map(view_of_nexus)
    }

    #[must_use]
    pub fn nexus(&self, nexus: NexusIndex) -> Option<NexusView<'_>> {
        self.nexuses.get(nexus.0 as usize).map(view_of_nexus)
    }

    /// Every portal has had its first answer, or failed for the first time.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.memory.holds_paths() && self.nexuses.iter().all(|nexus| nexus.settled)
    }

    /// How many disks can be served.
    #[must_use]
    pub fn disks_ready(&self) -> usize {
        self.disks.registry.iter().filter(|(_, _, entry)| entry.geometry.is_some()).count()
    }

    fn view_of_disk<'a>(&'a self, index: HeadIndex, identity: &'a Name, entry: &'a Entry) -> DiskView<'a> {
        DiskView {
            index: DiskIndex(index.0),
            identity,
            vendor: &entry.facts.vendor,
            product: &entry.facts.product,
            revision: &entry.facts.revision,
            serial: &entry.facts.serial,
            geometry: entry.geometry,
            fences_proved: entry.fences_proved,
            fences_waived: entry.fences_waived,
            no_path: entry.no_path,
            delayed_removal: entry.delayed_removal,
            failovers: entry.failovers.iter().cloned().collect(),
            unused: self.unused(index.0),
            disk: entry.device.disk(),
        }
    }

    fn unused(&self, disk: u32) -> Vec<(NexusIndex, Lun)> {
        let of_disk = (disk, Lun([0; 8]))..=(disk, Lun([0xff; 8]));
        let nexuses = (0..).zip(&self.nexuses);
        let unused = nexuses.flat_map(|(index, nexus)| {
            nexus.unused.range(of_disk.clone()).map(move |(_, lun)| (NexusIndex(index), *lun))
        });
        unused.collect()
    }

    /// Commands of disks that came back, ever.
    #[must_use]
    pub const fn answered(&self) -> u64 {
        self.answered
    }
}

fn latency_of(histogram: &Histogram<u32>) -> Latency {
    Latency {
        p50_us: histogram.value_at_quantile(0.5),
        p99_us: histogram.value_at_quantile(0.99),
        max_us: histogram.max(),
    }
}

fn view_of_nexus(nexus: &Nexus) -> NexusView<'_> {
    NexusView {
        portal: nexus.portal,
        target: match &nexus.purpose {
            Purpose::Discovery => None,
            Purpose::Target { name, .. } => Some(name),
        },
        state: nexus.state(),
        is_up: nexus.is_up(),
        last_error: nexus.last_error.as_deref(),
        logins: nexus.logins,
        ping: nexus.ping().map(|(_, took)| took),
    }
}
