//! Changes PDUs on their way. Only for connections without digests: what is changed is not signed again.

use iscsi::pdu::{HEADER_LENGTH, Header, Opcode, padding};

/// What is done to the next PDU that it can be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tamper {
    /// StatSN says that a status was lost.
    StatusNumber,
    /// DataSN or R2TSN says that one before was lost.
    DataNumber,
    /// Data-In for another place than the next.
    Offset,
    UnknownTask,
    /// A data segment longer than anything that was agreed on.
    Endless,
    /// Half of the data of a Data-In is missing, and its length says so.
    Shorten,
    LoseR2t,
    RepeatR2t,
    /// One bit of a block that is read or written.
    Flip {
        at: usize,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Tampering {
    /// The header so far, if it came in pieces; such a one passes as it is.
    header: Vec<u8>,
    /// What is left of the PDU behind its header, and how much of that passes.
    left: usize,
    passes: usize,
    /// The byte of what is left that is damaged.
    flip: Option<usize>,
    next: Option<Tamper>,
    /// Commands that the target takes beyond the one it expects, if fewer than it would.
    pub(crate) window: Option<u32>,
    /// The last MaxCmdSN that was told.
    told: Option<u32>,
    pub(crate) strikes: u64,
}

impl Tampering {
    pub(crate) fn arm(&mut self, tamper: Tamper) {
        self.next = Some(tamper);
    }

    pub(crate) fn disarm(&mut self) {
        self.next = None;
    }

    /// What comes out when `bytes` go in; with a closed window MaxCmdSN stays as it was.
    pub(crate) fn pass(&mut self, bytes: &[u8], is_closed: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.left > 0 {
                rest = self.body(rest, &mut out);
            } else if self.header.is_empty() && rest.len() >= HEADER_LENGTH {
                let (header, behind) = rest.split_at(HEADER_LENGTH);
                self.whole(header, is_closed, &mut out);
                rest = behind;
            } else {
                let length = rest.len().min(HEADER_LENGTH - self.header.len());
                self.header.extend_from_slice(&rest[..length]);
                out.extend_from_slice(&rest[..length]);
                rest = &rest[length..];
                if self.header.len() == HEADER_LENGTH {
                    let header = std::mem::take(&mut self.header);
                    self.begin(&header);
                }
            }
        }
        out
    }

    fn body<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let length = bytes.len().min(self.left);
        let start = out.len();
        out.extend_from_slice(&bytes[..length.min(self.passes)]);
        match self.flip {
            Some(at) if at < length => {
                if let Some(byte) = out.get_mut(start + at) {
                    *byte ^= 0x10;
                    self.strikes += 1;
                }
                self.flip = None;
            }
            Some(at) => self.flip = Some(at - length),
            None => {}
        }
        self.left -= length;
        self.passes -= length.min(self.passes);
        &bytes[length..]
    }

    fn begin(&mut self, header: &[u8]) {
        let mut bytes = [0; HEADER_LENGTH];
        bytes.copy_from_slice(header);
        let header = Header(bytes);
        let length = header.data_length() as usize;
        self.left = header.ahs_length() + length + padding(length);
        self.passes = self.left;
    }

    fn whole(&mut self, header: &[u8], is_closed: bool, out: &mut Vec<u8>) {
        self.begin(header);
        let mut bytes = [0; HEADER_LENGTH];
        bytes.copy_from_slice(header);
        self.narrow(&mut bytes, is_closed);
        let times = match self.next {
            Some(tamper) => self.strike(tamper, &mut bytes),
            None => 1,
        };
        for _ in 0..times {
            out.extend_from_slice(&bytes);
        }
    }

    /// MaxCmdSN (bytes 32 to 35) of every PDU of a target.
    fn narrow(&mut self, bytes: &mut [u8; HEADER_LENGTH], is_closed: bool) {
        let Some(window) = self.window else { return };
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let wanted = word(28).wrapping_add(window).wrapping_sub(1);
        let own = word(32);
        let narrowed = if own.wrapping_sub(wanted) < 1 << 31 { wanted } else { own };
        let told = match self.told {
            Some(told) if is_closed => {
                self.strikes += u64::from(told != narrowed);
                told
            }
            _ => narrowed,
        };
        self.told = Some(told);
        bytes[32..36].copy_from_slice(&told.to_be_bytes());
    }

    /// How often the PDU passes after this.
    fn strike(&mut self, tamper: Tamper, bytes: &mut [u8; HEADER_LENGTH]) -> usize {
        let header = Header(*bytes);
        let opcode = header.opcode();
        let length = header.data_length() as usize;
        let has_status = opcode == Opcode::ScsiResponse || opcode == Opcode::DataIn && bytes[1] & 1 != 0;
        let is_payload = length >= 512 && length.is_multiple_of(512);
        let fits = match tamper {
            Tamper::StatusNumber => has_status,
            Tamper::DataNumber => matches!(opcode, Opcode::DataIn | Opcode::ReadyToTransfer),
            Tamper::Offset => opcode == Opcode::DataIn,
            Tamper::UnknownTask | Tamper::Endless => {
                matches!(opcode, Opcode::DataIn | Opcode::ScsiResponse | Opcode::ReadyToTransfer)
            }
            Tamper::Shorten => opcode == Opcode::DataIn && is_payload && length >= 1024,
            Tamper::LoseR2t | Tamper::RepeatR2t => opcode == Opcode::ReadyToTransfer,
            Tamper::Flip { .. } => {
                matches!(opcode, Opcode::DataIn | Opcode::DataOut | Opcode::ScsiCommand) && is_payload
            }
        };
        if !fits {
            return 1;
        }
        self.next = None;
        self.strikes += u64::from(!matches!(tamper, Tamper::Flip { .. }));
        match tamper {
            Tamper::StatusNumber => bytes[27] = bytes[27].wrapping_add(3),
            Tamper::DataNumber => bytes[39] = bytes[39].wrapping_add(1),
            Tamper::Offset => bytes[42] = bytes[42].wrapping_add(2),
            Tamper::UnknownTask => bytes[16] ^= 0x80,
            Tamper::Endless => bytes[5..8].fill(0xff),
            Tamper::Shorten => {
                let half = length / 2 / 512 * 512;
                *bytes = header.with_data_length(u32::try_from(half).expect("a half of 24 bits")).0;
                self.passes -= length - half;
            }
            Tamper::LoseR2t => return 0,
            Tamper::RepeatR2t => return 2,
            Tamper::Flip { at } => self.flip = Some(at % length),
        }
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_in(length: u16) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LENGTH];
        bytes[0] = 0x25;
        bytes[6..8].copy_from_slice(&length.to_be_bytes());
        bytes.resize(HEADER_LENGTH + usize::from(length), 7);
        bytes
    }

    #[test]
    fn half_of_the_data_goes_and_what_follows_stays_in_step() {
        let mut tampering = Tampering::default();
        tampering.arm(Tamper::Shorten);
        let both = [data_in(1024), data_in(512)].concat();
        assert_eq!(tampering.pass(&both, false), [data_in(512), data_in(512)].concat());
        assert_eq!(tampering.strikes, 1);
    }

    #[test]
    fn one_bit_of_a_payload_is_flipped_wherever_the_pieces_end() {
        for step in [HEADER_LENGTH, 100, 1000] {
            let mut tampering = Tampering::default();
            tampering.arm(Tamper::Flip { at: 300 });
            let sent = data_in(512);
            let (header, body) = sent.split_at(HEADER_LENGTH);
            let mut out = tampering.pass(header, false);
            body.chunks(step).for_each(|piece| out.extend(tampering.pass(piece, false)));
            let differ = out.iter().zip(&sent).filter(|(one, other)| one != other).count();
            assert_eq!((differ, out.len()), (1, sent.len()), "in steps of {step}");
        }
    }

    #[test]
    fn a_closed_window_stays_where_it_was() {
        let told = |bytes: &[u8]| u32::from_be_bytes([bytes[32], bytes[33], bytes[34], bytes[35]]);
        let nop = |expected: u8| {
            let mut bytes = vec![0; HEADER_LENGTH];
            (bytes[0], bytes[31], bytes[35]) = (0x20, expected, expected + 99);
            bytes
        };
        let mut tampering = Tampering { window: Some(4), ..Tampering::default() };
        assert_eq!(told(&tampering.pass(&nop(10), false)), 13);
        assert_eq!(told(&tampering.pass(&nop(12), true)), 13);
        assert_eq!(told(&tampering.pass(&nop(14), false)), 17);
    }
}
