//! The array: a machine that is told what initiators and operators do, and answers commands.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use block::{Buffer, BufferPool};
use clock::Instant;
use scsi::luns::LunFormat;
use scsi::port_groups::{AccessState, StateChange};
use scsi::{AdditionalSense, CdbBytes, Lun, Reply, TaskAttribute};

use crate::attention::Attentions;
use crate::faults::{Fault, FaultId, Faults};
use crate::inquiry::Naming;
use crate::task_management::{Drain, Function, Response};
use crate::task_set::Sequence;
use crate::topology::{
    Coordination, GroupId, NexusId, NexusLoss, Options, PortId, Remapping, Topology, UnitId, UnitOptions,
    WriteProtection,
};
use crate::unit::{Counters, Identity, ShownIdentity, Unit};

/// What happens to an array.
#[derive(Debug)]
pub enum Event {
    /// An initiator port logged in at a target port. The nexus was never used before.
    NexusOpened {
        nexus: NexusId,
        port: PortId,
        initiator: String,
    },
    /// The nexus is lost. [`Action::NexusDrained`] says when nothing of it is executed any more.
    NexusClosed {
        nexus: NexusId,
    },
    Command {
        nexus: NexusId,
        /// The transport's name for the command; one nexus uses it once at a time.
        tag: u64,
        lun: Lun,
        cdb: CdbBytes,
        attribute: TaskAttribute,
        /// All Data-Out. For a read, memory for Data-In if the transport has some: it is used if it is large enough.
        data: Buffer,
        /// The expected data transfer length, in bytes.
        expected: u32,
    },
    TaskManagement {
        nexus: NexusId,
        tag: u64,
        function: Function,
        lun: Lun,
        referenced: Option<u64>,
    },
    /// The array changes the access state of a target port group for all units, by itself.
    SetAccess {
        group: GroupId,
        state: AccessState,
    },
    /// The same for one unit.
    SetUnitAccess {
        unit: UnitId,
        group: GroupId,
        state: AccessState,
    },
    /// Makes a group the preferred one of a unit (PREF), or none.
    SetPreferred {
        unit: UnitId,
        group: Option<GroupId>,
    },
    SetProtection {
        unit: UnitId,
        protection: WriteProtection,
    },
    /// The unit gets another capacity, in bytes.
    Resize {
        unit: UnitId,
        size: u64,
    },
    /// Of the closed nexus whatever still runs is out of reach of every task management function, and none waits
    /// for it: what a known target does with the commands of a session that it has begun to end.
    Disown {
        nexus: NexusId,
    },
    /// The unit loses power and comes back: what it held is never executed and never answered. The attention says so
    /// to every nexus; what becomes of a cache is for the store to say.
    PowerCycle {
        unit: UnitId,
        attention: AdditionalSense,
    },
    /// From now on REPORT TARGET PORT GROUPS answers for the unit what it would have answered now, or the truth again.
    FreezeReport {
        unit: UnitId,
        frozen: bool,
    },
    /// What the unit says that it is, from now on. Nobody is told.
    SetShown {
        unit: UnitId,
        shown: ShownIdentity,
    },
    /// A new unit; its [`UnitId`] is the number of units there were before.
    AddUnit(UnitOptions),
    /// What it held is dropped, its LUNs are unmapped. Its [`UnitId`] is not used again.
    RemoveUnit(UnitId),
    /// What a LUN stands for from now on, at one port or at all.
    Map {
        port: Option<PortId>,
        lun: Lun,
        unit: Option<UnitId>,
    },
    /// Raises a unit attention condition, for one nexus and unit or for all.
    Attention {
        nexus: Option<NexusId>,
        unit: Option<UnitId>,
        attention: AdditionalSense,
    },
    /// Whether changes raise unit attentions from now on; an array that keeps silent is broken.
    SetAttentions(AttentionPolicy),
    /// A fault of the same name is replaced.
    SetFault(FaultId, Fault),
    /// Ends a fault; what it holds is released.
    ClearFault(FaultId),
    /// Executes what a fault holds now; the fault stays.
    Release(FaultId),
    Timeout,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttentionPolicy {
    #[default]
    Raised,
    Swallowed,
}

/// What the array answers.
#[derive(Debug)]
pub enum Action {
    /// The command ended. `data` is Data-In, never longer than the allocation length; without Data-In it is the
    /// memory that came with the command, with nothing in it. It may be longer than what was expected: the
    /// transport sends what fits, and the residual in `reply` says what did not.
    Reply {
        nexus: NexusId,
        tag: u64,
        reply: Reply,
        data: Buffer,
    },
    /// A task management function ended the command; there is no answer to it.
    Aborted {
        nexus: NexusId,
        tag: u64,
    },
    TaskManagementReply {
        nexus: NexusId,
        tag: u64,
        response: Response,
    },
    /// Nothing that came over this closed nexus will be executed any more. An honest target answers a login that
    /// reinstates the session only after this (RFC 7143, 6.3.5).
    NexusDrained {
        nexus: NexusId,
    },
}

/// The embedded array.
#[derive(Debug)]
pub struct Array {
    pub(crate) topology: Topology,
    pub(crate) naming: Naming,
    pub(crate) units: Vec<Option<Unit>>,
    /// What LUNs stand for, at each port.
    pub(crate) maps: Vec<BTreeMap<Lun, UnitId>>,
    pub(crate) nexuses: BTreeMap<NexusId, Nexus>,
    pub(crate) faults: Faults,
    pub(crate) pool: BufferPool,
    pub(crate) actions: VecDeque<Action>,
    /// When held tasks are to be executed, earliest first.
    pub(crate) deadlines: BTreeSet<(Instant, Sequence, UnitId)>,
    /// Answers that wait for held tasks to end.
    pub(crate) drains: Vec<Drain>,
    pub(crate) options: Behaviour,
    pub(crate) port_counters: Vec<Counters>,
    sequence: u64,
}

/// The options that are looked at again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    pub(crate) number: u32,
    pub(crate) tasks_max: usize,
    pub(crate) nexus_attention: Option<AdditionalSense>,
    pub(crate) nexus_loss: NexusLoss,
    pub(crate) access_changes: crate::AccessChanges,
    pub(crate) attentions: AttentionPolicy,
    pub(crate) coordination: Coordination,
    pub(crate) remapping: Remapping,
}

#[derive(Debug)]
pub(crate) struct Nexus {
    pub(crate) port: PortId,
    pub(crate) initiator: String,
    /// What it has still to be told, for each unit.
    pub(crate) attentions: Vec<Attentions>,
}

/// Every unit has one flat space LUN (SAM, 4.7.7.3: 14 bits), and identifiers are not used again.
const UNITS_MAX: usize = 1 << 14;

impl Array {
    /// # Panics
    /// If the options contradict what [`Options`] and [`UnitOptions`] say about them.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let topology = Topology::new(options.controllers, options.ports_per_controller);
        let mut array = Self {
            topology,
            naming: Naming::new(&options),
            units: Vec::new(),
            maps: topology.ports().map(|_| BTreeMap::new()).collect(),
            nexuses: BTreeMap::new(),
            faults: Faults::new(options.seed),
            pool: BufferPool::new(options.buffers_max),
            actions: VecDeque::new(),
            deadlines: BTreeSet::new(),
            drains: Vec::new(),
            options: Behaviour {
                number: options.number,
                tasks_max: options.tasks_max,
                nexus_attention: options.nexus_attention,
                nexus_loss: options.nexus_loss,
                access_changes: options.access_changes,
                attentions: AttentionPolicy::Raised,
                coordination: options.coordination,
                remapping: options.remapping,
            },
            port_counters: topology.ports().map(|_| Counters::default()).collect(),
            sequence: 0,
        };
        for unit in options.units {
            array.add_unit(unit);
        }
        array
    }

    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::NexusOpened { nexus, port, initiator } => self.open_nexus(nexus, port, initiator),
            Event::NexusClosed { nexus } => self.close_nexus(now, nexus),
            Event::Command { nexus, tag, lun, cdb, attribute, data, expected } => {
                let arrival = crate::execute::Arrival { nexus, tag, lun, attribute, data, expected };
                self.command(now, arrival, &cdb);
            }
            Event::TaskManagement { nexus, tag, function, lun, referenced } => {
                self.task_management(now, nexus, tag, function, lun, referenced);
            }
            Event::SetAccess { group, state } => self.set_access(None, group, state),
            Event::SetUnitAccess { unit, group, state } => self.set_access(Some(unit), group, state),
            Event::SetPreferred { unit, group } => self.set_preferred(unit, group),
            Event::SetProtection { unit, protection } => self.set_protection(unit, protection),
            Event::Resize { unit, size } => self.resize(unit, size),
            Event::Disown { nexus } => self.disown(nexus),
            Event::PowerCycle { unit, attention } => self.power_cycle(now, unit, attention),
            Event::FreezeReport { unit, frozen } => {
                if let Some(unit) = self.unit_mut(unit) {
                    unit.reported = frozen.then(|| unit.access.clone());
                }
            }
            Event::SetShown { unit, shown } => {
                if let Some(unit) = self.unit_mut(unit) {
                    unit.shown = shown;
                }
            }
            Event::AddUnit(options) => self.add_unit(options),
            Event::RemoveUnit(unit) => self.remove_unit(now, unit),
            Event::Map { port, lun, unit } => self.map(port, lun, unit),
            Event::Attention { nexus, unit, attention } => self.raise_where(attention, nexus, unit),
            Event::SetAttentions(policy) => self.options.attentions = policy,
            Event::SetFault(id, fault) => self.faults.set(id, fault),
            Event::ClearFault(id) => {
                self.faults.clear(id);
                self.release(now, id);
            }
            Event::Release(id) => self.release(now, id),
            Event::Timeout => self.run_due(now),
        }
    }

    /// What is to be done next; drain it after each [`Self::handle`].
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle`] with [`Event::Timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _, _)| *at)
    }

    /// Takes the memory of Data-In back, for the next command that comes without.
    pub fn recycle(&mut self, buffer: Buffer) {
        self.pool.put(buffer);
    }

    /// Every unit that is there, in the order of their identifiers.
    pub fn units(&self) -> impl Iterator<Item = UnitView<'_>> {
        self.units.iter().enumerate().filter_map(|(index, unit)| {
            let unit = unit.as_ref()?;
            Some(UnitView { id: UnitId::at(index), unit })
        })
    }

    /// Every port with what went through it.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, GroupId, Counters)> {
        self.topology
            .ports()
            .map(|port| (port, self.topology.group_of(port), self.port_counters[port.index()]))
    }

    /// Every open nexus with its port and the name of its initiator port.
    pub fn nexuses(&self) -> impl Iterator<Item = (NexusId, PortId, &str)> {
        self.nexuses.iter().map(|(id, nexus)| (*id, nexus.port, nexus.initiator.as_str()))
    }

    /// What a LUN stands for at a port.
    #[must_use]
    pub fn unit_behind(&self, port: PortId, lun: Lun) -> Option<UnitId> {
        if self.topology.has_port(port) { self.unit_at(port, lun) } else { None }
    }

    /// The WRITE commands that a unit holds, as they came; also those of nexuses that are closed.
    pub fn held_writes(&self, unit: UnitId) -> impl Iterator<Item = HeldWrite<'_>> {
        self.unit(unit).into_iter().flat_map(|unit| unit.tasks.writes())
    }

    /// How many commands a unit holds, those of nexuses that are closed among them.
    #[must_use]
    pub fn held_tasks(&self, unit: UnitId) -> usize {
        self.unit(unit).map_or(0, |unit| unit.tasks.len())
    }

    /// How often a fault has struck.
    #[must_use]
    pub fn fault_hits(&self, id: FaultId) -> u64 {
        self.faults.hits(id)
    }

    /// The content of a unit's medium, past all commands: for checkers.
    pub fn store(&mut self, unit: UnitId) -> Option<&mut dyn crate::Store> {
        match self.unit_mut(unit) {
            Some(unit) => Some(unit.store.as_mut()),
            None => None,
        }
    }

    pub(crate) fn unit(&self, unit: UnitId) -> Option<&Unit> {
        self.units.get(unit.index())?.as_ref()
    }

    pub(crate) fn unit_mut(&mut self, unit: UnitId) -> Option<&mut Unit> {
        self.units.get_mut(unit.index())?.as_mut()
    }

    pub(crate) fn unit_at(&self, port: PortId, lun: Lun) -> Option<UnitId> {
        self.maps[port.index()].get(&single_level(lun)).copied()
    }

    pub(crate) fn next_sequence(&mut self) -> Sequence {
        self.sequence += 1;
        Sequence(self.sequence)
    }

    /// Raises a condition on a unit for every nexus but one, as the policy allows.
    pub(crate) fn raise(&mut self, unit: UnitId, attention: AdditionalSense, except: Option<NexusId>) {
        self.raise_in(unit, attention, except, None);
    }

    /// The same for the nexuses of one port group.
    pub(crate) fn raise_in(
        &mut self,
        unit: UnitId,
        attention: AdditionalSense,
        except: Option<NexusId>,
        group: Option<GroupId>,
    ) {
        if self.options.attentions == AttentionPolicy::Swallowed {
            return;
        }
        for (id, nexus) in &mut self.nexuses {
            let is_in = group.is_none_or(|group| self.topology.group_of(nexus.port) == group);
            if Some(*id) != except && is_in {
                nexus.attentions[unit.index()].raise(attention);
            }
        }
    }

    fn raise_where(&mut self, attention: AdditionalSense, nexus: Option<NexusId>, unit: Option<UnitId>) {
        let of_nexus = self.nexuses.iter_mut().filter(|(id, _)| nexus.is_none_or(|only| only == **id));
        for (_, nexus) in of_nexus {
            for (index, attentions) in nexus.attentions.iter_mut().enumerate() {
                if unit.is_none_or(|only| only.index() == index) {
                    attentions.raise(attention);
                }
            }
        }
    }

    fn open_nexus(&mut self, id: NexusId, port: PortId, initiator: String) {
        assert!(self.topology.has_port(port), "a nexus is opened at a port that exists");
        let attention = self.options.nexus_attention;
        let attentions = self.units.iter().map(|_| {
            let mut attentions = Attentions::default();
            attention.into_iter().for_each(|attention| attentions.raise(attention));
            attentions
        });
        let nexus = Nexus { port, initiator, attentions: attentions.collect() };
        let before = self.nexuses.insert(id, nexus);
        assert!(before.is_none(), "a nexus identifier is used once");
    }

    fn add_unit(&mut self, options: UnitOptions) {
        assert!(self.units.len() < UNITS_MAX, "an array has at most {UNITS_MAX} units in its life");
        let id = UnitId::at(self.units.len());
        let lun = options.lun;
        assert!(lun.is_none_or(|lun| usize::from(lun) < UNITS_MAX), "a LUN has 14 bits");
        self.units.push(Some(Unit::new(self.options.number, self.topology, options)));
        for nexus in self.nexuses.values_mut() {
            nexus.attentions.push(Attentions::default());
        }
        if let Some(lun) = lun {
            self.map(None, Lun::from(lun), Some(id));
        }
    }

    fn remove_unit(&mut self, now: Instant, id: UnitId) {
        if self.unit(id).is_none() {
            return;
        }
        let _ = self.drop_tasks(now, id);
        self.units[id.index()] = None;
        for map in &mut self.maps {
            map.retain(|_, unit| *unit != id);
        }
        self.raise_on_all_units(AdditionalSense::REPORTED_LUNS_DATA_CHANGED, None);
    }

    /// Whoever sees another unit behind a LUN is told so on every unit that it can still reach (SPC, 6.32).
    fn map(&mut self, port: Option<PortId>, lun: Lun, unit: Option<UnitId>) {
        let lun = single_level(lun);
        let unit = unit.filter(|unit| self.unit(*unit).is_some());
        for at in self.topology.ports().filter(|at| port.is_none_or(|only| only == *at)) {
            let map = &mut self.maps[at.index()];
            match unit {
                Some(unit) => map.insert(lun, unit),
                None => map.remove(&lun),
            };
        }
        self.raise_on_all_units(AdditionalSense::REPORTED_LUNS_DATA_CHANGED, port);
        if let (Some(unit), Remapping::ToldUntilIdentified) = (unit, self.options.remapping) {
            let at_port =
                self.nexuses.values_mut().filter(|nexus| port.is_none_or(|only| only == nexus.port));
            at_port.for_each(|nexus| nexus.attentions[unit.index()].stand());
        }
    }

    fn raise_on_all_units(&mut self, attention: AdditionalSense, port: Option<PortId>) {
        if self.options.attentions == AttentionPolicy::Swallowed {
            return;
        }
        for nexus in self.nexuses.values_mut().filter(|nexus| port.is_none_or(|only| only == nexus.port)) {
            nexus.attentions.iter_mut().for_each(|attentions| attentions.raise(attention));
        }
    }

    fn set_access(&mut self, only: Option<UnitId>, group: GroupId, state: AccessState) {
        assert!(self.topology.has_group(group), "a port group that exists is changed");
        for index in 0..self.units.len() {
            let id = UnitId::at(index);
            if only.is_some_and(|only| only != id) {
                continue;
            }
            let Some(unit) = self.unit_mut(id) else { continue };
            if unit.set_access(group, state, StateChange::Implicit) {
                self.raise(id, AdditionalSense::ALUA_STATE_CHANGED, None);
            }
        }
    }

    fn set_preferred(&mut self, id: UnitId, group: Option<GroupId>) {
        let Some(unit) = self.unit_mut(id) else { return };
        for (index, access) in unit.access.iter_mut().enumerate() {
            access.preferred = group.is_some_and(|group| group.index() == index);
        }
        self.raise(id, AdditionalSense::ALUA_STATE_CHANGED, None);
    }

    fn set_protection(&mut self, id: UnitId, protection: WriteProtection) {
        let Some(unit) = self.unit_mut(id) else { return };
        unit.protection = protection;
        // WP in the mode parameter header changed.
        self.raise(id, AdditionalSense::MODE_PARAMETERS_CHANGED, None);
    }

    /// A store that cannot be resized keeps its size, and nobody is told anything.
    fn resize(&mut self, id: UnitId, size: u64) {
        let Some(unit) = self.unit_mut(id) else { return };
        let before = unit.blocks();
        if unit.store.resize(size).is_err() {
            return;
        }
        unit.measure();
        if unit.blocks() != before {
            self.raise(id, AdditionalSense::CAPACITY_DATA_CHANGED, None);
        }
    }
}

/// The same number may come in flat space addressing (SAM, 4.7.7).
fn single_level(lun: Lun) -> Lun {
    match lun.format() {
        LunFormat::Flat(number) => Lun::from(number),
        _ => lun,
    }
}

/// A WRITE that was accepted and may still be executed.
#[derive(Clone, Copy, Debug)]
pub struct HeldWrite<'a> {
    pub nexus: NexusId,
    pub tag: u64,
    /// The logical block address.
    pub first: u64,
    pub data: &'a [u8],
}

/// What can be seen of a unit from outside.
#[derive(Clone, Copy, Debug)]
pub struct UnitView<'a> {
    pub id: UnitId,
    unit: &'a Unit,
}

impl UnitView<'_> {
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.unit.identity
    }

    /// In blocks.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.unit.blocks()
    }

    /// In bytes.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.unit.block_size
    }

    /// How a target port group may be used for it.
    #[must_use]
    pub fn access(&self, group: GroupId) -> AccessState {
        self.unit.access(group).state
    }

    /// The group that it prefers (PREF).
    #[must_use]
    pub fn preferred(&self) -> Option<GroupId> {
        let place = self.unit.access.iter().position(|group| group.preferred)?;
        u16::try_from(place + 1).ok().map(GroupId)
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.unit.counters
    }

    /// How many commands it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.unit.tasks.len()
    }
}
