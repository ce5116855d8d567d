//! The phase after the handshake: requests in, replies out.

use std::io::IoSliceMut;

use block::{Buffer, BufferPool, Completion, Operation, Request};

use crate::decode::{Decoded, Limits, decode, errno};
use crate::export::Export;
use crate::outbox::Message;
use crate::protocol::{
    ChunkHeader, ChunkType, CommandType, Errno, PAYLOAD_MAX, RequestHeader, SimpleReply, length32,
};
use crate::session::{Action, Output, Reason};
use crate::slots::{After, SlotId, Slots};
use crate::staging::Staging;

/// Requests of one connection that are not answered to the last byte. The Linux client has at most 128 in flight
/// on a connection, libnbd's tools 64, QEMU 16.
pub const IN_FLIGHT_MAX: u32 = 256;
/// Payload of these requests, in bytes: two of the longest, so that one can be received while another is sent.
pub const IN_FLIGHT_BYTES_MAX: usize = 2 * PAYLOAD_MAX as usize;
/// Free memory that is kept for reuse, in bytes: 64 requests of 256 KiB, which is how `nbdcopy` works.
const POOL_KEPT_MAX: usize = 16 << 20;
/// Memory to read the payload of a refused write into, in bytes; larger would save calls that do not matter.
const SKIP_MAX: u32 = 64 << 10;

/// How reads are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replies {
    Simple,
    Structured,
}

/// One connection after the handshake.
#[derive(Debug)]
pub(crate) struct Transmission {
    connection: u32,
    export: Export,
    replies: Replies,
    limits: Limits,
    staging: Staging,
    incoming: Incoming,
    slots: Slots,
    pool: BufferPool,
    intake: Intake,
}

/// What the next byte from the client belongs to.
#[derive(Debug)]
enum Incoming {
    Header,
    /// The payload of a write, straight into its request.
    Payload {
        slot: SlotId,
        operation: Operation,
        buffer: Buffer,
        filled: usize,
    },
    /// The payload of a write that was refused.
    Skip {
        remaining: u32,
        scratch: Buffer,
    },
}

/// What becomes of new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    Open,
    /// Everything is answered with ESHUTDOWN.
    Refusing,
    /// The client said goodbye; nothing that follows is read.
    Closed,
}

impl Transmission {
    pub(crate) fn new(connection: u32, export: Export, replies: Replies) -> Self {
        Self {
            connection,
            limits: Limits::new(&export, replies == Replies::Structured),
            export,
            replies,
            staging: Staging::new(),
            incoming: Incoming::Header,
            slots: Slots::new(IN_FLIGHT_MAX, IN_FLIGHT_BYTES_MAX),
            pool: BufferPool::new(POOL_KEPT_MAX),
            intake: Intake::Open,
        }
    }

    pub(crate) fn receive_into(&mut self) -> [IoSliceMut<'_>; 2] {
        let (payload, headers): (&mut [u8], &mut [u8]) = match &mut self.incoming {
            _ if self.intake == Intake::Closed => (&mut [], &mut []),
            Incoming::Payload { buffer, filled, .. } => {
                (&mut buffer[*filled..], self.staging.room_for_header())
            }
            Incoming::Skip { remaining, scratch } => {
                let length = scratch.len().min(*remaining as usize);
                let last = length == *remaining as usize;
                (&mut scratch[..length], if last { self.staging.room_for_header() } else { &mut [] })
            }
            // A whole header that is still there, or no slot for the next one: the client has to wait.
            Incoming::Header if self.staging.header().is_some() || !self.slots.has_free() => {
                (&mut [], &mut [])
            }
            Incoming::Header => (&mut [], self.staging.room()),
        };
        [IoSliceMut::new(payload), IoSliceMut::new(headers)]
    }

    /// `length` bytes arrived where [`Self::receive_into`] said.
    pub(crate) fn received(&mut self, length: usize, output: &mut Output) -> Result<(), Reason> {
        let payload = match &mut self.incoming {
            Incoming::Header => 0,
            Incoming::Payload { buffer, filled, .. } => {
                let payload = length.min(buffer.len() - *filled);
                *filled += payload;
                payload
            }
            Incoming::Skip { remaining, .. } => {
                let payload = length32(length.min(*remaining as usize));
                *remaining -= payload;
                payload as usize
            }
        };
        self.staging.received(length - payload);
        self.finish_payload(output);
        self.advance(output)
    }

    /// Handles every whole header that there is room for.
    pub(crate) fn advance(&mut self, output: &mut Output) -> Result<(), Reason> {
        while let (Incoming::Header, Some(bytes)) = (&self.incoming, self.staging.header()) {
            if self.intake == Intake::Closed {
                break;
            }
            let header = RequestHeader::parse(bytes).map_err(Reason::OutOfStep)?;
            if !self.slots.has_room(payload_of(&header)) {
                break;
            }
            self.staging.consume_header();
            self.begin(&header, output)?;
        }
        self.staging.compact();
        Ok(())
    }

    /// A request came back from the disk.
    pub(crate) fn completed(&mut self, request: Request, completion: Completion, output: &mut Output) {
        let Some(slot) = self.slots.returned(request.tag, self.connection) else {
            debug_assert!(false, "a request comes back once, to the session that it came from");
            return;
        };
        match completion {
            Ok(()) if self.slots.get(slot).after == After::Flush => {
                self.submit(slot, Operation::Flush, request.buffer, After::Reply, output);
            }
            Ok(()) => self.succeed(slot, request, output),
            Err(error) => {
                self.fail(slot, errno(&request.operation, error), output);
                self.pool.put(request.buffer);
            }
        }
    }

    /// A request came back after the end: its memory is all that matters.
    pub(crate) fn discard(&mut self, request: &Request) {
        if let Some(slot) = self.slots.returned(request.tag, self.connection) {
            self.slots.release(slot);
        }
    }

    /// A reply was sent to its end.
    pub(crate) fn sent(&mut self, message: Message) {
        if let Some(slot) = message.slot {
            self.slots.release(slot);
            self.pool.put(message.payload);
        }
    }

    pub(crate) fn resized(&mut self, name: &str, geometry: block::Geometry) {
        if self.export.name == name {
            self.export.geometry = geometry;
            self.limits = Limits::new(&self.export, self.replies == Replies::Structured);
        }
    }

    /// From now on requests are refused.
    pub(crate) fn shut_down(&mut self) {
        if self.intake == Intake::Open {
            self.intake = Intake::Refusing;
        }
    }

    /// The client said goodbye.
    pub(crate) fn is_finished(&self) -> bool {
        self.intake == Intake::Closed
    }

    /// Requests at the disk.
    pub(crate) fn at_disk(&self) -> usize {
        self.slots.at_disk()
    }

    fn begin(&mut self, header: &RequestHeader, output: &mut Output) -> Result<(), Reason> {
        if header.command == CommandType::Disconnect {
            self.intake = Intake::Closed;
            return Ok(());
        }
        let follows = if header.command == CommandType::Write { header.length } else { 0 };
        if follows > PAYLOAD_MAX {
            return Err(Reason::WriteTooLong(follows));
        }
        self.staging.learn(follows);
        let decoded = match self.intake {
            Intake::Open => decode(header, &self.limits),
            Intake::Refusing | Intake::Closed => Decoded::Refuse(Errno::Shutdown),
        };
        let slot = self.slots.take(header.cookie, header.command, header.length, payload_of(header));
        match decoded {
            Decoded::Submit(operation) if follows > 0 => self.begin_payload(slot, operation, output),
            Decoded::Submit(operation) => {
                let buffer = self.pool.take(payload_of(header) as usize);
                self.submit(slot, operation, buffer, After::Reply, output);
            }
            Decoded::SubmitThenFlush(operation) => {
                self.submit(slot, operation, Buffer::empty(), After::Flush, output);
            }
            Decoded::Nothing => self.reply_empty(slot, output),
            Decoded::Refuse(error) => {
                self.fail(slot, error, output);
                self.begin_skip(follows);
            }
        }
        Ok(())
    }

    fn begin_payload(&mut self, slot: SlotId, operation: Operation, output: &mut Output) {
        let mut buffer = self.pool.take(self.slots.get(slot).length as usize);
        let filled = self.staging.drain_to(&mut buffer);
        self.incoming = Incoming::Payload { slot, operation, buffer, filled };
        self.finish_payload(output);
    }

    fn begin_skip(&mut self, length: u32) {
        let remaining = length - length32(self.staging.skip(length as usize));
        if remaining > 0 {
            let scratch = self.pool.take(remaining.min(SKIP_MAX) as usize);
            self.incoming = Incoming::Skip { remaining, scratch };
        }
    }

    /// If the payload is complete: hands its request over and expects a header again.
    fn finish_payload(&mut self, output: &mut Output) {
        match std::mem::replace(&mut self.incoming, Incoming::Header) {
            Incoming::Header => {}
            Incoming::Payload { slot, operation, buffer, filled } if filled == buffer.len() => {
                if self.intake == Intake::Refusing {
                    self.pool.put(buffer);
                    self.fail(slot, Errno::Shutdown, output);
                } else {
                    self.submit(slot, operation, buffer, After::Reply, output);
                }
            }
            Incoming::Skip { remaining: 0, scratch } => self.pool.put(scratch),
            unfinished => self.incoming = unfinished,
        }
    }

    fn submit(
        &mut self,
        slot: SlotId,
        operation: Operation,
        buffer: Buffer,
        after: After,
        output: &mut Output,
    ) {
        let tag = self.slots.submitted(slot, self.connection, after);
        output.actions.push_back(Action::Submit(Request { tag, operation, buffer }));
    }

    fn succeed(&mut self, slot: SlotId, request: Request, output: &mut Output) {
        match request.operation {
            Operation::Read { offset, length } if request.buffer.len() == length as usize => {
                self.reply_data(slot, offset, request.buffer, output);
            }
            Operation::Read { .. } => {
                debug_assert!(false, "a read comes back with its buffer full");
                self.fail(slot, Errno::Io, output);
            }
            _ => {
                self.pool.put(request.buffer);
                self.reply_empty(slot, output);
            }
        }
    }

    fn reply_data(&self, slot: SlotId, offset: u64, payload: Buffer, output: &mut Output) {
        let request = self.slots.get(slot);
        output.metrics.record(request.command, request.length, 0);
        let message = match self.replies {
            Replies::Simple => {
                let header = SimpleReply { error: 0, cookie: request.cookie }.emit();
                Message::reply(slot, &header, &[], payload)
            }
            Replies::Structured => {
                let offset = offset.to_be_bytes();
                let length = length32(offset.len() + payload.len());
                let header = last_chunk(ChunkType::OffsetData, request.cookie, length);
                Message::reply(slot, &header, &offset, payload)
            }
        };
        output.outbox.push(message);
    }

    fn reply_empty(&self, slot: SlotId, output: &mut Output) {
        let request = self.slots.get(slot);
        output.metrics.record(request.command, request.length, 0);
        let message = if self.is_structured(request.command) {
            Message::reply(slot, &last_chunk(ChunkType::None, request.cookie, 0), &[], Buffer::empty())
        } else {
            let header = SimpleReply { error: 0, cookie: request.cookie }.emit();
            Message::reply(slot, &header, &[], Buffer::empty())
        };
        output.outbox.push(message);
    }

    fn fail(&self, slot: SlotId, error: Errno, output: &mut Output) {
        let request = self.slots.get(slot);
        let error = u32::from(error);
        output.metrics.record(request.command, request.length, error);
        let message = if self.is_structured(request.command) {
            // 32 bits of error, 16 bits of message length: there is no message.
            let mut body = [0; 6];
            body[..4].copy_from_slice(&error.to_be_bytes());
            let header = last_chunk(ChunkType::Error, request.cookie, length32(body.len()));
            Message::reply(slot, &header, &body, Buffer::empty())
        } else {
            let header = SimpleReply { error, cookie: request.cookie }.emit();
            Message::reply(slot, &header, &[], Buffer::empty())
        };
        output.outbox.push(message);
    }

    /// Only replies that could carry payload have to be structured (clause "Structured reply").
    fn is_structured(&self, command: CommandType) -> bool {
        self.replies == Replies::Structured && command == CommandType::Read
    }
}

fn last_chunk(kind: ChunkType, cookie: u64, length: u32) -> [u8; ChunkHeader::LENGTH] {
    ChunkHeader { flags: ChunkHeader::DONE, kind, cookie, length }.emit()
}

/// Bytes of memory that a request needs. One that is too long will be refused, and needs none.
fn payload_of(header: &RequestHeader) -> u32 {
    match header.command {
        CommandType::Read | CommandType::Write if header.length <= PAYLOAD_MAX => header.length,
        _ => 0,
    }
}
