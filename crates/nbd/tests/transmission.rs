//! Requests and replies, byte by byte.

mod support;

use block::{
    Access, Buffer, Durability, Effort, Error, Geometry, Operation, Provisioning, Request, Support, Tag,
    WriteCache,
};
use clock::Duration;
use nbd::protocol::{CommandType, WrongMagic, command_flags as flags};
use nbd::{Count, Event, Export, IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX, LINGER_TIMEOUT, Reason};
use support::{SIZE, Wire, export, request, simple, write};

const EPERM: u32 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;
const EOVERFLOW: u32 = 75;
const ENOTSUP: u32 = 95;
const ESHUTDOWN: u32 = 108;

const FUA: u16 = flags::FUA;

fn with(geometry: impl FnOnce(&mut Geometry)) -> Export {
    let mut export = export("a");
    geometry(&mut export.geometry);
    export
}

/// What a session answers to a request without asking the disk.
fn answer(wire: &mut Wire, bytes: &[u8]) -> Vec<u8> {
    assert_eq!(wire.feed(bytes), bytes.len());
    assert!(wire.submitted.is_empty(), "the disk is not asked");
    wire.take()
}

#[test]
fn a_read_is_answered_with_the_bytes_of_its_buffer() {
    let mut wire = Wire::transmitting(export("a"));
    wire.feed(&[
        0x25, 0x60, 0x95, 0x13, // request magic
        0, 0, // no flags
        0, 0, // READ
        1, 2, 3, 4, 5, 6, 7, 8, // cookie
        0, 0, 0, 0, 0, 0, 0x10, 0, // at 4096
        0, 0, 2, 0, // 512 bytes
    ]);
    let mut request = wire.request();
    assert_eq!(request.operation, Operation::Read { offset: 4096, length: 512 });
    assert_eq!(request.tag.0 >> 32, 7, "the tag names the connection");
    assert_eq!(wire.take(), []);
    request.buffer.fill(0xab);
    wire.complete(request, Ok(()));
    let mut expected = vec![
        0x67, 0x44, 0x66, 0x98, // simple reply magic
        0, 0, 0, 0, // no error
        1, 2, 3, 4, 5, 6, 7, 8, // cookie
    ];
    expected.extend([0xab; 512]);
    assert_eq!(wire.take(), expected);
}

#[test]
fn a_structured_read_is_one_chunk_of_data_and_the_last() {
    let mut wire = Wire::structured(export("a"));
    wire.feed(&request(CommandType::Read, flags::DF, 9, 4096, 512));
    let mut request = wire.request();
    request.buffer.fill(0xab);
    wire.complete(request, Ok(()));
    let mut expected = vec![
        0x66, 0x8e, 0x33, 0xef, // structured reply magic
        0, 1, // done
        0, 1, // data at an offset
        0, 0, 0, 0, 0, 0, 0, 9, // cookie
        0, 0, 2, 8, // 8 bytes of offset, 512 of data
        0, 0, 0, 0, 0, 0, 0x10, 0, // at 4096
    ];
    expected.extend([0xab; 512]);
    assert_eq!(wire.take(), expected);
}

#[test]
fn a_structured_read_that_fails_is_an_error_chunk() {
    let mut wire = Wire::structured(export("a"));
    wire.feed(&request(CommandType::Read, 0, 9, 0, 512));
    let request = wire.request();
    wire.complete(request, Err(Error::Io));
    let expected = [
        0x66, 0x8e, 0x33, 0xef, // structured reply magic
        0, 1, // done
        0x80, 1, // error
        0, 0, 0, 0, 0, 0, 0, 9, // cookie
        0, 0, 0, 6, // bytes of payload
        0, 0, 0, 5, // EIO
        0, 0, // without a message
    ];
    assert_eq!(wire.take(), expected);
}

#[test]
fn a_structured_read_of_nothing_is_a_chunk_of_nothing() {
    let mut wire = Wire::structured(export("a"));
    let expected = [0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0];
    assert_eq!(answer(&mut wire, &request(CommandType::Read, 0, 9, 0, 0)), expected);
}

#[test]
fn everything_but_a_read_has_simple_replies_even_if_structured_ones_were_agreed_on() {
    let mut wire = Wire::structured(export("a"));
    wire.feed(&request(CommandType::Flush, 0, 3, 0, 0));
    let flush = wire.request();
    assert_eq!(flush.operation, Operation::Flush);
    wire.complete(flush, Ok(()));
    assert_eq!(wire.take(), simple(3, 0));
    assert_eq!(answer(&mut wire, &request(CommandType::Trim, 0, 4, 1, 1)), simple(4, EINVAL));
}

#[test]
fn a_write_carries_its_payload_and_durability_to_the_disk() {
    let mut wire = Wire::transmitting(export("a"));
    let data: Vec<u8> = (0..=255).cycle().take(1024).collect();
    wire.feed(&request(CommandType::Write, FUA, 1, 512, 1024));
    assert!(wire.submitted.is_empty(), "a write waits for its payload");
    wire.feed(&data);
    let write = wire.request();
    let durability = Durability::ForceUnitAccess;
    assert_eq!(write.operation, Operation::Write { offset: 512, length: 1024, durability });
    assert_eq!(write.buffer[..], data);
    wire.complete(write, Ok(()));
    assert_eq!(wire.take(), simple(1, 0));
}

#[test]
fn replies_come_in_the_order_of_completions() {
    let mut wire = Wire::transmitting(export("a"));
    for cookie in 0..3 {
        wire.feed(&request(CommandType::Flush, 0, cookie, 0, 0));
    }
    for _ in 0..3 {
        let last = wire.submitted.pop().unwrap();
        wire.complete(last, Ok(()));
    }
    assert_eq!(wire.take(), [simple(2, 0), simple(1, 0), simple(0, 0)].concat());
}

#[test]
fn flags_of_write_zeroes_become_words() {
    let mut wire = Wire::transmitting(export("a"));
    let all = FUA | flags::NO_HOLE | flags::FAST_ZERO;
    for (bits, durability, provisioning, effort) in [
        (0, Durability::Volatile, Provisioning::MayDeallocate, Effort::Any),
        (all, Durability::ForceUnitAccess, Provisioning::KeepAllocated, Effort::FastOnly),
    ] {
        wire.feed(&request(CommandType::WriteZeroes, bits, 1, 0, 512));
        let operation = Operation::WriteZeroes { offset: 0, length: 512, durability, provisioning, effort };
        assert_eq!(wire.request().operation, operation);
    }
}

#[test]
fn a_durable_trim_is_a_discard_and_a_flush_with_one_reply() {
    let mut wire = Wire::transmitting(export("a"));
    wire.feed(&request(CommandType::Trim, FUA, 1, 0, 512));
    let discard = wire.request();
    assert_eq!(discard.operation, Operation::Discard { offset: 0, length: 512 });
    wire.complete(discard, Ok(()));
    assert_eq!(wire.take(), []);
    let flush = wire.request();
    assert_eq!(flush.operation, Operation::Flush);
    wire.complete(flush, Ok(()));
    assert_eq!(wire.take(), simple(1, 0));
}

#[test]
fn a_durable_trim_needs_no_flush_without_a_write_cache_or_after_an_error() {
    let mut wire = Wire::transmitting(with(|geometry| geometry.write_cache = WriteCache::Through));
    wire.feed(&request(CommandType::Trim, FUA, 1, 0, 512));
    wire.complete_all();
    assert_eq!(wire.take(), simple(1, 0));

    let mut wire = Wire::transmitting(export("a"));
    wire.feed(&request(CommandType::Trim, FUA, 1, 0, 512));
    let discard = wire.request();
    wire.complete(discard, Err(Error::Io));
    assert_eq!(wire.take(), simple(1, EIO));
    assert!(wire.submitted.is_empty());
}

#[test]
fn lengths_that_need_no_payload_may_exceed_the_longest_payload() {
    let size = 8 << 30;
    let mut wire = Wire::transmitting(with(|geometry| geometry.size = size));
    let length = 3 << 30;
    for command in [CommandType::Trim, CommandType::WriteZeroes] {
        wire.feed(&request(command, 0, 1, 0, length));
        assert_eq!(wire.request().operation.extent(), Some((0, length)));
    }
    assert_eq!(answer(&mut wire, &request(CommandType::Cache, 0, 1, 0, length)), simple(1, 0));
}

#[test]
fn what_is_wrong_with_a_request_decides_its_error() {
    use CommandType::{BlockStatus, Cache, Flush, Other, Read, Trim, WriteZeroes};
    let mut wire = Wire::transmitting(export("a"));
    for (bytes, error) in [
        (request(Read, 0, 1, SIZE, 512), EINVAL),
        (request(Read, 0, 1, SIZE - 512, 1024), EINVAL),
        (request(Read, 0, 1, u64::MAX - 511, 512), EINVAL),
        (request(Read, 0, 1, 1, 512), EINVAL),
        (request(Read, 0, 1, 0, 511), EINVAL),
        (request(Read, 0, 1, 0, (32 << 20) + 512), EINVAL),
        (request(Read, flags::DF, 1, 0, 512), EINVAL),
        (request(Read, flags::NO_HOLE, 1, 0, 512), EINVAL),
        (write(1, SIZE, &[0; 512]), ENOSPC),
        (write(1, SIZE - 512, &[0; 1024]), ENOSPC),
        (write(1, 1, &[0; 512]), EINVAL),
        (write(1, 0, &[0; 100]), EINVAL),
        (request(Flush, flags::DF, 1, 0, 0), EINVAL),
        (request(Trim, 0, 1, SIZE, 512), EINVAL),
        (request(Trim, flags::FAST_ZERO, 1, 0, 512), EINVAL),
        (request(WriteZeroes, 0, 1, SIZE, 512), ENOSPC),
        (request(WriteZeroes, 1 << 5, 1, 0, 512), EINVAL),
        (request(Cache, 0, 1, SIZE, 512), EINVAL),
        (request(BlockStatus, 0, 1, 0, 512), EINVAL),
        (request(Other(99), 0, 1, 0, 512), EINVAL),
    ] {
        assert_eq!(answer(&mut wire, &bytes), simple(1, error), "{:?}", &bytes[..28]);
    }
}

#[test]
fn durability_may_be_asked_of_every_command() {
    let mut wire = Wire::transmitting(export("a"));
    for command in [CommandType::Read, CommandType::Flush] {
        wire.feed(&request(command, FUA, 1, 0, 0));
        wire.complete_all();
        assert_eq!(wire.take(), simple(1, 0), "{command:?}");
    }
    assert_eq!(answer(&mut wire, &request(CommandType::Cache, FUA, 1, 0, 512)), simple(1, 0));
}

#[test]
fn a_structured_read_that_is_too_long_says_so() {
    let mut wire = Wire::structured(export("a"));
    let reply = answer(&mut wire, &request(CommandType::Read, 0, 1, 0, (32 << 20) + 512));
    assert_eq!(reply[20..], [0, 0, 0, 75, 0, 0]);
    assert_eq!(EOVERFLOW, 75);
}

#[test]
fn a_request_for_nothing_succeeds_within_the_disk() {
    let mut wire = Wire::transmitting(export("a"));
    for command in [CommandType::Read, CommandType::Write, CommandType::Trim, CommandType::WriteZeroes] {
        assert_eq!(answer(&mut wire, &request(command, 0, 1, SIZE, 0)), simple(1, 0), "{command:?}");
    }
    assert_eq!(answer(&mut wire, &request(CommandType::Write, 0, 1, SIZE + 512, 0)), simple(1, ENOSPC));
}

#[test]
fn a_read_only_disk_permits_no_change() {
    let mut wire = Wire::transmitting(with(|geometry| geometry.access = Access::ReadOnly));
    assert_eq!(answer(&mut wire, &write(1, 0, &[0; 512])), simple(1, EPERM));
    for command in [CommandType::Trim, CommandType::WriteZeroes] {
        assert_eq!(answer(&mut wire, &request(command, 0, 1, 0, 512)), simple(1, EPERM));
    }
    wire.feed(&request(CommandType::Read, 0, 1, 0, 512));
    wire.request();
}

#[test]
fn what_was_not_offered_is_invalid() {
    let mut wire = Wire::transmitting(with(|geometry| {
        geometry.discard = Support::No;
        geometry.write_zeroes = Support::No;
    }));
    for command in [CommandType::Trim, CommandType::WriteZeroes] {
        assert_eq!(answer(&mut wire, &request(command, 0, 1, 0, 512)), simple(1, EINVAL));
    }
}

#[test]
fn errors_of_the_disk_become_the_numbers_of_the_protocol() {
    let mut wire = Wire::transmitting(export("a"));
    for (error, number) in [
        (Error::Io, EIO),
        (Error::Invalid, EINVAL),
        (Error::NoSpace, ENOSPC),
        (Error::NotSupported, EINVAL),
        (Error::ReadOnly, EPERM),
        (Error::ReservationConflict, EPERM),
        (Error::Shutdown, ESHUTDOWN),
    ] {
        wire.feed(&write(1, 0, &[0; 512]));
        let request = wire.request();
        wire.complete(request, Err(error));
        assert_eq!(wire.take(), simple(1, number), "{error:?}");
    }
    wire.feed(&request(CommandType::WriteZeroes, flags::FAST_ZERO, 1, 0, 512));
    let request = wire.request();
    wire.complete(request, Err(Error::NotSupported));
    assert_eq!(wire.take(), simple(1, ENOTSUP), "only a fast zero may be told that it is not supported");
}

#[test]
fn the_payload_of_a_refused_write_is_skipped_and_nothing_gets_out_of_step() {
    let mut wire = Wire::transmitting(export("a"));
    for length in [1, 511, 65_537, 1 << 20, 32 << 20] {
        // A payload full of request headers: whoever decodes it answers them.
        let payload: Vec<u8> =
            request(CommandType::Flush, 0, 99, 0, 0).into_iter().cycle().take(length).collect();
        let mut bytes = write(1, SIZE, &payload);
        bytes.extend(request(CommandType::Cache, 0, 2, 0, 0));
        let error = if length % 512 == 0 { ENOSPC } else { EINVAL };
        assert_eq!(answer(&mut wire, &bytes), [simple(1, error), simple(2, 0)].concat());
    }
}

#[test]
fn a_write_that_no_server_has_to_take_ends_the_session() {
    let mut wire = Wire::transmitting(export("a"));
    wire.feed(&request(CommandType::Write, 0, 1, 0, (32 << 20) + 1));
    assert_eq!(wire.ended, Some(Reason::WriteTooLong((32 << 20) + 1)));
}

#[test]
fn a_client_that_is_out_of_step_is_cut_off() {
    let mut wire = Wire::transmitting(export("a"));
    wire.feed(&[0; 28]);
    let magic = WrongMagic { expected: 0x2560_9513, got: 0 };
    assert_eq!(wire.ended, Some(Reason::OutOfStep(magic)));
    assert!(wire.session.receive_into().iter().all(|slice| slice.is_empty()));
}

#[test]
fn no_more_requests_are_read_than_may_be_in_flight() {
    let mut wire = Wire::transmitting(export("a"));
    let requests: Vec<u8> =
        (0..1000).flat_map(|cookie| request(CommandType::Flush, 0, cookie, 0, 0)).collect();
    let taken = wire.feed(&requests);
    assert_eq!(wire.submitted.len(), IN_FLIGHT_MAX as usize);
    assert!(taken <= (IN_FLIGHT_MAX as usize) * 28 + 4096, "what is read ahead is bounded");

    // A completion alone makes no room: the reply still has to be taken.
    let first = wire.submitted.remove(0);
    wire.handle_unsent(Event::Completed(first, Ok(())));
    assert_eq!(wire.submitted.len(), IN_FLIGHT_MAX as usize - 1);
    wire.turn();
    assert_eq!(wire.submitted.len(), IN_FLIGHT_MAX as usize, "a header that was read ahead takes the room");

    let mut at = taken;
    while at < requests.len() || !wire.submitted.is_empty() {
        wire.complete_all();
        at += wire.feed(&requests[at..]);
    }
    assert_eq!(wire.take().len(), 1000 * 16);
    assert_eq!(wire.session.metrics().flushes, Count { done: 1000, bytes: 0, failed: 0 });
}

#[test]
fn no_more_payload_is_taken_in_than_may_be_in_flight() {
    let mut wire = Wire::transmitting(with(|geometry| geometry.size = 1 << 30));
    let requests: Vec<u8> =
        (0..20).flat_map(|cookie| request(CommandType::Read, 0, cookie, 0, 10 << 20)).collect();
    wire.feed(&requests);
    let bytes: usize = wire.submitted.iter().map(|request| request.buffer.len()).sum();
    assert_eq!(bytes, 60 << 20);
    assert!(bytes + (10 << 20) > IN_FLIGHT_BYTES_MAX);
    assert!(wire.session.receive_into().iter().all(|slice| slice.is_empty()));

    let first = wire.submitted.remove(0);
    wire.complete(first, Ok(()));
    assert_eq!(wire.submitted.len(), 6, "the one that waited follows");
}

#[test]
fn a_client_that_sends_headers_only_is_read_ahead_and_one_that_writes_is_not() {
    let mut wire = Wire::transmitting(export("a"));
    assert_eq!(wire.session.receive_into()[1].len(), 28);
    for cookie in 0..4 {
        wire.feed(&request(CommandType::Cache, 0, cookie, 0, 0));
    }
    assert_eq!(wire.session.receive_into()[1].len(), 4096);
    wire.feed(&request(CommandType::Write, 0, 4, 0, 512));
    let room = wire.session.receive_into().map(|slice| slice.len());
    assert_eq!(room, [512, 28], "a payload and exactly one header");
    wire.feed(&[0; 512]);
    assert_eq!(wire.session.receive_into()[1].len(), 28);
}

#[test]
fn goodbye_waits_for_what_is_in_flight_and_reads_nothing_more() {
    let mut wire = Wire::transmitting(export("a"));
    wire.feed(&request(CommandType::Flush, 0, 1, 0, 0));
    wire.feed(&request(CommandType::Disconnect, 0, 0, 0, 0));
    assert_eq!(wire.ended, None);
    assert_eq!(wire.feed(&request(CommandType::Flush, 0, 2, 0, 0)), 0);
    let request = wire.request();
    wire.complete(request, Ok(()));
    assert_eq!(wire.take(), simple(1, 0));
    assert_eq!(wire.ended, Some(Reason::Finished));
}

#[test]
fn goodbye_without_anything_in_flight_ends_at_once() {
    let mut wire = Wire::transmitting(export("a"));
    wire.feed(&request(CommandType::Disconnect, 0, 0, 0, 0));
    assert_eq!(wire.ended, Some(Reason::Finished));
}

#[test]
fn shutdown_answers_what_is_in_flight_and_refuses_the_rest() {
    let mut wire = Wire::transmitting(export("a"));
    wire.feed(&request(CommandType::Flush, 0, 1, 0, 0));
    wire.feed(&write(2, 0, &[7; 512])[..100]);
    wire.handle(Event::Shutdown);
    assert_eq!(wire.ended, None);
    wire.feed(&[7; 512 + 28 - 100]);
    wire.feed(&write(3, 0, &[7; 512]));
    assert_eq!(wire.take(), [simple(2, ESHUTDOWN), simple(3, ESHUTDOWN)].concat());
    let request = wire.request();
    wire.complete(request, Ok(()));
    assert_eq!(wire.take(), simple(1, 0));
    assert_eq!(wire.ended, Some(Reason::Shutdown));
}

#[test]
fn shutdown_of_an_idle_session_is_immediate_even_with_half_a_write() {
    let mut wire = Wire::transmitting(export("a"));
    wire.feed(&write(2, 0, &[7; 512])[..100]);
    wire.handle(Event::Shutdown);
    assert_eq!(wire.ended, Some(Reason::Shutdown));
}

#[test]
fn a_client_that_takes_no_last_replies_is_cut_off() {
    let mut wire = Wire::transmitting(export("a"));
    wire.feed(&request(CommandType::Flush, 0, 1, 0, 0));
    wire.feed(&request(CommandType::Disconnect, 0, 0, 0, 0));
    let request = wire.request();
    wire.wait(LINGER_TIMEOUT);
    assert_eq!(wire.session.poll_timeout(), None, "the disk may take its time");
    wire.handle_unsent(Event::Completed(request, Ok(())));
    wire.wait(LINGER_TIMEOUT - Duration::from_millis(1));
    assert_eq!(wire.send_some(1), 1, "progress starts the wait again");
    wire.wait(LINGER_TIMEOUT - Duration::from_millis(1));
    assert_eq!(wire.ended, None);
    wire.wait(Duration::from_millis(1));
    assert_eq!(wire.ended, Some(Reason::LingerTimeout));
}

#[test]
fn after_a_broken_connection_requests_come_back_and_nothing_is_sent() {
    let mut wire = Wire::transmitting(export("a"));
    wire.feed(&request(CommandType::Trim, FUA, 1, 0, 512));
    wire.feed(&request(CommandType::Read, 0, 2, 0, 512));
    wire.handle(Event::Closed);
    assert_eq!(wire.ended, Some(Reason::Closed));
    assert!(!wire.session.is_idle());
    wire.complete_all();
    assert!(wire.session.is_idle());
    assert_eq!(wire.take(), []);
}

#[test]
fn a_resize_changes_the_limits_of_later_requests() {
    let mut wire = Wire::transmitting(export("a"));
    let grown = Geometry { size: 2 * SIZE, ..export("a").geometry };
    wire.handle(Event::Resized { export: "other".into(), geometry: grown });
    assert_eq!(answer(&mut wire, &request(CommandType::Read, 0, 1, SIZE, 512)), simple(1, EINVAL));
    wire.handle(Event::Resized { export: "a".into(), geometry: grown });
    wire.feed(&request(CommandType::Read, 0, 1, SIZE, 512));
    wire.request();
    let shrunk = Geometry { size: 512, ..grown };
    wire.handle(Event::Resized { export: "a".into(), geometry: shrunk });
    assert_eq!(answer(&mut wire, &write(1, 512, &[0; 512])), simple(1, ENOSPC));
}

#[test]
fn memory_of_a_request_serves_the_next_one() {
    let mut wire = Wire::transmitting(export("a"));
    wire.feed(&request(CommandType::Read, 0, 1, 0, 4096));
    let first = wire.request();
    let memory = first.buffer.as_ptr();
    wire.complete(first, Ok(()));
    wire.feed(&write(2, 0, &[0; 4096]));
    assert_eq!(wire.request().buffer.as_ptr(), memory);
}

#[test]
fn a_session_counts_what_it_did() {
    let mut wire = Wire::transmitting(export("a"));
    wire.feed(&request(CommandType::Read, 0, 1, 0, 4096));
    wire.feed(&write(2, 0, &[0; 512]));
    wire.complete_all();
    wire.feed(&write(3, SIZE, &[0; 512]));
    wire.feed(&request(CommandType::Cache, 0, 4, 0, 1024));
    wire.feed(&request(CommandType::Other(99), 0, 5, 0, 0));
    let metrics = wire.session.metrics();
    assert_eq!(metrics.reads, Count { done: 1, bytes: 4096, failed: 0 });
    assert_eq!(metrics.writes, Count { done: 1, bytes: 512, failed: 1 });
    assert_eq!(metrics.caches, Count { done: 1, bytes: 1024, failed: 0 });
    assert_eq!(metrics.unknown, Count { done: 0, bytes: 0, failed: 1 });
}

#[test]
#[should_panic(expected = "a request comes back once")]
#[cfg(debug_assertions)]
fn a_completion_that_was_never_asked_for_is_a_mistake_of_the_driver() {
    let mut wire = Wire::transmitting(export("a"));
    let stranger = Request { tag: Tag(1 << 32), operation: Operation::Flush, buffer: Buffer::empty() };
    wire.complete(stranger, Ok(()));
}
