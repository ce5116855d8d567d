//! How the Data-Out of one command is gathered: unsolicited first, then what R2Ts ask for.
//!
//! Data comes in order (DataPDUInOrder and DataSequenceInOrder are Yes), so one counter says what is there.

use super::tasks::Slot;
use crate::pdu::{DataOut, TargetTransferTag};

/// Data-Out of one command on its way. Offsets and lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gather {
    expected: u32,
    /// Contiguous from the beginning.
    received: u32,
    source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Data-Out PDUs that nobody asked for, up to `limit` bytes with the immediate data.
    Unsolicited { data_sn: u32, limit: u32 },
    /// R2T number `n` asks for the `n`-th piece of `burst` bytes from `start` on.
    Solicited { start: u32, issued: u32, filled: u32, data_sn: u32 },
}

/// What an R2T asks for. Offset and length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) r2t_sn: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// What the negotiation allows (RFC 7143, 13.10, 13.13, 13.14, 13.17). Lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) initial_r2t: bool,
    pub(super) immediate_data: bool,
    pub(super) first_burst: u32,
    pub(super) max_burst: u32,
    pub(super) outstanding_r2t: u32,
}

/// Why data ends a command with CHECK CONDITION (RFC 7143, 11.4.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataError {
    /// Data that was neither asked for nor allowed.
    UnexpectedUnsolicited,
    /// More or less than announced or asked for.
    IncorrectAmount,
    /// Out of sequence. On a stream nothing can have got lost: the initiator counts wrongly.
    OutOfSequence,
}

impl DataError {
    /// Additional sense code and qualifier; the sense key is ABORTED COMMAND.
    pub(super) const fn additional_sense(self) -> (u8, u8) {
        match self {
            // RFC 7143, 11.4.7.2: unexpected unsolicited data.
            Self::UnexpectedUnsolicited => (0x0c, 0x0c),
            // RFC 7143, 11.4.7.2: incorrect amount of data.
            Self::IncorrectAmount => (0x0c, 0x0d),
            // SPC: DATA PHASE ERROR.
            Self::OutOfSequence => (0x4b, 0x00),
        }
    }
}

impl Gather {
    /// Begins with a command PDU that carries `immediate` bytes; `more` says that unsolicited PDUs follow.
    pub(super) fn begin(
        expected: u32,
        immediate: u32,
        more: bool,
        limits: &Limits,
    ) -> Result<Self, DataError> {
        if immediate > 0 && !limits.immediate_data || more && limits.initial_r2t {
            return Err(DataError::UnexpectedUnsolicited);
        }
        if immediate > expected {
            return Err(DataError::IncorrectAmount);
        }
        if immediate > limits.first_burst {
            return Err(DataError::UnexpectedUnsolicited);
        }
        let source = if more {
            Source::Unsolicited { data_sn: 0, limit: limits.first_burst.min(expected) }
        } else {
            Source::solicited_from(immediate)
        };
        Ok(Self { expected, received: immediate, source })
    }

    /// Where a Data-Out PDU with `length` bytes belongs. The gathering moves on: at ERL 0 data that turns out to
    /// be damaged ends the connection.
    pub(super) fn accept(
        &mut self,
        pdu: &DataOut,
        length: u32,
        slot: Slot,
        limits: &Limits,
    ) -> Result<u32, DataError> {
        let offset = pdu.buffer_offset;
        if pdu.target_transfer_tag == TargetTransferTag::NONE {
            self.accept_unsolicited(pdu, length)?;
        } else {
            self.accept_solicited(pdu, length, slot, limits)?;
        }
        Ok(offset)
    }

    fn accept_unsolicited(&mut self, pdu: &DataOut, length: u32) -> Result<(), DataError> {
        let Source::Unsolicited { data_sn, limit } = &mut self.source else {
            return Err(DataError::UnexpectedUnsolicited);
        };
        if pdu.data_sn != *data_sn || pdu.buffer_offset != self.received {
            return Err(DataError::OutOfSequence);
        }
        if length > *limit - self.received {
            return Err(DataError::UnexpectedUnsolicited);
        }
        *data_sn += 1;
        self.received += length;
        if pdu.last {
            // RFC 7143, 11.4.7.2: short of a full first burst is an error only if the command needs more than that.
            if self.received != *limit && self.expected > *limit {
                return Err(DataError::IncorrectAmount);
            }
            self.source = Source::solicited_from(self.received);
        }
        Ok(())
    }

    fn accept_solicited(
        &mut self,
        pdu: &DataOut,
        length: u32,
        slot: Slot,
        limits: &Limits,
    ) -> Result<(), DataError> {
        let Source::Solicited { start, issued, filled, data_sn } = &mut self.source else {
            return Err(DataError::OutOfSequence);
        };
        let current = pdu.target_transfer_tag == transfer_tag(slot, *filled);
        if *filled == *issued || !current || pdu.data_sn != *data_sn || pdu.buffer_offset != self.received {
            return Err(DataError::OutOfSequence);
        }
        let burst = burst(*start, *filled, self.expected, limits.max_burst);
        let end = burst.offset + burst.length;
        if length > end - self.received {
            return Err(DataError::IncorrectAmount);
        }
        self.received += length;
        *data_sn += 1;
        if pdu.last != (self.received == end) {
            return Err(DataError::IncorrectAmount);
        }
        if pdu.last {
            *filled += 1;
            *data_sn = 0;
        }
        Ok(())
    }

    /// The next piece to ask for, if there is one and the number of outstanding R2Ts allows it.
    pub(super) fn next_request(&mut self, limits: &Limits) -> Option<Request> {
        let Source::Solicited { start, issued, filled, .. } = &mut self.source else { return None };
        if *issued - *filled >= limits.outstanding_r2t {
            return None;
        }
        let request = burst(*start, *issued, self.expected, limits.max_burst);
        if request.length == 0 {
            return None;
        }
        *issued += 1;
        Some(request)
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.received == self.expected && matches!(self.source, Source::Solicited { .. })
    }
}

impl Source {
    const fn solicited_from(start: u32) -> Self {
        Self::Solicited { start, issued: 0, filled: 0, data_sn: 0 }
    }
}

/// The piece that R2T number `number` asks for; of no length beyond the end.
fn burst(start: u32, number: u32, expected: u32, max_burst: u32) -> Request {
    let offset = start.saturating_add(number.saturating_mul(max_burst)).min(expected);
    Request { r2t_sn: number, offset, length: max_burst.min(expected - offset) }
}

/// The tag of an R2T: slot and R2TSN, so that neither a table nor a search is needed. Never
/// [`TargetTransferTag::NONE`], because slots are far below 65535.
pub(super) fn transfer_tag(slot: Slot, r2t_sn: u32) -> TargetTransferTag {
    TargetTransferTag(u32::from(slot) << 16 | r2t_sn & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdu::{InitiatorTaskTag, SerialNumber};
    use scsi::Lun;

    const LIMITS: Limits = Limits {
        initial_r2t: false,
        immediate_data: true,
        first_burst: 1024,
        max_burst: 2048,
        outstanding_r2t: 2,
    };
    const SLOT: Slot = 3;

    fn data_out(tag: TargetTransferTag, data_sn: u32, buffer_offset: u32, last: bool) -> DataOut {
        DataOut {
            last,
            lun: Lun::default(),
            initiator_task_tag: InitiatorTaskTag(1),
            target_transfer_tag: tag,
            exp_stat_sn: SerialNumber(0),
            data_sn,
            buffer_offset,
        }
    }

    #[test]
    fn a_write_takes_immediate_then_unsolicited_then_solicited_data() {
        let mut gather = Gather::begin(4096, 512, true, &LIMITS).unwrap();
        assert_eq!(gather.next_request(&LIMITS), None, "unsolicited data is still on its way");
        let unsolicited = data_out(TargetTransferTag::NONE, 0, 512, true);
        assert_eq!(gather.accept(&unsolicited, 512, SLOT, &LIMITS), Ok(512));
        assert_eq!(gather.next_request(&LIMITS), Some(Request { r2t_sn: 0, offset: 1024, length: 2048 }));
        assert_eq!(gather.next_request(&LIMITS), Some(Request { r2t_sn: 1, offset: 3072, length: 1024 }));
        assert_eq!(gather.next_request(&LIMITS), None);
        let tag = transfer_tag(SLOT, 0);
        assert_eq!(gather.accept(&data_out(tag, 0, 1024, false), 1024, SLOT, &LIMITS), Ok(1024));
        assert_eq!(gather.accept(&data_out(tag, 1, 2048, true), 1024, SLOT, &LIMITS), Ok(2048));
        assert!(!gather.is_complete());
        let tag = transfer_tag(SLOT, 1);
        assert_eq!(gather.accept(&data_out(tag, 0, 3072, true), 1024, SLOT, &LIMITS), Ok(3072));
        assert!(gather.is_complete());
    }

    #[test]
    fn outstanding_r2ts_are_limited() {
        let mut gather = Gather::begin(1 << 20, 0, false, &LIMITS).unwrap();
        assert!(gather.next_request(&LIMITS).is_some());
        assert!(gather.next_request(&LIMITS).is_some());
        assert_eq!(gather.next_request(&LIMITS), None);
        gather.accept(&data_out(transfer_tag(SLOT, 0), 0, 0, true), 2048, SLOT, &LIMITS).unwrap();
        assert_eq!(gather.next_request(&LIMITS), Some(Request { r2t_sn: 2, offset: 4096, length: 2048 }));
    }

    #[test]
    fn unsolicited_data_beyond_the_first_burst_is_unexpected() {
        let error = Err(DataError::UnexpectedUnsolicited);
        assert_eq!(Gather::begin(4096, 1025, false, &LIMITS), error);
        let mut gather = Gather::begin(4096, 1024, true, &LIMITS).unwrap();
        assert_eq!(
            gather.accept(&data_out(TargetTransferTag::NONE, 0, 1024, true), 1, SLOT, &LIMITS),
            Err(DataError::UnexpectedUnsolicited)
        );
    }

    #[test]
    fn unsolicited_data_that_was_negotiated_away_is_unexpected() {
        let error = Err(DataError::UnexpectedUnsolicited);
        assert_eq!(Gather::begin(4096, 0, true, &Limits { initial_r2t: true, ..LIMITS }), error);
        assert_eq!(Gather::begin(4096, 1, false, &Limits { immediate_data: false, ..LIMITS }), error);
    }

    #[test]
    fn a_burst_that_ends_early_or_late_is_an_incorrect_amount() {
        for (length, last) in [(2047, true), (2048, false), (2049, true)] {
            let mut gather = Gather::begin(4096, 0, false, &LIMITS).unwrap();
            gather.next_request(&LIMITS).unwrap();
            let pdu = data_out(transfer_tag(SLOT, 0), 0, 0, last);
            assert_eq!(gather.accept(&pdu, length, SLOT, &LIMITS), Err(DataError::IncorrectAmount));
        }
        let mut gather = Gather::begin(4096, 0, true, &LIMITS).unwrap();
        let pdu = data_out(TargetTransferTag::NONE, 0, 0, true);
        assert_eq!(gather.accept(&pdu, 1023, SLOT, &LIMITS), Err(DataError::IncorrectAmount));
        assert_eq!(Gather::begin(512, 513, false, &LIMITS), Err(DataError::IncorrectAmount));
    }

    #[test]
    fn wrong_numbers_offsets_and_tags_are_out_of_sequence() {
        for pdu in [
            data_out(transfer_tag(SLOT, 0), 1, 0, true),
            data_out(transfer_tag(SLOT, 0), 0, 512, true),
            data_out(transfer_tag(SLOT, 1), 0, 0, true),
            data_out(transfer_tag(SLOT + 1, 0), 0, 0, true),
        ] {
            let mut gather = Gather::begin(4096, 0, false, &LIMITS).unwrap();
            gather.next_request(&LIMITS).unwrap();
            assert_eq!(gather.accept(&pdu, 2048, SLOT, &LIMITS), Err(DataError::OutOfSequence));
        }
    }
}
