//! A session between a scripted client and a scripted disk.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]

use std::io::IoSlice;

use block::{Access, Completion, Geometry, Request, Rotation, Support, WriteCache};
use clock::{Duration, Instant};
use nbd::protocol::{
    CommandType, InfoRequest, InfoType, OptionHeader, OptionReplyHeader, OptionReplyType, OptionType,
    RequestHeader,
};
use nbd::{Action, Event, Export, Reason, Session};

pub(crate) const SIZE: u64 = 1 << 20;
/// `NBDMAGIC`, `IHAVEOPT`, fixed newstyle and no zeroes.
pub(crate) const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\x00\x03";
pub(crate) const CLIENT_FLAGS: [u8; 4] = [0, 0, 0, 3];

pub(crate) fn export(name: &str) -> Export {
    Export {
        name: name.into(),
        description: format!("the disk {name}"),
        geometry: Geometry {
            size: SIZE,
            block_size: 512,
            preferred_size: 4096,
            transfer_max: 32 << 20,
            access: Access::ReadWrite,
            write_cache: WriteCache::Back,
            discard: Support::Yes,
            write_zeroes: Support::Yes,
            rotation: Rotation::Unknown,
        },
        multi_conn: false,
    }
}

/// Everything that came out of a session.
pub(crate) struct Wire {
    pub(crate) session: Session,
    pub(crate) now: Instant,
    /// Bytes to the client that no test took yet.
    pub(crate) sent: Vec<u8>,
    pub(crate) submitted: Vec<Request>,
    pub(crate) attached: Option<usize>,
    pub(crate) ended: Option<Reason>,
}

impl Wire {
    pub(crate) fn new(exports: Vec<Export>) -> Self {
        let mut wire = Self {
            session: Session::new(7, exports),
            now: Instant::START,
            sent: Vec::new(),
            submitted: Vec::new(),
            attached: None,
            ended: None,
        };
        wire.turn();
        wire
    }

    /// After the greeting and the client's flags.
    pub(crate) fn greeted(exports: Vec<Export>) -> Self {
        let mut wire = Self::new(exports);
        assert_eq!(wire.take(), GREETING);
        wire.feed(&CLIENT_FLAGS);
        wire
    }

    /// In the transmission phase of `export`, with simple replies.
    pub(crate) fn transmitting(export: Export) -> Self {
        let mut wire = Self::greeted(vec![export]);
        wire.go();
        wire
    }

    /// In the transmission phase of `export`, with structured replies.
    pub(crate) fn structured(export: Export) -> Self {
        let mut wire = Self::greeted(vec![export]);
        wire.feed(&option(OptionType::StructuredReply, &[]));
        wire.go();
        wire
    }

    fn go(&mut self) {
        self.feed(&option(OptionType::Go, &InfoRequest::emit(b"", &[InfoType::BlockSize])));
        assert_eq!(self.attached, Some(0));
        self.sent.clear();
    }

    /// Gives bytes to the session, as many at a time as it takes; returns how many it took.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> usize {
        self.feed_in(bytes, usize::MAX)
    }

    /// The same, with at most `chunk` bytes at a time.
    pub(crate) fn feed_in(&mut self, mut bytes: &[u8], chunk: usize) -> usize {
        let whole = bytes.len();
        while !bytes.is_empty() && self.ended.is_none() {
            let mut taken = 0;
            for mut slice in self.session.receive_into() {
                let part = slice.len().min(bytes.len() - taken).min(chunk - taken);
                slice[..part].copy_from_slice(&bytes[taken..taken + part]);
                taken += part;
            }
            if taken == 0 {
                break;
            }
            bytes = &bytes[taken..];
            self.handle(Event::Received(taken));
        }
        whole - bytes.len()
    }

    /// An event, its actions, and all that is to be sent because of it.
    pub(crate) fn handle(&mut self, event: Event) {
        self.session.handle(self.now, event);
        self.turn();
    }

    /// An event while the client takes no replies.
    pub(crate) fn handle_unsent(&mut self, event: Event) {
        self.session.handle(self.now, event);
        self.drain_actions();
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.session.poll_timeout().is_some_and(|timeout| timeout <= self.now) {
            self.handle_unsent(Event::Timeout);
        }
    }

    pub(crate) fn turn(&mut self) {
        self.drain_actions();
        while self.send_some(usize::MAX) > 0 {}
    }

    /// The client takes up to `most` bytes; returns how many there were.
    pub(crate) fn send_some(&mut self, most: usize) -> usize {
        let mut slices = [IoSlice::new(&[]); 3];
        let used = self.session.transmit(&mut slices);
        let before = self.sent.len();
        for slice in &slices[..used] {
            assert!(!slice.is_empty(), "an empty slice is a wasted slice");
            let part = slice.len().min(most - (self.sent.len() - before));
            self.sent.extend_from_slice(&slice[..part]);
        }
        let length = self.sent.len() - before;
        if length > 0 {
            self.session.handle(self.now, Event::Sent(length));
            self.drain_actions();
        }
        length
    }

    pub(crate) fn complete(&mut self, request: Request, completion: Completion) {
        self.handle(Event::Completed(request, completion));
    }

    /// Ends every request at the disk, oldest first.
    pub(crate) fn complete_all(&mut self) {
        while !self.submitted.is_empty() {
            let request = self.submitted.remove(0);
            self.complete(request, Ok(()));
        }
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sent)
    }

    /// The one request at the disk.
    pub(crate) fn request(&mut self) -> Request {
        assert_eq!(self.submitted.len(), 1, "one request is at the disk");
        self.submitted.remove(0)
    }

    fn drain_actions(&mut self) {
        while let Some(action) = self.session.poll_action() {
            assert_eq!(self.ended, None, "nothing follows a disconnect");
            match action {
                Action::Attach { export } => self.attached = Some(export),
                Action::Submit(request) => self.submitted.push(request),
                Action::Disconnect(reason) => self.ended = Some(reason),
            }
        }
    }
}

pub(crate) fn option(option: OptionType, data: &[u8]) -> Vec<u8> {
    let mut bytes = OptionHeader { option, length: u32::try_from(data.len()).unwrap() }.emit().to_vec();
    bytes.extend_from_slice(data);
    bytes
}

pub(crate) fn option_reply(option: OptionType, reply: OptionReplyType, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap();
    let mut bytes = OptionReplyHeader { option, reply, length }.emit().to_vec();
    bytes.extend_from_slice(data);
    bytes
}

pub(crate) fn request(command: CommandType, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    RequestHeader { flags, command, cookie, offset, length }.emit().to_vec()
}

pub(crate) fn write(cookie: u64, offset: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = request(CommandType::Write, 0, cookie, offset, u32::try_from(data.len()).unwrap());
    bytes.extend_from_slice(data);
    bytes
}

/// A simple reply without data.
pub(crate) fn simple(cookie: u64, error: u32) -> Vec<u8> {
    nbd::protocol::SimpleReply { error, cookie }.emit().to_vec()
}
