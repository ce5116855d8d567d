//! What goes over the wire: names for the protocol's numbers, and the layout of its headers.
//!
//! Everything is big-endian. Unknown values survive parsing; only a wrong magic is an error, because after it nothing
//! that follows can be trusted.

use std::fmt;

/// First word of the greeting.
pub const INIT_MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
/// Second word of a newstyle greeting, and first word of every option.
pub const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
/// Second word of an oldstyle greeting, which carries no options at all.
pub const OLDSTYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Handshake flags: the server's 16 bits in the greeting, the client's 32 bits in its answer use the same two.
pub const FIXED_NEWSTYLE: u16 = 1 << 0;
/// The 124 zeros after the reply to `EXPORT_NAME` are left out.
pub const NO_ZEROES: u16 = 1 << 1;

/// Flags of an export for the transmission phase.
pub mod transmission_flags {
    pub const HAS_FLAGS: u16 = 1 << 0;
    pub const READ_ONLY: u16 = 1 << 1;
    pub const SEND_FLUSH: u16 = 1 << 2;
    pub const SEND_FUA: u16 = 1 << 3;
    pub const ROTATIONAL: u16 = 1 << 4;
    pub const SEND_TRIM: u16 = 1 << 5;
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub const SEND_DF: u16 = 1 << 7;
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    pub const SEND_CACHE: u16 = 1 << 10;
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Flags of one request.
pub mod command_flags {
    /// Answer only when the data is durable.
    pub const FUA: u16 = 1 << 0;
    /// Zeroed blocks stay allocated.
    pub const NO_HOLE: u16 = 1 << 1;
    /// Answer a read with one content chunk.
    pub const DF: u16 = 1 << 2;
    /// Fail rather than be slower than a write.
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Longest name or description (clause "Values", strings).
pub const STRING_MAX: usize = 4096;
/// Longest payload that no peer may take for an attack (clause "Size constraints").
pub const PAYLOAD_MAX: u32 = 32 << 20;
/// The port that the number authority gave to NBD.
pub const PORT: u16 = 10809;

/// Makes an enum of the protocol's numbers that keeps those it does not know.
macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident: $number:ty { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A number that this crate has no name for.
            Other($number),
        }

        impl From<$number> for $name {
            fn from(number: $number) -> Self {
                match number {
                    $($value => Self::$variant,)*
                    other => Self::Other(other),
                }
            }
        }

        impl From<$name> for $number {
            fn from(name: $name) -> Self {
                match name {
                    $($name::$variant => $value,)*
                    $name::Other(other) => other,
                }
            }
        }
    };
}

numbers! {
    /// What a client may ask for in the handshake.
    OptionType: u32 {
        ExportName = 1,
        Abort = 2,
        List = 3,
        PeekExport = 4,
        StartTls = 5,
        Info = 6,
        Go = 7,
        StructuredReply = 8,
        ListMetaContext = 9,
        SetMetaContext = 10,
        ExtendedHeaders = 11,
    }
}

/// Set in every option reply type that is an error.
const OPTION_ERROR: u32 = 1 << 31;

numbers! {
    /// What a server answers to an option.
    OptionReplyType: u32 {
        Ack = 1,
        Server = 2,
        Info = 3,
        MetaContext = 4,
        Unsupported = 0x8000_0001,
        Policy = 0x8000_0002,
        Invalid = 0x8000_0003,
        Platform = 0x8000_0004,
        TlsRequired = 0x8000_0005,
        Unknown = 0x8000_0006,
        Shutdown = 0x8000_0007,
        BlockSizeRequired = 0x8000_0008,
        TooBig = 0x8000_0009,
    }
}

numbers! {
    /// What a client may want to know of an export.
    InfoType: u16 {
        Export = 0,
        Name = 1,
        Description = 2,
        BlockSize = 3,
    }
}

numbers! {
    /// What a client may ask for in the transmission phase.
    CommandType: u16 {
        Read = 0,
        Write = 1,
        Disconnect = 2,
        Flush = 3,
        Trim = 4,
        Cache = 5,
        WriteZeroes = 6,
        BlockStatus = 7,
    }
}

/// Set in every chunk type that is an error.
const CHUNK_ERROR: u16 = 1 << 15;

numbers! {
    /// What one chunk of a structured reply holds.
    ChunkType: u16 {
        None = 0,
        OffsetData = 1,
        OffsetHole = 2,
        BlockStatus = 5,
        Error = 0x8001,
        ErrorOffset = 0x8002,
    }
}

numbers! {
    /// The error numbers that may go over the wire (clause "Error values").
    Errno: u32 {
        /// Not permitted.
        Perm = 1,
        /// Input or output error.
        Io = 5,
        /// Out of memory.
        NoMem = 12,
        /// Invalid argument.
        Inval = 22,
        /// No space left.
        NoSpc = 28,
        /// Value too large.
        Overflow = 75,
        /// Not supported.
        NotSup = 95,
        /// The server is being shut down.
        Shutdown = 108,
    }
}

impl OptionReplyType {
    #[must_use]
    pub fn is_error(self) -> bool {
        u32::from(self) & OPTION_ERROR != 0
    }
}

impl ChunkType {
    #[must_use]
    pub fn is_error(self) -> bool {
        u16::from(self) & CHUNK_ERROR != 0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Perm => f.write_str("EPERM"),
            Self::Io => f.write_str("EIO"),
            Self::NoMem => f.write_str("ENOMEM"),
            Self::Inval => f.write_str("EINVAL"),
            Self::NoSpc => f.write_str("ENOSPC"),
            Self::Overflow => f.write_str("EOVERFLOW"),
            Self::NotSup => f.write_str("ENOTSUP"),
            Self::Shutdown => f.write_str("ESHUTDOWN"),
            Self::Other(number) => write!(f, "error {number}"),
        }
    }
}

/// The magic in front of a header is not the one that belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("magic {got:#x} instead of {expected:#x}")]
pub struct WrongMagic {
    pub expected: u64,
    pub got: u64,
}

/// What a server says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub flags: u16,
}

/// What precedes the data of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    pub option: OptionType,
    /// Bytes of data that follow.
    pub length: u32,
}

/// What precedes the data of a server's reply to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionReplyHeader {
    pub option: OptionType,
    pub reply: OptionReplyType,
    /// Bytes of data that follow.
    pub length: u32,
}

/// What precedes the payload of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    pub flags: u16,
    pub command: CommandType,
    /// Chosen by the client, and echoed.
    pub cookie: u64,
    pub offset: u64,
    /// Bytes.
    pub length: u32,
}

/// What precedes the data of a simple reply; there is data only after a read without error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimpleReply {
    /// 0 is success.
    pub error: u32,
    pub cookie: u64,
}

/// What precedes the payload of one chunk of a structured reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    pub flags: u16,
    pub kind: ChunkType,
    pub cookie: u64,
    /// Bytes of payload that follow.
    pub length: u32,
}

/// The size constraints of an export, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    pub minimum: u32,
    pub preferred: u32,
    /// Longest read or write.
    pub payload_max: u32,
}

impl Greeting {
    pub const LENGTH: usize = 18;

    #[must_use]
    pub fn emit(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        put(&mut bytes, 0, INIT_MAGIC.to_be_bytes());
        put(&mut bytes, 8, OPTION_MAGIC.to_be_bytes());
        put(&mut bytes, 16, self.flags.to_be_bytes());
        bytes
    }

    /// # Errors
    /// The peer is no NBD server, or an oldstyle one.
    pub fn parse(bytes: &[u8; Self::LENGTH]) -> Result<Self, WrongMagic> {
        expect_magic(INIT_MAGIC, u64::from_be_bytes(take(bytes, 0)))?;
        expect_magic(OPTION_MAGIC, u64::from_be_bytes(take(bytes, 8)))?;
        Ok(Self { flags: u16::from_be_bytes(take(bytes, 16)) })
    }
}

impl OptionHeader {
    pub const LENGTH: usize = 16;

    #[must_use]
    pub fn emit(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        put(&mut bytes, 0, OPTION_MAGIC.to_be_bytes());
        put(&mut bytes, 8, u32::from(self.option).to_be_bytes());
        put(&mut bytes, 12, self.length.to_be_bytes());
        bytes
    }

    /// # Errors
    /// The client does not speak newstyle.
    pub fn parse(bytes: &[u8; Self::LENGTH]) -> Result<Self, WrongMagic> {
        expect_magic(OPTION_MAGIC, u64::from_be_bytes(take(bytes, 0)))?;
        Ok(Self {
            option: u32::from_be_bytes(take(bytes, 8)).into(),
            length: u32::from_be_bytes(take(bytes, 12)),
        })
    }
}

impl OptionReplyHeader {
    pub const LENGTH: usize = 20;

    #[must_use]
    pub fn emit(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        put(&mut bytes, 0, OPTION_REPLY_MAGIC.to_be_bytes());
        put(&mut bytes, 8, u32::from(self.option).to_be_bytes());
        put(&mut bytes, 12, u32::from(self.reply).to_be_bytes());
        put(&mut bytes, 16, self.length.to_be_bytes());
        bytes
    }

    /// # Errors
    /// The server is out of step.
    pub fn parse(bytes: &[u8; Self::LENGTH]) -> Result<Self, WrongMagic> {
        expect_magic(OPTION_REPLY_MAGIC, u64::from_be_bytes(take(bytes, 0)))?;
        Ok(Self {
            option: u32::from_be_bytes(take(bytes, 8)).into(),
            reply: u32::from_be_bytes(take(bytes, 12)).into(),
            length: u32::from_be_bytes(take(bytes, 16)),
        })
    }
}

impl RequestHeader {
    pub const LENGTH: usize = 28;

    #[must_use]
    pub fn emit(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        put(&mut bytes, 0, REQUEST_MAGIC.to_be_bytes());
        put(&mut bytes, 4, self.flags.to_be_bytes());
        put(&mut bytes, 6, u16::from(self.command).to_be_bytes());
        put(&mut bytes, 8, self.cookie.to_be_bytes());
        put(&mut bytes, 16, self.offset.to_be_bytes());
        put(&mut bytes, 24, self.length.to_be_bytes());
        bytes
    }

    /// # Errors
    /// The client is out of step.
    pub fn parse(bytes: &[u8; Self::LENGTH]) -> Result<Self, WrongMagic> {
        expect_magic(REQUEST_MAGIC.into(), u32::from_be_bytes(take(bytes, 0)).into())?;
        Ok(Self {
            flags: u16::from_be_bytes(take(bytes, 4)),
            command: u16::from_be_bytes(take(bytes, 6)).into(),
            cookie: u64::from_be_bytes(take(bytes, 8)),
            offset: u64::from_be_bytes(take(bytes, 16)),
            length: u32::from_be_bytes(take(bytes, 24)),
        })
    }
}

impl SimpleReply {
    pub const LENGTH: usize = 16;

    #[must_use]
    pub fn emit(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        put(&mut bytes, 0, SIMPLE_REPLY_MAGIC.to_be_bytes());
        put(&mut bytes, 4, self.error.to_be_bytes());
        put(&mut bytes, 8, self.cookie.to_be_bytes());
        bytes
    }

    /// # Errors
    /// The server is out of step.
    pub fn parse(bytes: &[u8; Self::LENGTH]) -> Result<Self, WrongMagic> {
        expect_magic(SIMPLE_REPLY_MAGIC.into(), u32::from_be_bytes(take(bytes, 0)).into())?;
        Ok(Self { error: u32::from_be_bytes(take(bytes, 4)), cookie: u64::from_be_bytes(take(bytes, 8)) })
    }
}

impl ChunkHeader {
    pub const LENGTH: usize = 20;
    /// This is the last chunk of the reply.
    pub const DONE: u16 = 1 << 0;

    #[must_use]
    pub fn emit(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        put(&mut bytes, 0, STRUCTURED_REPLY_MAGIC.to_be_bytes());
        put(&mut bytes, 4, self.flags.to_be_bytes());
        put(&mut bytes, 6, u16::from(self.kind).to_be_bytes());
        put(&mut bytes, 8, self.cookie.to_be_bytes());
        put(&mut bytes, 16, self.length.to_be_bytes());
        bytes
    }

    /// # Errors
    /// The server is out of step.
    pub fn parse(bytes: &[u8; Self::LENGTH]) -> Result<Self, WrongMagic> {
        expect_magic(STRUCTURED_REPLY_MAGIC.into(), u32::from_be_bytes(take(bytes, 0)).into())?;
        Ok(Self {
            flags: u16::from_be_bytes(take(bytes, 4)),
            kind: u16::from_be_bytes(take(bytes, 6)).into(),
            cookie: u64::from_be_bytes(take(bytes, 8)),
            length: u32::from_be_bytes(take(bytes, 16)),
        })
    }
}

impl BlockSizes {
    /// What holds when nothing was said (clause "Size constraints").
    pub const DEFAULT: Self = Self { minimum: 1, preferred: 4096, payload_max: PAYLOAD_MAX };
    pub const LENGTH: usize = 12;

    #[must_use]
    pub fn emit(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        put(&mut bytes, 0, self.minimum.to_be_bytes());
        put(&mut bytes, 4, self.preferred.to_be_bytes());
        put(&mut bytes, 8, self.payload_max.to_be_bytes());
        bytes
    }

    #[must_use]
    pub fn parse(bytes: &[u8; Self::LENGTH]) -> Self {
        Self {
            minimum: u32::from_be_bytes(take(bytes, 0)),
            preferred: u32::from_be_bytes(take(bytes, 4)),
            payload_max: u32::from_be_bytes(take(bytes, 8)),
        }
    }
}

/// The data of `INFO` and `GO`: which export, and what the client wants to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfoRequest<'a> {
    /// Empty means the default export.
    pub name: &'a [u8],
    /// Big-endian pairs of bytes, as they came.
    wanted: &'a [u8],
}

impl<'a> InfoRequest<'a> {
    /// `None` if the lengths inside contradict the length of the data, or the name is too long.
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let (length, rest) = data.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let (count, wanted) = rest.split_first_chunk()?;
        let consistent = wanted.len() == 2 * usize::from(u16::from_be_bytes(*count));
        (consistent && name.len() <= STRING_MAX).then_some(Self { name, wanted })
    }

    /// The data of an `INFO` or `GO` option.
    ///
    /// # Panics
    /// If the name is longer than [`STRING_MAX`] or more than 65,535 types are wanted.
    #[must_use]
    pub fn emit(name: &[u8], wanted: &[InfoType]) -> Vec<u8> {
        assert!(name.len() <= STRING_MAX, "names are at most {STRING_MAX} bytes long");
        let count = u16::try_from(wanted.len()).expect("there are only 65,536 types of information");
        let mut data = length32(name.len()).to_be_bytes().to_vec();
        data.extend_from_slice(name);
        data.extend_from_slice(&count.to_be_bytes());
        data.extend(wanted.iter().flat_map(|&wanted| u16::from(wanted).to_be_bytes()));
        data
    }

    #[must_use]
    pub fn wants(&self, kind: InfoType) -> bool {
        self.wanted.chunks_exact(2).any(|pair| InfoType::from(u16::from_be_bytes([pair[0], pair[1]])) == kind)
    }
}

/// A length that is known to fit: everything that this crate emits is far below 4 GiB.
pub(crate) fn length32(length: usize) -> u32 {
    u32::try_from(length).expect("no message is longer than the payload limit")
}

fn expect_magic(expected: u64, got: u64) -> Result<(), WrongMagic> {
    if expected == got { Ok(()) } else { Err(WrongMagic { expected, got }) }
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, field: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&field);
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_have_the_layout_of_the_protocol() {
        assert_eq!(Greeting { flags: FIXED_NEWSTYLE | NO_ZEROES }.emit(), *b"NBDMAGICIHAVEOPT\x00\x03");
        assert_eq!(
            OptionHeader { option: OptionType::Go, length: 5 }.emit(),
            *b"IHAVEOPT\0\0\0\x07\0\0\0\x05"
        );
        let reply =
            OptionReplyHeader { option: OptionType::List, reply: OptionReplyType::Unknown, length: 1 };
        #[rustfmt::skip]
        assert_eq!(reply.emit(), [
            0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9, // magic
            0, 0, 0, 3, // option: LIST
            0x80, 0, 0, 6, // reply: unknown export
            0, 0, 0, 1, // length
        ]);
        let command = CommandType::WriteZeroes;
        let request = RequestHeader { flags: 0x11, command, cookie: 2, offset: 3, length: 4 };
        #[rustfmt::skip]
        assert_eq!(request.emit(), [
            0x25, 0x60, 0x95, 0x13, // magic
            0, 0x11, // flags: FUA, FAST_ZERO
            0, 6, // WRITE_ZEROES
            0, 0, 0, 0, 0, 0, 0, 2, // cookie
            0, 0, 0, 0, 0, 0, 0, 3, // offset
            0, 0, 0, 4, // length
        ]);
        assert_eq!(
            SimpleReply { error: 5, cookie: 1 }.emit(),
            [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1]
        );
        let chunk = ChunkHeader { flags: 1, kind: ChunkType::ErrorOffset, cookie: 1, length: 14 };
        #[rustfmt::skip]
        assert_eq!(chunk.emit(), [
            0x66, 0x8e, 0x33, 0xef, // magic
            0, 1, // done
            0x80, 2, // error at an offset
            0, 0, 0, 0, 0, 0, 0, 1, // cookie
            0, 0, 0, 14, // length
        ]);
        assert_eq!(BlockSizes::DEFAULT.emit(), [0, 0, 0, 1, 0, 0, 16, 0, 2, 0, 0, 0]);
        assert_eq!(
            InfoRequest::emit(b"ab", &[InfoType::BlockSize, InfoType::Name]),
            [0, 0, 0, 2, b'a', b'b', 0, 2, 0, 3, 0, 1]
        );
    }

    #[test]
    fn an_oldstyle_server_is_told_apart() {
        let mut bytes = Greeting { flags: 0 }.emit();
        bytes[8..16].copy_from_slice(&OLDSTYLE_MAGIC.to_be_bytes());
        let error = WrongMagic { expected: OPTION_MAGIC, got: OLDSTYLE_MAGIC };
        assert_eq!(Greeting::parse(&bytes), Err(error));
    }

    proptest! {
        #[test]
        fn what_is_parsed_is_emitted_again(bytes: [u8; 28]) {
            let mut request = bytes;
            put(&mut request, 0, REQUEST_MAGIC.to_be_bytes());
            prop_assert_eq!(RequestHeader::parse(&request).map(|header| header.emit()), Ok(request));
            let mut chunk: [u8; 20] = take(&bytes, 0);
            put(&mut chunk, 0, STRUCTURED_REPLY_MAGIC.to_be_bytes());
            prop_assert_eq!(ChunkHeader::parse(&chunk).map(|header| header.emit()), Ok(chunk));
            let mut reply: [u8; 16] = take(&bytes, 0);
            put(&mut reply, 0, SIMPLE_REPLY_MAGIC.to_be_bytes());
            prop_assert_eq!(SimpleReply::parse(&reply).map(|header| header.emit()), Ok(reply));
            let mut option: [u8; 16] = take(&bytes, 0);
            put(&mut option, 0, OPTION_MAGIC.to_be_bytes());
            prop_assert_eq!(OptionHeader::parse(&option).map(|header| header.emit()), Ok(option));
            let mut answer: [u8; 20] = take(&bytes, 0);
            put(&mut answer, 0, OPTION_REPLY_MAGIC.to_be_bytes());
            prop_assert_eq!(OptionReplyHeader::parse(&answer).map(|header| header.emit()), Ok(answer));
            let sizes: [u8; 12] = take(&bytes, 0);
            prop_assert_eq!(BlockSizes::parse(&sizes).emit(), sizes);
        }

        #[test]
        fn a_request_for_information_is_parsed_as_it_was_emitted(name: Vec<u8>, wanted: Vec<u16>) {
            let wanted: Vec<InfoType> = wanted.into_iter().map(InfoType::from).collect();
            let data = InfoRequest::emit(&name, &wanted);
            let request = InfoRequest::parse(&data).expect("it was just emitted");
            prop_assert_eq!(request.name, name);
            prop_assert!(wanted.iter().all(|&kind| request.wants(kind)));
        }

        #[test]
        fn no_bytes_make_a_parser_panic(bytes: Vec<u8>, header: [u8; 28]) {
            let _ = InfoRequest::parse(&bytes);
            let _ = Greeting::parse(&take(&header, 0));
            let _ = RequestHeader::parse(&header);
        }

        #[test]
        fn a_wrong_magic_is_always_noticed(header: [u8; 28]) {
            prop_assume!(!header.starts_with(&REQUEST_MAGIC.to_be_bytes()));
            prop_assert!(RequestHeader::parse(&header).is_err());
        }

        #[test]
        fn numbers_survive_whether_known_or_not(number: u32, small: u16) {
            prop_assert_eq!(u32::from(OptionType::from(number)), number);
            prop_assert_eq!(u32::from(OptionReplyType::from(number)), number);
            prop_assert_eq!(u32::from(Errno::from(number)), number);
            prop_assert_eq!(u16::from(CommandType::from(small)), small);
            prop_assert_eq!(u16::from(ChunkType::from(small)), small);
            prop_assert_eq!(u16::from(InfoType::from(small)), small);
        }
    }
}
