//! The initiator's side: sessions, disks and NBD servers, wired as a shard of the engine wires them, in virtual time.
//!
//! This is the engine's wiring once more, because sockets and epoll cannot be simulated. What is wired is the same:
//! every decision is taken by machines that the engine drives too.

mod disks;
mod nexus;
mod servers;
mod survey;

use std::collections::BTreeMap;

use clock::{Duration, Instant};
use multipath::{PathId, Registry};
use scsi_multipath::Name;

use crate::link::{ConnectionId, Door};
use crate::plan::Plan;
use crate::scene::{Scene, Source};
use disks::{Disks, Path};
use nexus::Nexus;
use servers::Server;

/// What the engine would read from its configuration.
#[derive(Clone, Debug)]
struct Settings {
    digests: bool,
    initial_r2t: bool,
    command_timeout: Duration,
    disk: scsi_multipath::Options,
}

#[derive(Debug)]
pub(crate) struct Host {
    settings: Settings,
    nexuses: Vec<Nexus>,
    disks: Disks,
    paths: BTreeMap<PathId, Path>,
    path_ids: u32,
    servers: BTreeMap<ConnectionId, Server>,
    /// NBD clients wait in the listen backlog until discovery is over.
    is_serving: bool,
    backlog: Vec<ConnectionId>,
    /// How often the access states of the array changed.
    pub(crate) access_epoch: u64,
    /// Commands that were lost with their nexus after they were sent.
    pub(crate) commands_lost: u64,
    /// Nexuses that were lost after they had been up.
    pub(crate) nexuses_lost: u64,
}

impl Host {
    pub(crate) fn new(plan: &Plan) -> Self {
        let nexuses =
            (0..plan.ports()).map(|port| Nexus::new(plan.seed, port, plan.target_of(port))).collect();
        Self {
            settings: Settings {
                digests: plan.digests,
                initial_r2t: plan.initial_r2t,
                command_timeout: plan.command_timeout,
                disk: plan.disk_options(),
            },
            nexuses,
            disks: Disks { registry: Registry::<Name, _>::new() },
            paths: BTreeMap::new(),
            path_ids: 0,
            servers: BTreeMap::new(),
            is_serving: false,
            backlog: Vec::new(),
            access_epoch: 0,
            commands_lost: 0,
            nexuses_lost: 0,
        }
    }

    pub(crate) fn start(&mut self, scene: &mut Scene) {
        for index in 0..self.nexuses.len() {
            self.connect(scene, u32::try_from(index).expect("there are few ports"));
        }
    }

    /// Something came for the near end of an iSCSI connection, or it may send again.
    pub(crate) fn wake_nexus(&mut self, scene: &mut Scene, id: ConnectionId) {
        match scene.network.owner(id) {
            Some(index) if scene.network.door(id) != Some(Door::Export) => self.read_nexus(scene, index, id),
            _ => {}
        }
    }

    /// What a touched machine has to say.
    pub(crate) fn drain(&mut self, scene: &mut Scene, source: Source) {
        match source {
            Source::Nexus(index) => self.drain_nexus(scene, index),
            Source::Disk(index) => self.drain_disk(scene, index),
            Source::Server(id) => self.drain_server(scene, id),
            _ => {}
        }
    }

    pub(crate) fn flush(&mut self, scene: &mut Scene, source: Source) {
        match source {
            Source::Nexus(index) => self.flush_nexus(scene, index),
            Source::Disk(index) => self.arm_disk(scene, index),
            Source::Server(id) => self.flush_server(scene, id),
            _ => {}
        }
    }

    pub(crate) fn expire(&mut self, scene: &mut Scene, source: Source) {
        match source {
            Source::Nexus(index) => self.expire_nexus(scene, index),
            Source::Disk(index) => self.tell_disk(scene, index, scsi_multipath::Event::Timeout),
            Source::Server(id) => self.expire_server(scene, id),
            _ => {}
        }
    }

    /// Clients are let in once every portal was tried, as long as there is a disk to serve.
    pub(crate) fn settle(&mut self, scene: &mut Scene, units: usize) {
        if !self.is_serving && self.disks.ready() >= units {
            self.is_serving = true;
            for id in std::mem::take(&mut self.backlog) {
                self.welcome(scene, id);
            }
        }
    }

    pub(crate) fn is_up(&self, port: usize) -> Option<ConnectionId> {
        self.nexuses.get(port).and_then(Nexus::up)
    }

    /// What keeps the world from being at its best: for the checker of liveness.
    pub(crate) fn waits_for(&self, units: usize) -> Vec<String> {
        let down = self.nexuses.iter().filter(|nexus| nexus.up().is_none());
        let mut waiting: Vec<String> =
            down.map(|nexus| format!("port {} is {}", nexus.port, nexus.state())).collect();
        let usable = self.disks.usable();
        if usable < units {
            waiting.push(format!("{usable} of {units} disks can be used"));
        }
        waiting
    }
}

/// Doubling pauses with jitter, as in the engine.
#[derive(Debug)]
struct Backoff {
    failures: u32,
}

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LONGEST: Duration = Duration::from_secs(5);

impl Backoff {
    fn pause(&mut self, scene: &mut Scene) -> Duration {
        let doubled = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(10));
        let whole = doubled.min(BACKOFF_LONGEST).as_nanos();
        self.failures = self.failures.saturating_add(1);
        Duration::from_nanos(whole / 2 + scene.random.below(whole / 2))
    }
}

/// The end of a wait, as a source is armed with it.
fn earliest(deadlines: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    deadlines.into_iter().flatten().min()
}
