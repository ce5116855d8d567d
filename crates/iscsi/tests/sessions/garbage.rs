//! A target session takes any bytes without a panic, and always either reads on or says good-bye.

use std::io::IoSlice;

use block::Buffer;
use clock::{Duration, Instant};
use iscsi::pdu::{
    CommandSerials, Delivery, Header, InitiatorTaskTag, Isid, LoginRequest, LoginStages, NopOut,
    SerialNumber, Stage, TargetTransferTag,
};
use iscsi::target::{
    Action, CommandTag, Disconnect, Event, Session, TaskManagementResponse, TaskManagementTag,
};
use scsi::{Lun, Reply, SenseData};

use crate::chance::Chance;
use crate::pair::{INITIATOR, TARGET, target_options};

/// The bytes that each test feeds.
const BYTES: usize = 1 << 20;
const CMD_SN: u32 = 0xffff_ffc0;

/// A target session and a careless device server.
struct Victim {
    session: Session,
    now: Instant,
    commands: Vec<CommandTag>,
    managements: Vec<TaskManagementTag>,
    over: Option<Disconnect>,
}

impl Victim {
    fn new() -> Self {
        let session = Session::new(Instant::START, target_options());
        Self { session, now: Instant::START, commands: Vec::new(), managements: Vec::new(), over: None }
    }

    fn logged_in() -> Self {
        let mut victim = Self::new();
        let text = format!("InitiatorName={INITIATOR}\0TargetName={TARGET}\0InitialR2T=No\0");
        let stages =
            LoginStages { transit: true, more: false, current: Stage::Operational, next: Stage::FullFeature };
        let header = LoginRequest {
            stages,
            version_max: 0,
            version_min: 0,
            isid: Isid([0; 6]),
            tsih: 0,
            initiator_task_tag: InitiatorTaskTag(0),
            connection_id: 0,
            serials: CommandSerials { cmd_sn: SerialNumber(CMD_SN), exp_stat_sn: SerialNumber(0) },
        };
        victim.feed(&pdu(header.emit(), text.as_bytes()));
        assert_eq!(victim.over, None);
        victim
    }

    /// Feeds bytes until the session is over; the initiator reads all answers.
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.over.is_none() {
            let mut count = 0;
            for slice in &mut self.session.receive_into() {
                let part = slice.len().min(bytes.len() - count);
                slice[..part].copy_from_slice(&bytes[count..count + part]);
                count += part;
            }
            bytes = &bytes[count..];
            self.handle(Event::Received(count));
            let sent = self.send();
            assert!(
                count > 0 || sent > 0 || self.over.is_some(),
                "a session that reads nothing has something to say"
            );
        }
    }

    fn handle(&mut self, event: Event) {
        self.session.handle(self.now, event);
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Admit { .. } => self.session.handle(self.now, Event::Admitted { tsih: 1 }),
                Action::Command(command) => self.commands.push(command.tag),
                Action::TaskManagement { tag, .. } => self.managements.push(tag),
                Action::Disconnect(reason) => self.over = Some(reason),
                Action::LoggedIn(_) | Action::LoggedOut => {}
            }
        }
        assert!(self.commands.len() < 2000, "commands are bounded");
    }

    fn send(&mut self) -> usize {
        let mut total = 0;
        loop {
            let mut slices = [IoSlice::new(&[]); 16];
            let count = self.session.transmit(&mut slices);
            let sent: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            if sent == 0 {
                return total;
            }
            total += sent;
            self.handle(Event::Sent(sent));
        }
    }

    /// The device server does something, right or wrong.
    fn serve(&mut self, chance: &mut Chance) {
        if !self.commands.is_empty() {
            let tag = self.commands.swap_remove(chance.below(self.commands.len()));
            let data = Buffer::zeroed(chance.below(20_000));
            let sense = SenseData::new(&[0x70; 18]);
            let event = match chance.below(4) {
                0 => Event::Aborted { tag },
                1 => Event::Reply { tag, reply: Reply::check_condition(sense), data },
                _ => Event::Reply { tag, reply: Reply::good(), data },
            };
            self.handle(event);
        }
        if !self.managements.is_empty() {
            let tag = self.managements.swap_remove(0);
            let response = match chance.below(3) {
                0 => TaskManagementResponse::TaskDoesNotExist,
                _ => TaskManagementResponse::Complete,
            };
            self.handle(Event::TaskManagementDone { tag, response });
        }
        self.now = self.now + Duration::from_millis(1);
        self.handle(Event::Timeout);
        self.send();
    }
}

fn pdu(header: Header, data: &[u8]) -> Vec<u8> {
    let header = header.with_data_length(u32::try_from(data.len()).expect("short data"));
    let mut bytes = [&header.0[..], data].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A PDU that is nearly one: small tags and lengths, numbers close to what is expected.
fn nearly_a_pdu(chance: &mut Chance, cmd_sn: &mut u32) -> Vec<u8> {
    let mut header = [0; 48];
    chance.fill(&mut header);
    let opcodes = [0x00, 0x01, 0x01, 0x01, 0x02, 0x04, 0x05, 0x05, 0x05, 0x06, 0x10, 0x03, 0x1f];
    let opcode = opcodes[chance.below(opcodes.len())];
    // A logout ends the fun.
    let opcode = if opcode == 0x06 && !chance.one_in(20) { 0x01 } else { opcode };
    header[0] = opcode | if chance.one_in(4) { 0x40 } else { 0 };
    header[4] = if chance.one_in(30) { 1 } else { 0 };
    header[8..16].fill(0);
    header[9] = u8::from(chance.one_in(2));
    header[16..19].fill(0);
    header[19] = chance.byte() & 7;
    // Tags, expected lengths and offsets that fit now and then.
    if chance.one_in(2) {
        header[20..24].fill(if chance.one_in(2) { 0xff } else { 0 });
    } else {
        header[20..22].fill(0);
    }
    if !chance.one_in(50) {
        header[24..28].copy_from_slice(&cmd_sn.to_be_bytes());
    }
    if matches!(opcode, 0x00 | 0x01 | 0x02 | 0x04 | 0x06) && header[0] & 0x40 == 0 {
        *cmd_sn = cmd_sn.wrapping_add(1);
    }
    header[36..44].fill(0);
    header[39] = chance.byte() & 1;
    if chance.one_in(2) {
        header[42] = chance.byte() & 7;
    }
    let additional = usize::from(header[4]) * 4;
    let mut data = vec![0; if chance.one_in(2) { chance.below(1500) } else { 0 }];
    chance.fill(&mut data);
    let mut bytes = pdu(Header(header), &data);
    bytes.splice(48..48, vec![0; additional]);
    bytes
}

#[test]
fn a_million_random_bytes_before_the_login_end_in_a_disconnect_each_time() {
    let mut chance = Chance::new(1);
    let mut fed = 0;
    while fed < BYTES {
        let mut bytes = vec![0; 48 + chance.below(2000)];
        chance.fill(&mut bytes);
        // Most would end at the first byte: let them look like a login.
        if chance.one_in(2) {
            bytes[0] = 0x43;
            bytes[4..7].fill(0);
        }
        fed += bytes.len();
        let mut victim = Victim::new();
        victim.feed(&bytes);
        victim.session.handle(victim.now + Duration::from_secs(15), Event::Timeout);
        victim.handle(Event::Timeout);
        assert!(victim.over.is_some());
    }
}

#[test]
fn a_million_bytes_of_nearly_right_pdus_never_panic() {
    let mut chance = Chance::new(2);
    let (mut fed, mut sessions, mut commands) = (0, 0, 0);
    while fed < BYTES {
        let mut victim = Victim::logged_in();
        let mut cmd_sn = CMD_SN;
        sessions += 1;
        while victim.over.is_none() && fed < BYTES {
            let bytes = nearly_a_pdu(&mut chance, &mut cmd_sn);
            fed += bytes.len();
            victim.feed(&bytes);
            let before = victim.commands.len();
            if chance.one_in(3) {
                victim.serve(&mut chance);
            }
            commands += before - victim.commands.len().min(before);
        }
    }
    assert!(
        sessions > 1 && commands > 100,
        "{sessions} sessions, {commands} commands: the bytes are too random"
    );
}

#[test]
fn a_million_random_bytes_after_the_login_never_panic() {
    let mut chance = Chance::new(3);
    let mut fed = 0;
    while fed < BYTES {
        let mut victim = Victim::logged_in();
        let mut bytes = vec![0; 1 + chance.below(5000)];
        chance.fill(&mut bytes);
        fed += bytes.len();
        let ping = NopOut {
            delivery: Delivery::Immediate,
            lun: Lun::default(),
            initiator_task_tag: InitiatorTaskTag(1),
            target_transfer_tag: TargetTransferTag::NONE,
            serials: CommandSerials::default(),
        };
        victim.feed(&pdu(ping.emit(), &bytes[..bytes.len() / 2]));
        victim.feed(&bytes);
        victim.serve(&mut chance);
        victim.handle(Event::Closed);
        assert!(victim.over.is_some());
    }
}
