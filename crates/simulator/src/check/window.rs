//! No command goes beyond the window that the target has given (RFC 7143, 4.2.2.1).

use std::collections::BTreeMap;

use iscsi::pdu::{Header, Opcode};

use crate::link::{ConnectionId, End, Seen};

#[derive(Debug, Default)]
pub(crate) struct WindowCheck {
    /// The last number that the target takes, of each connection that is logged in.
    last: BTreeMap<ConnectionId, u32>,
}

impl WindowCheck {
    /// A PDU went by at the initiator's end.
    pub(crate) fn seen(&mut self, id: ConnectionId, toward: End, seen: &Seen) -> Result<(), String> {
        match (toward, seen.header.opcode()) {
            (End::Near, Opcode::LoginResponse) => {
                self.last.insert(id, number(&seen.header, MAX_CMD_SN));
                Ok(())
            }
            (End::Near, _) => {
                self.update(id, &seen.header);
                Ok(())
            }
            (
                End::Far,
                Opcode::ScsiCommand
                | Opcode::TaskManagementRequest
                | Opcode::NopOut
                | Opcode::TextRequest
                | Opcode::LogoutRequest,
            ) => self.sent(id, &seen.header),
            _ => Ok(()),
        }
    }

    pub(crate) fn closed(&mut self, id: ConnectionId) {
        self.last.remove(&id);
    }

    /// Neither end of the window moves back, and one that is impossible counts for nothing.
    fn update(&mut self, id: ConnectionId, header: &Header) {
        let Some(last) = self.last.get_mut(&id) else { return };
        let (expected, max) = (number(header, EXP_CMD_SN), number(header, MAX_CMD_SN));
        if !precedes(max.wrapping_add(1), expected) && precedes(*last, max) {
            *last = max;
        }
    }

    fn sent(&self, id: ConnectionId, header: &Header) -> Result<(), String> {
        const IMMEDIATE: u8 = 0x40;
        let got = number(header, CMD_SN);
        match self.last.get(&id) {
            Some(last) if header.0[0] & IMMEDIATE == 0 && precedes(*last, got) => Err(format!(
                "command {got} was sent on connection {}, and the target takes them up to {last}",
                id.0
            )),
            _ => Ok(()),
        }
    }
}

/// Where numbers stand in headers: of the initiator, and of the target.
const CMD_SN: usize = 24;
const EXP_CMD_SN: usize = 28;
const MAX_CMD_SN: usize = 32;

fn number(header: &Header, at: usize) -> u32 {
    u32::from_be_bytes(core::array::from_fn(|place| header.0[at + place]))
}

/// Serial numbers (RFC 1982).
const fn precedes(one: u32, other: u32) -> bool {
    other.wrapping_sub(one).wrapping_sub(1) < 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(opcode: u8, numbers: [u32; 3]) -> Seen {
        let mut bytes = [0; 48];
        bytes[0] = opcode;
        for (at, number) in [CMD_SN, EXP_CMD_SN, MAX_CMD_SN].into_iter().zip(numbers) {
            bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        Seen { header: Header(bytes), data: Vec::new() }
    }

    #[test]
    fn a_command_beyond_the_window_is_seen_and_an_immediate_one_is_none() {
        let mut check = WindowCheck::default();
        let id = ConnectionId(1);
        let mut see = |toward, seen: Seen| check.seen(id, toward, &seen);
        see(End::Near, seen(0x23, [0, 7, u32::MAX])).unwrap();
        see(End::Far, seen(0x01, [u32::MAX, 0, 0])).unwrap();
        assert!(see(End::Far, seen(0x01, [0, 0, 0])).is_err());
        see(End::Far, seen(0x42, [0, 0, 0])).unwrap();
        see(End::Near, seen(0x21, [0, 0, 1])).unwrap();
        see(End::Near, seen(0x21, [0, 0, 0])).unwrap();
        see(End::Far, seen(0x01, [1, 0, 0])).unwrap();
    }
}
