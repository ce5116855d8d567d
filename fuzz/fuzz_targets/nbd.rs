//! A client that says anything at all: the NBD session never panics, and its requests stay inside the disk.
#![no_main]

use std::io::IoSlice;

use block::{Access, Geometry, Rotation, Support, WriteCache};
use clock::Instant;
use libfuzzer_sys::fuzz_target;
use nbd::{Action, Event, Export, Session};

const SIZE: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let mut session = Session::new(1, vec![export()]);
    let mut rest = bytes;
    while !rest.is_empty() {
        send(&mut session);
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
        handle(&mut session, Event::Received(count));
    }
    handle(&mut session, Event::Closed);
});

fn export() -> Export {
    let geometry = Geometry {
        size: SIZE,
        block_size: 512,
        preferred_size: 4096,
        transfer_max: 32 << 20,
        access: Access::ReadWrite,
        write_cache: WriteCache::Back,
        discard: Support::Yes,
        write_zeroes: Support::Yes,
        rotation: Rotation::Unknown,
    };
    Export { name: "disk".into(), description: String::new(), geometry, multi_conn: true }
}

/// Tells the session, and completes at once whatever it submits.
fn handle(session: &mut Session, event: Event) {
    session.handle(Instant::START, event);
    while let Some(action) = session.poll_action() {
        if let Action::Submit(request) = action {
            if let Some((offset, length)) = request.operation.extent() {
                assert!(offset + u64::from(length) <= SIZE);
            }
            session.handle(Instant::START, Event::Completed(request, Ok(())));
        }
    }
}

fn send(session: &mut Session) {
    loop {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = session.transmit(&mut slices);
        let sent: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        if sent == 0 {
            return;
        }
        handle(session, Event::Sent(sent));
    }
}
