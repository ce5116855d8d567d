//! The handshake, byte by byte.

mod support;

use block::{Access, Geometry, Rotation};
use clock::Duration;
use nbd::protocol::{InfoRequest, InfoType, OptionReplyType, OptionType, WrongMagic};
use nbd::{Event, Export, LINGER_TIMEOUT, NEGOTIATION_TIMEOUT, Reason};
use support::{CLIENT_FLAGS, GREETING, Wire, export, option, option_reply};

/// 1 MiB, then: has flags, flush, FUA, trim, write zeroes, cache, fast zero.
const BASICS: [u8; 10] = [0, 0, 0, 0, 0, 0x10, 0, 0, 0x0c, 0x6d];

fn with_large_blocks(name: &str) -> Export {
    let export = export(name);
    Export { geometry: Geometry { block_size: 4096, ..export.geometry }, ..export }
}

#[test]
fn the_server_greets_first_with_fixed_newstyle() {
    let mut wire = Wire::new(vec![export("a")]);
    assert_eq!(wire.take(), GREETING);
}

#[test]
fn go_describes_the_export_and_starts_the_transmission() {
    let mut wire = Wire::greeted(vec![export("a"), export("b")]);
    wire.feed(&[
        b'I', b'H', b'A', b'V', b'E', b'O', b'P', b'T', // option magic
        0, 0, 0, 7, // GO
        0, 0, 0, 9, // bytes of data
        0, 0, 0, 1, b'b', // the name
        0, 1, 0, 3, // one type of information: block size
    ]);
    #[rustfmt::skip]
    let expected = [
        0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9, // reply magic
        0, 0, 0, 7, // to GO
        0, 0, 0, 3, // information
        0, 0, 0, 12, // bytes of data
        0, 0, // about the export:
        0, 0, 0, 0, 0, 0x10, 0, 0, // 1 MiB
        0x0c, 0x6d, // transmission flags
        0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9, //
        0, 0, 0, 7, //
        0, 0, 0, 3, //
        0, 0, 0, 14, //
        0, 3, // block sizes:
        0, 0, 2, 0, // at least 512
        0, 0, 0x10, 0, // better 4096
        2, 0, 0, 0, // at most 32 MiB
        0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9, //
        0, 0, 0, 7, //
        0, 0, 0, 1, // acknowledged
        0, 0, 0, 0, //
    ];
    assert_eq!(wire.take(), expected);
    assert_eq!(wire.attached, Some(1));
}

#[test]
fn an_old_client_chooses_by_name_and_gets_its_124_zeroes() {
    let mut wire = Wire::new(vec![export("a")]);
    wire.take();
    wire.feed(&[0, 0, 0, 0]);
    wire.feed(&option(OptionType::ExportName, b"a"));
    let mut expected = BASICS.to_vec();
    expected.extend([0; 124]);
    assert_eq!(wire.take(), expected);
    assert_eq!(wire.attached, Some(0));
}

#[test]
fn no_name_is_the_first_export_and_the_zeroes_can_be_left_out() {
    let mut wire = Wire::greeted(vec![export("a"), export("b")]);
    wire.feed(&option(OptionType::ExportName, b""));
    assert_eq!(wire.take(), BASICS);
    assert_eq!(wire.attached, Some(0));
}

#[test]
fn an_unknown_name_is_an_error_for_go_and_the_end_for_export_name() {
    let mut wire = Wire::greeted(vec![export("a")]);
    wire.feed(&option(OptionType::Go, &InfoRequest::emit(b"x", &[])));
    assert_eq!(wire.take(), option_reply(OptionType::Go, OptionReplyType::Unknown, &[]));
    assert_eq!(wire.ended, None);
    wire.feed(&option(OptionType::ExportName, b"x"));
    assert_eq!(wire.ended, Some(Reason::UnknownExport));
}

#[test]
fn without_exports_even_the_default_is_unknown() {
    let mut wire = Wire::greeted(vec![]);
    wire.feed(&option(OptionType::Go, &InfoRequest::emit(b"", &[])));
    assert_eq!(wire.take(), option_reply(OptionType::Go, OptionReplyType::Unknown, &[]));
}

#[test]
fn list_names_every_export_with_its_description() {
    let mut wire = Wire::greeted(vec![export("a"), export("bc")]);
    wire.feed(&option(OptionType::List, &[]));
    let mut expected = option_reply(OptionType::List, OptionReplyType::Server, b"\0\0\0\x01athe disk a");
    expected.extend(option_reply(OptionType::List, OptionReplyType::Server, b"\0\0\0\x02bcthe disk bc"));
    expected.extend(option_reply(OptionType::List, OptionReplyType::Ack, &[]));
    assert_eq!(wire.take(), expected);
}

#[test]
fn info_tells_names_to_those_who_ask_and_stays_in_the_handshake() {
    let mut wire = Wire::greeted(vec![export("a")]);
    let wanted = [InfoType::Name, InfoType::Description, InfoType::Other(99)];
    wire.feed(&option(OptionType::Info, &InfoRequest::emit(b"", &wanted)));
    let mut basics = vec![0, 0];
    basics.extend(BASICS);
    let info = |data: &[u8]| option_reply(OptionType::Info, OptionReplyType::Info, data);
    let mut expected = info(&basics);
    expected.extend(info(b"\0\x01a"));
    expected.extend(info(b"\0\x02the disk a"));
    expected.extend(info(&[0, 3, 0, 0, 2, 0, 0, 0, 0x10, 0, 2, 0, 0, 0]));
    expected.extend(option_reply(OptionType::Info, OptionReplyType::Ack, &[]));
    assert_eq!(wire.take(), expected);
    assert_eq!(wire.attached, None);
}

#[test]
fn blocks_above_512_bytes_require_a_client_that_asks_for_them() {
    let mut wire = Wire::greeted(vec![with_large_blocks("a")]);
    wire.feed(&option(OptionType::Go, &InfoRequest::emit(b"a", &[])));
    let refusal = option_reply(OptionType::Go, OptionReplyType::BlockSizeRequired, &[]);
    let reply = wire.take();
    assert!(reply.ends_with(&refusal), "the refusal follows the description");
    let sizes = option_reply(
        OptionType::Go,
        OptionReplyType::Info,
        &[0, 3, 0, 0, 0x10, 0, 0, 0, 0x10, 0, 2, 0, 0, 0],
    );
    assert!(reply[..reply.len() - refusal.len()].ends_with(&sizes), "the block sizes come unasked");
    assert_eq!(wire.attached, None);

    wire.feed(&option(OptionType::Go, &InfoRequest::emit(b"a", &[InfoType::BlockSize])));
    assert!(wire.take().ends_with(&option_reply(OptionType::Go, OptionReplyType::Ack, &[])));
    assert_eq!(wire.attached, Some(0));
}

#[test]
fn asking_for_the_block_size_with_info_is_enough() {
    let mut wire = Wire::greeted(vec![with_large_blocks("a")]);
    wire.feed(&option(OptionType::Info, &InfoRequest::emit(b"a", &[InfoType::BlockSize])));
    wire.feed(&option(OptionType::Go, &InfoRequest::emit(b"a", &[])));
    assert_eq!(wire.attached, Some(0));
}

#[test]
fn structured_replies_are_agreed_on_and_bring_the_do_not_fragment_flag() {
    let mut wire = Wire::greeted(vec![export("a")]);
    wire.feed(&option(OptionType::StructuredReply, &[]));
    assert_eq!(wire.take(), option_reply(OptionType::StructuredReply, OptionReplyType::Ack, &[]));
    wire.feed(&option(OptionType::ExportName, b"a"));
    assert_eq!(wire.take()[8..], [0x0c, 0xed]);
}

#[test]
fn flags_tell_what_the_disk_can_do() {
    let read_only = Export {
        geometry: Geometry { access: Access::ReadOnly, ..export("a").geometry },
        multi_conn: true,
        ..export("a")
    };
    let mut wire = Wire::greeted(vec![read_only]);
    wire.feed(&option(OptionType::ExportName, b"a"));
    // Has flags, read only, flush, FUA; multi-conn, cache.
    assert_eq!(wire.take()[8..], [0x05, 0x0f]);
}

#[test]
fn only_a_disk_that_is_known_to_turn_is_said_to() {
    for (rotation, flags) in [
        (Rotation::Unknown, [0x0c, 0x6d]),
        (Rotation::Solid, [0x0c, 0x6d]),
        (Rotation::PerMinute(7200), [0x0c, 0x7d]),
    ] {
        let disk = Export { geometry: Geometry { rotation, ..export("a").geometry }, ..export("a") };
        let mut wire = Wire::greeted(vec![disk]);
        wire.feed(&option(OptionType::ExportName, b"a"));
        assert_eq!(wire.take()[8..], flags, "{rotation}");
    }
}

#[test]
fn what_is_not_supported_is_refused_and_the_handshake_goes_on() {
    let mut wire = Wire::greeted(vec![export("a")]);
    for kind in [
        OptionType::StartTls,
        OptionType::PeekExport,
        OptionType::ListMetaContext,
        OptionType::SetMetaContext,
        OptionType::ExtendedHeaders,
        OptionType::Other(77),
    ] {
        wire.feed(&option(kind, b"whatever"));
        assert_eq!(wire.take(), option_reply(kind, OptionReplyType::Unsupported, &[]));
    }
    wire.feed(&option(OptionType::ExportName, b"a"));
    assert_eq!(wire.attached, Some(0));
}

#[test]
fn data_that_contradicts_itself_is_invalid() {
    let mut wire = Wire::greeted(vec![export("a")]);
    for (kind, data) in [
        (OptionType::List, &b"x"[..]),
        (OptionType::StructuredReply, b"x"),
        (OptionType::Go, b""),
        (OptionType::Go, b"\0\0\0\x05a\0\0"),
        (OptionType::Info, b"\0\0\0\x01a\0\x01"),
        (OptionType::Info, b"\0\0\0\x01a\0\0\0"),
        (OptionType::Info, b"\xff\xff\xff\xffa\0\0\0"),
    ] {
        wire.feed(&option(kind, data));
        assert_eq!(wire.take(), option_reply(kind, OptionReplyType::Invalid, &[]), "{kind:?} {data:?}");
    }
}

#[test]
fn option_data_that_is_too_long_is_skipped_without_being_kept() {
    let mut wire = Wire::greeted(vec![export("a")]);
    wire.feed(&option(OptionType::Go, &vec![0; 100_000]));
    assert_eq!(wire.take(), option_reply(OptionType::Go, OptionReplyType::TooBig, &[]));
    wire.feed(&option(OptionType::Other(77), &vec![0; 1 << 20]));
    assert_eq!(wire.take(), option_reply(OptionType::Other(77), OptionReplyType::Unsupported, &[]));
    wire.feed(b"IHAVEOPT\0\0\0\x4d\0\x10\0\x01");
    assert_eq!(wire.ended, Some(Reason::OptionTooLong((1 << 20) + 1)));
}

#[test]
fn abort_is_acknowledged_before_the_end() {
    let mut wire = Wire::greeted(vec![export("a")]);
    wire.feed(&option(OptionType::Abort, &[]));
    assert_eq!(wire.take(), option_reply(OptionType::Abort, OptionReplyType::Ack, &[]));
    assert_eq!(wire.ended, Some(Reason::Finished));
}

#[test]
fn a_client_of_another_protocol_is_told_apart_at_once() {
    let mut wire = Wire::new(vec![export("a")]);
    wire.feed(b"GET / HTTP/1.1\r\n");
    assert_eq!(wire.ended, Some(Reason::UnknownHandshakeFlags(0x4745_5420)));

    let mut wire = Wire::greeted(vec![export("a")]);
    wire.feed(b"GET / HTTP/1.1\r\n");
    let magic = WrongMagic { expected: 0x4948_4156_454f_5054, got: 0x4745_5420_2f20_4854 };
    assert_eq!(wire.ended, Some(Reason::NotNewstyle(magic)));
}

#[test]
fn a_client_without_fixed_newstyle_can_only_choose_by_name() {
    let mut wire = Wire::new(vec![export("a")]);
    wire.feed(&[0, 0, 0, 0]);
    wire.feed(&option(OptionType::List, &[]));
    assert_eq!(wire.ended, Some(Reason::NotFixedNewstyle(3)));
}

#[test]
fn a_client_that_never_chooses_is_cut_off() {
    let mut wire = Wire::new(vec![export("a")]);
    assert_eq!(wire.session.poll_timeout(), Some(wire.now + NEGOTIATION_TIMEOUT));
    wire.wait(NEGOTIATION_TIMEOUT - Duration::from_millis(1));
    wire.feed(&CLIENT_FLAGS);
    assert_eq!(wire.ended, None);
    wire.wait(Duration::from_millis(1));
    assert_eq!(wire.ended, Some(Reason::NegotiationTimeout));
    assert_eq!(wire.session.poll_timeout(), None);
}

#[test]
fn the_clock_starts_with_the_first_event_even_if_that_is_a_timeout() {
    let mut session = nbd::Session::new(0, vec![]);
    let now = clock::Instant::from_nanos(1_000_000_000_000);
    assert!(session.poll_timeout() <= Some(now));
    session.handle(now, Event::Timeout);
    assert_eq!(session.poll_timeout(), Some(now + NEGOTIATION_TIMEOUT));
    assert!(session.poll_action().is_none());
}

#[test]
fn a_client_cannot_negotiate_for_ever() {
    let mut wire = Wire::greeted(vec![export("a")]);
    let ask = option(OptionType::Other(77), &[]);
    let asked = (1..).find(|_| {
        wire.feed(&ask);
        wire.ended.is_some()
    });
    assert_eq!((asked, wire.ended), (Some(4097), Some(Reason::TooManyOptions)));
}

#[test]
fn a_client_that_takes_no_replies_gets_no_more_of_them() {
    let mut wire = Wire::greeted(vec![export("a")]);
    let list = option(OptionType::List, &[]);
    let mut slices = wire.session.receive_into();
    slices[1].copy_from_slice(&list);
    wire.handle_unsent(Event::Received(list.len()));
    assert!(wire.session.receive_into().iter().all(|slice| slice.is_empty()));
    wire.turn();
    assert!(!wire.session.receive_into()[1].is_empty());
}

#[test]
fn an_aborting_client_that_takes_no_reply_is_cut_off_too() {
    let mut wire = Wire::greeted(vec![export("a")]);
    let abort = option(OptionType::Abort, &[]);
    wire.session.receive_into()[1].copy_from_slice(&abort);
    wire.handle_unsent(Event::Received(abort.len()));
    assert_eq!(wire.ended, None);
    wire.wait(NEGOTIATION_TIMEOUT + LINGER_TIMEOUT);
    assert_eq!(wire.ended, Some(Reason::LingerTimeout));
}

#[test]
fn shutdown_ends_a_handshake_at_once() {
    let mut wire = Wire::greeted(vec![export("a")]);
    wire.handle(Event::Shutdown);
    assert_eq!(wire.ended, Some(Reason::Shutdown));
    assert!(wire.session.is_idle());
}

#[test]
fn a_disk_that_grew_during_the_handshake_is_described_as_it_is() {
    let mut wire = Wire::greeted(vec![export("a"), export("b")]);
    let geometry = Geometry { size: 512, ..export("b").geometry };
    wire.handle(Event::Resized { export: "b".into(), geometry });
    wire.feed(&option(OptionType::ExportName, b"b"));
    assert_eq!(wire.take()[..8], [0, 0, 0, 0, 0, 0, 2, 0]);
}
