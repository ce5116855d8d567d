//! An initiator and a target with byte pipes between them, in virtual time, cut at random places.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use block::Buffer;
use clock::{Duration, Instant};
use iscsi::chap::{CHALLENGE_LENGTH, Challenge, Credentials, Secret};
use iscsi::initiator;
use iscsi::pdu::Isid;
use iscsi::target::{self, Admission, Chap, CommandTag, Portal, Portals, Target, TaskManagementResponse};
use scsi::{CdbBytes, Command, CommandId, Ending, Lun, Reply, TaskAttribute, Transfer};

use crate::chance::Chance;

pub(crate) const INITIATOR: &str = "iqn.2026-01.example:host";
pub(crate) const TARGET: &str = "iqn.2026-01.example:array";
/// The same array for those who know a secret.
pub(crate) const GUARDED: &str = "iqn.2026-01.example:guarded";
pub(crate) const LUN: Lun = Lun([0, 1, 0, 0, 0, 0, 0, 0]);

/// Both ends, what is between them, and a device server.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) chance: Chance,
    pub(crate) initiator: initiator::Session<u64>,
    pub(crate) target: target::Session,
    to_target: Pipe,
    to_initiator: Pipe,
    pub(crate) server: Server,
    /// What the initiator said and nobody has looked at.
    pub(crate) said: VecDeque<initiator::Action<u64>>,
    /// Why the target ended.
    pub(crate) target_over: Option<target::Disconnect>,
    pub(crate) logged_out: bool,
    /// The answer to the next login.
    pub(crate) admission: Admission<u32>,
}

/// Bytes on their way.
#[derive(Default)]
struct Pipe {
    bytes: Vec<u8>,
    /// How many have gone through.
    passed: usize,
    /// Which byte to damage, counted from the beginning of the stream.
    flip: Option<usize>,
}

/// What executes commands: 16 MiB of memory, byte-addressed by bytes 2 to 5 of the CDB.
pub(crate) struct Server {
    pub(crate) memory: Vec<u8>,
    /// Commands wait in `held` instead of being executed.
    pub(crate) holds: bool,
    pub(crate) held: Vec<target::Command>,
    pub(crate) executed: Vec<CommandTag>,
    /// The most commands that were held at a time.
    pub(crate) held_most: usize,
}

pub(crate) const MEMORY: usize = 16 << 20;

impl Pair {
    pub(crate) fn new(seed: u64, initiator: initiator::Options, target: target::Options) -> Self {
        let now = Instant::START;
        let server = Server {
            memory: vec![0; MEMORY],
            holds: false,
            held: Vec::new(),
            executed: Vec::new(),
            held_most: 0,
        };
        Self {
            now,
            chance: Chance::new(seed),
            initiator: initiator::Session::new(initiator).expect("the options are right"),
            target: target::Session::new(now, target),
            to_target: Pipe::default(),
            to_initiator: Pipe::default(),
            server,
            said: VecDeque::new(),
            target_over: None,
            logged_out: false,
            admission: Admission::New { tsih: 1 },
        }
    }

    /// A pair that is logged in.
    pub(crate) fn logged_in(seed: u64, initiator: initiator::Options, target: target::Options) -> Self {
        let mut pair = Self::new(seed, initiator, target);
        pair.connect();
        let said = pair.said.pop_front();
        assert!(matches!(said, Some(initiator::Action::LoggedIn(_))), "{said:?}");
        pair
    }

    pub(crate) fn connect(&mut self) {
        self.tell(initiator::Event::Connected);
        self.run();
    }

    pub(crate) fn tell(&mut self, event: initiator::Event<u64>) {
        self.initiator.handle(self.now, event);
        while let Some(action) = self.initiator.poll_action() {
            // How long an answer to a ping took is told by tests of their own.
            if !matches!(action, initiator::Action::Pinged { .. }) {
                self.said.push_back(action);
            }
        }
    }

    pub(crate) fn tell_target(&mut self, event: target::Event) {
        self.target.handle(self.now, event);
        while let Some(action) = self.target.poll_action() {
            self.obey(action);
        }
    }

    /// Moves bytes until nothing moves any more.
    pub(crate) fn run(&mut self) {
        while self.step() {}
    }

    /// Lets time pass, and everything that it causes happen.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.tell(initiator::Event::Timeout);
        self.tell_target(target::Event::Timeout);
        self.run();
    }

    pub(crate) fn submit(&mut self, id: u64, cdb: [u8; 16], transfer: Transfer, buffer: Buffer) {
        let command = Command {
            id: CommandId(id),
            cdb: CdbBytes::new(&cdb),
            attribute: TaskAttribute::Simple,
            transfer,
            buffer,
            context: id,
        };
        self.tell(initiator::Event::Command { lun: LUN, command });
    }

    pub(crate) fn write(&mut self, id: u64, offset: u32, data: &[u8]) {
        let length = u32::try_from(data.len()).expect("short data");
        let transfer = Transfer::ToDevice { offset: 0, length };
        self.submit(id, cdb(0x2a, offset), transfer, data.to_vec().into());
    }

    pub(crate) fn read(&mut self, id: u64, offset: u32, length: usize) {
        let transfer = Transfer::FromDevice { offset: 0, length: u32::try_from(length).expect("short data") };
        self.submit(id, cdb(0x28, offset), transfer, Buffer::zeroed(length));
    }

    /// The next command that ended.
    pub(crate) fn ended(&mut self) -> (Command<u64>, Ending) {
        match self.said.pop_front() {
            Some(initiator::Action::Ended { command, ending }) => (command, ending),
            other => panic!("no command ended: {other:?}"),
        }
    }

    /// Damages a byte of what is sent from now on: the `nth` one.
    pub(crate) fn damage(&mut self, direction: Direction, nth: usize) {
        let pipe = match direction {
            Direction::ToTarget => &mut self.to_target,
            Direction::ToInitiator => &mut self.to_initiator,
        };
        pipe.flip = Some(pipe.passed + pipe.bytes.len() + nth);
    }

    fn step(&mut self) -> bool {
        let slices_max = 1 + self.chance.below(8);
        let mut slices = [IoSlice::new(&[]); 8];
        let count = self.initiator.transmit(&mut slices[..slices_max]);
        let sent = self.to_target.push(&slices[..count], &mut self.chance);
        if sent > 0 {
            self.tell(initiator::Event::Sent(sent));
        }
        let received = self.to_target.pop(self.target.receive_into(), &mut self.chance);
        if received > 0 {
            self.tell_target(target::Event::Received(received));
        }
        let mut slices = [IoSlice::new(&[]); 8];
        let count = self.target.transmit(&mut slices[..slices_max]);
        let answered = self.to_initiator.push(&slices[..count], &mut self.chance);
        if answered > 0 {
            self.tell_target(target::Event::Sent(answered));
        }
        let heard = self.to_initiator.pop(self.initiator.receive_into(), &mut self.chance);
        if heard > 0 {
            self.tell(initiator::Event::Received(heard));
        }
        sent + received + answered + heard > 0
    }

    fn obey(&mut self, action: target::Action) {
        match action {
            target::Action::Admit { .. } => {
                let event = match self.admission {
                    Admission::New { tsih } | Admission::Reinstates { tsih, .. } => {
                        target::Event::Admitted { tsih }
                    }
                    Admission::Refused(status) => target::Event::Refused(status),
                };
                self.tell_target(event);
            }
            target::Action::LoggedIn(_) => {}
            target::Action::Command(command) if self.server.holds => {
                self.server.held.push(command);
                self.server.held_most = self.server.held_most.max(self.server.held.len());
            }
            target::Action::Command(command) => self.execute(command),
            target::Action::TaskManagement { tag, referenced, .. } => {
                self.server.held.retain(|command| referenced.is_some_and(|tag| tag != command.tag));
                let response = TaskManagementResponse::Complete;
                self.tell_target(target::Event::TaskManagementDone { tag, response });
            }
            target::Action::LoggedOut => self.logged_out = true,
            target::Action::Disconnect(reason) => self.target_over = Some(reason),
        }
    }

    pub(crate) fn execute(&mut self, command: target::Command) {
        let cdb = command.cdb.padded();
        let offset = u32::from_be_bytes([cdb[2], cdb[3], cdb[4], cdb[5]]) as usize;
        let range = offset..offset + command.expected_length as usize;
        let data = match cdb[0] {
            0x28 => self.server.memory[range].to_vec().into(),
            0x2a => {
                self.server.memory[range].copy_from_slice(&command.data);
                command.data
            }
            _ => Buffer::empty(),
        };
        self.server.executed.push(command.tag);
        self.tell_target(target::Event::Reply { tag: command.tag, reply: Reply::good(), data });
    }

    /// Executes everything that is held, in any order.
    pub(crate) fn execute_held(&mut self) {
        while !self.server.held.is_empty() {
            let index = self.chance.below(self.server.held.len());
            let command = self.server.held.swap_remove(index);
            self.execute(command);
        }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    ToTarget,
    ToInitiator,
}

impl Pipe {
    /// Takes some of the bytes.
    fn push(&mut self, slices: &[IoSlice<'_>], chance: &mut Chance) -> usize {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let count = some_of(total, chance);
        let mut rest = count;
        for slice in slices {
            let part = rest.min(slice.len());
            self.bytes.extend_from_slice(&slice[..part]);
            rest -= part;
        }
        count
    }

    /// Gives some of the bytes.
    fn pop(&mut self, mut into: [IoSliceMut<'_>; 2], chance: &mut Chance) -> usize {
        let room = into[0].len() + into[1].len();
        let count = some_of(room.min(self.bytes.len()), chance);
        if let Some(index) = self.flip.and_then(|flip| flip.checked_sub(self.passed))
            && index < count
        {
            self.bytes[index] ^= 0x10;
            self.flip = None;
        }
        let first = count.min(into[0].len());
        into[0][..first].copy_from_slice(&self.bytes[..first]);
        into[1][..count - first].copy_from_slice(&self.bytes[first..count]);
        self.bytes.drain(..count);
        self.passed += count;
        count
    }
}

/// All or, as often, a part; never nothing of something.
fn some_of(count: usize, chance: &mut Chance) -> usize {
    if count > 0 && chance.one_in(2) { 1 + chance.below(count) } else { count }
}

fn cdb(operation_code: u8, offset: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = operation_code;
    cdb[2..6].copy_from_slice(&offset.to_be_bytes());
    cdb
}

pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    Chance::new(seed).fill(&mut data);
    data
}

pub(crate) fn credentials(name: &str, secret: &[u8]) -> Credentials {
    Credentials { name: name.into(), secret: Secret::new(secret).expect("a secret of a legal length") }
}

pub(crate) fn initiator_options(target: &str) -> initiator::Options {
    let kind = initiator::Kind::Normal { target_name: target.parse().expect("a legal name or address") };
    initiator::Options::new(
        INITIATOR.parse().expect("a legal name or address"),
        Isid([0x80, 0, 0, 0, 0, 1]),
        kind,
    )
}

pub(crate) fn target_options() -> target::Options {
    let portals = vec![
        Portal { address: "192.0.2.1:3260".parse().expect("a legal name or address"), group: 1 },
        Portal { address: "[2001:db8::2]:3261".parse().expect("a legal name or address"), group: 2 },
    ];
    let chap = Chap {
        initiator: credentials("host", b"initiator secret"),
        target: Some(credentials("array", b"the target secret")),
    };
    let targets = vec![
        Target { name: TARGET.into(), alias: Some("array".into()), portals: portals.clone(), chap: None },
        Target { name: GUARDED.into(), alias: None, portals, chap: Some(chap) },
    ];
    let challenge = Challenge { identifier: 7, bytes: [0xa5; CHALLENGE_LENGTH] };
    target::Options::new(Arc::new(Portals { targets, discovery_chap: None }), 1, challenge)
}
