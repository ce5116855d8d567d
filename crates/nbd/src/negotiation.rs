//! The handshake: fixed newstyle, up to the choice of an export.
//!
//! Only what is needed next is ever read, so that nothing of the transmission phase is read by mistake.

use crate::export::Export;
use crate::outbox::Message;
use crate::protocol::{
    FIXED_NEWSTYLE, Greeting, InfoRequest, InfoType, NO_ZEROES, OptionHeader, OptionReplyHeader,
    OptionReplyType, OptionType, STRING_MAX, length32, transmission_flags,
};
use crate::session::{Output, Reason};
use crate::transmission::Replies;

/// Options that one client may send: a tool that lists exports asks a few times about each.
const OPTIONS_MAX: u32 = 4096;
/// Longest option data that is looked at: a name, its length, and every type of information asked for many times.
const OPTION_DATA_MAX: usize = STRING_MAX + 1024;
/// Longest option data that is skipped. Options that this server does not know may be long; not without end.
const OPTION_SKIP_MAX: u32 = 1 << 20;
/// A client that did not ask for the block size has to expect this much (clause "Size constraints").
const BLOCK_SIZE_ASSUMED: u32 = 512;
/// What old clients get after the answer to `EXPORT_NAME`.
const ZEROES: [u8; 124] = [0; 124];

/// The handshake of one connection.
#[derive(Debug)]
pub(crate) struct Negotiation {
    stage: Stage,
    /// Client flags, or an option's header.
    header: [u8; OptionHeader::LENGTH],
    /// Bytes of what is being received that are there.
    filled: usize,
    data: Vec<u8>,
    client_flags: u16,
    options: u32,
    replies: Replies,
    block_size: BlockSize,
}

/// What is being received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    ClientFlags,
    Header,
    Data { option: OptionType },
    Skip { option: OptionType, remaining: u32 },
}

/// Whether the client knows that blocks may be larger than it assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockSize {
    NotAsked,
    Asked,
}

/// Where the handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Continue,
    /// The client chose an export (an index), and how reads are answered.
    Attach(usize, Replies),
    /// The client gave up in good order.
    Abort,
}

impl Negotiation {
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::ClientFlags,
            header: [0; OptionHeader::LENGTH],
            filled: 0,
            data: Vec::new(),
            client_flags: 0,
            options: 0,
            replies: Replies::Simple,
            block_size: BlockSize::NotAsked,
        }
    }

    /// What the server says first.
    pub(crate) fn greeting() -> Message {
        Message::bytes(Greeting { flags: FIXED_NEWSTYLE | NO_ZEROES }.emit().to_vec())
    }

    pub(crate) fn receive_into(&mut self) -> &mut [u8] {
        match self.stage {
            Stage::ClientFlags => &mut self.header[self.filled..4],
            Stage::Header => &mut self.header[self.filled..],
            Stage::Data { .. } => &mut self.data[self.filled..],
            Stage::Skip { remaining, .. } => {
                let length = self.data.len().min(remaining as usize);
                &mut self.data[..length]
            }
        }
    }

    /// `length` bytes arrived where [`Self::receive_into`] said.
    pub(crate) fn received(
        &mut self,
        length: usize,
        exports: &[Export],
        output: &mut Output,
    ) -> Result<Step, Reason> {
        if length == 0 {
            return Ok(Step::Continue);
        }
        if let Stage::Skip { option, remaining } = self.stage {
            let remaining = remaining - length32(length);
            self.stage = Stage::Skip { option, remaining };
            if remaining == 0 {
                self.expect_header();
                reply_empty(output, option, skipped_reply(option));
            }
            return Ok(Step::Continue);
        }
        self.filled += length;
        if !self.receive_into().is_empty() {
            return Ok(Step::Continue);
        }
        match self.stage {
            Stage::ClientFlags => self.client_flags().map(|()| Step::Continue),
            Stage::Header => self.option_header(exports, output),
            Stage::Data { option } => self.option(option, exports, output),
            Stage::Skip { .. } => Ok(Step::Continue),
        }
    }

    fn client_flags(&mut self) -> Result<(), Reason> {
        let [a, b, c, d, ..] = self.header;
        let flags = u32::from_be_bytes([a, b, c, d]);
        self.client_flags = u16::try_from(flags)
            .ok()
            .filter(|flags| flags & !(FIXED_NEWSTYLE | NO_ZEROES) == 0)
            .ok_or(Reason::UnknownHandshakeFlags(flags))?;
        self.expect_header();
        Ok(())
    }

    fn option_header(&mut self, exports: &[Export], output: &mut Output) -> Result<Step, Reason> {
        let header = OptionHeader::parse(&self.header).map_err(Reason::NotNewstyle)?;
        self.options += 1;
        if self.options > OPTIONS_MAX {
            return Err(Reason::TooManyOptions);
        }
        if self.client_flags & FIXED_NEWSTYLE == 0 && header.option != OptionType::ExportName {
            return Err(Reason::NotFixedNewstyle(header.option.into()));
        }
        let length = header.length as usize;
        self.filled = 0;
        if length <= OPTION_DATA_MAX {
            self.data.clear();
            self.data.resize(length, 0);
            self.stage = Stage::Data { option: header.option };
            return if length == 0 {
                self.option(header.option, exports, output)
            } else {
                Ok(Step::Continue)
            };
        }
        // There is no reply to EXPORT_NAME that could say what is wrong.
        if header.length > OPTION_SKIP_MAX || header.option == OptionType::ExportName {
            return Err(Reason::OptionTooLong(header.length));
        }
        self.data.resize(OPTION_DATA_MAX, 0);
        self.stage = Stage::Skip { option: header.option, remaining: header.length };
        Ok(Step::Continue)
    }

    fn option(
        &mut self,
        option: OptionType,
        exports: &[Export],
        output: &mut Output,
    ) -> Result<Step, Reason> {
        self.expect_header();
        match option {
            OptionType::ExportName => return self.export_name(exports, output),
            OptionType::Info | OptionType::Go => return Ok(self.info(option, exports, output)),
            OptionType::Abort => {
                reply_empty(output, option, OptionReplyType::Ack);
                return Ok(Step::Abort);
            }
            OptionType::List if self.data.is_empty() => list(exports, output),
            OptionType::StructuredReply if self.data.is_empty() => {
                self.replies = Replies::Structured;
                reply_empty(output, option, OptionReplyType::Ack);
            }
            OptionType::List | OptionType::StructuredReply => {
                reply_empty(output, option, OptionReplyType::Invalid);
            }
            _ => reply_empty(output, option, OptionReplyType::Unsupported),
        }
        Ok(Step::Continue)
    }

    /// A client that chooses like this cannot be told the block size, so it may see EINVAL later; nothing worse.
    fn export_name(&self, exports: &[Export], output: &mut Output) -> Result<Step, Reason> {
        let index = find(exports, &self.data).ok_or(Reason::UnknownExport)?;
        let mut reply = exports[index].geometry.size.to_be_bytes().to_vec();
        reply.extend_from_slice(&self.transmission_flags(&exports[index]).to_be_bytes());
        if self.client_flags & NO_ZEROES == 0 {
            reply.extend_from_slice(&ZEROES);
        }
        output.outbox.push(Message::bytes(reply));
        Ok(Step::Attach(index, self.replies))
    }

    /// Answers `INFO` and `GO`.
    fn info(&mut self, option: OptionType, exports: &[Export], output: &mut Output) -> Step {
        let Some(request) = InfoRequest::parse(&self.data) else {
            reply_empty(output, option, OptionReplyType::Invalid);
            return Step::Continue;
        };
        if request.wants(InfoType::BlockSize) {
            self.block_size = BlockSize::Asked;
        }
        let Some(index) = find(exports, request.name) else {
            reply_empty(output, option, OptionReplyType::Unknown);
            return Step::Continue;
        };
        let export = &exports[index];
        self.describe(option, &request, export, output);
        if option == OptionType::Info {
            reply_empty(output, option, OptionReplyType::Ack);
            return Step::Continue;
        }
        if export.block_sizes().minimum > BLOCK_SIZE_ASSUMED && self.block_size == BlockSize::NotAsked {
            reply_empty(output, option, OptionReplyType::BlockSizeRequired);
            return Step::Continue;
        }
        reply_empty(output, option, OptionReplyType::Ack);
        Step::Attach(index, self.replies)
    }

    /// Size and flags, and the block size, always; names for those who ask.
    fn describe(&self, option: OptionType, request: &InfoRequest<'_>, export: &Export, output: &mut Output) {
        let mut basics = export.geometry.size.to_be_bytes().to_vec();
        basics.extend_from_slice(&self.transmission_flags(export).to_be_bytes());
        reply_info(output, option, InfoType::Export, &basics);
        if request.wants(InfoType::Name) {
            reply_info(output, option, InfoType::Name, export.name.as_bytes());
        }
        if request.wants(InfoType::Description) && !export.description.is_empty() {
            reply_info(output, option, InfoType::Description, description(export));
        }
        reply_info(output, option, InfoType::BlockSize, &export.block_sizes().emit());
    }

    fn transmission_flags(&self, export: &Export) -> u16 {
        match self.replies {
            Replies::Simple => export.transmission_flags(),
            Replies::Structured => export.transmission_flags() | transmission_flags::SEND_DF,
        }
    }

    fn expect_header(&mut self) {
        self.stage = Stage::Header;
        self.filled = 0;
    }
}

/// The export of this name; no name is the first one.
fn find(exports: &[Export], name: &[u8]) -> Option<usize> {
    if name.is_empty() && !exports.is_empty() {
        return Some(0);
    }
    exports.iter().position(|export| export.name.as_bytes() == name)
}

fn list(exports: &[Export], output: &mut Output) {
    for export in exports {
        let mut data = length32(export.name.len()).to_be_bytes().to_vec();
        data.extend_from_slice(export.name.as_bytes());
        data.extend_from_slice(description(export));
        reply(output, OptionType::List, OptionReplyType::Server, &data);
    }
    reply_empty(output, OptionType::List, OptionReplyType::Ack);
}

/// The description, cut to what the protocol allows.
fn description(export: &Export) -> &[u8] {
    let text = &export.description;
    &text.as_bytes()[..text.floor_char_boundary(STRING_MAX)]
}

/// What to answer to an option with so much data that nobody looked at it.
fn skipped_reply(option: OptionType) -> OptionReplyType {
    match option {
        OptionType::Info | OptionType::Go => OptionReplyType::TooBig,
        OptionType::List | OptionType::StructuredReply | OptionType::Abort => OptionReplyType::Invalid,
        _ => OptionReplyType::Unsupported,
    }
}

fn reply_info(output: &mut Output, option: OptionType, kind: InfoType, information: &[u8]) {
    let mut data = u16::from(kind).to_be_bytes().to_vec();
    data.extend_from_slice(information);
    reply(output, option, OptionReplyType::Info, &data);
}

fn reply_empty(output: &mut Output, option: OptionType, kind: OptionReplyType) {
    reply(output, option, kind, &[]);
}

fn reply(output: &mut Output, option: OptionType, kind: OptionReplyType, data: &[u8]) {
    let header = OptionReplyHeader { option, reply: kind, length: length32(data.len()) };
    let mut bytes = header.emit().to_vec();
    bytes.extend_from_slice(data);
    output.outbox.push(Message::bytes(bytes));
}
