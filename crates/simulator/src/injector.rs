//! Makes the faults of a plan happen, and ends them.

use std::collections::BTreeMap;

use array::{AccessState, NexusId, UnitId};
use clock::{Duration, Instant};
use iscsi::pdu::LoginStatus;
use iscsi::target::{Event, Notification};
use scsi::{AdditionalSense, Lun};

use crate::client::Client;
use crate::fault::{FaultCounters, Kind, PlannedFault, group_of, port_id};
use crate::host::Host;
use crate::link::{Door, End};
use crate::log::Part;
use crate::plan::Plan;
use crate::random::Random;
use crate::scene::{Scene, Source};
use crate::target::{FOREIGN, Portalling, Target};

#[derive(Debug)]
pub(crate) struct Injector {
    plan: Plan,
    /// What happens when: the number of a fault, and whether it begins.
    agenda: BTreeMap<(Instant, usize, Turn), ()>,
    pub(crate) counters: FaultCounters,
    foreign_tag: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Begin,
    End,
}

/// The parts of the world that faults are done to.
pub(crate) struct Victims<'a> {
    pub(crate) host: &'a mut Host,
    pub(crate) target: &'a mut Target,
    pub(crate) clients: &'a mut [Client],
}

/// What is told to the initiator without any reason that it could see.
const ATTENTIONS: &[AdditionalSense] = &[
    AdditionalSense::POWER_ON_OR_RESET,
    AdditionalSense::BUS_DEVICE_RESET_FUNCTION,
    AdditionalSense::I_T_NEXUS_LOSS,
    AdditionalSense::MODE_PARAMETERS_CHANGED,
    AdditionalSense::ALUA_STATE_CHANGED,
    AdditionalSense::CAPACITY_DATA_CHANGED,
    AdditionalSense::REPORTED_LUNS_DATA_CHANGED,
    AdditionalSense::COMMANDS_CLEARED_BY_ANOTHER_INITIATOR,
];

impl Injector {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut agenda = BTreeMap::new();
        for (number, fault) in plan.faults.iter().enumerate() {
            agenda.insert((Instant::START + fault.at, number, Turn::Begin), ());
            agenda.insert((Instant::START + fault.at + fault.duration, number, Turn::End), ());
        }
        Self { plan: plan.clone(), agenda, counters: FaultCounters::default(), foreign_tag: 0 }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.agenda.first_key_value().map(|((at, _, _), ())| *at)
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, scene: &mut Scene, mut victims: Victims<'_>) {
        while let Some((at, number, turn)) = self.agenda.first_key_value().map(|(key, ())| *key) {
            if at > scene.now {
                break;
            }
            self.agenda.pop_first();
            let fault = self.plan.faults[number];
            scene.note(Part::Fault, [number as u64, turn as u64, 0], || {
                format!("{turn:?} fault {number}: {} for {:?}", fault.kind, fault.duration)
            });
            match turn {
                Turn::Begin => {
                    self.counters.begun(fault.kind);
                    self.begin(scene, &mut victims, number, fault);
                }
                Turn::End => self.end(scene, &mut victims, number, fault),
            }
        }
        scene.timers.arm(Source::Fault, self.deadline());
    }

    /// Ends everything that is going on, and begins nothing more.
    pub(crate) fn calm(&mut self, scene: &mut Scene, mut victims: Victims<'_>) {
        scene.network.spare_all();
        for (_, number, turn) in std::mem::take(&mut self.agenda).into_keys() {
            if turn == Turn::End {
                self.end(scene, &mut victims, number, self.plan.faults[number]);
            }
        }
    }

    fn begin(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, number: usize, fault: PlannedFault) {
        let mut random = fault.random();
        let port = random.index(self.plan.ports());
        let unit = random.index(self.plan.units.len());
        let blocks = u64::from(self.plan.units[unit].blocks);
        let unit = UnitId(u32::try_from(unit).expect("few units"));
        if let Some(rule) = fault.kind.rule(&mut random, port_id(port), unit, blocks) {
            let event = array::Event::SetFault(PlannedFault::id(number), rule);
            return victims.target.tell_array(scene, event);
        }
        match fault.kind {
            Kind::Reset | Kind::Finish | Kind::BitFlip | Kind::AsyncDrop => {
                self.break_session(scene, victims, fault.kind, port, &mut random);
            }
            Kind::HoleOneWay | Kind::Hole | Kind::HoleDelivered | Kind::DelaySpike => {
                self.break_route(scene, fault.kind, port, &mut random);
            }
            Kind::LoginHangs | Kind::LoginRejected | Kind::ControllerCrash => {
                self.break_portal(scene, victims, fault.kind, port, &mut random);
            }
            Kind::ClientReconnects => {
                let index = random.index(victims.clients.len());
                let was_connected = victims.clients[index].connection().is_some();
                self.counters.struck(fault.kind, u64::from(was_connected));
                victims.clients[index].hang_up(scene, "a fault");
            }
            _ => self.disturb_unit(scene, victims, fault.kind, (port, unit), &mut random),
        }
    }

    /// Things that happen once to a session that is up.
    fn break_session(
        &mut self,
        scene: &mut Scene,
        victims: &mut Victims<'_>,
        kind: Kind,
        port: usize,
        random: &mut Random,
    ) {
        let Some(id) = victims.host.is_up(port) else { return };
        let toward = random.pick(&[End::Near, End::Far]);
        let bytes = usize::try_from(random.spread(1, 4_000)).expect("few bytes");
        self.counters.struck(kind, 1);
        match kind {
            Kind::Reset => scene.network.cut(id, toward, bytes),
            Kind::Finish => scene.network.finish(scene.now, id, toward),
            Kind::BitFlip => scene.network.flip(id, toward, bytes),
            _ => {
                let times = (u16::try_from(random.below(3)).expect("small"), 0);
                let (time_to_wait, time_to_retain) = times;
                let notification = random.pick(&[
                    Notification::LogoutRequest { seconds: 3 },
                    Notification::DropConnection { time_to_wait, time_to_retain },
                    Notification::DropAll { time_to_wait, time_to_retain },
                ]);
                victims.target.tell(scene, id, Event::Notify(notification));
            }
        }
    }

    fn break_route(&mut self, scene: &mut Scene, kind: Kind, port: usize, random: &mut Random) {
        self.counters.struck(kind, 1);
        let route = scene.network.route_mut(Door::Port(port));
        match kind {
            Kind::HoleOneWay if random.percent(50) => route.hole_to_far = true,
            Kind::HoleOneWay => route.hole_to_near = true,
            Kind::DelaySpike => route.delay = Duration::from_millis(random.spread(10, 3_000)),
            _ => (route.hole_to_far, route.hole_to_near) = (true, true),
        }
    }

    fn break_portal(
        &mut self,
        scene: &mut Scene,
        victims: &mut Victims<'_>,
        kind: Kind,
        port: usize,
        random: &mut Random,
    ) {
        let target = &mut *victims.target;
        match kind {
            Kind::LoginHangs => target.ports[port] = Portalling::Mute,
            Kind::LoginRejected => {
                let status = random.pick(&[
                    LoginStatus::TargetError,
                    LoginStatus::ServiceUnavailable,
                    LoginStatus::OutOfResources,
                    LoginStatus::TargetNotFound,
                    LoginStatus::AuthorizationFailed,
                ]);
                target.ports[port] = Portalling::Rejecting(status);
            }
            _ => {
                for port in self.ports_beside(port) {
                    target.ports[port] = Portalling::Down;
                    for id in target.connections(port) {
                        target.close(scene, id);
                        self.counters.struck(kind, 1);
                    }
                }
                return;
            }
        }
        // A session that is there has to log in again to notice.
        if let (Some(id), true) = (victims.host.is_up(port), random.percent(70)) {
            scene.network.cut(id, End::Near, 1);
            self.counters.struck(kind, 1);
        }
    }

    /// All ports of the controller that a port belongs to.
    fn ports_beside(&self, port: usize) -> std::ops::Range<usize> {
        let per_controller = usize::from(self.plan.ports_per_controller);
        let first = port / per_controller * per_controller;
        first..first + per_controller
    }

    fn disturb_unit(
        &mut self,
        scene: &mut Scene,
        victims: &mut Victims<'_>,
        kind: Kind,
        (port, unit): (usize, UnitId),
        random: &mut Random,
    ) {
        self.counters.struck(kind, 1);
        let event = match kind {
            Kind::AccessTransition | Kind::AccessLost => {
                let state = match kind {
                    Kind::AccessTransition => AccessState::Transitioning,
                    _ => random.pick(&[
                        AccessState::Standby,
                        AccessState::Unavailable,
                        AccessState::NonOptimized,
                    ]),
                };
                victims.host.access_epoch += 1;
                let group = group_of(port, self.plan.ports_per_controller);
                array::Event::SetUnitAccess { unit, group, state }
            }
            Kind::UnitAttention => {
                let attention = random.pick(ATTENTIONS);
                let live = victims.target.live(port);
                let nexus = live.first().filter(|_| random.percent(50)).map(|id| NexusId(id.0));
                array::Event::Attention { nexus, unit: Some(unit), attention }
            }
            Kind::ForeignReset => {
                self.foreign_tag += 1;
                array::Event::TaskManagement {
                    nexus: FOREIGN,
                    tag: self.foreign_tag,
                    function: array::Function::LogicalUnitReset,
                    lun: Lun::from(u16::try_from(unit.0).expect("few units")),
                    referenced: None,
                }
            }
            _ => {
                let plan = self.plan.units[unit.0 as usize];
                let blocks = u64::from(plan.blocks) + random.within(1..=2_000);
                array::Event::Resize { unit, size: blocks * u64::from(plan.block_size) }
            }
        };
        victims.target.tell_array(scene, event);
    }

    fn end(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, number: usize, fault: PlannedFault) {
        let mut random = fault.random();
        let port = random.index(self.plan.ports());
        let unit = UnitId(u32::try_from(random.index(self.plan.units.len())).expect("few units"));
        let id = PlannedFault::id(number);
        self.counters.struck(fault.kind, victims.target.array.fault_hits(id));
        victims.target.tell_array(scene, array::Event::ClearFault(id));
        let door = Door::Port(port);
        match fault.kind {
            Kind::HoleOneWay | Kind::Hole => scene.network.heal(scene.now, door, true),
            Kind::HoleDelivered => scene.network.heal(scene.now, door, false),
            Kind::DelaySpike => scene.network.route_mut(door).delay = Duration::ZERO,
            Kind::LoginHangs | Kind::LoginRejected => victims.target.ports[port] = Portalling::Open,
            Kind::ControllerCrash => {
                for port in self.ports_beside(port) {
                    victims.target.ports[port] = Portalling::Open;
                }
            }
            Kind::AccessTransition | Kind::AccessLost => {
                victims.host.access_epoch += 1;
                let group = group_of(port, self.plan.ports_per_controller);
                let owner = self.plan.units[unit.0 as usize].owner;
                let is_best = owner.is_none_or(|owner| owner + 1 == group.0);
                let state = if is_best { AccessState::Optimized } else { AccessState::NonOptimized };
                victims.target.tell_array(scene, array::Event::SetUnitAccess { unit, group, state });
            }
            _ => {}
        }
    }
}
