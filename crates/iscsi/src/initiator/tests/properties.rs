use proptest::prelude::*;

use super::*;
use crate::pdu::HEADER_LENGTH;

/// A fixed generator, so that a million streams cost little and are the same each time.
struct Bytes(u64);

impl Bytes {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn a_million_random_headers_and_texts_never_panic() {
    let mut bytes = Bytes(0x2545_f491_4f6c_dd1d);
    let mut header = Header([0; HEADER_LENGTH]);
    for _ in 0..1_000_000 {
        let at = (bytes.next() % 41) as usize;
        header.0[at..at + 8].copy_from_slice(&bytes.next().to_le_bytes());
        core::hint::black_box(Pdu::parse(&header));
        let text = bytes.next().to_le_bytes().map(|byte| b"Ab=\0,01\xff"[usize::from(byte % 8)]);
        if let Ok(text) = Text::parse(&text) {
            core::hint::black_box(text.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>());
        }
    }
}

#[test]
fn random_pdus_in_any_state_of_a_session_never_panic() {
    let mut bytes = Bytes(0x9e37_79b9_7f4a_7c15);
    let mut given = 0;
    while given < 50_000 {
        let mut story = Story::new(Options { commands_max: 4, ..options() });
        if !bytes.next().is_multiple_of(4) {
            story = Story::logged_in(Options { commands_max: 4, ..options() }, "");
            story.read(1, 64);
            story.start(2, Transfer::ToDevice { offset: 0, length: 64 }, vec![0; 64]);
        } else {
            story.handle(Event::Connected);
            story.sent();
        }
        while story.over().is_none() {
            given += 1;
            give_noise(&mut story, &mut bytes);
        }
        assert_eq!(story.session.commands_held(), 0);
    }
}

/// A header that is random, with some fields that make it go further than the first check.
fn give_noise(story: &mut Story, bytes: &mut Bytes) {
    let mut header = [0; HEADER_LENGTH];
    for chunk in header.chunks_exact_mut(8) {
        chunk.copy_from_slice(&bytes.next().to_le_bytes());
    }
    let choice = bytes.next();
    let opcodes = [0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3f];
    header[0] = opcodes[(choice % 10) as usize];
    header[4] = if choice & 0x10 == 0 { 0 } else { (choice >> 8) as u8 % 4 };
    let length = if choice & 0x20 == 0 { 0 } else { (choice >> 16) as u8 % 80 };
    header[5..8].copy_from_slice(&[0, 0, length]);
    if choice & 0x40 == 0 {
        let tag = [1_u32 << 15, 1 << 15 | 1, 0xffff_ffff, 0x8000_0001][(choice >> 24) as usize % 4];
        header[16..20].copy_from_slice(&tag.to_be_bytes());
    }
    if choice & 0x80 == 0 {
        header[24..28].copy_from_slice(&(STAT_SN + 2).to_be_bytes());
        header[36..44].fill(0);
    }
    story.give_bytes(&header);
    let rest = usize::from(header[4]) * 4 + usize::from(length).next_multiple_of(4);
    let data: Vec<u8> = (0..rest).map(|_| b"Ab=\0,01\xff"[(bytes.next() % 8) as usize]).collect();
    story.give_bytes(&data);
    story.handle(Event::Sent(usize::from(length)));
    if choice & 0x300 == 0 {
        story.now = story.now + Duration::from_millis(700);
        story.handle(Event::Timeout);
    }
}

/// A short life of a session, received and sent in pieces; what came of it.
fn life(piece: usize) -> String {
    let mut story = Story::new(options());
    story.piece = piece;
    story.handle(Event::Connected);
    story.sent();
    story.login_response(Stage::Security, Stage::Operational, true, "TargetPortalGroupTag=1");
    story.sent();
    let answers = "HeaderDigest=CRC32C,DataDigest=CRC32C,InitialR2T=No,MaxRecvDataSegmentLength=512";
    story.login_response(Stage::Operational, Stage::FullFeature, true, answers);
    let both = Digests { header: crate::stream::Digest::Crc32c, data: crate::stream::Digest::Crc32c };
    story.framer.set_digests(both);
    let read = story.read(1, 2000);
    let write = story.start(2, Transfer::ToDevice { offset: 3, length: 1501 }, vec![5; 1504]);
    story.data_in(read, 0, 0, &[1; 1001], false);
    story.r2t(write, 0, 1024, 477);
    let mut sent = story.sent();
    story.data_in(read, 1, 1001, &[2; 999], true);
    story.response(write, 2, ResidualCount::default(), &[0, 3, 0x70, 0, 6, 0]);
    for _ in 0..8 {
        let tag = story.read(3, 4);
        story.good(tag);
    }
    sent.extend(story.sent());
    format!("{sent:?} {:?} {:?}", story.ended(), story.happened)
}

#[test]
fn a_session_lives_the_same_life_in_whatever_pieces_bytes_come_and_go() {
    let whole = life(usize::MAX);
    assert!(whole.contains("Reply"), "{whole}");
    for piece in (1..130).chain([512, 1000, 1023, 2048]) {
        assert_eq!(life(piece), whole, "in pieces of {piece}");
    }
}

proptest! {
    #[test]
    fn a_window_is_never_overrun(window in 1_u32..8, answers in proptest::collection::vec(0_usize..8, 0..64)) {
        let mut story = Story::logged_in(options(), "");
        story.window = window;
        // Tell the target's window before the first command.
        let probe = NopIn {
            lun: LUN,
            initiator_task_tag: InitiatorTaskTag::NONE,
            target_transfer_tag: TargetTransferTag::NONE,
            serials: story.serials(),
        };
        story.session.numbering.log_in(story.serials());
        story.session.numbering.take_stat_sn(SerialNumber(story.stat_sn + 1)).unwrap();
        story.stat_sn += 2;
        story.give(Pdu::NopIn(probe), &[]);
        for id in 0..100 {
            story.command(id, Transfer::None, vec![]);
        }
        let mut in_flight = Vec::new();
        let mut max_cmd_sn = window;
        for answer in answers {
            for (pdu, _) in story.sent() {
                let Pdu::ScsiCommand(command) = pdu else { panic!("{pdu:?}") };
                prop_assert!(command.serials.cmd_sn.0 <= max_cmd_sn);
                story.cmd_sn = command.serials.cmd_sn.0 + 1;
                in_flight.push(command.initiator_task_tag);
            }
            if in_flight.is_empty() {
                break;
            }
            let tag = in_flight.swap_remove(answer % in_flight.len());
            max_cmd_sn = max_cmd_sn.max(story.cmd_sn + window - 1);
            story.good(tag);
            prop_assert!(story.over().is_none(), "{:?}", story.over());
        }
    }
}
