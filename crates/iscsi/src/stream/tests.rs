use std::io::IoSlice;

use super::*;
use crate::pdu::{HEADER_LENGTH, Header, InitiatorTaskTag, NopIn, StatusSerials, TargetTransferTag};
use scsi::Lun;

const BOTH: Digests = Digests { header: Digest::Crc32c, data: Digest::Crc32c };

fn ping(tag: u32) -> Header {
    NopIn {
        lun: Lun::default(),
        initiator_task_tag: InitiatorTaskTag(tag),
        target_transfer_tag: TargetTransferTag::NONE,
        serials: StatusSerials::default(),
    }
    .emit()
}

/// Everything an outgoing queue has, with payload from `memory`.
fn sent(outgoing: &Outgoing<u8>, memory: &[u8]) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 32];
    let used = outgoing.transmit(&mut slices, |_| memory);
    slices[..used].iter().flat_map(|slice| slice.to_vec()).collect()
}

/// What comes out of a stream that is received in pieces of at most `piece` bytes: each PDU's tag and data.
/// PDUs with an even tag are placed in lent memory, the others in the framer's.
fn receive(stream: &[u8], digests: Digests, piece: usize) -> Result<Vec<(u32, Vec<u8>)>, FrameError> {
    let mut incoming = Incoming::<u8>::new(8192);
    incoming.set_digests(digests);
    let mut memory = vec![0; 8192];
    let mut pdus = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let mut room = incoming.receive_into(|_| &mut memory);
        let mut count = 0;
        for slice in &mut room {
            let step = slice.len().min(rest.len()).min(piece - count);
            slice[..step].copy_from_slice(&rest[..step]);
            rest = &rest[step..];
            count += step;
        }
        assert!(count > 0, "there is always room");
        incoming.received(count, |_| &mut memory);
        loop {
            match incoming.step(|_| &mut memory)? {
                Step::More => break,
                Step::Header(header) if header.initiator_task_tag().0 % 2 == 0 => {
                    incoming.place(Destination::Lent { owner: 0, offset: 16 });
                }
                Step::Header(_) => incoming.place(Destination::Own),
                Step::Complete(header) => {
                    let tag = header.initiator_task_tag().0;
                    let length = header.data_length() as usize;
                    let data = if tag % 2 == 0 { &memory[16..][..length] } else { incoming.data() };
                    pdus.push((tag, data.to_vec()));
                }
            }
        }
    }
    Ok(pdus)
}

#[test]
fn a_digest_is_the_one_of_the_standard() {
    // RFC 7143, appendix A.4: 32 bytes of zeros have the digest aa 36 91 8a, in the order of the wire.
    let mut outgoing = Outgoing::<u8>::new();
    outgoing.set_digests(Digests { header: Digest::None, data: Digest::Crc32c });
    outgoing.push_own(ping(1), None, vec![0; 32]);
    assert_eq!(sent(&outgoing, &[])[HEADER_LENGTH + 32..], [0xaa, 0x36, 0x91, 0x8a]);
}

#[test]
fn payload_is_padded_and_sent_from_its_owners_memory() {
    let memory = [1, 2, 3, 4, 5, 6, 7];
    let mut outgoing = Outgoing::<u8>::new();
    outgoing.push_lent(ping(2), 9, &memory, 1..6);
    let mut slices = [IoSlice::new(&[]); 4];
    assert_eq!(outgoing.transmit(&mut slices, |_| &memory), 3);
    assert_eq!(slices[1].as_ptr(), memory[1..].as_ptr());
    assert_eq!((slices[1].len(), slices[2].len()), (5, 3));
    assert_eq!(outgoing.bytes(), HEADER_LENGTH + 8);
}

#[test]
fn an_owner_hears_of_its_first_and_of_its_last_byte() {
    let memory = [0; 4];
    let mut outgoing = Outgoing::<u8>::new();
    outgoing.push(ping(1), None);
    outgoing.push_lent(ping(2), 9, &memory, 0..4);
    let mut heard = Vec::new();
    outgoing.sent(HEADER_LENGTH, |progress| heard.push(progress));
    assert_eq!(heard, []);
    outgoing.sent(1, |progress| heard.push(progress));
    assert_eq!(heard, [Progress::Begun(9)]);
    outgoing.sent(HEADER_LENGTH + 3, |progress| heard.push(progress));
    assert_eq!(heard, [Progress::Begun(9), Progress::Finished(9)]);
    assert!(outgoing.is_empty());
}

#[test]
fn a_stream_means_the_same_in_whatever_pieces_it_comes() {
    for digests in [Digests::default(), BOTH] {
        let memory: Vec<u8> = (0..=255).cycle().take(6000).collect();
        let mut outgoing = Outgoing::<u8>::new();
        outgoing.set_digests(digests);
        let mut expected = Vec::new();
        for (tag, length) in
            [(1, 0), (2, 5), (3, 7), (4, 0), (5, 0), (7, 0), (9, 0), (11, 0), (6, 4999), (8, 1)]
        {
            if length == 0 {
                outgoing.push(ping(tag), None);
            } else {
                outgoing.push_lent(ping(tag), 0, &memory, 3..3 + length);
            }
            expected.push((tag, memory[3..3 + length].to_vec()));
        }
        let stream = sent(&outgoing, &memory);
        assert_eq!(stream.len(), outgoing.bytes());
        for piece in (1..200).chain([1000, 4096, 6000, 100_000]) {
            assert_eq!(receive(&stream, digests, piece).as_ref(), Ok(&expected), "pieces of {piece}");
        }
    }
}

#[test]
fn any_flipped_bit_is_found_by_a_digest() {
    let mut outgoing = Outgoing::<u8>::new();
    outgoing.set_digests(BOTH);
    outgoing.push_own(ping(1), None, vec![7; 9]);
    let stream = sent(&outgoing, &[]);
    for bit in 0..stream.len() * 8 {
        let mut damaged = stream.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // A damaged length of the additional segments makes the framer wait for more than there is.
        let received = receive(&damaged, BOTH, 4096);
        assert!(
            matches!(received, Err(FrameError::HeaderDigest { .. } | FrameError::DataDigest { .. }))
                || received == Ok(vec![]) && bit / 8 == 4,
            "bit {bit}: {received:?}"
        );
    }
}

#[test]
fn a_data_segment_beyond_the_declared_limit_is_refused_before_it_is_received() {
    let header = ping(1).with_data_length(8193);
    assert_eq!(
        receive(&header.0, Digests::default(), 48),
        Err(FrameError::SegmentTooLong { length: 8193, max: 8192 })
    );
}

#[test]
fn additional_header_segments_are_skipped_and_covered_by_the_header_digest() {
    let mut header = ping(3);
    header.0[4] = 2;
    let covered = [header.0.as_slice(), &[1, 2, 3, 4, 5, 6, 7, 8]].concat();
    let stream = [covered.as_slice(), &crc32c::crc32c(&covered).to_le_bytes()].concat();
    for piece in 1..stream.len() {
        assert_eq!(receive(&stream, BOTH, piece), Ok(vec![(3, vec![])]));
    }
}

#[test]
fn with_a_payload_in_progress_no_more_than_one_header_is_read_behind_it() {
    let mut memory = [0; 4096];
    let mut incoming = Incoming::<u8>::new(8192);
    assert_eq!(incoming.receive_into(|_| &mut []).map(|slice| slice.len()), [0, HEADER_LENGTH]);
    incoming.receive_into(|_| &mut [])[1].copy_from_slice(&ping(2).with_data_length(4093).0);
    incoming.received(HEADER_LENGTH, |_| &mut []);
    assert!(matches!(incoming.step(|_| &mut []), Ok(Step::Header(_))));
    incoming.place(Destination::Lent { owner: 0, offset: 0 });
    assert_eq!(incoming.receive_into(|_| &mut memory).map(|slice| slice.len()), [4093, 3 + HEADER_LENGTH]);
}
