//! Any bytes, in any pieces.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]

mod support;

use block::{Operation, Request};
use nbd::Event;
use nbd::protocol::{CommandType, InfoRequest, InfoType, OptionType, command_flags};
use proptest::prelude::*;
use support::{CLIENT_FLAGS, SIZE, Wire, export, option, request, write};

/// A whole life: every option, every command, refused writes between good ones, and a goodbye.
fn life() -> Vec<u8> {
    let data: Vec<u8> = (0..=255).cycle().take(4096).collect();
    [
        CLIENT_FLAGS.to_vec(),
        option(OptionType::List, &[]),
        option(OptionType::Other(77), &[1; 7000]),
        option(OptionType::StructuredReply, &[]),
        option(OptionType::Go, &InfoRequest::emit(b"unknown", &[])),
        option(OptionType::Go, &InfoRequest::emit(b"a", &[InfoType::BlockSize])),
        request(CommandType::Read, 0, 1, 0, 1024),
        write(2, 512, &data),
        write(3, SIZE, &data),
        write(4, 1024, &data[..512]),
        (5..15).flat_map(|cookie| request(CommandType::Flush, 0, cookie, 0, 0)).collect(),
        write(15, 0, &data),
        write(16, 3, &data[..1000]),
        request(CommandType::Trim, command_flags::FUA, 17, 512, 512),
        request(CommandType::WriteZeroes, command_flags::NO_HOLE, 18, 512, 1024),
        request(CommandType::Cache, 0, 19, 0, 512),
        request(CommandType::Read, command_flags::DF, 20, 512, 4096),
        request(CommandType::Disconnect, 0, 0, 0, 0),
    ]
    .concat()
}

/// What a disk sees and what a client gets when the bytes come in pieces.
#[derive(PartialEq, Eq)]
struct Trace {
    disk: Vec<(Operation, Vec<u8>)>,
    replies: Vec<u8>,
}

/// The disk answers after everything was read, so that the order of replies does not depend on the pieces.
fn live(wire: &mut Wire, pieces: &[&[u8]], chunk: usize) -> Trace {
    for piece in pieces {
        wire.feed_in(piece, chunk);
    }
    let mut disk = Vec::new();
    while !wire.submitted.is_empty() {
        let mut request = wire.submitted.remove(0);
        disk.push((request.operation, written(&request)));
        if matches!(request.operation, Operation::Read { .. }) {
            request.buffer.fill(0xee);
        }
        wire.complete(request, Ok(()));
    }
    Trace { disk, replies: wire.take() }
}

fn written(request: &Request) -> Vec<u8> {
    match request.operation {
        Operation::Write { .. } => request.buffer.to_vec(),
        _ => Vec::new(),
    }
}

#[test]
fn a_life_is_the_same_wherever_its_bytes_are_cut() {
    let bytes = life();
    let whole = live(&mut Wire::new(vec![export("a")]), &[&bytes], usize::MAX);
    assert_eq!(whole.disk.len(), 18);
    for cut in 0..bytes.len() {
        let mut wire = Wire::new(vec![export("a")]);
        assert!(live(&mut wire, &[&bytes[..cut], &bytes[cut..]], usize::MAX) == whole, "cut at {cut}");
        assert_eq!(wire.ended, Some(nbd::Reason::Finished), "cut at {cut}");
    }
}

#[test]
fn a_life_is_the_same_in_pieces_of_any_size() {
    let bytes = life();
    let whole = live(&mut Wire::new(vec![export("a")]), &[&bytes], usize::MAX);
    for chunk in (1..100).chain([512, 4096, 5000]) {
        let trace = live(&mut Wire::new(vec![export("a")]), &[&bytes], chunk);
        assert!(trace == whole, "pieces of {chunk}");
    }
}

#[test]
fn replies_are_the_same_however_few_bytes_the_client_takes() {
    let requests: Vec<u8> = (0..5).flat_map(|cookie| request(CommandType::Read, 0, cookie, 0, 512)).collect();
    let mut whole = Wire::structured(export("a"));
    whole.feed(&requests);
    whole.complete_all();
    for most in 1..600 {
        let mut wire = Wire::structured(export("a"));
        wire.feed(&requests);
        for request in std::mem::take(&mut wire.submitted) {
            wire.handle_unsent(Event::Completed(request, Ok(())));
        }
        while wire.send_some(most) > 0 {}
        assert!(wire.sent == whole.sent, "{most} at a time");
    }
}

/// A small generator of numbers, good enough to make garbage.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 20).unwrap()
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next().to_le_bytes()[0];
        }
    }
}

/// Garbage from the first byte on, and after each step of the handshake: a million streams.
#[test]
fn a_million_streams_of_garbage_never_panic() {
    let mut noise = Noise(0x5eed);
    let go = option(OptionType::Go, &InfoRequest::emit(b"a", &[]));
    let exports = [export("a")];
    let mut bytes = [0; 64];
    for round in 0..1_000_000 {
        let mut wire = Wire::new(exports.to_vec());
        if round % 4 != 0 {
            wire.feed(&CLIENT_FLAGS);
        }
        if round % 16 == 3 {
            wire.feed(&go);
        }
        let length = noise.next() % bytes.len() + 1;
        noise.fill(&mut bytes[..length]);
        // Right magics, so that what follows them is looked at.
        match round % 16 {
            3 => bytes[..4].copy_from_slice(&[0x25, 0x60, 0x95, 0x13]),
            5 | 9 => bytes[..11].copy_from_slice(b"IHAVEOPT\0\0\0"),
            _ => {}
        }
        wire.feed_in(&bytes[..length], noise.next() % 40 + 1);
        wire.complete_all();
    }
}

/// Good streams with some bytes changed go far, and get everywhere.
#[test]
fn a_life_with_any_damage_never_panics() {
    let mut noise = Noise(0xda3a9e);
    let good = life();
    for _ in 0..2_000 {
        let mut bytes = good.clone();
        for _ in 0..noise.next() % 4 + 1 {
            let at = noise.next() % bytes.len();
            noise.fill(&mut bytes[at..at + 1]);
        }
        let mut wire = Wire::new(vec![export("a")]);
        live(&mut wire, &[&bytes], noise.next() % 2000 + 1);
        wire.handle(Event::Closed);
        wire.complete_all();
        assert!(wire.session.is_idle());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a client asks, it gets exactly one reply to each request, of the right length.
    #[test]
    fn every_request_gets_exactly_one_reply(
        requests in prop::collection::vec((0u16..8, 0u16..4, 0u64..2100, 0u32..16, any::<bool>()), 1..100),
        chunk in 1usize..5000,
    ) {
        let mut wire = Wire::transmitting(export("a"));
        let mut bytes = Vec::new();
        for (cookie, &(command, flags, sector, sectors, odd)) in requests.iter().enumerate() {
            let command = match CommandType::from(command) {
                CommandType::Disconnect => CommandType::Other(1000),
                command => command,
            };
            let length = sectors * 512 + u32::from(odd);
            bytes.extend(request(command, flags, cookie as u64, sector * 512, length));
            if command == CommandType::Write {
                bytes.extend(vec![0x25; length as usize]);
            }
        }
        let mut at = 0;
        while at < bytes.len() {
            let taken = wire.feed_in(&bytes[at..], chunk);
            wire.complete_all();
            at += taken;
        }
        wire.complete_all();
        prop_assert_eq!(wire.ended, None);
        let mut answered = vec![false; requests.len()];
        let mut replies = &wire.sent[..];
        while let Some((reply, rest)) = replies.split_first_chunk() {
            let reply = nbd::protocol::SimpleReply::parse(reply).unwrap();
            let index = usize::try_from(reply.cookie).unwrap();
            prop_assert!(!std::mem::replace(&mut answered[index], true), "a second reply to {}", index);
            let (command, _, _, sectors, odd) = requests[index];
            let data = if command == 0 && reply.error == 0 { sectors * 512 + u32::from(odd) } else { 0 };
            replies = &rest[data as usize..];
        }
        prop_assert!(answered.into_iter().all(|answered| answered));
    }
}
