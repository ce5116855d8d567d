//! The client against the session, over a real socket and a disk in memory.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this test is a driver, with a socket"
)]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]

mod support;

use std::io::{self, Cursor, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use block::{Access, Durability, Effort, Geometry, Operation, Provisioning, Request};
use clock::Instant;
use nbd::client::{Client, Command, Destination, Error, ExportInfo, Listed, Options, Replies, list};
use nbd::protocol::{
    BlockSizes, ChunkHeader, ChunkType, Errno, Greeting, InfoType, OptionReplyType, OptionType, SimpleReply,
};
use nbd::{Action, Event, Export, Reason, Session};
use proptest::prelude::*;
use support::{GREETING, SIZE, export, option_reply, simple};

/// Serves `exports` from one memory until the session ends, newest request first within each turn.
fn serve(exports: Vec<Export>) -> (UnixStream, JoinHandle<Reason>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut memory = vec![0; usize::try_from(SIZE).unwrap()];
    let server = thread::spawn(move || serve_turns(Session::new(1, exports), theirs, &mut memory));
    (ours, server)
}

fn serve_turns(mut session: Session, mut stream: UnixStream, memory: &mut [u8]) -> Reason {
    let now = Instant::START;
    let mut waiting = Vec::new();
    loop {
        while let Some(action) = session.poll_action() {
            match action {
                Action::Attach { .. } => {}
                Action::Submit(request) => waiting.push(request),
                Action::Disconnect(reason) => return reason,
            }
        }
        if let Some(mut request) = waiting.pop() {
            execute(&mut request, memory);
            session.handle(now, Event::Completed(request, Ok(())));
            continue;
        }
        let mut slices = [IoSlice::new(&[]); 16];
        let used = session.transmit(&mut slices);
        if used > 0 {
            let event = stream.write_vectored(&slices[..used]).map_or(Event::Closed, Event::Sent);
            session.handle(now, event);
            continue;
        }
        let event = match stream.read_vectored(&mut session.receive_into()) {
            Ok(0) | Err(_) => Event::Closed,
            Ok(received) => Event::Received(received),
        };
        session.handle(now, event);
    }
}

fn execute(request: &mut Request, memory: &mut [u8]) {
    let Some((offset, length)) = request.operation.extent() else { return };
    let start = usize::try_from(offset).unwrap();
    let range = &mut memory[start..start + length as usize];
    match request.operation {
        Operation::Read { .. } => request.buffer.copy_from_slice(range),
        Operation::Write { .. } => range.copy_from_slice(&request.buffer),
        Operation::WriteZeroes { .. } => range.fill(0),
        Operation::Flush | Operation::Discard { .. } => {}
    }
}

fn options(export: &str, replies: Replies) -> Options {
    Options { export: export.into(), replies }
}

#[test]
fn what_is_written_is_read_back_whichever_way_reads_are_answered() {
    for replies in [Replies::Simple, Replies::Structured] {
        let (stream, server) = serve(vec![export("a")]);
        let mut client = Client::connect(stream, &options("a", replies)).unwrap();
        let flags = if replies == Replies::Simple { 0x0c6d } else { 0x0ced };
        let block_sizes = BlockSizes { minimum: 512, preferred: 4096, payload_max: 32 << 20 };
        assert_eq!(*client.export(), ExportInfo { size: SIZE, flags, block_sizes });

        let data: Vec<u8> = (0..=255).cycle().take(300_032).collect();
        client.write(4096, &data, Durability::Volatile).unwrap();
        client.flush().unwrap();
        let mut back = vec![0; data.len()];
        client.read(4096, &mut back).unwrap();
        assert!(back == data);

        client
            .command(&Command::WriteZeroes {
                offset: 4096,
                length: 512,
                durability: Durability::ForceUnitAccess,
                provisioning: Provisioning::KeepAllocated,
                effort: Effort::Any,
            })
            .unwrap();
        client.command(&Command::Trim { offset: 0, length: 512 }).unwrap();
        client.command(&Command::Cache { offset: 0, length: 512 }).unwrap();
        client.read(4096, &mut back).unwrap();
        assert!(back[..512] == [0; 512] && back[512..] == data[512..]);

        client.disconnect().unwrap();
        assert_eq!(server.join().unwrap(), Reason::Finished);
    }
}

#[test]
fn a_refused_request_leaves_the_connection_usable() {
    let read_only = Geometry { access: Access::ReadOnly, ..export("a").geometry };
    for replies in [Replies::Simple, Replies::Structured] {
        let (stream, server) = serve(vec![Export { geometry: read_only, ..export("a") }]);
        let mut client = Client::connect(stream, &options("", replies)).unwrap();
        let refused = client.write(0, &[1; 100_000], Durability::Volatile);
        assert!(matches!(refused, Err(Error::Refused(Errno::Perm))));
        let refused = client.read(SIZE, &mut [0; 512]);
        assert!(matches!(refused, Err(Error::Refused(Errno::Inval))));
        client.read(0, &mut [1; 512]).unwrap();
        drop(client);
        assert_eq!(server.join().unwrap(), Reason::Closed);
    }
}

#[test]
fn an_unknown_export_is_refused_with_its_reason() {
    let (stream, _server) = serve(vec![export("a")]);
    let refused = Client::connect(stream, &options("b", Replies::Simple)).unwrap_err();
    let (option, reply) = (OptionType::Go, OptionReplyType::Unknown);
    assert!(matches!(refused, Error::OptionRefused { option: o, reply: r } if (o, r) == (option, reply)));
}

#[test]
fn exports_are_listed_with_their_descriptions() {
    let (stream, server) = serve(vec![export("a"), export("b")]);
    let listed = |name: &str| Listed { name: name.into(), description: format!("the disk {name}") };
    assert_eq!(list(stream).unwrap(), [listed("a"), listed("b")]);
    server.join().unwrap();
}

#[test]
fn thirty_two_requests_in_flight_each_get_their_own_data() {
    const DEPTH: usize = 32;
    const ROUNDS: u64 = 200;
    for replies in [Replies::Simple, Replies::Structured] {
        let (stream, server) = serve(vec![export("a")]);
        let mut client = Client::connect(stream.try_clone().unwrap(), &options("a", replies)).unwrap();
        for sector in 0..SIZE / 512 {
            let byte = u8::try_from(sector % 251).unwrap();
            client.write(sector * 512, &[byte; 512], Durability::Volatile).unwrap();
        }
        let (mut sender, mut receiver) = client.split(stream);
        let mut destinations = vec![Destination::default(); DEPTH];
        let mut sent = 0;
        let mut free: Vec<usize> = (0..DEPTH).collect();
        let mut received = 0;
        while received < ROUNDS * DEPTH as u64 {
            while sent < ROUNDS * DEPTH as u64
                && let Some(cookie) = free.pop()
            {
                let offset = sent * 7919 % (SIZE / 512 - 8) * 512;
                let length = u32::try_from(sent % 8 + 1).unwrap() * 512;
                destinations[cookie] = Destination { offset, data: vec![0xff; length as usize] };
                sender.send(cookie as u64, &Command::Read { offset, length }).unwrap();
                sent += 1;
            }
            let reply = receiver.receive(&mut destinations).unwrap();
            assert_eq!(reply.result, Ok(()));
            let cookie = usize::try_from(reply.cookie).unwrap();
            for (sector, data) in
                (destinations[cookie].offset / 512..).zip(destinations[cookie].data.chunks(512))
            {
                assert!(data.iter().all(|&byte| u64::from(byte) == sector % 251), "sector {sector}");
            }
            free.push(cookie);
            received += 1;
        }
        sender.disconnect().unwrap();
        assert_eq!(server.join().unwrap(), Reason::Finished);
    }
}

/// A server that says what a test wrote down, and listens to nothing.
struct Script(Cursor<Vec<u8>>);

impl Script {
    fn new(parts: &[&[u8]]) -> Self {
        Self(Cursor::new(parts.concat()))
    }

    /// A server that got as far as the transmission phase of a disk of 1 MiB.
    fn transmitting(parts: &[&[u8]]) -> Self {
        let info =
            option_reply(OptionType::Go, OptionReplyType::Info, &[0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 1]);
        let done = option_reply(OptionType::Go, OptionReplyType::Ack, &[]);
        Self::new(&[GREETING, &info, &done, &parts.concat()])
    }
}

impl Read for Script {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn chunk(kind: ChunkType, flags: u16, cookie: u64, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    let mut bytes = ChunkHeader { flags, kind, cookie, length }.emit().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// A content chunk: data at an offset.
fn data_at(offset: u64, data: &[u8]) -> Vec<u8> {
    [&offset.to_be_bytes(), data].concat()
}

fn read_from(parts: &[&[u8]]) -> Result<Vec<u8>, Error> {
    let mut client = Client::connect(Script::transmitting(parts), &options("", Replies::Simple))?;
    let mut data = vec![0xff; 8];
    client.read(100, &mut data).map(|()| data)
}

#[test]
fn the_pieces_of_a_structured_reply_are_put_together() {
    let hole = [&104u64.to_be_bytes()[..], &2u32.to_be_bytes()].concat();
    let data = read_from(&[
        &chunk(ChunkType::OffsetData, 0, 0, &data_at(106, b"gh")),
        &chunk(ChunkType::OffsetHole, 0, 0, &hole),
        &chunk(ChunkType::OffsetData, 0, 0, &data_at(100, b"abcd")),
        &chunk(ChunkType::None, 1, 0, &[]),
    ]);
    assert_eq!(data.unwrap(), b"abcd\0\0gh");
}

#[test]
fn a_server_that_breaks_the_protocol_is_found_out() {
    for (what, reply) in [
        ("missing data", chunk(ChunkType::OffsetData, 1, 0, &data_at(100, b"abcd"))),
        ("data before the range", chunk(ChunkType::OffsetData, 1, 0, &data_at(99, b"abcdefgh"))),
        ("data behind the range", chunk(ChunkType::OffsetData, 1, 0, &data_at(101, b"abcdefgh"))),
        ("an offset cut short", chunk(ChunkType::OffsetData, 1, 0, b"abc")),
        ("a strange chunk", chunk(ChunkType::BlockStatus, 1, 0, b"abc")),
        (
            "an endless error",
            ChunkHeader { flags: 1, kind: ChunkType::Error, cookie: 0, length: u32::MAX }.emit().to_vec(),
        ),
        ("another cookie", simple(1, 0)),
    ] {
        assert!(matches!(read_from(&[&reply]), Err(Error::Misbehaved(_))), "{what}");
    }
    assert!(matches!(read_from(&[b"not a reply at all"]), Err(Error::OutOfStep(_))));
    assert!(matches!(read_from(&[&SimpleReply { error: 0, cookie: 0 }.emit()]), Err(Error::Connection(_))));
    assert!(matches!(read_from(&[&simple(0, 5)]), Err(Error::Refused(Errno::Io))));
    let error = chunk(ChunkType::Error, 1, 0, &[0, 0, 0, 28, 0, 2, b'n', b'o']);
    assert!(matches!(read_from(&[&error]), Err(Error::Refused(Errno::NoSpc))));
}

#[test]
fn a_server_without_fixed_newstyle_is_not_talked_to() {
    let old = Script::new(&[&Greeting { flags: 0 }.emit()]);
    assert!(matches!(list(old), Err(Error::NotFixedNewstyle)));
    let info =
        option_reply(OptionType::Go, OptionReplyType::Info, &u16::from(InfoType::Export).to_be_bytes());
    let short = Script::new(&[GREETING, &info]);
    assert!(matches!(Client::connect(short, &options("", Replies::Simple)), Err(Error::Misbehaved(_))));
}

proptest! {
    #[test]
    fn no_server_makes_the_client_panic(bytes: Vec<u8>, kind: u16, flags in 0u16..2, length in 0u32..64) {
        let header = ChunkHeader { flags, kind: kind.into(), cookie: 0, length }.emit();
        let _ = list(Script::new(&[&bytes]));
        let _ = list(Script::new(&[GREETING, &bytes]));
        let _ = read_from(&[&bytes]);
        let _ = read_from(&[&header, &bytes]);
    }
}
