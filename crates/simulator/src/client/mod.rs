//! A simulated NBD client: asks, checks each answer, and comes back when its connection is lost.

mod conversation;

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};

use clock::{Duration, Instant};
use nbd::protocol::{Errno, transmission_flags};

use crate::check::{Change, Moment, Rule};
use crate::link::{self, Arrived, ConnectionId, Door, End, Wire};
use crate::log::Part;
use crate::plan::{ClientPlan, Overlaps, UnitPlan};
use crate::random::Random;
use crate::scene::{Scene, Source};
use crate::stamp::{self, BlockAt, Content, WriteId};
use conversation::{Answer, Command, Conversation};

/// How long a client waits before it connects again.
const RECONNECT_AFTER: Duration = Duration::from_millis(200);

/// How long a client waits before it reads again what was beyond the end.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Client {
    index: u32,
    plan: ClientPlan,
    unit: UnitPlan,
    connection: Option<ConnectionId>,
    conversation: Conversation,
    /// What is out, and since when.
    in_flight: BTreeMap<u64, (Asked, Instant)>,
    cookies: u64,
    issued: u32,
    /// When the next request is due, or the next connection.
    next_at: Instant,
    phase: Phase,
    /// The longest time that an answer took.
    pub(crate) longest_wait: Duration,
    random: Random,
}

/// What a client does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Load,
    /// Reads everything, from this block on.
    ReadBack {
        next: u32,
    },
    Done,
}

/// A request that is out.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Read { first: u32, blocks: u32, began: Moment },
    Change(WriteId),
    Flush { began: Moment },
}

impl Wire for Conversation {
    fn receive_into(&mut self) -> [IoSliceMut<'_>; 2] {
        [IoSliceMut::new(&mut []), IoSliceMut::new(self.room())]
    }

    fn received(&mut self, _now: Instant, count: usize) {
        self.arrived(count);
    }

    fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        if self.outgoing().is_empty() {
            return 0;
        }
        slices[0] = IoSlice::new(self.outgoing());
        1
    }

    fn sent(&mut self, _now: Instant, count: usize) {
        self.left(count);
    }
}

impl Client {
    pub(crate) fn new(index: u32, plan: ClientPlan, unit: UnitPlan, random: Random) -> Self {
        Self {
            index,
            plan,
            unit,
            connection: None,
            conversation: Conversation::new(plan.structured),
            in_flight: BTreeMap::new(),
            cookies: u64::from(index) << 32,
            issued: 0,
            next_at: Instant::START,
            phase: Phase::Load,
            longest_wait: Duration::ZERO,
            random,
        }
    }

    pub(crate) const fn unit(&self) -> u32 {
        self.plan.unit
    }

    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    /// All requests of this phase are answered.
    pub(crate) fn is_idle(&self) -> bool {
        let is_over = match self.phase {
            Phase::Load => self.issued >= self.plan.requests,
            Phase::ReadBack { .. } => false,
            Phase::Done => true,
        };
        is_over && self.in_flight.is_empty()
    }

    pub(crate) fn waits_for(&self) -> String {
        let Self { index, issued, .. } = self;
        format!("client {index} waits for {} answers, asked {issued}, {:?}", self.in_flight.len(), self.phase)
    }

    /// No more pauses: what is left is asked as fast as the depth allows.
    pub(crate) fn hurry(&mut self, scene: &mut Scene) {
        self.plan.pause = Duration::ZERO;
        self.next_at = self.next_at.min(scene.now + RECONNECT_AFTER);
        scene.touched.add(Source::Client(self.index));
    }

    pub(crate) fn read_back(&mut self, scene: &mut Scene) {
        self.phase = Phase::ReadBack { next: 0 };
        scene.touched.add(Source::Client(self.index));
    }

    /// Something came, or there is room to send.
    pub(crate) fn wake(&mut self, scene: &mut Scene, id: ConnectionId, export: Option<String>) {
        if self.connection != Some(id) {
            scene.network.take_signal(scene.now, id, End::Near);
            return;
        }
        match scene.network.arrived(scene.now, id, End::Near) {
            Arrived::Open => {
                scene.network.take_signal(scene.now, id, End::Near);
                self.conversation = Conversation::new(self.plan.structured);
                self.conversation.ask_for(export.unwrap_or_default());
            }
            Arrived::Finish | Arrived::Reset => {
                scene.network.take_signal(scene.now, id, End::Near);
                self.hang_up(scene, "the server closed");
            }
            Arrived::Bytes | Arrived::Nothing => {
                link::receive(&mut scene.network, scene.now, id, End::Near, &mut self.conversation);
            }
        }
        scene.touched.add(Source::Client(self.index));
    }

    pub(crate) fn expire(&mut self, scene: &mut Scene) {
        scene.touched.add(Source::Client(self.index));
    }

    /// Takes answers, asks what is due, connects if need be.
    pub(crate) fn drain(&mut self, scene: &mut Scene) {
        loop {
            match self.conversation.next_answer() {
                Ok(None) => break,
                Ok(Some(answer)) => self.answered(scene, answer),
                Err(text) => {
                    if self.conversation.is_open() {
                        let finding = Err(format!("client {}: {text}", self.index));
                        scene.checks.found(scene.now, Rule::Completion, finding);
                    }
                    self.hang_up(scene, &text);
                    break;
                }
            }
        }
        if self.connection.is_none() && self.next_at <= scene.now && self.phase != Phase::Done {
            self.connection = Some(scene.network.connect(scene.now, Door::Export, self.index));
        }
        while self.conversation.is_open() && self.is_due(scene.now) {
            self.ask(scene);
        }
    }

    pub(crate) fn flush(&mut self, scene: &mut Scene) {
        if let Some(id) = self.connection {
            link::flush(&mut scene.network, scene.now, id, End::Near, &mut self.conversation);
        }
        let is_waiting = self.connection.is_none() || self.in_flight.len() < self.plan.depth;
        let has_more = match self.phase {
            Phase::Load => self.issued < self.plan.requests,
            Phase::ReadBack { .. } => true,
            Phase::Done => false,
        };
        if is_waiting && (has_more || self.connection.is_none()) && self.next_at > scene.now {
            scene.timers.arm(Source::Client(self.index), Some(self.next_at));
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Load => {
                self.in_flight.len() < self.plan.depth
                    && self.issued < self.plan.requests
                    && self.next_at <= now
            }
            Phase::ReadBack { next } => {
                self.in_flight.is_empty() && next < self.unit.blocks && self.next_at <= now
            }
            Phase::Done => false,
        }
    }

    fn ask(&mut self, scene: &mut Scene) {
        if let Phase::ReadBack { next } = self.phase {
            let blocks = self.plan.blocks_max.max(8).min(self.unit.blocks - next);
            return self.ask_read(scene, next, blocks);
        }
        self.issued += 1;
        self.next_at =
            scene.now + Duration::from_nanos(self.random.below(self.plan.pause.as_nanos() * 2 + 1));
        let (first, blocks) = self.draw_extent();
        let mix = self.plan.mix;
        let mut dice = self.random.below(mix.read + mix.write + mix.flush + mix.zeroes + mix.trim);
        let flags = self.conversation.flags();
        let mut chosen = |weight: u64| {
            let is_chosen = dice < weight;
            dice = if is_chosen { u64::MAX } else { dice - weight };
            is_chosen
        };
        let is_taken = self.plan.overlaps == Overlaps::Avoided
            && scene.checks.ledger.is_busy(self.plan.unit, first, blocks);
        if is_taken || chosen(mix.read) {
            self.ask_read(scene, first, blocks);
        } else if chosen(mix.write) {
            self.ask_write(scene, first, blocks);
        } else if chosen(mix.flush) {
            self.ask_flush(scene);
        } else if chosen(mix.zeroes) && flags & transmission_flags::SEND_WRITE_ZEROES != 0 {
            self.ask_change(scene, first, blocks, Change::Zero);
        } else if flags & transmission_flags::SEND_TRIM != 0 {
            self.ask_change(scene, first, blocks, Change::Trim);
        } else {
            self.ask_write(scene, first, blocks);
        }
    }

    fn draw_extent(&mut self) -> (u32, u32) {
        let span = if self.random.percent(50) {
            self.unit.blocks.min(self.plan.hot_blocks)
        } else {
            self.unit.blocks
        };
        let blocks = 1 + self.random.below(u64::from(self.plan.blocks_max.min(span)));
        let first = self.random.below(u64::from(span) - blocks + 1);
        let small = |value: u64| u32::try_from(value).expect("units are small");
        (small(first), small(blocks))
    }

    fn ask_read(&mut self, scene: &mut Scene, first: u32, blocks: u32) {
        let began = scene.checks.ledger.moment();
        let (offset, length) = self.bytes(first, blocks);
        self.send(scene, Asked::Read { first, blocks, began }, Command::Read { offset, length });
    }

    fn ask_write(&mut self, scene: &mut Scene, first: u32, blocks: u32) {
        let durable = self.random.percent(10);
        let ledger = &mut scene.checks.ledger;
        let id = if durable {
            ledger.begin_durable(self.plan.unit, first, blocks, Change::Stamp)
        } else {
            ledger.begin(self.plan.unit, first, blocks, Change::Stamp)
        };
        let (offset, length) = self.bytes(first, blocks);
        let mut data = vec![0; length as usize];
        for (block, lba) in data.chunks_exact_mut(self.unit.block_size as usize).zip(first..) {
            stamp::fill(block, BlockAt { unit: self.plan.unit, lba }, id);
        }
        self.send(scene, Asked::Change(id), Command::Write { offset, data: &data, durable });
    }

    fn ask_change(&mut self, scene: &mut Scene, first: u32, blocks: u32, change: Change) {
        let durable = change != Change::Trim && self.random.percent(20);
        let ledger = &mut scene.checks.ledger;
        let id = if durable {
            ledger.begin_durable(self.plan.unit, first, blocks, change)
        } else {
            ledger.begin(self.plan.unit, first, blocks, change)
        };
        let (offset, length) = self.bytes(first, blocks);
        let command = match change {
            Change::Trim => Command::Trim { offset, length },
            Change::Zero | Change::Stamp => {
                Command::WriteZeroes { offset, length, keep: self.random.percent(50), durable }
            }
        };
        self.send(scene, Asked::Change(id), command);
    }

    fn ask_flush(&mut self, scene: &mut Scene) {
        let began = scene.checks.ledger.moment();
        self.send(scene, Asked::Flush { began }, Command::Flush);
    }

    fn send(&mut self, scene: &mut Scene, asked: Asked, command: Command<'_>) {
        self.cookies += 1;
        let cookie = self.cookies;
        scene.note(Part::Client, [1, cookie, 0], || {
            format!("client {} asks {cookie:x} {asked:?}", self.index)
        });
        scene.checks.completions.asked(self.index, cookie);
        self.in_flight.insert(cookie, (asked, scene.now));
        self.conversation.send(cookie, &command);
    }

    fn bytes(&self, first: u32, blocks: u32) -> (u64, u32) {
        (u64::from(first) * u64::from(self.unit.block_size), blocks * self.unit.block_size)
    }

    fn answered(&mut self, scene: &mut Scene, answer: Answer) {
        let failed = answer.error.is_some();
        let cookie = answer.cookie;
        scene.note(Part::Client, [2, cookie, u64::from(failed)], || {
            format!("client {} gets {cookie:x} {:?}", self.index, answer.error)
        });
        let finding = scene.checks.completions.answered(self.index, cookie, failed);
        scene.checks.found(scene.now, Rule::Completion, finding);
        let asked = self.in_flight.remove(&cookie);
        if let Some((asked, since)) = asked {
            if let Some(error) = answer.error {
                self.judge_error(scene, asked, since, error);
            }
            self.longest_wait = self.longest_wait.max(scene.now.since(since));
        }
        match asked.map(|(asked, _)| asked) {
            Some(Asked::Change(id)) => {
                scene.checks.ledger.end(id, !failed);
                let checks = &mut scene.checks;
                if let Some(write) = checks.ledger.get(id)
                    && !failed
                {
                    checks.medium.acknowledged(id, write);
                    let finding = checks.durability.acknowledged(id, write.is_durable);
                    checks.found(scene.now, Rule::Durability, finding);
                }
            }
            Some(Asked::Flush { began }) => {
                let checks = &mut scene.checks;
                let finding =
                    checks.durability.flushed(scene.now, &checks.ledger, self.plan.unit, began, failed);
                checks.found(scene.now, Rule::Durability, finding);
            }
            Some(Asked::Read { first, blocks, began }) if !failed => {
                self.check_read(scene, first, began, &answer.data);
                if let Phase::ReadBack { next } = &mut self.phase {
                    *next = first + blocks;
                    if *next >= self.unit.blocks {
                        self.phase = Phase::Done;
                    }
                }
            }
            // A unit that is as large again as it was says so to whoever uses it, and a path that is not used asks later.
            Some(Asked::Read { .. }) if self.phase != Phase::Load && answer.error == Some(Errno::Inval) => {
                self.next_at = scene.now + READ_AGAIN_AFTER;
            }
            Some(Asked::Read { .. }) if self.phase != Phase::Load => {
                let finding = Err(format!("a read failed without any fault: {:?}", answer.error));
                scene.checks.found(scene.now, Rule::Liveness, finding);
                self.phase = Phase::Done;
            }
            Some(Asked::Read { .. }) | None => {}
        }
    }

    /// An error that a path without faults could have avoided is one too many, but for the flush that tells of a cache
    /// that was lost, however long ago.
    fn judge_error(&self, scene: &mut Scene, asked: Asked, since: Instant, error: Errno) {
        let checks = &mut scene.checks;
        let tells_of_loss = matches!(asked, Asked::Flush { .. }) && checks.durability.is_owed(self.plan.unit);
        if checks.weather.had_a_way_since(since) && !tells_of_loss {
            let finding =
                Err(format!("client {} got {error:?}, and a path was there all the time", self.index));
            checks.found(scene.now, Rule::Permanence, finding);
        }
    }

    fn check_read(&self, scene: &mut Scene, first: u32, began: Moment, data: &[u8]) {
        let ended = scene.checks.ledger.moment();
        for (block, lba) in data.chunks_exact(self.unit.block_size as usize).zip(first..) {
            let at = BlockAt { unit: self.plan.unit, lba };
            let content = stamp::read(block, at);
            let checks = &mut scene.checks;
            if content == Content::Garbage && checks.wire_is_silent {
                checks.silent_damage += 1;
                continue;
            }
            let finding = checks.register.read(&checks.ledger, at, content, began, ended);
            checks.found(scene.now, Rule::Register, finding);
        }
    }

    /// The connection is over: nobody knows what became of what is in flight.
    pub(crate) fn hang_up(&mut self, scene: &mut Scene, reason: &str) {
        let Some(id) = self.connection.take() else { return };
        scene.note(Part::Client, [3, self.index.into(), 0], || {
            format!("client {} hangs up: {reason}", self.index)
        });
        scene.network.reset(scene.now, id, End::Near);
        for (cookie, (asked, _)) in std::mem::take(&mut self.in_flight) {
            if matches!(asked, Asked::Flush { .. }) {
                scene.checks.durability.flush_abandoned(self.plan.unit);
            }
            scene.checks.completions.abandoned(self.index, cookie);
        }
        self.conversation = Conversation::new(self.plan.structured);
        self.next_at = scene.now + RECONNECT_AFTER;
        scene.touched.add(Source::Client(self.index));
    }
}
