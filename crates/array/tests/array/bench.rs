//! An array with somebody who sends it commands.

use array::{Action, Array, Event, Function, NexusId, Options, PortId, Response, UnitOptions};
use block::Buffer;
use clock::{Duration, Instant};
use scsi::{CdbBytes, Lun, Reply, SenseKey, Status, TaskAttribute};

pub(crate) struct Bench {
    pub(crate) array: Array,
    pub(crate) now: Instant,
    tag: u64,
}

pub(crate) const A: NexusId = NexusId(1);
pub(crate) const B: NexusId = NexusId(2);

/// 1 MiB in blocks of 512 bytes.
pub(crate) const UNIT: u64 = 1 << 20;
pub(crate) const BLOCKS: u64 = UNIT / 512;

/// Two controllers with two ports each, one unit of 1 MiB as LUN 0, no unit attention at the start.
pub(crate) fn options() -> Options {
    Options { units: vec![UnitOptions::memory(0, UNIT)], nexus_attention: None, ..Options::default() }
}

impl Bench {
    /// Nexus A is at port 1 (controller 1), nexus B at port 3 (controller 2).
    pub(crate) fn new(options: Options) -> Self {
        let mut bench = Self { array: Array::new(options), now: Instant::START, tag: 0 };
        bench.open(A, 1);
        bench.open(B, 3);
        bench
    }

    pub(crate) fn open(&mut self, nexus: NexusId, port: u16) {
        let initiator = format!("iqn.2026-01.test:{}", nexus.0);
        self.handle(Event::NexusOpened { nexus, port: PortId(port), initiator });
    }

    pub(crate) fn handle(&mut self, event: Event) {
        self.array.handle(self.now, event);
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.handle(Event::Timeout);
    }

    /// Sends a command and returns its tag; nothing is awaited.
    pub(crate) fn send(&mut self, nexus: NexusId, lun: u16, cdb: &[u8], data: &[u8], expected: u32) -> u64 {
        self.send_as(TaskAttribute::Simple, nexus, lun, cdb, data, expected)
    }

    pub(crate) fn send_as(
        &mut self,
        attribute: TaskAttribute,
        nexus: NexusId,
        lun: u16,
        cdb: &[u8],
        data: &[u8],
        expected: u32,
    ) -> u64 {
        self.tag += 1;
        self.handle(Event::Command {
            nexus,
            tag: self.tag,
            lun: Lun::from(lun),
            cdb: CdbBytes::new(cdb),
            attribute,
            data: Buffer::from(data.to_vec()),
            expected,
        });
        self.tag
    }

    /// The next action, which must say that this command is answered no more.
    pub(crate) fn is_aborted(&mut self, expected_tag: u64) {
        match self.array.poll_action() {
            Some(Action::Aborted { tag, .. }) if tag == expected_tag => {}
            other => panic!("command {expected_tag} is not aborted, but {other:?}"),
        }
    }

    /// The next action, which must be the reply to this command.
    pub(crate) fn reply_to(&mut self, expected_tag: u64) -> (Reply, Vec<u8>) {
        match self.array.poll_action() {
            Some(Action::Reply { tag, reply, data, .. }) if tag == expected_tag => {
                let bytes = data.to_vec();
                self.array.recycle(data);
                (reply, bytes)
            }
            other => panic!("no reply to command {expected_tag}, but {other:?}"),
        }
    }

    pub(crate) fn nothing_happens(&mut self) {
        assert!(self.array.poll_action().is_none());
    }

    /// Sends a command of nexus A to LUN 0 that returns data.
    pub(crate) fn ask(&mut self, cdb: &[u8]) -> (Reply, Vec<u8>) {
        self.ask_as(A, 0, cdb)
    }

    pub(crate) fn ask_as(&mut self, nexus: NexusId, lun: u16, cdb: &[u8]) -> (Reply, Vec<u8>) {
        let tag = self.send(nexus, lun, cdb, &[], 1 << 20);
        let answer = self.reply_to(tag);
        self.nothing_happens();
        answer
    }

    /// The same; it must end GOOD.
    pub(crate) fn get(&mut self, cdb: &[u8]) -> Vec<u8> {
        let (reply, data) = self.ask(cdb);
        assert_eq!(reply.status, Status::Good, "{:?}", reply.sense);
        data
    }

    /// Sends a command of nexus A to LUN 0 with data.
    pub(crate) fn tell(&mut self, cdb: &[u8], data: &[u8]) -> Reply {
        self.tell_as(A, cdb, data)
    }

    pub(crate) fn tell_as(&mut self, nexus: NexusId, cdb: &[u8], data: &[u8]) -> Reply {
        let tag = self.send(nexus, 0, cdb, data, u32::try_from(data.len()).unwrap());
        let (reply, back) = self.reply_to(tag);
        assert!(back.is_empty());
        reply
    }

    pub(crate) fn write(&mut self, lba: u8, data: &[u8]) {
        let reply = self.tell(&write_10(lba, blocks(data)), data);
        assert_eq!(reply, Reply::good());
    }

    pub(crate) fn read(&mut self, lba: u8, count: u8) -> Vec<u8> {
        self.get(&read_10(lba, count))
    }

    pub(crate) fn manage(&mut self, nexus: NexusId, function: Function, referenced: Option<u64>) -> u64 {
        self.tag += 1;
        let lun = Lun::from(0);
        self.handle(Event::TaskManagement { nexus, tag: self.tag, function, lun, referenced });
        self.tag
    }

    pub(crate) fn response_to(&mut self, expected_tag: u64) -> Response {
        match self.array.poll_action() {
            Some(Action::TaskManagementReply { tag, response, .. }) if tag == expected_tag => response,
            other => panic!("no answer to function {expected_tag}, but {other:?}"),
        }
    }
}

fn blocks(data: &[u8]) -> u8 {
    u8::try_from(data.len() / 512).unwrap()
}

pub(crate) const TEST_UNIT_READY: [u8; 6] = [0x00, 0, 0, 0, 0, 0];

/// READ(10): bytes 2 to 5 LBA, 7 and 8 blocks.
pub(crate) fn read_10(lba: u8, count: u8) -> [u8; 10] {
    [0x28, 0, 0, 0, 0, lba, 0, 0, count, 0]
}

/// WRITE(10).
pub(crate) fn write_10(lba: u8, count: u8) -> [u8; 10] {
    [0x2a, 0, 0, 0, 0, lba, 0, 0, count, 0]
}

/// Sense key, additional sense code and qualifier of a CHECK CONDITION.
pub(crate) fn sense(reply: &Reply) -> (SenseKey, u8, u8) {
    assert_eq!(reply.status, Status::CheckCondition);
    let sense = reply.sense.as_ref().unwrap().parse().unwrap();
    (sense.key, sense.additional.asc, sense.additional.ascq)
}

/// Where an ILLEGAL REQUEST points: byte, and bit if there is one.
pub(crate) fn field(reply: &Reply) -> (u16, Option<u8>) {
    match reply.sense.as_ref().unwrap().parse().unwrap().specific {
        Some(scsi::SenseKeySpecific::Field(field)) => (field.byte, field.bit),
        other => panic!("no field pointer but {other:?}"),
    }
}

pub(crate) const INVALID_FIELD: (SenseKey, u8, u8) = (SenseKey::IllegalRequest, 0x24, 0x00);
pub(crate) const OUT_OF_RANGE: (SenseKey, u8, u8) = (SenseKey::IllegalRequest, 0x21, 0x00);
pub(crate) const WRITE_PROTECTED: (SenseKey, u8, u8) = (SenseKey::DataProtect, 0x27, 0x00);

pub(crate) const fn attention(asc: u8, ascq: u8) -> (SenseKey, u8, u8) {
    (SenseKey::UnitAttention, asc, ascq)
}
