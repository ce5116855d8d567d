//! The initiator's side: the host that the engine drives too, its connections, and NBD servers, in virtual time.

mod servers;
mod sessions;
mod watch;

use std::collections::BTreeMap;

use ::host::config::{Digests, DiskConfig, EarlyData, Filter, Initiator, Layer, PortalConfig};
use ::host::state::State;
use ::host::{Action, Event, NexusIndex, Options};
use multipath::{Pace, PathId, PathState, SlowPaths};
use scsi::CommandId;
use scsi_multipath::Disk;

use crate::check::{Epoch, Seat};
use crate::link::ConnectionId;
use crate::log::Part;
use crate::plan::Plan;
use crate::scene::{Scene, Source};
use crate::target::{portal_address, target_name};
use servers::Server;
use sessions::Connection;

const INITIATOR_NAME: &str = "iqn.2026-01.example:host";

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) machine: ::host::Host,
    /// What outlives the process.
    stored: State,
    /// By the nexuses that they are of; those are numbered as the ports are.
    connections: Vec<Option<Connection>>,
    /// Commands out.
    pub(crate) in_flight: BTreeMap<(PathId, CommandId), Sent>,
    servers: BTreeMap<ConnectionId, Server>,
    /// NBD clients wait in the listen backlog until discovery is over.
    is_serving: bool,
    backlog: Vec<ConnectionId>,
    /// Commands that were lost with their nexus after they were sent.
    pub(crate) commands_lost: u64,
    /// Nexuses that were lost after they had been up.
    pub(crate) nexuses_lost: u64,
}

/// A command that is out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// The access states that it was sent in.
    epoch: Epoch,
    pub(crate) seat: Option<Seat>,
}

impl Host {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self::after(plan, State::default())
    }

    /// The host as it starts when this is what it finds stored.
    fn after(plan: &Plan, stored: State) -> Self {
        let mut machine = ::host::Host::new(options(plan, stored.clone()));
        machine.set_trace(true);
        Self {
            machine,
            stored,
            connections: (0..plan.ports()).map(|_| None).collect(),
            in_flight: BTreeMap::new(),
            servers: BTreeMap::new(),
            is_serving: false,
            backlog: Vec::new(),
            commands_lost: 0,
            nexuses_lost: 0,
        }
    }

    /// The process was killed; the next one finds what this one had stored.
    pub(crate) fn reborn(&self, plan: &Plan) -> Self {
        Self {
            commands_lost: self.commands_lost,
            nexuses_lost: self.nexuses_lost,
            ..Self::after(plan, self.stored.clone())
        }
    }

    /// An operator says that nothing is left of what fences are about.
    pub(crate) fn waive(&mut self, scene: &mut Scene) {
        self.tell(scene, Event::Waive { disk: None });
    }

    pub(crate) fn start(&mut self, scene: &mut Scene) {
        self.tell(scene, Event::Start);
    }

    pub(crate) fn tell(&mut self, scene: &mut Scene, event: Event) {
        self.machine.handle(scene.now, event);
        scene.touched.add(Source::Host);
    }

    /// What a touched machine has to say.
    pub(crate) fn drain(&mut self, scene: &mut Scene, source: Source) {
        match source {
            Source::Host => {
                while let Some(action) = self.machine.poll_action() {
                    self.take_action(scene, action);
                }
            }
            Source::Server(id) => self.drain_server(scene, id),
            _ => {}
        }
    }

    fn take_action(&mut self, scene: &mut Scene, action: Action) {
        match action {
            Action::Connect { nexus, address } => self.connect(scene, nexus, address),
            Action::Disconnect { nexus, .. } => self.disconnect(scene, nexus),
            Action::Flush { nexus } => scene.dirty.add(Source::Nexus(nexus.0)),
            Action::Complete(request, completion) => self.complete(scene, request, completion),
            Action::Ready { disk, geometry } => scene.checks.shown.told(disk, geometry),
            Action::Resized { disk, geometry } => {
                scene.checks.shown.told(disk, geometry);
                scene.note(Part::Disk, [6, disk.0.into(), geometry.size], || {
                    format!("disk {}: {geometry:?}", disk.0)
                });
                self.resize_servers(scene, disk, geometry);
            }
            Action::Gone { disk } => {
                scene.note(Part::Disk, [3, disk.0.into(), 0], || format!("disk {} is gone", disk.0));
                scene.checks.disk_gone();
                scene.checks.pace.disk_gone(disk);
                scene.checks.shown.disk_gone(disk);
                scene.checks.ways.disk_gone(disk);
                scene.checks.no_path.disk_gone(disk.0);
                self.detach_servers(scene, disk.0);
            }
            Action::Notice(notice) => scene.note(Part::Nexus, [6, 0, 0], || notice.text),
            Action::Trace(trace) => self.watch(scene, trace),
            // No run kills this process yet: what it wants to be remembered counts as stored at once.
            Action::Persist(state) => {
                self.stored = state;
                self.tell(scene, Event::Persisted);
            }
            Action::Answer { ticket, outcome } => self.answered(scene, ticket, &outcome),
            Action::CredentialsRefused | Action::Ended { .. } => {}
        }
    }

    pub(crate) fn flush(&mut self, scene: &mut Scene, source: Source) {
        match source {
            Source::Host => scene.timers.arm(Source::Host, self.machine.poll_timeout()),
            Source::Nexus(index) => self.flush_nexus(scene, NexusIndex(index)),
            Source::Server(id) => self.flush_server(scene, id),
            _ => {}
        }
    }

    pub(crate) fn expire(&mut self, scene: &mut Scene, source: Source) {
        match source {
            Source::Host => self.tell(scene, Event::Timeout),
            Source::Server(id) => self.expire_server(scene, id),
            _ => {}
        }
    }

    /// Clients are let in once there is something for each of them.
    pub(crate) fn settle(&mut self, scene: &mut Scene, units: usize) {
        if !self.is_serving && self.machine.disks_ready() >= units {
            self.is_serving = true;
            for id in std::mem::take(&mut self.backlog) {
                self.welcome(scene, id);
            }
        }
    }

    /// The connection to a port, if it carries commands.
    pub(crate) fn is_up(&self, port: usize) -> Option<ConnectionId> {
        let index = NexusIndex(u32::try_from(port).ok()?);
        let is_up = self.machine.nexus(index).is_some_and(|nexus| nexus.is_up);
        self.connections.get(port)?.as_ref().filter(|_| is_up).map(|connection| connection.id)
    }

    /// The connection of a port's nexus, whether it stands or is being made.
    pub(crate) fn connection(&self, port: usize) -> Option<ConnectionId> {
        self.connections.get(port)?.as_ref().map(|connection| connection.id)
    }

    /// What keeps the world from being at its best: for the checker of liveness.
    pub(crate) fn waits_for(&self, units: usize) -> Vec<String> {
        let down = self.machine.nexuses().enumerate().filter(|(_, nexus)| !nexus.is_up);
        let mut waiting: Vec<String> =
            down.map(|(port, nexus)| format!("port {port} is {}", nexus.state)).collect();
        let is_usable = |disk: &Disk| disk.paths().any(|it| matches!(it.status.state, PathState::Usable(_)));
        let usable = self.machine.disks().filter_map(|view| view.disk).filter(|disk| is_usable(disk)).count();
        if usable < units {
            waiting.push(format!("{usable} of {units} disks can be used"));
        }
        for view in self.machine.disks().filter_map(|view| view.disk).flat_map(Disk::paths) {
            if matches!(view.status.state, PathState::Usable(_)) && view.status.pace != Pace::Steady {
                waiting.push(format!("{} is the last resort", view.status.id));
            }
            if view.hold.is_some() {
                waiting.push(format!("{} is kept out, and was reinstated", view.status.id));
            }
        }
        waiting
    }
}

/// What the engine would make of its configuration.
fn options(plan: &Plan, stored: State) -> Options {
    let portal = |port| PortalConfig::Target {
        portal: portal_address(port),
        target_name: target_name(plan.target_of(port)),
        lun: None,
    };
    let usual = iscsi::initiator::Options::new(
        INITIATOR_NAME.parse().expect("the name is an iSCSI name"),
        iscsi::pdu::Isid([0; 6]),
        iscsi::initiator::Kind::Discovery,
    );
    Options {
        initiator: Initiator {
            name: INITIATOR_NAME.to_owned(),
            chap: None,
            digests: if plan.digests { Digests::HeaderAndData } else { Digests::None },
            login_timeout: usual.login_timeout,
            nop_interval: usual.nop_interval.unwrap_or(usual.nop_timeout),
            nop_timeout: usual.nop_timeout,
            command_timeout: plan.command_timeout,
            early_data: if plan.initial_r2t { EarlyData::Off } else { EarlyData::On },
        },
        portals: (0..plan.ports()).map(portal).collect(),
        disks: DiskConfig {
            policy: plan.policy,
            no_path: plan.no_path,
            delayed_removal: plan.delayed_removal,
            layer: Layer::Multipath,
            slow_paths: SlowPaths::Demote,
            hedging: plan.hedging,
            multipath: plan.ways.multipath,
            sharing: plan.sharing,
            fence: plan.fence,
            alua: plan.ways.alua,
            path_check: plan.ways.path_check,
        },
        filter: Filter::default(),
        salt: plan.seed.to_be_bytes().to_vec(),
        seed: plan.seed,
        inherited: Some(stored),
    }
}
