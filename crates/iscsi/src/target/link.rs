//! Pings, logout and rejects (RFC 7143, 11.14, 11.17 to 11.19).

use clock::Instant;
use scsi::Lun;

use super::reply::Queued;
use super::session::{Phase, Session};
use super::tasks::{State, Task};
use super::{Disconnect, Keepalive};
use crate::pdu::{
    Header, InitiatorTaskTag, LogoutReason, LogoutRequest, LogoutResponseCode, NopIn, NopOut, Reject,
    RejectReason, TargetTransferTag,
};

/// When the initiator was heard last, and whether it was asked for a sign of life since.
#[derive(Debug)]
pub(super) struct Pinging {
    heard: Instant,
    asked: Option<Instant>,
}

/// The one NOP-In of ours that may be unanswered.
const PING_TAG: TargetTransferTag = TargetTransferTag(0x5049_4e47);

impl Pinging {
    pub(super) const fn new(now: Instant) -> Self {
        Self { heard: now, asked: None }
    }

    /// Anything that comes is a sign of life.
    pub(super) const fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    pub(super) fn timeout(&self, keepalive: Option<Keepalive>) -> Option<Instant> {
        let keepalive = keepalive?;
        Some(match self.asked {
            Some(asked) => asked + keepalive.timeout,
            None => self.heard + keepalive.interval,
        })
    }
}

impl Session {
    /// Asks a silent initiator whether it is there, or gives it up.
    pub(super) fn ping(&mut self, now: Instant) {
        let due = self.pinging.timeout(self.options.keepalive).is_some_and(|timeout| timeout <= now);
        if !due {
            return;
        }
        if self.pinging.asked.is_some() {
            self.disconnect(Disconnect::Silent);
            return;
        }
        self.pinging.asked = Some(now);
        let serials = self.serials();
        let pdu = NopIn {
            lun: Lun::default(),
            initiator_task_tag: InitiatorTaskTag::NONE,
            target_transfer_tag: PING_TAG,
            serials,
        };
        self.outgoing.push(pdu.emit(), None);
    }

    /// Echoes a ping, as much of it as the initiator can take in one PDU (RFC 7143, 11.18).
    pub(super) fn nop_out(&mut self, pdu: &NopOut) {
        if pdu.initiator_task_tag == InitiatorTaskTag::NONE {
            return;
        }
        let data = self.incoming.data();
        let data = data[..data.len().min(self.peer_segment_max as usize)].to_vec();
        let serials = self.status_serials();
        let answer = NopIn {
            lun: Lun::default(),
            initiator_task_tag: pdu.initiator_task_tag,
            target_transfer_tag: TargetTransferTag::NONE,
            serials,
        };
        self.outgoing.push_own(answer.emit(), None, data);
    }

    pub(super) fn log_out(&mut self, pdu: &LogoutRequest) {
        let initiator_task_tag = pdu.initiator_task_tag;
        let response = match pdu.reason {
            LogoutReason::CloseConnection if pdu.connection_id != self.connection_id => {
                LogoutResponseCode::ConnectionNotFound
            }
            LogoutReason::CloseSession | LogoutReason::CloseConnection => {
                self.drop_all_undelivered();
                self.phase = Phase::LoggingOut { initiator_task_tag };
                return;
            }
            LogoutReason::RemoveForRecovery | LogoutReason::Other(_) => {
                LogoutResponseCode::RecoveryNotSupported
            }
        };
        self.queue.push_back(Queued::Logout { initiator_task_tag, response });
    }

    fn drop_all_undelivered(&mut self) {
        for slot in self.tasks.slots_by_age() {
            if !matches!(self.tasks.get(slot), Some(Task { state: State::Delivered, .. })) {
                self.forget(slot);
            }
        }
    }

    /// Sends a PDU back (RFC 7143, 11.17).
    pub(super) fn reject(&mut self, header: &Header, reason: RejectReason) {
        let serials = self.status_serials();
        let pdu = Reject { reason, serials, data_sn: 0 };
        self.outgoing.push_own(pdu.emit(), None, header.0.to_vec());
    }
}
