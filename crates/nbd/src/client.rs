//! A small client, blocking over anything that reads and writes.
//!
//! [`Client`] does one request at a time. [`Client::split`] makes a [`Sender`] and a [`Receiver`] of it, so that many
//! requests can be in flight.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, Read, Write};

use block::{Durability, Effort, Provisioning};

use crate::protocol::{
    BlockSizes, ChunkHeader, ChunkType, CommandType, Errno, FIXED_NEWSTYLE, Greeting, InfoRequest, InfoType,
    NO_ZEROES, OptionHeader, OptionReplyHeader, OptionReplyType, OptionType, PAYLOAD_MAX, RequestHeader,
    SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, SimpleReply, WrongMagic, command_flags, length32,
};

/// Longest reply to an option: a name and a description of 4 KiB each, and what goes with them.
const OPTION_REPLY_MAX: u32 = 9 << 10;
/// Replies to one option; a server that lists more is not one to list.
const OPTION_REPLIES_MAX: usize = 100_000;
/// Longest chunk without content: an error with a message of 4 KiB.
const CHUNK_MAX: u32 = 5 << 10;

/// Why a client cannot go on, or a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    #[error("the server sent {0}")]
    OutOfStep(#[from] WrongMagic),
    #[error("the server does not speak the fixed newstyle protocol")]
    NotFixedNewstyle,
    #[error("the server refused option {option:?}: {reply:?}")]
    OptionRefused { option: OptionType, reply: OptionReplyType },
    #[error("the server sent {got:?} in reply to {expected:?}")]
    WrongOption { expected: OptionType, got: OptionType },
    #[error("the server sent a reply that breaks the protocol: {0}")]
    Misbehaved(&'static str),
    /// The server answered this request with an error; the connection is fine.
    #[error("the server answered with {0}")]
    Refused(Errno),
}

/// How a client connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Empty means the server's default export.
    pub export: String,
    pub replies: Replies,
}

/// How reads are to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    Simple,
    /// Structured if the server can.
    Structured,
}

/// What a server said of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// Bytes.
    pub size: u64,
    /// See [`crate::protocol::transmission_flags`].
    pub flags: u16,
    pub block_sizes: BlockSizes,
}

/// One export in a server's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub description: String,
}

/// One request. Offsets and lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    Read {
        offset: u64,
        length: u32,
    },
    Write {
        offset: u64,
        data: &'a [u8],
        durability: Durability,
    },
    Flush,
    Trim {
        offset: u64,
        length: u32,
    },
    Cache {
        offset: u64,
        length: u32,
    },
    WriteZeroes {
        offset: u64,
        length: u32,
        durability: Durability,
        provisioning: Provisioning,
        effort: Effort,
    },
}

/// How one request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub cookie: u64,
    pub result: Result<(), Errno>,
}

/// Where the data of a request in flight goes: as long as the read is, and empty for everything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// The offset of the read, in bytes.
    pub offset: u64,
    pub data: Vec<u8>,
}

/// A connection with one request at a time.
#[derive(Debug)]
pub struct Client<S> {
    stream: S,
    export: ExportInfo,
    partial: Partial,
    /// The one read that may be in flight, under cookie 0.
    destination: [Destination; 1],
}

/// The half of a connection that sends requests.
#[derive(Debug)]
pub struct Sender<W> {
    stream: W,
}

/// The half of a connection that receives replies.
#[derive(Debug)]
pub struct Receiver<R> {
    stream: R,
    partial: Partial,
}

/// Structured replies of which the last chunk did not come yet, by cookie.
type Partial = BTreeMap<u64, Progress>;

/// What the chunks of one reply said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Bytes of content.
    received: usize,
    /// The first error.
    error: Option<Errno>,
}

/// The exports of a server. Ends the connection.
///
/// # Errors
/// The connection failed, or the server does not list.
pub fn list<S: Read + Write>(mut stream: S) -> Result<Vec<Listed>, Error> {
    greet(&mut stream)?;
    send_option(&mut stream, OptionType::List, &[])?;
    let mut exports = Vec::new();
    while let Some(data) = receive_option_reply(&mut stream, OptionType::List, OptionReplyType::Server)? {
        if exports.len() == OPTION_REPLIES_MAX {
            return Err(Error::Misbehaved("an endless list"));
        }
        exports.push(Listed::parse(&data).ok_or(Error::Misbehaved("a name longer than its reply"))?);
    }
    send_option(&mut stream, OptionType::Abort, &[])?;
    Ok(exports)
}

impl<S: Read + Write> Client<S> {
    /// Negotiates over a connected stream, up to the transmission phase.
    ///
    /// # Errors
    /// The connection failed, or the server refused.
    pub fn connect(mut stream: S, options: &Options) -> Result<Self, Error> {
        greet(&mut stream)?;
        if options.replies == Replies::Structured {
            ask_structured(&mut stream)?;
        }
        let data = InfoRequest::emit(options.export.as_bytes(), &[InfoType::BlockSize]);
        send_option(&mut stream, OptionType::Go, &data)?;
        let export = receive_info(&mut stream)?;
        Ok(Self { stream, export, partial: Partial::new(), destination: [Destination::default()] })
    }

    #[must_use]
    pub fn export(&self) -> &ExportInfo {
        &self.export
    }

    /// Fills `data` from the disk.
    ///
    /// # Errors
    /// [`Error::Refused`] if the request failed; everything else ends the connection.
    pub fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), Error> {
        let [destination] = &mut self.destination;
        destination.offset = offset;
        destination.data.resize(data.len(), 0);
        self.request(&Command::Read { offset, length: length_of(data.len())? })?;
        data.copy_from_slice(&self.destination[0].data);
        Ok(())
    }

    /// # Errors
    /// As for [`Self::read`].
    pub fn write(&mut self, offset: u64, data: &[u8], durability: Durability) -> Result<(), Error> {
        self.command(&Command::Write { offset, data, durability })
    }

    /// # Errors
    /// As for [`Self::read`].
    pub fn flush(&mut self) -> Result<(), Error> {
        self.command(&Command::Flush)
    }

    /// Sends any command but a read, and waits for its end.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn command(&mut self, command: &Command<'_>) -> Result<(), Error> {
        if let Command::Read { offset, length } = *command {
            return self.read(offset, &mut vec![0; length as usize]);
        }
        self.destination[0].data.clear();
        self.request(command)
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// The connection failed.
    pub fn disconnect(mut self) -> Result<(), Error> {
        write_goodbye(&mut self.stream)
    }

    /// Two halves for many requests in flight. `other` is a second handle of the same connection, as `try_clone` of
    /// a socket makes it.
    pub fn split(self, other: S) -> (Sender<S>, Receiver<S>) {
        (Sender { stream: other }, Receiver::new(self.stream))
    }

    fn request(&mut self, command: &Command<'_>) -> Result<(), Error> {
        write_command(&mut self.stream, 0, command)?;
        let reply = receive(&mut self.stream, &mut self.partial, &mut self.destination)?;
        reply.result.map_err(Error::Refused)
    }
}

impl<W: Write> Sender<W> {
    /// Sends a request under a cookie that is not in use. See [`Receiver::receive`] for what cookies may be.
    ///
    /// # Errors
    /// The connection failed, or the data is longer than a request can be.
    pub fn send(&mut self, cookie: u64, command: &Command<'_>) -> Result<(), Error> {
        write_command(&mut self.stream, cookie, command)
    }

    /// Says goodbye; replies to what was sent before still come.
    ///
    /// # Errors
    /// The connection failed.
    pub fn disconnect(&mut self) -> Result<(), Error> {
        write_goodbye(&mut self.stream)
    }
}

impl<R: Read> Receiver<R> {
    fn new(stream: R) -> Self {
        Self { stream, partial: Partial::new() }
    }

    /// Waits for the next reply. A cookie is an index into `destinations`.
    ///
    /// # Errors
    /// The connection failed or the server broke the protocol. A failed request is no error here, but in the reply.
    pub fn receive(&mut self, destinations: &mut [Destination]) -> Result<Reply, Error> {
        receive(&mut self.stream, &mut self.partial, destinations)
    }
}

impl Listed {
    fn parse(data: &[u8]) -> Option<Self> {
        let (length, rest) = data.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Some(Self { name: text(name), description: text(rest) })
    }
}

fn greet<S: Read + Write>(stream: &mut S) -> Result<(), Error> {
    let greeting = Greeting::parse(&read_array(stream)?)?;
    if greeting.flags & FIXED_NEWSTYLE == 0 {
        return Err(Error::NotFixedNewstyle);
    }
    let flags = greeting.flags & (FIXED_NEWSTYLE | NO_ZEROES);
    stream.write_all(&u32::from(flags).to_be_bytes())?;
    Ok(())
}

/// A server that cannot do structured replies does simple ones; [`receive`] understands both.
fn ask_structured<S: Read + Write>(stream: &mut S) -> Result<(), Error> {
    let option = OptionType::StructuredReply;
    send_option(stream, option, &[])?;
    match receive_option_reply(stream, option, OptionReplyType::Ack) {
        Ok(_) | Err(Error::OptionRefused { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn receive_info<S: Read + Write>(stream: &mut S) -> Result<ExportInfo, Error> {
    let mut basics = None;
    let mut block_sizes = BlockSizes::DEFAULT;
    for _ in 0..OPTION_REPLIES_MAX {
        let Some(data) = receive_option_reply(stream, OptionType::Go, OptionReplyType::Info)? else {
            let (size, flags) = basics.ok_or(Error::Misbehaved("no size in the reply to GO"))?;
            return Ok(ExportInfo { size, flags, block_sizes });
        };
        let Some((&kind, body)) = data.split_first_chunk() else {
            return Err(Error::Misbehaved("information without a type"));
        };
        match InfoType::from(u16::from_be_bytes(kind)) {
            InfoType::Export => basics = Some(parse_basics(body)?),
            InfoType::BlockSize => {
                let body = body.try_into().map_err(|_| Error::Misbehaved("block sizes of a wrong length"))?;
                block_sizes = BlockSizes::parse(body);
            }
            _ => {}
        }
    }
    Err(Error::Misbehaved("endless information"))
}

fn parse_basics(body: &[u8]) -> Result<(u64, u16), Error> {
    let Ok([a, b, c, d, e, f, g, h, i, j]) = <[u8; 10]>::try_from(body) else {
        return Err(Error::Misbehaved("export information of a wrong length"));
    };
    Ok((u64::from_be_bytes([a, b, c, d, e, f, g, h]), u16::from_be_bytes([i, j])))
}

fn send_option<S: Write>(stream: &mut S, option: OptionType, data: &[u8]) -> Result<(), Error> {
    let mut message = OptionHeader { option, length: length32(data.len()) }.emit().to_vec();
    message.extend_from_slice(data);
    stream.write_all(&message)?;
    Ok(())
}

/// The data of the next reply of type `more`; `None` for an acknowledgement.
fn receive_option_reply<S: Read>(
    stream: &mut S,
    option: OptionType,
    more: OptionReplyType,
) -> Result<Option<Vec<u8>>, Error> {
    let header = OptionReplyHeader::parse(&read_array(stream)?)?;
    if header.option != option {
        return Err(Error::WrongOption { expected: option, got: header.option });
    }
    if header.length > OPTION_REPLY_MAX {
        return Err(Error::Misbehaved("a reply to an option that is too long"));
    }
    let mut data = vec![0; header.length as usize];
    stream.read_exact(&mut data)?;
    match header.reply {
        OptionReplyType::Ack => Ok(None),
        reply if reply == more => Ok(Some(data)),
        reply => Err(Error::OptionRefused { option, reply }),
    }
}

fn write_command<W: Write>(stream: &mut W, cookie: u64, command: &Command<'_>) -> Result<(), Error> {
    let (header, data) = command.header(cookie)?;
    let header = header.emit();
    if data.is_empty() {
        stream.write_all(&header)?;
        return Ok(());
    }
    let sent = stream.write_vectored(&[IoSlice::new(&header), IoSlice::new(data)])?;
    if sent < header.len() {
        stream.write_all(&header[sent..])?;
    }
    stream.write_all(&data[sent.saturating_sub(header.len())..])?;
    Ok(())
}

fn write_goodbye<W: Write>(stream: &mut W) -> Result<(), Error> {
    let command = CommandType::Disconnect;
    let header = RequestHeader { flags: 0, command, cookie: 0, offset: 0, length: 0 };
    stream.write_all(&header.emit())?;
    Ok(())
}

impl Command<'_> {
    /// The header of the command and its payload.
    fn header(&self, cookie: u64) -> Result<(RequestHeader, &[u8]), Error> {
        let (command, flags, offset, length, data): (_, _, _, _, &[u8]) = match *self {
            Self::Read { offset, length } => (CommandType::Read, 0, offset, length, &[]),
            Self::Write { offset, data, durability } => {
                (CommandType::Write, fua(durability), offset, length_of(data.len())?, data)
            }
            Self::Flush => (CommandType::Flush, 0, 0, 0, &[]),
            Self::Trim { offset, length } => (CommandType::Trim, 0, offset, length, &[]),
            Self::Cache { offset, length } => (CommandType::Cache, 0, offset, length, &[]),
            Self::WriteZeroes { offset, length, durability, provisioning, effort } => {
                let flags = fua(durability) | no_hole(provisioning) | fast_zero(effort);
                (CommandType::WriteZeroes, flags, offset, length, &[])
            }
        };
        Ok((RequestHeader { flags, command, cookie, offset, length }, data))
    }
}

fn fua(durability: Durability) -> u16 {
    if durability == Durability::ForceUnitAccess { command_flags::FUA } else { 0 }
}

fn no_hole(provisioning: Provisioning) -> u16 {
    if provisioning == Provisioning::KeepAllocated { command_flags::NO_HOLE } else { 0 }
}

fn fast_zero(effort: Effort) -> u16 {
    if effort == Effort::FastOnly { command_flags::FAST_ZERO } else { 0 }
}

/// A payload length that the wire can carry and every server takes.
fn length_of(length: usize) -> Result<u32, Error> {
    u32::try_from(length)
        .ok()
        .filter(|&length| length <= PAYLOAD_MAX)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a payload of more than 32 MiB").into())
}

fn receive<R: Read>(
    stream: &mut R,
    partial: &mut Partial,
    destinations: &mut [Destination],
) -> Result<Reply, Error> {
    loop {
        let first: [u8; SimpleReply::LENGTH] = read_array(stream)?;
        let [a, b, c, d, ..] = first;
        match u32::from_be_bytes([a, b, c, d]) {
            SIMPLE_REPLY_MAGIC => return receive_simple(stream, &SimpleReply::parse(&first)?, destinations),
            STRUCTURED_REPLY_MAGIC => {
                if let Some(reply) = receive_chunk(stream, first, partial, destinations)? {
                    return Ok(reply);
                }
            }
            got => return Err(WrongMagic { expected: SIMPLE_REPLY_MAGIC.into(), got: got.into() }.into()),
        }
    }
}

fn receive_simple<R: Read>(
    stream: &mut R,
    reply: &SimpleReply,
    destinations: &mut [Destination],
) -> Result<Reply, Error> {
    let destination = destination_of(reply.cookie, destinations)?;
    let cookie = reply.cookie;
    if reply.error != 0 {
        return Ok(Reply { cookie, result: Err(reply.error.into()) });
    }
    stream.read_exact(&mut destination.data)?;
    Ok(Reply { cookie, result: Ok(()) })
}

/// Takes one chunk in; the reply if it was the last.
fn receive_chunk<R: Read>(
    stream: &mut R,
    first: [u8; SimpleReply::LENGTH],
    partial: &mut Partial,
    destinations: &mut [Destination],
) -> Result<Option<Reply>, Error> {
    let mut bytes = [0; ChunkHeader::LENGTH];
    bytes[..first.len()].copy_from_slice(&first);
    stream.read_exact(&mut bytes[first.len()..])?;
    let chunk = ChunkHeader::parse(&bytes)?;
    let destination = destination_of(chunk.cookie, destinations)?;
    let progress = partial.entry(chunk.cookie).or_default();
    match chunk.kind {
        ChunkType::None if chunk.length == 0 => {}
        ChunkType::OffsetData | ChunkType::OffsetHole => {
            progress.received += receive_content(stream, &chunk, destination)?;
        }
        kind if kind.is_error() => {
            let error = receive_error(stream, &chunk)?;
            progress.error.get_or_insert(error);
        }
        _ => return Err(Error::Misbehaved("a chunk that was not asked for")),
    }
    if chunk.flags & ChunkHeader::DONE == 0 {
        return Ok(None);
    }
    let Progress { received, error } = *progress;
    partial.remove(&chunk.cookie);
    if error.is_none() && received != destination.data.len() {
        return Err(Error::Misbehaved("a reply without all of the data"));
    }
    Ok(Some(Reply { cookie: chunk.cookie, result: error.map_or(Ok(()), Err) }))
}

/// Puts data, or the zeros of a hole, where they belong; how many bytes they are.
fn receive_content<R: Read>(
    stream: &mut R,
    chunk: &ChunkHeader,
    destination: &mut Destination,
) -> Result<usize, Error> {
    const OUTSIDE: Error = Error::Misbehaved("content outside of what was asked for");
    let length = match chunk.kind {
        ChunkType::OffsetHole if chunk.length == 12 => None,
        ChunkType::OffsetData if chunk.length >= 8 => Some(chunk.length - 8),
        _ => return Err(Error::Misbehaved("a content chunk of a wrong length")),
    };
    let offset = u64::from_be_bytes(read_array(stream)?);
    let length = match length {
        Some(length) => length,
        None => u32::from_be_bytes(read_array(stream)?),
    };
    let start = offset.checked_sub(destination.offset).and_then(|start| usize::try_from(start).ok());
    let Some(rest) = start.and_then(|start| destination.data.get_mut(start..)) else { return Err(OUTSIDE) };
    let Some(range) = rest.get_mut(..length as usize) else { return Err(OUTSIDE) };
    match chunk.kind {
        ChunkType::OffsetHole => range.fill(0),
        _ => stream.read_exact(range)?,
    }
    Ok(range.len())
}

/// The error number of an error chunk; its message is for people, and the number says enough.
fn receive_error<R: Read>(stream: &mut R, chunk: &ChunkHeader) -> Result<Errno, Error> {
    if !(6..=CHUNK_MAX).contains(&chunk.length) {
        return Err(Error::Misbehaved("an error chunk of a wrong length"));
    }
    let mut body = vec![0; chunk.length as usize];
    stream.read_exact(&mut body)?;
    Ok(u32::from_be_bytes([body[0], body[1], body[2], body[3]]).into())
}

fn destination_of(cookie: u64, destinations: &mut [Destination]) -> Result<&mut Destination, Error> {
    usize::try_from(cookie)
        .ok()
        .and_then(|index| destinations.get_mut(index))
        .ok_or(Error::Misbehaved("a reply to nothing that was asked"))
}

fn read_array<R: Read, const N: usize>(stream: &mut R) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
