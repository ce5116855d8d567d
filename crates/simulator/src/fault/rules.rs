//! Faults that the array makes by itself, as rules that it holds commands and functions against.

use array::{
    Chance, Class, Effect, Fault, Function, Place, PortId, Response, Scope, Treatment, UnitId, Until, When,
};
use clock::Duration;
use scsi::cdb::operation;
use scsi::{AdditionalSense, Reply, Residual, Sense, SenseData, SenseKey, Status};

use super::Kind;
use crate::random::Random;

/// What a rule is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Victim {
    pub(crate) port: PortId,
    pub(crate) unit: UnitId,
    /// The capacity of the unit.
    pub(crate) blocks: u64,
}

impl Kind {
    /// The rule of the array that makes it happen, if it is the array's to do.
    pub(crate) fn rule(self, random: &mut Random, at: Victim) -> Option<Fault> {
        if let Some(effect) = self.change(random) {
            let scope = Scope { class: Class::Operation(operation::MAINTENANCE_OUT), ..Scope::default() };
            return Some(Fault { scope, when: When::ALWAYS, effect });
        }
        let at_port = Scope { port: Some(at.port), ..Scope::default() };
        let at_unit = Scope { unit: Some(at.unit), ..Scope::default() };
        let scope = if random.percent(50) { at_port } else { at_unit };
        let some = When { chance: Chance::Of65536(random.pick(&[3_000, 20_000, 65_535])), ..When::ALWAYS };
        let few = When::times(random.within(1..=4));
        let resets = Scope { function: Some(Function::LogicalUnitReset), ..scope };
        let (scope, when, effect) = match self {
            Self::CommandsHeld => {
                let effect = Effect::Hold { place: Place::Queue, until: Until::Released };
                (Scope { class: Class::Medium, ..at_port }, When::ALWAYS, effect)
            }
            Self::StuckWrite => {
                let until = stuck(random);
                (Scope { class: Class::Write, ..scope }, few, Effect::Hold { place: Place::BackEnd, until })
            }
            Self::TornWrite => {
                let until = stuck(random);
                let blocks = u32::try_from(random.below(8)).expect("few blocks");
                (Scope { class: Class::Write, ..scope }, few, Effect::Tear { until, blocks })
            }
            Self::StatusLostAfter => (Scope { class: Class::Medium, ..scope }, few, Effect::LoseStatus),
            Self::StatusLostBefore => (Scope { class: Class::Medium, ..scope }, few, Effect::LoseCommand),
            Self::DroppedWrite => (Scope { class: Class::Write, ..scope }, few, Effect::LoseWrite),
            Self::MisdirectedWrite => {
                let blocks = random.within(1..=at.blocks.max(2) - 1);
                (Scope { class: Class::Write, ..scope }, few, Effect::Misdirect { blocks })
            }
            Self::ResetLies => (resets, When::ALWAYS, Effect::Function(Treatment::AnswerEarly)),
            Self::ResetRejected => {
                let response = random.pick(&[Response::Rejected, Response::NotSupported]);
                (resets, When::ALWAYS, Effect::Function(Treatment::Answer(response)))
            }
            Self::AbortClaimed => {
                let aborts = Scope { function: Some(Function::AbortTask), ..at_port };
                (aborts, When::ALWAYS, Effect::Function(Treatment::ClaimComplete))
            }
            Self::FunctionUnanswered => (at_port, When::ALWAYS, Effect::Function(Treatment::NeverAnswer)),
            Self::Busy => {
                let status = random.pick(&[Status::Busy, Status::TaskSetFull]);
                (scope, some, Effect::Reply(Reply { status, sense: None, residual: Residual::None }))
            }
            Self::Reserved => {
                let reply =
                    Reply { status: Status::ReservationConflict, sense: None, residual: Residual::None };
                (Scope { class: Class::Medium, ..at_unit }, some, Effect::Reply(reply))
            }
            Self::DeferredError => (at_unit, When::times(1), Effect::Reply(deferred_error())),
            Self::MediumError => {
                let first = random.below(at.blocks);
                let class = random.pick(&[Class::Read, Class::Medium]);
                let scope = Scope { class, blocks: Some((first, first + random.below(8))), ..at_unit };
                let code = AdditionalSense::UNRECOVERED_READ_ERROR;
                let sense = SenseData::fixed(&Sense::new(SenseKey::MediumError, code));
                (scope, When::ALWAYS, Effect::Reply(Reply::check_condition(sense)))
            }
            Self::SlowPort => {
                let until = Until::After(Duration::from_millis(random.spread(1, 500)));
                (scope, some, Effect::Hold { place: Place::Queue, until })
            }
            _ => return None,
        };
        Some(Fault { scope, when, effect })
    }
}

impl Kind {
    /// What is wrong with the answer to SET TARGET PORT GROUPS.
    fn change(self, random: &mut Random) -> Option<Effect> {
        match self {
            Self::ChangeRefused => {
                let (key, code) = random.pick(&[
                    (SenseKey::IllegalRequest, AdditionalSense::INVALID_COMMAND_OPERATION_CODE),
                    (SenseKey::HardwareError, AdditionalSense::SET_TARGET_PORT_GROUPS_FAILED),
                    (SenseKey::NotReady, AdditionalSense::LUN_NOT_READY_ALUA_TRANSITION),
                ]);
                let sense = SenseData::fixed(&Sense::new(key, code));
                Some(Effect::Reply(Reply::check_condition(sense)))
            }
            Self::ChangeLate => {
                let until = Until::After(Duration::from_millis(random.spread(500, 40_000)));
                Some(Effect::Hold { place: Place::Queue, until })
            }
            Self::ChangeLies => Some(Effect::Reply(Reply::good())),
            _ => None,
        }
    }
}

/// How long the back end keeps what is stuck in it: less than the time that a fence waits for at least.
fn stuck(random: &mut Random) -> Until {
    let shortest = random.pick(&[10, 1_000, 4_000]);
    Until::After(Duration::from_millis(random.spread(shortest, 20_000)))
}

/// An earlier write could not be written after all (SPC, 4.4.4).
fn deferred_error() -> Reply {
    let sense = Sense::new(SenseKey::MediumError, AdditionalSense::WRITE_ERROR).as_deferred();
    Reply::check_condition(SenseData::fixed(&sense))
}
