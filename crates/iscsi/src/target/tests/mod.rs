//! A session is spoken to in literal PDUs, and what it says and asks for is compared.

mod commands;
mod link;
mod login;

use std::io::IoSlice;
use std::sync::Arc;

use clock::{Duration, Instant};

use super::*;
use crate::chap::{self, Credentials, Secret};
use crate::pdu::*;
use crate::text::Text;

const TARGET: &str = "iqn.2026-01.example:array";
const GUARDED: &str = "iqn.2026-01.example:guarded";
const INITIATOR: &str = "iqn.2026-01.example:host";
const CMD_SN: u32 = 0xffff_fffe;

/// An initiator's end of the connection.
struct Wire {
    session: Session,
    now: Instant,
    cmd_sn: SerialNumber,
}

/// A PDU of the session: its header, and its data without padding.
type Sent = (Pdu, Vec<u8>);

fn credentials(name: &str, secret: &[u8]) -> Credentials {
    Credentials { name: name.into(), secret: Secret::new(secret).unwrap() }
}

fn portals() -> Portals {
    let portals = vec![
        Portal { address: "192.0.2.1:3260".parse().unwrap(), group: 1 },
        Portal { address: "192.0.2.2:3260".parse().unwrap(), group: 2 },
    ];
    let chap = Chap {
        initiator: credentials("host", b"initiator secret"),
        target: Some(credentials("array", b"the target secret")),
    };
    Portals {
        targets: vec![
            Target { name: TARGET.into(), alias: Some("array".into()), portals: portals.clone(), chap: None },
            Target { name: GUARDED.into(), alias: None, portals, chap: Some(chap) },
        ],
        discovery_chap: None,
    }
}

fn options() -> Options {
    let challenge = Challenge { identifier: 7, bytes: [0xa5; chap::CHALLENGE_LENGTH] };
    Options::new(Arc::new(portals()), 1, challenge)
}

impl Wire {
    fn new(options: Options) -> Self {
        let now = Instant::START;
        Self { session: Session::new(now, options), now, cmd_sn: SerialNumber(CMD_SN) }
    }

    /// A connection that is logged in with these keys offered.
    fn logged_in(options: Options, keys: &str) -> Self {
        let mut wire = Self::new(options);
        let text = format!("InitiatorName={INITIATOR};TargetName={TARGET};{keys}");
        wire.send(&login(Stage::Operational, Stage::FullFeature), &text_of(&text));
        assert!(matches!(wire.session.poll_action(), Some(Action::Admit { tsih: 0, .. })));
        wire.handle(Event::Admitted { tsih: 1 });
        assert!(matches!(wire.session.poll_action(), Some(Action::LoggedIn(_))));
        let (answer, _) = wire.take_one();
        assert!(matches!(answer, Pdu::LoginResponse(LoginResponse { tsih: 1, .. })), "{answer:?}");
        wire
    }

    fn handle(&mut self, event: Event) {
        self.session.handle(self.now, event);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.handle(Event::Timeout);
    }

    /// Sends a PDU without digests.
    fn send(&mut self, header: &Header, data: &[u8]) {
        let header = header.with_data_length(u32::try_from(data.len()).unwrap());
        let mut bytes = header.0.to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        assert_eq!(self.send_bytes(&bytes), bytes.len(), "the session stopped reading");
    }

    /// Sends as much as the session takes.
    fn send_bytes(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            let mut count = 0;
            for slice in &mut self.session.receive_into() {
                let part = slice.len().min(bytes.len() - sent - count);
                slice[..part].copy_from_slice(&bytes[sent + count..][..part]);
                count += part;
            }
            if count == 0 {
                break;
            }
            sent += count;
            self.handle(Event::Received(count));
        }
        sent
    }

    /// Takes everything that the session wants to send.
    fn take(&mut self) -> Vec<Sent> {
        let mut bytes = Vec::new();
        loop {
            let mut slices = [IoSlice::new(&[]); 7];
            let count = self.session.transmit(&mut slices);
            let part: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            if part.is_empty() {
                break;
            }
            self.handle(Event::Sent(part.len()));
            bytes.extend_from_slice(&part);
        }
        cut(&bytes)
    }

    fn take_one(&mut self) -> Sent {
        let mut sent = self.take();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    fn serials(&mut self) -> CommandSerials {
        let cmd_sn = self.cmd_sn;
        self.cmd_sn = cmd_sn.next();
        CommandSerials { cmd_sn, exp_stat_sn: SerialNumber(0) }
    }

    fn action(&mut self) -> Action {
        self.session.poll_action().expect("the session wants something")
    }

    fn command(&mut self) -> Command {
        match self.action() {
            Action::Command(command) => command,
            other => panic!("{other:?}"),
        }
    }

    fn disconnected(&mut self) -> Disconnect {
        match self.action() {
            Action::Disconnect(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn is_idle(&mut self) -> bool {
        self.session.poll_action().is_none() && self.take().is_empty()
    }
}

/// Cuts a stream without digests into PDUs.
fn cut(mut bytes: &[u8]) -> Vec<Sent> {
    let mut sent = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LENGTH>() {
        let header = Header(*header);
        let length = header.data_length() as usize;
        sent.push((Pdu::parse(&header), rest[..length].to_vec()));
        bytes = &rest[length.next_multiple_of(4)..];
    }
    sent
}

/// `A=b;C=d` as text.
fn text_of(pairs: &str) -> Vec<u8> {
    pairs
        .split(';')
        .filter(|pair| !pair.is_empty())
        .flat_map(|pair| [pair.as_bytes(), b"\0"].concat())
        .collect()
}

/// A text as `A=b;C=d;`.
fn printed(text: &[u8]) -> String {
    String::from_utf8(text.to_vec()).unwrap().replace('\0', ";")
}

fn login_request(current: Stage, next: Option<Stage>) -> LoginRequest {
    LoginRequest {
        stages: LoginStages {
            transit: next.is_some(),
            more: false,
            current,
            next: next.unwrap_or(Stage::Security),
        },
        version_max: 0,
        version_min: 0,
        isid: Isid([0x80, 0, 0, 0, 0, 1]),
        tsih: 0,
        initiator_task_tag: InitiatorTaskTag(0),
        connection_id: 3,
        serials: CommandSerials { cmd_sn: SerialNumber(CMD_SN), exp_stat_sn: SerialNumber(0) },
    }
}

fn login(current: Stage, next: Stage) -> Header {
    login_request(current, Some(next)).emit()
}

fn login_stay(current: Stage) -> Header {
    login_request(current, None).emit()
}
