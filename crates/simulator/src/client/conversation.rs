//! The NBD protocol from the client's side, without a socket.

use std::collections::BTreeMap;

use nbd::protocol::{
    ChunkHeader, ChunkType, CommandType, Errno, FIXED_NEWSTYLE, Greeting, InfoRequest, InfoType, NO_ZEROES,
    OptionHeader, OptionReplyHeader, OptionReplyType, OptionType, RequestHeader, SIMPLE_REPLY_MAGIC,
    SimpleReply, command_flags,
};

/// Bytes that are taken at a time.
const ROOM: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Conversation {
    stage: Stage,
    structured: bool,
    export: String,
    flags: u16,
    room: Vec<u8>,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// Reads whose answers are due: offset and length, and what came so far.
    reads: BTreeMap<u64, Read>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting,
    Structured,
    Go,
    Open,
}

#[derive(Debug)]
struct Read {
    offset: u64,
    data: Vec<u8>,
    received: usize,
    error: Option<Errno>,
}

/// What can be asked. Offsets and lengths are in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command<'a> {
    Read { offset: u64, length: u32 },
    Write { offset: u64, data: &'a [u8], durable: bool },
    Flush,
    Trim { offset: u64, length: u32 },
    WriteZeroes { offset: u64, length: u32, keep: bool, durable: bool },
}

/// The end of one request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) cookie: u64,
    pub(super) error: Option<Errno>,
    /// What a read returned.
    pub(super) data: Vec<u8>,
}

impl Conversation {
    pub(super) fn new(structured: bool) -> Self {
        Self {
            stage: Stage::Greeting,
            structured,
            export: String::new(),
            flags: 0,
            room: vec![0; ROOM],
            inbox: Vec::new(),
            outbox: Vec::new(),
            reads: BTreeMap::new(),
        }
    }

    pub(super) fn ask_for(&mut self, export: String) {
        self.export = export;
    }

    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// The transmission flags of the export.
    pub(super) const fn flags(&self) -> u16 {
        self.flags
    }

    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.room
    }

    pub(super) fn arrived(&mut self, count: usize) {
        self.inbox.extend_from_slice(&self.room[..count]);
    }

    pub(super) fn outgoing(&self) -> &[u8] {
        &self.outbox
    }

    pub(super) fn left(&mut self, count: usize) {
        self.outbox.drain(..count);
    }

    pub(super) fn send(&mut self, cookie: u64, command: &Command<'_>) {
        let (kind, flags, offset, length, data): (_, _, _, _, &[u8]) = match *command {
            Command::Read { offset, length } => {
                let data = vec![0; length as usize];
                self.reads.insert(cookie, Read { offset, data, received: 0, error: None });
                (CommandType::Read, 0, offset, length, &[])
            }
            Command::Write { offset, data, durable } => {
                let flags = if durable { command_flags::FUA } else { 0 };
                let length = u32::try_from(data.len()).expect("writes are short");
                (CommandType::Write, flags, offset, length, data)
            }
            Command::Flush => (CommandType::Flush, 0, 0, 0, &[]),
            Command::Trim { offset, length } => (CommandType::Trim, 0, offset, length, &[]),
            Command::WriteZeroes { offset, length, keep, durable } => {
                let hole = if keep { command_flags::NO_HOLE } else { 0 };
                let flags = hole | if durable { command_flags::FUA } else { 0 };
                (CommandType::WriteZeroes, flags, offset, length, &[])
            }
        };
        let header = RequestHeader { flags, command: kind, cookie, offset, length };
        self.outbox.extend_from_slice(&header.emit());
        self.outbox.extend_from_slice(data);
    }

    /// The next answer in what has arrived.
    ///
    /// # Errors
    /// What the server did that the protocol forbids.
    pub(super) fn next_answer(&mut self) -> Result<Option<Answer>, String> {
        while self.stage != Stage::Open {
            if !self.negotiate()? {
                return Ok(None);
            }
        }
        loop {
            let Some(first) = self.inbox.first_chunk::<{ SimpleReply::LENGTH }>() else { return Ok(None) };
            let [a, b, c, d, ..] = *first;
            if u32::from_be_bytes([a, b, c, d]) == SIMPLE_REPLY_MAGIC {
                return self.simple();
            }
            match self.chunk()? {
                Chunk::Incomplete => return Ok(None),
                Chunk::More => {}
                Chunk::Last(answer) => return Ok(Some(answer)),
            }
        }
    }

    fn simple(&mut self) -> Result<Option<Answer>, String> {
        let Some(first) = self.inbox.first_chunk::<{ SimpleReply::LENGTH }>() else { return Ok(None) };
        let reply = SimpleReply::parse(first).map_err(|error| error.to_string())?;
        let error = (reply.error != 0).then(|| Errno::from(reply.error));
        let length = match self.reads.get(&reply.cookie) {
            Some(read) if error.is_none() => read.data.len(),
            _ => 0,
        };
        if self.inbox.len() < SimpleReply::LENGTH + length {
            return Ok(None);
        }
        self.reads.remove(&reply.cookie);
        self.inbox.drain(..SimpleReply::LENGTH);
        let data = self.inbox.drain(..length).collect();
        Ok(Some(Answer { cookie: reply.cookie, error, data }))
    }

    fn chunk(&mut self) -> Result<Chunk, String> {
        let Some(first) = self.inbox.first_chunk::<{ ChunkHeader::LENGTH }>() else {
            return Ok(Chunk::Incomplete);
        };
        let header = ChunkHeader::parse(first).map_err(|error| error.to_string())?;
        let end = ChunkHeader::LENGTH + header.length as usize;
        if self.inbox.len() < end {
            return Ok(Chunk::Incomplete);
        }
        let body: Vec<u8> = self.inbox.drain(..end).skip(ChunkHeader::LENGTH).collect();
        let is_last = header.flags & ChunkHeader::DONE != 0;
        let mut error = None;
        if header.kind.is_error() {
            let code = body.first_chunk::<4>().ok_or("a short error chunk")?;
            error = Some(Errno::from(u32::from_be_bytes(*code)));
        }
        if let Some(read) = self.reads.get_mut(&header.cookie) {
            read.error = read.error.or(error);
            read.place(header.kind, &body)?;
        }
        if !is_last {
            return Ok(Chunk::More);
        }
        let answer = match self.reads.remove(&header.cookie) {
            Some(read) if read.error.is_none() && read.received != read.data.len() => {
                return Err(String::from("a reply without all of the data"));
            }
            Some(read) => Answer { cookie: header.cookie, error: read.error, data: read.data },
            None => Answer { cookie: header.cookie, error, data: Vec::new() },
        };
        Ok(Chunk::Last(answer))
    }

    /// Takes one step of the handshake; false if more bytes are needed.
    fn negotiate(&mut self) -> Result<bool, String> {
        if self.stage == Stage::Greeting {
            let Some(first) = self.inbox.first_chunk::<{ Greeting::LENGTH }>() else { return Ok(false) };
            let greeting = Greeting::parse(first).map_err(|error| error.to_string())?;
            self.inbox.drain(..Greeting::LENGTH);
            let flags = greeting.flags & (FIXED_NEWSTYLE | NO_ZEROES);
            self.outbox.extend_from_slice(&u32::from(flags).to_be_bytes());
            if self.structured {
                self.option(OptionType::StructuredReply, &[]);
                self.stage = Stage::Structured;
            } else {
                self.go();
            }
            return Ok(true);
        }
        let Some(first) = self.inbox.first_chunk::<{ OptionReplyHeader::LENGTH }>() else { return Ok(false) };
        let header = OptionReplyHeader::parse(first).map_err(|error| error.to_string())?;
        let end = OptionReplyHeader::LENGTH + header.length as usize;
        if self.inbox.len() < end {
            return Ok(false);
        }
        let body: Vec<u8> = self.inbox.drain(..end).skip(OptionReplyHeader::LENGTH).collect();
        match (self.stage, header.reply) {
            (Stage::Structured, _) => self.go(),
            (_, OptionReplyType::Ack) => self.stage = Stage::Open,
            (_, OptionReplyType::Info) => self.learn(&body),
            (_, reply) => return Err(format!("the server refuses the export: {reply:?}")),
        }
        Ok(true)
    }

    fn learn(&mut self, body: &[u8]) {
        let kind = body.first_chunk().map(|kind| InfoType::from(u16::from_be_bytes(*kind)));
        if let (Some(InfoType::Export), Some(flags)) = (kind, body.last_chunk()) {
            self.flags = u16::from_be_bytes(*flags);
        }
    }

    fn go(&mut self) {
        let data = InfoRequest::emit(self.export.as_bytes(), &[InfoType::BlockSize]);
        self.option(OptionType::Go, &data);
        self.stage = Stage::Go;
    }

    fn option(&mut self, option: OptionType, data: &[u8]) {
        let length = u32::try_from(data.len()).expect("names are short");
        self.outbox.extend_from_slice(&OptionHeader { option, length }.emit());
        self.outbox.extend_from_slice(data);
    }
}

/// What a chunk of a structured reply was.
enum Chunk {
    Incomplete,
    More,
    Last(Answer),
}

impl Read {
    /// Puts content where it belongs.
    fn place(&mut self, kind: ChunkType, body: &[u8]) -> Result<(), String> {
        let (bytes, hole) = match kind {
            ChunkType::OffsetData => (body.get(8..).unwrap_or_default(), None),
            ChunkType::OffsetHole => (&[][..], body.get(8..12)),
            _ => return Ok(()),
        };
        let offset = body.first_chunk().map(|offset| u64::from_be_bytes(*offset)).ok_or("a short chunk")?;
        let hole = hole.and_then(|length| length.first_chunk()).map(|length| u32::from_be_bytes(*length));
        let length = hole.map_or(bytes.len(), |length| length as usize);
        let start = offset.checked_sub(self.offset).and_then(|start| usize::try_from(start).ok());
        let place = start.and_then(|start| self.data.get_mut(start..start.checked_add(length)?));
        let place = place.ok_or("content outside of what was asked for")?;
        if hole.is_none() {
            place.copy_from_slice(bytes);
        }
        self.received += length;
        Ok(())
    }
}
