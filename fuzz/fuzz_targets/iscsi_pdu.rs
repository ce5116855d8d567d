//! Any 48 bytes are a PDU header of some kind; what was understood of them survives being written again.
#![no_main]

use iscsi::pdu::{HEADER_LENGTH, Header, Pdu};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: [u8; HEADER_LENGTH]| {
    let header = Header(bytes);
    let (_, _) = (header.ahs_length(), header.data_length());
    let pdu = Pdu::parse(&header);
    assert_eq!(Pdu::parse(&pdu.emit()), pdu);
});
