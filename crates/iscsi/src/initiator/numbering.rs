//! CmdSN, StatSN and the command window (RFC 7143, 4.2.2).

use super::error::Misbehaviour;
use crate::pdu::{CommandSerials, SerialNumber, StatusSerials};

#[derive(Clone, Copy, Debug)]
pub(super) struct Numbering {
    /// Of the next command that is not immediate.
    pub(super) cmd_sn: SerialNumber,
    exp_cmd_sn: SerialNumber,
    max_cmd_sn: SerialNumber,
    exp_stat_sn: SerialNumber,
}

impl Numbering {
    /// Before a login: the window is closed.
    pub(super) const fn new() -> Self {
        Self {
            cmd_sn: SerialNumber(1),
            exp_cmd_sn: SerialNumber(1),
            max_cmd_sn: SerialNumber(0),
            exp_stat_sn: SerialNumber(0),
        }
    }

    /// For the next PDU.
    pub(super) const fn serials(&self) -> CommandSerials {
        CommandSerials { cmd_sn: self.cmd_sn, exp_stat_sn: self.exp_stat_sn }
    }

    /// Takes the number for a command, if the target's window has one.
    pub(super) fn take_cmd_sn(&mut self) -> Option<SerialNumber> {
        if self.max_cmd_sn.precedes(self.cmd_sn) {
            return None;
        }
        let cmd_sn = self.cmd_sn;
        self.cmd_sn = cmd_sn.next();
        Some(cmd_sn)
    }

    /// Takes what a login response says; the target's first number is arbitrary.
    pub(super) fn log_in(&mut self, serials: StatusSerials) {
        self.exp_stat_sn = serials.stat_sn.next();
        self.exp_cmd_sn = serials.exp_cmd_sn;
        self.max_cmd_sn = serials.max_cmd_sn;
    }

    /// Takes the window that every PDU of a target carries (RFC 7143, 4.2.2.1): neither end moves back.
    pub(super) fn update_window(&mut self, serials: StatusSerials) {
        let StatusSerials { exp_cmd_sn, max_cmd_sn, .. } = serials;
        if max_cmd_sn.next().precedes(exp_cmd_sn) {
            return;
        }
        if self.exp_cmd_sn.precedes(exp_cmd_sn) {
            self.exp_cmd_sn = exp_cmd_sn;
        }
        if self.max_cmd_sn.precedes(max_cmd_sn) {
            self.max_cmd_sn = max_cmd_sn;
        }
    }

    /// Takes the number of a status. At ErrorRecoveryLevel 0 a gap cannot be mended.
    pub(super) fn take_stat_sn(&mut self, got: SerialNumber) -> Result<(), Misbehaviour> {
        if got != self.exp_stat_sn {
            return Err(Misbehaviour::StatusGap { expected: self.exp_stat_sn, got });
        }
        self.exp_stat_sn = got.next();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serials(stat_sn: u32, exp_cmd_sn: u32, max_cmd_sn: u32) -> StatusSerials {
        StatusSerials {
            stat_sn: SerialNumber(stat_sn),
            exp_cmd_sn: SerialNumber(exp_cmd_sn),
            max_cmd_sn: SerialNumber(max_cmd_sn),
        }
    }

    #[test]
    fn the_window_opens_across_the_wrap_and_never_moves_back() {
        let mut numbering = Numbering { cmd_sn: SerialNumber(u32::MAX), ..Numbering::new() };
        numbering.log_in(serials(7, u32::MAX, u32::MAX));
        assert_eq!(numbering.take_cmd_sn(), Some(SerialNumber(u32::MAX)));
        assert_eq!(numbering.take_cmd_sn(), None);
        numbering.update_window(serials(0, 0, 1));
        numbering.update_window(serials(0, u32::MAX, 0));
        assert_eq!(numbering.take_cmd_sn(), Some(SerialNumber(0)));
        assert_eq!(numbering.take_cmd_sn(), Some(SerialNumber(1)));
        assert_eq!(numbering.take_cmd_sn(), None);
        // MaxCmdSN below ExpCmdSN - 1 is to be ignored.
        numbering.update_window(serials(0, 9, 7));
        assert_eq!(numbering.take_cmd_sn(), None);
    }

    #[test]
    fn a_status_out_of_turn_is_a_gap() {
        let mut numbering = Numbering::new();
        numbering.log_in(serials(u32::MAX, 1, 1));
        assert_eq!(numbering.take_stat_sn(SerialNumber(0)), Ok(()));
        let gap = Misbehaviour::StatusGap { expected: SerialNumber(1), got: SerialNumber(2) };
        assert_eq!(numbering.take_stat_sn(SerialNumber(2)), Err(gap));
        assert_eq!(numbering.serials().exp_stat_sn, SerialNumber(1));
    }
}
