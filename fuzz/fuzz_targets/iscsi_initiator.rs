//! A target that says anything at all: the initiator's session never panics, and every command comes back.
#![no_main]

use std::io::IoSlice;

use block::Buffer;
use clock::Instant;
use iscsi::initiator::{Action, Event, Kind, Options, Session};
use iscsi::pdu::Isid;
use libfuzzer_sys::fuzz_target;
use scsi::{CdbBytes, Command, CommandId, Lun, TaskAttribute, Transfer};

const COMMANDS: u64 = 4;

fuzz_target!(|bytes: &[u8]| {
    let target_name = "iqn.2026-01.example:array".parse().expect("a name");
    let initiator_name = "iqn.2026-01.example:host".parse().expect("a name");
    let options = Options::new(initiator_name, Isid([0x80, 0, 0, 0, 0, 1]), Kind::Normal { target_name });
    let mut session = Session::new(options).expect("the options are right");
    let mut ended = 0;
    handle(&mut session, Event::Connected, &mut ended);
    for id in 0..COMMANDS {
        handle(&mut session, Event::Command { lun: Lun::default(), command: command(id) }, &mut ended);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        send(&mut session, &mut ended);
        let mut count = 0;
        for slice in &mut session.receive_into() {
            let part = slice.len().min(rest.len() - count);
            slice[..part].copy_from_slice(&rest[count..count + part]);
            count += part;
        }
        if count == 0 {
            break;
        }
        rest = &rest[count..];
        handle(&mut session, Event::Received(count), &mut ended);
    }
    handle(&mut session, Event::Closed, &mut ended);
    assert_eq!(ended, COMMANDS);
});

fn command(id: u64) -> Command<()> {
    let (opcode, transfer) = match id % 2 {
        0 => (0x88, Transfer::FromDevice { offset: 0, length: 4096 }),
        _ => (0x8a, Transfer::ToDevice { offset: 0, length: 4096 }),
    };
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    Command {
        id: CommandId(id),
        cdb: CdbBytes::new(&cdb),
        attribute: TaskAttribute::Simple,
        transfer,
        buffer: Buffer::zeroed(4096),
        context: (),
    }
}

fn handle(session: &mut Session<()>, event: Event<()>, ended: &mut u64) {
    session.handle(Instant::START, event);
    while let Some(action) = session.poll_action() {
        *ended += u64::from(matches!(action, Action::Ended { .. }));
    }
}

fn send(session: &mut Session<()>, ended: &mut u64) {
    loop {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = session.transmit(&mut slices);
        let sent: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        if sent == 0 {
            return;
        }
        handle(session, Event::Sent(sent), ended);
    }
}
