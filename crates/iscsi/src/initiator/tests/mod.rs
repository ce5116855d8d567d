//! Stories of a session and a scripted target.
#![expect(clippy::cast_possible_truncation, reason = "the numbers of these stories are small")]

mod commands;
mod login;
mod losses;
mod properties;

use std::io::IoSlice;

use block::Buffer;
use clock::{Duration, Instant};
use scsi::{CdbBytes, Command, CommandId, Ending, Lun, Reply, TaskAttribute, Transfer};

use super::*;
use crate::negotiation::Offers;
use crate::pdu::{
    DataIn, DataInStatus, Isid, LoginStatus, Pdu, ReadyToTransfer, ResidualCount, ResponseCode, ScsiResponse,
    SerialNumber, Stage, StatusSerials,
};
use crate::text::Text;

const ISID: Isid = Isid([0x80, 1, 2, 3, 0, 5]);
const LUN: Lun = Lun([0, 1, 0, 0, 0, 0, 0, 0]);
/// The target's first StatSN, so that its numbers are not ours.
const STAT_SN: u32 = 1000;

fn options() -> Options {
    let target_name = "iqn.2001-04.com.example:disk".parse().unwrap();
    Options::new("iqn.2001-04.com.example:host".parse().unwrap(), ISID, Kind::Normal { target_name })
}

fn at(millis: u64) -> Instant {
    Instant::START + Duration::from_millis(millis)
}

/// A session, a target that says what the test wants, and what has come of it.
struct Story {
    session: Session<()>,
    now: Instant,
    stat_sn: u32,
    /// How many commands beyond those sent the target takes.
    window: u32,
    cmd_sn: u32,
    /// Cuts what the session sends.
    framer: Incoming<()>,
    happened: Vec<Action<()>>,
    /// The largest number of bytes that come or go at once.
    piece: usize,
}

impl Story {
    fn new(options: Options) -> Self {
        Self {
            session: Session::new(options).unwrap(),
            now: at(0),
            stat_sn: STAT_SN,
            window: 32,
            cmd_sn: 1,
            framer: Incoming::new(1 << 24),
            happened: Vec::new(),
            piece: usize::MAX,
        }
    }

    /// Logged in, with what the target answers to our offers.
    fn logged_in(options: Options, answers: &str) -> Self {
        let mut story = Self::new(options);
        story.handle(Event::Connected);
        story.sent();
        story.login_response(
            Stage::Security,
            Stage::Operational,
            true,
            "TargetPortalGroupTag=1,AuthMethod=None",
        );
        story.sent();
        story.login_response(Stage::Operational, Stage::FullFeature, true, answers);
        assert!(matches!(story.happened[..], [Action::LoggedIn(_)]), "{:?}", story.happened);
        story.happened.clear();
        story
    }

    fn handle(&mut self, event: Event<()>) {
        self.session.handle(self.now, event);
        self.happened.extend(core::iter::from_fn(|| self.session.poll_action()));
    }

    fn wait(&mut self, until: u64) {
        self.now = at(until);
        self.handle(Event::Timeout);
    }

    /// Everything that the session sends by now: headers and data.
    fn sent(&mut self) -> Vec<(Pdu, Vec<u8>)> {
        let mut pdus = Vec::new();
        loop {
            let mut slices = [IoSlice::new(&[]); 8];
            let used = self.session.transmit(&mut slices);
            let mut bytes: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.to_vec()).collect();
            bytes.truncate(self.piece);
            if bytes.is_empty() {
                return pdus;
            }
            self.handle(Event::Sent(bytes.len()));
            self.cut(&bytes, &mut pdus);
        }
    }

    fn cut(&mut self, mut bytes: &[u8], pdus: &mut Vec<(Pdu, Vec<u8>)>) {
        while !bytes.is_empty() {
            let count = fill(&mut self.framer.receive_into(|()| &mut []), &mut bytes, usize::MAX);
            self.framer.received(count, |()| &mut []);
            loop {
                match self.framer.step(|()| &mut []).unwrap() {
                    Step::More => break,
                    Step::Header(_) => self.framer.place(Destination::Own),
                    Step::Complete(header) => {
                        pdus.push((Pdu::parse(&header), self.framer.data().to_vec()));
                    }
                }
            }
        }
    }

    /// The target sends a PDU.
    fn give(&mut self, pdu: Pdu, data: &[u8]) {
        let mut outgoing = Outgoing::<()>::new();
        let negotiated = self.session.negotiated;
        if self.session.is_logged_in() {
            outgoing.set_digests(Digests { header: negotiated.header_digest, data: negotiated.data_digest });
        }
        outgoing.push_own(pdu.emit(), None, data.to_vec());
        let mut slices = [IoSlice::new(&[]); 3];
        let used = outgoing.transmit(&mut slices, |()| &[]);
        let bytes: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.to_vec()).collect();
        self.give_bytes(&bytes);
    }

    fn give_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = fill(&mut self.session.receive_into(), &mut bytes, self.piece);
            if count == 0 {
                return;
            }
            self.handle(Event::Received(count));
        }
    }

    fn serials(&self) -> StatusSerials {
        StatusSerials {
            stat_sn: SerialNumber(self.stat_sn),
            exp_cmd_sn: SerialNumber(self.cmd_sn),
            max_cmd_sn: SerialNumber(self.cmd_sn.wrapping_add(self.window).wrapping_sub(1)),
        }
    }

    /// The same, using up a StatSN.
    fn status_serials(&mut self) -> StatusSerials {
        let serials = self.serials();
        self.stat_sn += 1;
        serials
    }

    fn login_response(&mut self, current: Stage, next: Stage, transit: bool, pairs: &str) {
        let mut text = Text::new();
        for (key, value) in pairs.split(',').filter_map(|pair| pair.split_once('=')) {
            text.push(key, value);
        }
        let stages = LoginStages { transit, more: false, current, next };
        self.login_pdu(stages, LoginStatus::Success, text.as_bytes());
    }

    fn login_pdu(&mut self, stages: LoginStages, status: LoginStatus, data: &[u8]) {
        let response = LoginResponse {
            stages,
            version_max: 0,
            version_active: 0,
            isid: ISID,
            tsih: 7,
            initiator_task_tag: InitiatorTaskTag(0x8000_0001),
            serials: self.status_serials(),
            status,
        };
        self.give(Pdu::LoginResponse(response), data);
    }

    fn command(&mut self, id: u64, transfer: Transfer, data: Vec<u8>) {
        let command = Command {
            id: CommandId(id),
            cdb: CdbBytes::new(&[0x8a, 1, 2, 3]),
            attribute: TaskAttribute::Simple,
            transfer,
            buffer: Buffer::from(data),
            context: (),
        };
        self.handle(Event::Command { lun: LUN, command });
    }

    /// Sends a command; returns its tag.
    fn start(&mut self, id: u64, transfer: Transfer, data: Vec<u8>) -> InitiatorTaskTag {
        self.command(id, transfer, data);
        match self.sent().first() {
            Some((Pdu::ScsiCommand(pdu), _)) => {
                self.cmd_sn = pdu.serials.cmd_sn.next().0;
                pdu.initiator_task_tag
            }
            other => panic!("expected a command, found {other:?}"),
        }
    }

    fn read(&mut self, id: u64, length: u32) -> InitiatorTaskTag {
        self.start(id, Transfer::FromDevice { offset: 0, length }, vec![0; length as usize])
    }

    fn data_in(&mut self, tag: InitiatorTaskTag, data_sn: u32, offset: u32, data: &[u8], ends: bool) {
        let status = ends.then_some(DataInStatus { status: 0, residual: ResidualCount::default() });
        let serials = if ends { self.status_serials() } else { self.serials() };
        let pdu = DataIn {
            last: ends,
            acknowledge: false,
            status,
            lun: LUN,
            initiator_task_tag: tag,
            target_transfer_tag: TargetTransferTag::NONE,
            serials,
            data_sn,
            buffer_offset: offset,
        };
        self.give(Pdu::DataIn(pdu), data);
    }

    fn r2t(&mut self, tag: InitiatorTaskTag, r2t_sn: u32, offset: u32, length: u32) {
        let pdu = ReadyToTransfer {
            lun: LUN,
            initiator_task_tag: tag,
            target_transfer_tag: TargetTransferTag(0x70 + r2t_sn),
            serials: self.serials(),
            r2t_sn,
            buffer_offset: offset,
            desired_data_transfer_length: length,
        };
        self.give(Pdu::ReadyToTransfer(pdu), &[]);
    }

    fn response(&mut self, tag: InitiatorTaskTag, status: u8, residual: ResidualCount, sense: &[u8]) {
        let pdu = ScsiResponse {
            response: ResponseCode::CompletedAtTarget,
            status,
            initiator_task_tag: tag,
            serials: self.status_serials(),
            exp_data_sn: 0,
            residual,
            bidirectional_read_residual: ResidualCount::default(),
        };
        self.give(Pdu::ScsiResponse(pdu), sense);
    }

    fn good(&mut self, tag: InitiatorTaskTag) {
        self.response(tag, 0, ResidualCount::default(), &[]);
    }

    /// Which commands came back by now, how, and what their memory holds.
    fn ended(&mut self) -> Vec<(u64, Ending, Vec<u8>)> {
        let (ended, others): (Vec<_>, Vec<_>) =
            self.happened.drain(..).partition(|action| matches!(action, Action::Ended { .. }));
        self.happened = others;
        ended
            .into_iter()
            .filter_map(|action| match action {
                Action::Ended { command, ending } => Some((command.id.0, ending, command.buffer.to_vec())),
                _ => None,
            })
            .collect()
    }

    fn endings(&mut self) -> Vec<(u64, Ending)> {
        self.ended().into_iter().map(|(id, ending, _)| (id, ending)).collect()
    }

    /// Why the session is over, if it is.
    fn over(&self) -> Option<&Reason> {
        self.happened.iter().find_map(|action| match action {
            Action::Disconnect(reason) => Some(reason),
            _ => None,
        })
    }
}

fn fill(room: &mut [IoSliceMut<'_>; 2], bytes: &mut &[u8], piece: usize) -> usize {
    let mut count = 0;
    for slice in room {
        let step = slice.len().min(bytes.len()).min(piece - count);
        slice[..step].copy_from_slice(&bytes[..step]);
        *bytes = &bytes[step..];
        count += step;
    }
    count
}

fn good() -> Ending {
    Ending::Reply(Reply::good())
}
