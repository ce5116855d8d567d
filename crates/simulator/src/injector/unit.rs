//! What happens to logical units.

use array::{AccessState, GroupId, NexusId, ShownIdentity, UnitId, WriteProtection};
use block::Buffer;
use scsi::{AdditionalSense, CdbBytes, Lun, TaskAttribute};

use super::{Injector, Strike, Victims};
use crate::fault::{Kind, group_of, port_id};
use crate::random::Random;
use crate::scene::Scene;
use crate::target::{DECOY, FOREIGN, TWIN};

/// Everything that a device may tell an initiator without having been asked.
const ATTENTIONS: &[AdditionalSense] = &[
    AdditionalSense::MEDIUM_MAY_HAVE_CHANGED,
    AdditionalSense::POWER_ON_OR_RESET,
    AdditionalSense::POWER_ON,
    AdditionalSense::BUS_RESET,
    AdditionalSense::BUS_DEVICE_RESET_FUNCTION,
    AdditionalSense::DEVICE_INTERNAL_RESET,
    AdditionalSense::I_T_NEXUS_LOSS,
    AdditionalSense::PARAMETERS_CHANGED,
    AdditionalSense::MODE_PARAMETERS_CHANGED,
    AdditionalSense::LOG_PARAMETERS_CHANGED,
    AdditionalSense::RESERVATIONS_PREEMPTED,
    AdditionalSense::RESERVATIONS_RELEASED,
    AdditionalSense::REGISTRATIONS_PREEMPTED,
    AdditionalSense::ALUA_STATE_CHANGED,
    AdditionalSense::IMPLICIT_ALUA_TRANSITION_FAILED,
    AdditionalSense::PRIORITY_CHANGED,
    AdditionalSense::CAPACITY_DATA_CHANGED,
    AdditionalSense::ERROR_HISTORY_NEXUS_CLEARED,
    AdditionalSense::ERROR_HISTORY_SNAPSHOT_RELEASED,
    AdditionalSense::TIMESTAMP_CHANGED,
    AdditionalSense::COMMANDS_CLEARED_BY_ANOTHER_INITIATOR,
    AdditionalSense::COMMANDS_CLEARED_BY_POWER_LOSS_NOTIFICATION,
    AdditionalSense::COMMANDS_CLEARED_BY_DEVICE_SERVER,
    AdditionalSense::COMMANDS_CLEARED_BY_QUEUING_LAYER,
    AdditionalSense::THIN_PROVISIONING_SOFT_THRESHOLD_REACHED,
    AdditionalSense::TARGET_OPERATING_CONDITIONS_CHANGED,
    AdditionalSense::MICROCODE_CHANGED,
    AdditionalSense::OPERATING_DEFINITION_CHANGED,
    AdditionalSense::INQUIRY_DATA_CHANGED,
    AdditionalSense::DEVICE_IDENTIFIER_CHANGED,
    AdditionalSense::VOLUME_SET_CREATED_OR_MODIFIED,
    AdditionalSense::VOLUME_SET_DELETED,
    AdditionalSense::VOLUME_SET_DEASSIGNED,
    AdditionalSense::VOLUME_SET_REASSIGNED,
    AdditionalSense::REPORTED_LUNS_DATA_CHANGED,
    AdditionalSense::ISCSI_IP_ADDRESS_ADDED,
    AdditionalSense::ISCSI_IP_ADDRESS_REMOVED,
    AdditionalSense::ISCSI_IP_ADDRESS_CHANGED,
    AdditionalSense::INSPECT_REFERRALS_SENSE_DESCRIPTORS,
    AdditionalSense::MICROCODE_CHANGED_WITHOUT_RESET,
    AdditionalSense::FAILURE_PREDICTION_THRESHOLD_EXCEEDED,
    AdditionalSense::WARNING,
    AdditionalSense::WARNING_TEMPERATURE_EXCEEDED,
    AdditionalSense::WARNING_ENCLOSURE_DEGRADED,
    AdditionalSense::WARNING_BACKGROUND_SELF_TEST_FAILED,
    AdditionalSense::WARNING_BACKGROUND_MEDIUM_SCAN,
    AdditionalSense::WARNING_MEDIUM_SCAN_LIST_FULL,
    AdditionalSense::WARNING_NON_VOLATILE_CACHE_NOW_VOLATILE,
    AdditionalSense::WARNING_DEGRADED_POWER_TO_CACHE,
    AdditionalSense::WARNING_POWER_LOSS_EXPECTED,
];

/// What says that a unit lost power.
const POWER_LOSSES: &[AdditionalSense] = &[
    AdditionalSense::POWER_ON_OR_RESET,
    AdditionalSense::POWER_ON,
    AdditionalSense::DEVICE_INTERNAL_RESET,
    AdditionalSense::COMMANDS_CLEARED_BY_POWER_LOSS_NOTIFICATION,
];

/// Where the other unit of [`Kind::IdentityTwice`] appears.
const TWIN_LUN: u16 = 9;

impl Injector {
    pub(super) fn disturb_unit(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &mut Strike) {
        self.counters.struck(strike.kind, 1);
        let unit = strike.unit;
        let random = &mut strike.random;
        let event = match strike.kind {
            Kind::AccessTransition | Kind::AccessLost | Kind::StaleReport => {
                return self.change_access(scene, victims, strike);
            }
            Kind::AccessFlaps => return self.flap(scene, victims, strike),
            Kind::UnitAttention | Kind::AttentionsStacked => {
                let count = if strike.kind == Kind::UnitAttention { 1 } else { random.within(2..=6) };
                let live = victims.target.live(strike.port);
                let nexus = live.first().filter(|_| random.percent(50)).map(|id| NexusId(id.0));
                for _ in 0..count {
                    let attention = random.pick(ATTENTIONS);
                    let event = array::Event::Attention { nexus, unit: Some(unit), attention };
                    victims.target.tell_array(scene, event);
                }
                return;
            }
            Kind::ForeignReset => self.foreign(unit, array::Function::LogicalUnitReset),
            Kind::ForeignClear => {
                let aborted_status = random.percent(50);
                self.set_aborted_status(scene, victims, unit, aborted_status);
                self.foreign(unit, array::Function::ClearTaskSet)
            }
            Kind::PowerCycle => {
                let percent = random.within(30..=100);
                self.lose_cache(victims, unit, random, percent);
                array::Event::PowerCycle { unit, attention: random.pick(POWER_LOSSES) }
            }
            Kind::LunRemapped => {
                let is_first_gone = random.percent(50);
                if is_first_gone {
                    let (port, lun) = remapped(strike);
                    victims.target.tell_array(scene, array::Event::Map { port, lun, unit: None });
                }
                return;
            }
            Kind::LunRemappedSilently => {
                let silent = array::Event::SetAttentions(array::AttentionPolicy::Swallowed);
                victims.target.tell_array(scene, silent);
                let (port, lun) = remapped(strike);
                array::Event::Map { port, lun, unit: Some(victims.target.extra_unit(DECOY)) }
            }
            Kind::IdentityChanges | Kind::IdentityEmpty | Kind::IdentityTwice => {
                return self.confuse_identity(scene, victims, strike);
            }
            Kind::WriteProtected => {
                array::Event::SetProtection { unit, protection: WriteProtection::ReadOnly }
            }
            _ => {
                let plan = self.plan.units[unit.0 as usize];
                let blocks = if strike.kind == Kind::CapacityGrows {
                    u64::from(plan.blocks) + random.within(1..=2_000)
                } else {
                    u64::from(plan.blocks) * random.within(10..=95) / 100
                };
                array::Event::Resize { unit, size: blocks * u64::from(plan.block_size) }
            }
        };
        victims.target.tell_array(scene, event);
    }

    /// The cache of a unit loses about so many in a hundred of the blocks that were not made durable.
    pub(super) fn lose_cache(
        &self,
        victims: &mut Victims<'_>,
        unit: UnitId,
        random: &mut Random,
        percent: u64,
    ) {
        if let Some(store) = victims.target.array.store(unit) {
            store.lose_cache(percent, random.next());
        }
    }

    fn foreign(&mut self, unit: UnitId, function: array::Function) -> array::Event {
        self.foreign_tag += 1;
        array::Event::TaskManagement {
            nexus: FOREIGN,
            tag: self.foreign_tag,
            function,
            lun: lun(unit),
            referenced: None,
        }
    }

    /// Another host sets TAS in the control mode page of a unit (SPC, 7.5.9).
    fn set_aborted_status(
        &mut self,
        scene: &mut Scene,
        victims: &mut Victims<'_>,
        unit: UnitId,
        wanted: bool,
    ) {
        const MODE_SELECT: [u8; 6] = [0x15, 0x10, 0, 0, 16, 0];
        const TEST_UNIT_READY: [u8; 6] = [0; 6];
        let aborted_status = if wanted { 0x40 } else { 0 };
        let list = [0, 0, 0, 0, 0x0a, 0x0a, 0, 0x10, 0, aborted_status, 0, 0, 0xff, 0xff, 0, 0];
        // Attentions come first, each to one command.
        for _ in 0..8 {
            self.foreign_command(scene, victims, unit, &TEST_UNIT_READY, &[]);
        }
        self.foreign_command(scene, victims, unit, &MODE_SELECT, &list);
    }

    fn foreign_command(
        &mut self,
        scene: &mut Scene,
        victims: &mut Victims<'_>,
        unit: UnitId,
        cdb: &[u8],
        data: &[u8],
    ) {
        self.foreign_tag += 1;
        let event = array::Event::Command {
            nexus: FOREIGN,
            tag: self.foreign_tag,
            lun: lun(unit),
            cdb: CdbBytes::new(cdb),
            attribute: TaskAttribute::HeadOfQueue,
            data: Buffer::from(data.to_vec()),
            expected: u32::try_from(data.len()).expect("a short list"),
        };
        victims.target.tell_array(scene, event);
    }

    fn change_access(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &mut Strike) {
        let unit = strike.unit;
        let state = match strike.kind {
            Kind::AccessTransition => AccessState::Transitioning,
            Kind::StaleReport => strike.random.pick(&[AccessState::Standby, AccessState::Unavailable]),
            _ => strike.random.pick(&[
                AccessState::Standby,
                AccessState::Unavailable,
                AccessState::Offline,
                AccessState::NonOptimized,
            ]),
        };
        if strike.kind == Kind::StaleReport {
            scene.checks.access.stale_reports += 1;
            victims.target.tell_array(scene, array::Event::FreezeReport { unit, frozen: true });
        }
        scene.checks.access.changed();
        let group = group_of(strike.port, self.plan.ports_per_controller);
        victims.target.tell_array(scene, array::Event::SetUnitAccess { unit, group, state });
    }

    pub(super) fn flap(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &mut Strike) {
        let states = [
            AccessState::Standby,
            AccessState::Transitioning,
            AccessState::Optimized,
            AccessState::NonOptimized,
        ];
        // Another one each time: the time decides.
        let place = usize::try_from(scene.now.as_nanos() / 1_000 % 4).expect("below four");
        scene.checks.access.changed();
        let (unit, group) = (strike.unit, group_of(strike.port, self.plan.ports_per_controller));
        victims.target.tell_array(scene, array::Event::SetUnitAccess { unit, group, state: states[place] });
    }

    pub(super) fn remap(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &mut Strike) {
        let _is_first_gone = strike.random.percent(50);
        let (port, lun) = remapped(strike);
        let unit = Some(victims.target.extra_unit(DECOY));
        scene.checks.remapped = Some(scene.now);
        victims.target.tell_array(scene, array::Event::Map { port, lun, unit });
    }

    fn confuse_identity(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &mut Strike) {
        let unit = strike.unit;
        let shown = match strike.kind {
            Kind::IdentityEmpty => ShownIdentity::Nothing,
            Kind::IdentityChanges => {
                let mut naa = [strike.random.next().to_le_bytes()[0]; 16];
                naa[0] = 0x60;
                ShownIdentity::Naa(naa)
            }
            _ => return self.show_twin(scene, victims, strike),
        };
        victims.target.tell_array(scene, array::Event::SetShown { unit, shown });
        let attention = AdditionalSense::DEVICE_IDENTIFIER_CHANGED;
        let event = array::Event::Attention { nexus: None, unit: Some(unit), attention };
        victims.target.tell_array(scene, event);
    }

    fn show_twin(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &Strike) {
        let Some(naa) = victims.target.naa(strike.unit) else { return };
        let unit = victims.target.extra_unit(TWIN);
        let shown = ShownIdentity::Naa(naa);
        victims.target.tell_array(scene, array::Event::SetShown { unit, shown });
        let (port, lun) = (Some(port_id(strike.port)), Lun::from(TWIN_LUN));
        victims.target.tell_array(scene, array::Event::Map { port, lun, unit: Some(unit) });
    }

    pub(super) fn mend_unit(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &mut Strike) {
        let unit = strike.unit;
        let event = match strike.kind {
            Kind::AccessTransition | Kind::AccessLost | Kind::AccessFlaps | Kind::StaleReport => {
                if strike.kind == Kind::StaleReport {
                    scene.checks.access.stale_reports -= 1;
                    victims.target.tell_array(scene, array::Event::FreezeReport { unit, frozen: false });
                }
                scene.checks.access.changed();
                let group = group_of(strike.port, self.plan.ports_per_controller);
                array::Event::SetUnitAccess { unit, group, state: self.best_state(unit, group) }
            }
            Kind::LunRemapped | Kind::LunRemappedSilently => {
                let _is_first_gone = strike.kind == Kind::LunRemapped && strike.random.percent(50);
                let told = array::Event::SetAttentions(array::AttentionPolicy::Raised);
                victims.target.tell_array(scene, told);
                let (port, lun) = remapped(strike);
                victims.target.tell_array(scene, array::Event::Map { port, lun, unit: Some(unit) });
                return self.end_sessions(scene, victims);
            }
            Kind::IdentityChanges | Kind::IdentityEmpty => {
                victims.target.tell_array(scene, array::Event::SetShown { unit, shown: ShownIdentity::Own });
                return self.end_sessions(scene, victims);
            }
            Kind::IdentityTwice => {
                let (port, lun) = (Some(port_id(strike.port)), Lun::from(TWIN_LUN));
                array::Event::Map { port, lun, unit: None }
            }
            Kind::WriteProtected => {
                array::Event::SetProtection { unit, protection: WriteProtection::Writable }
            }
            Kind::CapacityShrinks => {
                let plan = self.plan.units[unit.0 as usize];
                let size = u64::from(plan.blocks) * u64::from(plan.block_size);
                array::Event::Resize { unit, size }
            }
            _ => return,
        };
        victims.target.tell_array(scene, event);
    }

    /// Once an operator has put right what a LUN stands for, sessions begin anew: a path that showed another unit is
    /// not asked again by itself.
    fn end_sessions(&self, scene: &mut Scene, victims: &Victims<'_>) {
        for port in 0..self.plan.ports() {
            for id in victims.target.live(port) {
                scene.network.sever(scene.now, id);
            }
        }
    }

    /// The state that a group has when nothing is wrong.
    fn best_state(&self, unit: UnitId, group: GroupId) -> AccessState {
        let owner = self.plan.units[unit.0 as usize].owner;
        let is_best = owner.is_none_or(|owner| owner + 1 == group.0);
        if is_best { AccessState::Optimized } else { AccessState::NonOptimized }
    }
}

fn lun(unit: UnitId) -> Lun {
    Lun::from(u16::try_from(unit.0).expect("few units"))
}

/// Where a LUN is mapped anew: at one port, or at all.
fn remapped(strike: &mut Strike) -> (Option<array::PortId>, Lun) {
    let port = strike.random.percent(60).then(|| port_id(strike.port));
    (port, lun(strike.unit))
}
