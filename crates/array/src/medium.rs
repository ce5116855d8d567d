//! Commands that move blocks: READ, WRITE, WRITE AND VERIFY, VERIFY, ORWRITE, COMPARE AND WRITE, PRE-FETCH,
//! SYNCHRONIZE CACHE (SBC, clause 5).

use core::mem::take;

use block::{Buffer, BufferPool};
use scsi::cdb::{ByteCheck, Form, LongForm, MediumAccess};
use scsi::{Blocks, Lba, Sense};

use crate::limits;
use crate::refusal;
use crate::unit::{Bytes, Unit};

/// Bytes that are looked at in one go when blocks are compared or merged: two pages of the smallest pool class.
const STEP: usize = 64 << 10;

impl Unit {
    /// Reads into the memory that came with the command, if it is large enough.
    pub(crate) fn read(
        &mut self,
        access: &MediumAccess,
        memory: &mut Buffer,
        pool: &mut BufferPool,
    ) -> Result<Buffer, Sense> {
        check_protect(access)?;
        let bytes = self.transfer(access.lba, access.blocks, length_field(access.form))?;
        let length = in_memory(bytes.length);
        let mut data = if memory.capacity() >= length { take(memory) } else { pool.take(length) };
        data.set_len(length);
        if let Err(error) = self.store.read_at(bytes.offset, &mut data) {
            pool.put(data);
            return Err(refusal::store_failed(error, false));
        }
        Ok(data)
    }

    pub(crate) fn write(&mut self, access: &MediumAccess, data: &[u8]) -> Result<(), Sense> {
        check_protect(access)?;
        let bytes = self.transfer(access.lba, access.blocks, length_field(access.form))?;
        self.check_writable()?;
        let (bytes, data) = self.whole_blocks(bytes, data)?;
        self.put(bytes, data)?;
        self.settle(bytes, access.force_unit_access)
    }

    /// What was written is read again; if BYTCHK asks for it, it is compared with what was sent.
    pub(crate) fn write_and_verify(
        &mut self,
        access: &MediumAccess,
        byte_check: ByteCheck,
        data: &[u8],
        pool: &mut BufferPool,
    ) -> Result<(), Sense> {
        // 11b is not for this command (SBC: WRITE AND VERIFY, BYTCHK).
        if matches!(byte_check, ByteCheck::Reserved | ByteCheck::OneBlock) {
            return Err(invalid_byte_check());
        }
        self.write(&MediumAccess { force_unit_access: true, ..*access }, data)?;
        let bytes = self.extent(access.lba, access.blocks.0.into())?;
        let (bytes, data) = self.whole_blocks(bytes, data)?;
        self.compare(bytes, data, pool)
    }

    pub(crate) fn verify(
        &mut self,
        access: &MediumAccess,
        byte_check: ByteCheck,
        data: &[u8],
        pool: &mut BufferPool,
    ) -> Result<(), Sense> {
        check_protect(access)?;
        let bytes = self.transfer(access.lba, access.blocks, length_field(access.form))?;
        let pattern = match byte_check {
            ByteCheck::Medium => return self.scan(bytes, pool),
            ByteCheck::Reserved => return Err(invalid_byte_check()),
            ByteCheck::Data => data.get(..in_memory(bytes.length)),
            ByteCheck::OneBlock => data.get(..self.block_size as usize),
        };
        self.compare(bytes, pattern.ok_or_else(refusal::data_out_mismatch)?, pool)
    }

    /// The blocks become what they were, or what was sent: every bit that is one in either (SBC: ORWRITE).
    pub(crate) fn or_write(
        &mut self,
        access: &MediumAccess,
        data: &mut [u8],
        pool: &mut BufferPool,
    ) -> Result<(), Sense> {
        check_protect(access)?;
        let bytes = self.transfer(access.lba, access.blocks, length_field(access.form))?;
        self.check_writable()?;
        let data = data.get_mut(..in_memory(bytes.length)).ok_or_else(refusal::data_out_mismatch)?;
        self.visit(bytes, pool, |at, stored| {
            for (new, old) in data[at..].iter_mut().zip(stored) {
                *new |= *old;
            }
            Ok(())
        })?;
        self.put(bytes, data)?;
        self.settle(bytes, access.force_unit_access)
    }

    /// The first half of what was sent is compared; if it is equal, the second half is written (SBC: COMPARE AND
    /// WRITE). Nothing comes between, because a command is executed at one go.
    pub(crate) fn compare_and_write(
        &mut self,
        swap: CompareAndWrite,
        data: &[u8],
        pool: &mut BufferPool,
    ) -> Result<(), Sense> {
        if swap.protect != 0 {
            return Err(invalid_protect());
        }
        let bytes = self.extent(swap.lba, swap.blocks.into())?;
        if swap.blocks > limits::COMPARE_AND_WRITE_BLOCKS_MAX {
            return Err(refusal::invalid_field(13, None));
        }
        self.check_writable()?;
        let half = in_memory(bytes.length);
        if data.len() > 2 * half {
            // The number of blocks, one byte, is wrong rather than the data: it cannot say more than 255.
            return Err(refusal::invalid_field(13, None));
        }
        if data.len() < 2 * half {
            return Err(refusal::data_out_mismatch());
        }
        let (expected, new) = data.split_at(half);
        self.compare(bytes, expected, pool)?;
        self.put(bytes, new)?;
        self.settle(bytes, swap.force_unit_access)
    }

    /// GOOD says that not all of it is now in a cache, which is true of an array without one (SBC: PRE-FETCH).
    pub(crate) fn pre_fetch(&self, lba: Lba, blocks: Blocks) -> Result<(), Sense> {
        self.extent(lba, blocks.0.into()).map(|_| ())
    }

    pub(crate) fn synchronize_cache(&mut self, lba: Lba, blocks: Blocks) -> Result<(), Sense> {
        self.extent(lba, blocks.0.into())?;
        self.store.flush().map_err(|error| refusal::store_failed(error, true))
    }

    /// The range of a command whose length is bounded by MAXIMUM TRANSFER LENGTH.
    fn transfer(&self, lba: Lba, blocks: Blocks, length_field: u16) -> Result<Bytes, Sense> {
        let bytes = self.extent(lba, blocks.0.into())?;
        if blocks.0 > limits::transfer_blocks_max(self.block_size) {
            return Err(refusal::invalid_field(length_field, None));
        }
        Ok(bytes)
    }

    /// What there is of the data for a range. An initiator that announces less than its CDB asks for gets so many
    /// blocks written, and is told by the residual (RFC 7143, 11.4.5.2); a part of a block is never written. Both
    /// answers to too little data are among those that FCP-4, 9.4.2 gives.
    fn whole_blocks<'a>(&self, bytes: Bytes, data: &'a [u8]) -> Result<(Bytes, &'a [u8]), Sense> {
        let data = &data[..data.len().min(in_memory(bytes.length))];
        if !data.len().is_multiple_of(self.block_size as usize) {
            return Err(refusal::data_out_mismatch());
        }
        Ok((Bytes { length: data.len() as u64, ..bytes }, data))
    }

    pub(crate) fn put(&mut self, bytes: Bytes, data: &[u8]) -> Result<(), Sense> {
        self.store.write_at(bytes.offset, data).map_err(|error| refusal::store_failed(error, true))
    }

    /// A write is durable before it is acknowledged if it says so, or if there is no write cache.
    pub(crate) fn settle(&mut self, bytes: Bytes, force_unit_access: bool) -> Result<(), Sense> {
        if force_unit_access || !self.modes.write_cache_enabled() {
            let settled = self.store.persist(bytes.offset, bytes.length);
            settled.map_err(|error| refusal::store_failed(error, true))?;
        }
        Ok(())
    }

    fn scan(&mut self, bytes: Bytes, pool: &mut BufferPool) -> Result<(), Sense> {
        self.visit(bytes, pool, |_, _| Ok(()))
    }

    /// Compares with the pattern, which is repeated as often as it takes.
    fn compare(&mut self, bytes: Bytes, pattern: &[u8], pool: &mut BufferPool) -> Result<(), Sense> {
        if pattern.is_empty() {
            return Ok(());
        }
        self.visit(bytes, pool, |at, stored| match first_difference(at, stored, pattern) {
            None => Ok(()),
            Some(offset) => Err(refusal::miscompare(offset as u64)),
        })
    }

    /// Shows the content of a range, piece by piece, with the offset of each piece from its start.
    fn visit(
        &mut self,
        bytes: Bytes,
        pool: &mut BufferPool,
        mut look: impl FnMut(usize, &[u8]) -> Result<(), Sense>,
    ) -> Result<(), Sense> {
        let length = in_memory(bytes.length);
        let mut memory = pool.take(length.min(STEP));
        let mut result = Ok(());
        for at in (0..length).step_by(STEP) {
            let piece = &mut memory[..STEP.min(length - at)];
            result = match self.store.read_at(bytes.offset + at as u64, piece) {
                Ok(()) => look(at, piece),
                Err(error) => Err(refusal::store_failed(error, false)),
            };
            if result.is_err() {
                break;
            }
        }
        pool.put(memory);
        result
    }
}

/// The fields of COMPARE AND WRITE.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompareAndWrite {
    pub(crate) lba: Lba,
    pub(crate) blocks: u8,
    pub(crate) protect: u8,
    pub(crate) force_unit_access: bool,
}

/// Where in the pattern, repeated, the bytes that begin `at` bytes into the range first differ from it. Equal
/// stretches are compared whole, because almost all are equal.
fn first_difference(at: usize, stored: &[u8], pattern: &[u8]) -> Option<usize> {
    let mut done = 0;
    while done < stored.len() {
        let from = (at + done) % pattern.len();
        let length = (pattern.len() - from).min(stored.len() - done);
        let (is, should) = (&stored[done..done + length], &pattern[from..from + length]);
        if is != should {
            return is.iter().zip(should).position(|(is, should)| is != should).map(|place| from + place);
        }
        done += length;
    }
    None
}

/// The medium has no protection information, so a request to check it is refused (SBC, 4.22).
fn check_protect(access: &MediumAccess) -> Result<(), Sense> {
    if access.protect == 0 { Ok(()) } else { Err(invalid_protect()) }
}

pub(crate) fn invalid_protect() -> Sense {
    refusal::invalid_field(1, Some(7))
}

fn invalid_byte_check() -> Sense {
    refusal::invalid_field(1, Some(2))
}

/// The byte of the CDB where the number of blocks begins.
fn length_field(form: Form) -> u16 {
    match form {
        Form::Six => 4,
        Form::Ten => 7,
        Form::Twelve => 6,
        Form::Sixteen => 10,
    }
}

pub(crate) fn long_length_field(form: LongForm) -> u16 {
    match form {
        LongForm::Ten => 7,
        LongForm::Sixteen => 10,
    }
}

fn in_memory(length: u64) -> usize {
    usize::try_from(length).expect("bounded by limits::TRANSFER_MAX")
}
