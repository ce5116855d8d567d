//! An initiator that says anything at all: the target's session never panics.
#![no_main]

use std::io::IoSlice;
use std::sync::Arc;

use block::Buffer;
use clock::Instant;
use iscsi::chap::{CHALLENGE_LENGTH, Challenge};
use iscsi::target::{Action, Event, Options, Portal, Portals, Session, Target, TaskManagementResponse};
use libfuzzer_sys::fuzz_target;
use scsi::Reply;

fuzz_target!(|bytes: &[u8]| {
    let mut session = Session::new(Instant::START, options());
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

fn options() -> Options {
    let portals = vec![Portal { address: "192.0.2.1:3260".parse().expect("an address"), group: 1 }];
    let target = Target { name: "iqn.2026-01.example:array".into(), alias: None, portals, chap: None };
    let challenge = Challenge { identifier: 7, bytes: [0xa5; CHALLENGE_LENGTH] };
    Options::new(Arc::new(Portals { targets: vec![target], discovery_chap: None }), 1, challenge)
}

/// Tells the session, and answers at once whatever it asks for.
fn handle(session: &mut Session, event: Event) {
    session.handle(Instant::START, event);
    while let Some(action) = session.poll_action() {
        let answer = match action {
            Action::Admit { .. } => Event::Admitted { tsih: 1 },
            Action::Command(command) => {
                Event::Reply { tag: command.tag, reply: Reply::good(), data: Buffer::zeroed(512) }
            }
            Action::TaskManagement { tag, .. } => {
                Event::TaskManagementDone { tag, response: TaskManagementResponse::Complete }
            }
            Action::LoggedIn(_) | Action::LoggedOut | Action::Disconnect(_) => continue,
        };
        session.handle(Instant::START, answer);
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
