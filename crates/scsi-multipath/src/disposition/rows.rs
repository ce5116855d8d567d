//! The rows: status codes, sense keys, additional sense codes, endings without a status.

use clock::Duration;
use scsi::{AdditionalSense, Ending, Reply, Residual, SenseData, SenseKey, Status};

use super::{CommandClass, Disposition, Failure, Fate, FollowUp, PathEffect, Retry, Then};

/// How often a unit attention is answered by sending the command again: they stack, one for each event (SPC,
/// unit attention condition), but not without end.
const ATTENTIONS_MAX: u8 = 8;
/// A device that is busy is asked again this often, for a second in all.
const BUSY_TIMES: u8 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// A device that works on something long (formatting, self test) is asked again for a minute in all.
const LONG_WORK_TIMES: u8 = 30;
const LONG_WORK_PAUSE: Duration = Duration::from_secs(2);
/// A device that does not say why it is not ready is asked again for two seconds in all.
const NOT_READY_TIMES: u8 = 3;
const NOT_READY_PAUSE: Duration = Duration::from_millis(667);
/// A device that is about to become ready, or about to lose power, is asked again for half a minute in all: longer than
/// a controller takes to start.
const SOON_READY_TIMES: u8 = 60;
const SOON_READY_PAUSE: Duration = Duration::from_millis(500);
/// Attempts at a command that the device server aborted for a reason of its own.
const ABORTED_TIMES: u8 = 3;
const ABORTED_PAUSE: Duration = Duration::from_millis(100);
/// Attempts at a medium error that is not known to be permanent.
const MEDIUM_TIMES: u8 = 2;

/// Decides what follows from `ending` for a command of `class` that moves an exact number of bytes.
#[must_use]
pub fn disposition(class: CommandClass, ending: &Ending) -> Disposition {
    match ending {
        Ending::Reply(reply) => replied(class, reply),
        // Not executed, so that any class may go another way. A path that could not send is not asked at once again.
        // The same, and its path is not to blame.
        Ending::Withdrawn => retry(Duration::ZERO, u8::MAX, Then::Failover, Failure::Transport),
        Ending::NotSent => failover(Failure::Transport).failing(PathEffect::Failed),
        Ending::Lost => ambiguous(class, Failure::Transport).failing(PathEffect::Failed),
        // RFC 7143, 11.6.1: the task was ended and the device server confirmed it; parts may have been done.
        Ending::Aborted => once(class, failover(Failure::Aborted)),
        // The same, and we did it for a reason of our own.
        Ending::Cleared => once(class, retry(Duration::ZERO, u8::MAX, Then::Failover, Failure::Aborted)),
        // RFC 7143, 11.4.3: the target could not deliver a status.
        Ending::TargetFailure => ambiguous(class, Failure::Transport),
    }
}

/// SAM, status codes.
fn replied(class: CommandClass, reply: &Reply) -> Disposition {
    match reply.status {
        Status::Good | Status::ConditionMet => succeeded(reply.residual),
        Status::CheckCondition => match &reply.sense {
            Some(sense) => sensed(class, reply, sense),
            None => unintelligible(class),
        },
        Status::Busy => retry(BUSY_PAUSE, BUSY_TIMES, Then::Doubt, Failure::Busy),
        Status::TaskSetFull => {
            retry(BUSY_PAUSE, BUSY_TIMES, Then::Failover, Failure::Busy).and(FollowUp::SLOW_DOWN)
        }
        Status::ReservationConflict => fail(Failure::ReservationConflict).and(FollowUp::RESERVATIONS),
        // SAM, TAS=1: another nexus ended it.
        Status::TaskAborted => {
            once(class, retry(Duration::ZERO, ABORTED_TIMES, Then::Failover, Failure::Aborted))
                .and(FollowUp::SWEEP)
        }
        // We never set NACA, so that no ACA is ours; somebody else's ends.
        Status::AcaActive => retry(BUSY_PAUSE, BUSY_TIMES, Then::Failover, Failure::Busy),
        Status::Other(_) => fail(Failure::Unintelligible).and(FollowUp::NOTICE),
    }
}

/// A good status whose byte count does not match is an error, never a short success (SAM, residual).
const fn succeeded(residual: Residual) -> Disposition {
    match residual {
        Residual::None => plain(Fate::Complete),
        Residual::Underflow(_) | Residual::Overflow(_) => fail(Failure::Residual).and(FollowUp::NOTICE),
    }
}

fn unintelligible(class: CommandClass) -> Disposition {
    once(class, retry(Duration::ZERO, 1, Then::Doubt, Failure::Unintelligible))
}

/// SPC, sense keys.
fn sensed(class: CommandClass, reply: &Reply, sense: &SenseData) -> Disposition {
    let Some(sense) = sense.parse() else { return unintelligible(class) };
    if sense.deferred {
        return deferred(sense.key);
    }
    let AdditionalSense { asc, ascq } = sense.additional;
    let code = (asc, ascq);
    match sense.key {
        SenseKey::RecoveredError => succeeded(reply.residual).and(FollowUp::NOTICE),
        SenseKey::NotReady => not_ready(code),
        SenseKey::MediumError => once(class, medium_error(code)),
        SenseKey::HardwareError => once(class, hardware_error(code)),
        SenseKey::IllegalRequest => illegal_request(code),
        SenseKey::UnitAttention => unit_attention(code),
        SenseKey::DataProtect => data_protect(code),
        SenseKey::AbortedCommand => aborted_command(class, code),
        SenseKey::Miscompare => fail(Failure::Miscompare),
        SenseKey::VolumeOverflow => fail(Failure::OutOfRange).and(FollowUp::CAPACITY),
        // SPC: command duration limits report with COMPLETED and 55/0A.
        SenseKey::Completed | SenseKey::CopyAborted => fail(Failure::Aborted),
        SenseKey::BlankCheck | SenseKey::VendorSpecific => fail(Failure::Hardware),
        SenseKey::NoSense => {
            once(class, retry(Duration::ZERO, 1, Then::Fail, Failure::Unintelligible)).and(FollowUp::NOTICE)
        }
        SenseKey::Reserved => fail(Failure::Unintelligible).and(FollowUp::NOTICE),
    }
}

/// SPC, deferred errors: the news is of an earlier command; the current one was not executed.
fn deferred(key: SenseKey) -> Disposition {
    let again =
        retry(Duration::ZERO, ATTENTIONS_MAX, Then::Failover, Failure::Attention).and(FollowUp::NOTICE);
    match key {
        SenseKey::RecoveredError | SenseKey::NoSense => again,
        _ => again.and(FollowUp::CACHE_LOST),
    }
}

/// SPC, NOT READY: not executed.
const fn not_ready(code: (u8, u8)) -> Disposition {
    match code {
        // Becoming ready: other paths are preferred meanwhile.
        (0x04, 0x01) => retry(SOON_READY_PAUSE, SOON_READY_TIMES, Then::Doubt, Failure::NotReady)
            .failing(PathEffect::Doubtful),
        // Initializing command required.
        (0x04, 0x02) => failover(Failure::NotReady).failing(PathEffect::Doubtful).and(FollowUp::NOTICE),
        // Manual intervention required.
        (0x04, 0x03) => failover(Failure::NotReady).failing(PathEffect::Failed).and(FollowUp::NOTICE),
        // Formatting, rebuilding, self test, long write, sanitize, … in progress.
        (0x04, 0x04..=0x09 | 0x11 | 0x14 | 0x1a | 0x1b | 0x1d) => {
            retry(LONG_WORK_PAUSE, LONG_WORK_TIMES, Then::Fail, Failure::NotReady)
        }
        // SPC, asymmetric access: transition; standby; unavailable.
        (0x04, 0x0a) => reroute(PathEffect::Transitioning).and(FollowUp::ACCESS),
        (0x04, 0x0b) => reroute(PathEffect::Standby).and(FollowUp::ACCESS),
        (0x04, 0x0c) => reroute(PathEffect::Unavailable).and(FollowUp::ACCESS),
        // Offline; logical unit reset or power cycle required; depopulation.
        (0x04, 0x12) => reroute(PathEffect::Unavailable).and(FollowUp::ACCESS),
        (0x04, 0x20 | 0x22 | 0x24 | 0x25) => fail(Failure::NotReady).and(FollowUp::NOTICE),
        // Medium not present.
        (0x3a, _) => failover(Failure::NotReady).failing(PathEffect::Doubtful).and(FollowUp::IDENTITY),
        // Cause not reportable, and what else stands here.
        _ => retry(NOT_READY_PAUSE, NOT_READY_TIMES, Then::Doubt, Failure::NotReady),
    }
}

/// SPC, MEDIUM ERROR: the logical unit's, never the path's.
const fn medium_error(code: (u8, u8)) -> Disposition {
    match code {
        // Unrecovered read error; address mark or record not found.
        (0x11 | 0x13 | 0x14, _) => fail(Failure::Medium),
        (0x10, _) => fail(Failure::Protection),
        _ => retry(Duration::ZERO, MEDIUM_TIMES, Then::Fail, Failure::Medium),
    }
}

/// SPC, HARDWARE ERROR.
const fn hardware_error(code: (u8, u8)) -> Disposition {
    match code {
        // Communication failure, data phase error, SCSI parity: the link behind the port.
        (0x08, 0x00..=0x02) | (0x4b | 0x47, _) => failover(Failure::Hardware).failing(PathEffect::Doubtful),
        (0x10, _) => fail(Failure::Protection),
        // Logical unit failure, timeout on logical unit, failed self-test; failed self-configuration; internal
        // target failure: the port's controller may be what failed.
        (0x3e, 0x01..=0x03) | (0x4c, 0x00) | (0x44, 0x00) => failover(Failure::Hardware),
        // Persistent reservation information lost.
        (0x44, 0x01) => fail(Failure::Hardware).and(FollowUp::RESERVATIONS).and(FollowUp::NOTICE),
        _ => fail(Failure::Hardware),
    }
}

/// SPC, ILLEGAL REQUEST: not executed.
const fn illegal_request(code: (u8, u8)) -> Disposition {
    match code {
        // Invalid operation code; invalid field in CDB or parameter list; illegal function.
        (0x20 | 0x22 | 0x24 | 0x26, _) => fail(Failure::Unsupported).and(FollowUp::FEATURE_MISSING),
        // Logical block address out of range.
        (0x21, _) => fail(Failure::OutOfRange).and(FollowUp::CAPACITY),
        // Logical unit not supported.
        (0x25, _) => failover(Failure::LogicalUnitGone).failing(PathEffect::Gone).and(FollowUp::IDENTITY),
        // RDAC arrays: this controller does not own the logical unit.
        (0x94, 0x01) => failover(Failure::NotReady).failing(PathEffect::Doubtful),
        _ => fail(Failure::Invalid),
    }
}

/// SPC, DATA PROTECT: not executed.
const fn data_protect(code: (u8, u8)) -> Disposition {
    match code {
        // Space allocation failed write protect.
        (0x27, 0x07) => fail(Failure::SpaceExhausted).and(FollowUp::NOTICE),
        _ => fail(Failure::WriteProtected).and(FollowUp::MODES),
    }
}

/// SPC, ABORTED COMMAND.
fn aborted_command(class: CommandClass, code: (u8, u8)) -> Disposition {
    match code {
        (0x10, _) => fail(Failure::Protection),
        // Command timeout before, during or after processing (duration limits).
        (0x2e, 0x01..=0x03) => fail(Failure::Aborted),
        // What a device server also reports as a unit attention.
        (0x29 | 0x2a | 0x2f | 0x3f, _) => once(class, unit_attention(code)),
        // Overlapped commands attempted: two commands with one tag; what became of the other is unknown.
        (0x4e, _) => ambiguous(class, Failure::Transport).failing(PathEffect::Failed).and(FollowUp::NOTICE),
        // Parity and data phase errors, invalid information unit, message errors: the link.
        (0x47 | 0x4b | 0x0e | 0x48 | 0x49, _) => {
            once(class, retry(Duration::ZERO, 1, Then::Doubt, Failure::Aborted))
        }
        _ => once(class, retry(ABORTED_PAUSE, ABORTED_TIMES, Then::Failover, Failure::Aborted)),
    }
}

/// SPC, UNIT ATTENTION: the command was not executed, so that every class may be sent again.
const fn unit_attention(code: (u8, u8)) -> Disposition {
    let again = retry(Duration::ZERO, ATTENTIONS_MAX, Then::Failover, Failure::Attention);
    match code {
        // Not ready to ready change, medium may have changed.
        (0x28, _) => again.and(FollowUp::IDENTITY).and(FollowUp::CAPACITY),
        (0x29, ascq) => after_reset(ascq, again),
        (0x2a, ascq) => parameters_changed(ascq, again),
        // Commands cleared by power loss notification: it goes, and may come back.
        (0x2f, 0x01) => retry(SOON_READY_PAUSE, SOON_READY_TIMES, Then::Doubt, Failure::Attention)
            .and(FollowUp::CACHE_LOST)
            .and(FollowUp::SWEEP)
            .and(FollowUp::NOTICE),
        // Commands cleared by another initiator, by the device server, by the queuing layer.
        (0x2f, _) => again.and(FollowUp::SWEEP).and(FollowUp::NOTICE),
        // Thin provisioning soft threshold reached.
        (0x38, 0x07) => again.and(FollowUp::NOTICE),
        (0x3f, ascq) => definition_changed(ascq, again),
        // Failure prediction; warnings, among them: the non-volatile cache is now volatile.
        (0x0b, 0x06 | 0x08) => again.and(FollowUp::MODES).and(FollowUp::NOTICE),
        (0x5d | 0x0b, _) => again.and(FollowUp::NOTICE),
        _ => again.and(FollowUp::NOTICE),
    }
}

/// 29h: power on, reset, or bus device reset occurred. Whatever it was, the identity is read again before a write.
const fn after_reset(ascq: u8, again: Disposition) -> Disposition {
    let again = again.and(FollowUp::SWEEP).and(FollowUp::IDENTITY).and(FollowUp::NOTICE);
    match ascq {
        // Any of them; power on: a volatile cache, and registrations that do not outlive a power loss.
        0x00 | 0x01 => again.and(FollowUp::CACHE_LOST).and(FollowUp::ACCESS).and(FollowUp::RESERVATIONS),
        // Device internal reset: a volatile cache.
        0x04 => again.and(FollowUp::CACHE_LOST).and(FollowUp::ACCESS),
        // I_T nexus loss: what was reserved through this nexus alone.
        0x07 => again.and(FollowUp::RESERVATIONS),
        // Bus reset, target or logical unit reset, transceiver mode changes.
        _ => again.and(FollowUp::ACCESS),
    }
}

/// 2Ah: parameters changed. Whatever changed, nothing is written before the identity was read again.
const fn parameters_changed(ascq: u8, again: Disposition) -> Disposition {
    let again = again.and(FollowUp::IDENTITY);
    match ascq {
        // Parameters changed, which is not said.
        0x00 => again.and(FollowUp::CAPACITY).and(FollowUp::MODES).and(FollowUp::ACCESS),
        // Mode parameters changed.
        0x01 => again.and(FollowUp::MODES),
        // Reservations preempted, released; registrations preempted.
        0x03..=0x05 => again.and(FollowUp::RESERVATIONS).and(FollowUp::NOTICE),
        // Asymmetric access state changed; implicit transition failed.
        0x06 => again.and(FollowUp::ACCESS),
        0x07 => failover(Failure::NotReady)
            .failing(PathEffect::Doubtful)
            .and(FollowUp::IDENTITY)
            .and(FollowUp::ACCESS)
            .and(FollowUp::NOTICE),
        // Capacity data has changed.
        0x09 => again.and(FollowUp::CAPACITY),
        _ => again,
    }
}

/// 3Fh: target operating conditions have changed, and what else is about the definition of the logical unit.
const fn definition_changed(ascq: u8, again: Disposition) -> Disposition {
    let again = again.and(FollowUp::IDENTITY).and(FollowUp::NOTICE);
    match ascq {
        // Target operating conditions, microcode, operating definition changed.
        0x00..=0x02 | 0x16 => again
            .and(FollowUp::INQUIRY)
            .and(FollowUp::CAPACITY)
            .and(FollowUp::MODES)
            .and(FollowUp::LIMITS)
            .and(FollowUp::ACCESS),
        // Inquiry data changed: among them the limits, and whether and how it reports asymmetric access.
        0x03 => {
            again.and(FollowUp::INQUIRY).and(FollowUp::CAPACITY).and(FollowUp::LIMITS).and(FollowUp::ACCESS)
        }
        // Device identifier, volume set created, deleted, deassigned, reassigned.
        0x05 | 0x0a..=0x0d => again.and(FollowUp::CAPACITY),
        // Reported LUNs data has changed; iSCSI portal added, removed, changed.
        0x0e | 0x12..=0x14 => again.and(FollowUp::DISCOVER),
        _ => again,
    }
}

const fn plain(fate: Fate) -> Disposition {
    Disposition { fate, path: PathEffect::None, follow_up: FollowUp::NONE }
}

const fn fail(failure: Failure) -> Disposition {
    plain(Fate::Fail(failure))
}

const fn failover(failure: Failure) -> Disposition {
    plain(Fate::Failover(failure))
}

const fn retry(pause: Duration, times: u8, then: Then, failure: Failure) -> Disposition {
    plain(Fate::Retry(Retry { pause, times, then, failure }))
}

/// Sent again at once, while the path that said so is not chosen.
const fn reroute(path: PathEffect) -> Disposition {
    retry(Duration::ZERO, u8::MAX, Then::Failover, Failure::NotReady).failing(path)
}

/// For an unknown outcome: a read goes another way, an absolute write is left to the fence, the rest fails.
const fn ambiguous(class: CommandClass, failure: Failure) -> Disposition {
    match class {
        CommandClass::Read => failover(failure),
        CommandClass::Write => plain(Fate::Ambiguous(failure)),
        _ => fail(Failure::UnknownOutcome),
    }
}

/// For an answer that does not prove that nothing was done: only a repeatable command is sent again.
fn once(class: CommandClass, disposition: Disposition) -> Disposition {
    match disposition.fate {
        Fate::Retry(_) | Fate::Failover(_) if !class.repeatable() => {
            Disposition { fate: Fate::Fail(Failure::UnknownOutcome), ..disposition }
        }
        _ => disposition,
    }
}

impl Disposition {
    const fn failing(self, path: PathEffect) -> Self {
        Self { path, ..self }
    }

    const fn and(self, follow_up: FollowUp) -> Self {
        Self { follow_up: self.follow_up.and(follow_up), ..self }
    }
}
