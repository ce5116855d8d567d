//! Whatever paths do, every request ends once, and reads return what was acknowledged.
//!
//! The device executes a command at once, never, or late: at any time until the fence of its path is proved. That
//! the same histories go wrong without fences is shown too.

use std::collections::BTreeMap;

use block::{Buffer, Durability, Effort, Operation, Provisioning, Tag};
use clock::Duration;
use multipath::{NoPath, PathId, Policy};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use scsi::cdb::operation as op;
use scsi::port_groups::AccessState;
use scsi::{Reply, SenseKey, Status};
use scsi_multipath::{Event, FencePolicy, Managed, Options, Proof};

use crate::device::{BLOCK, BLOCK_LENGTH, Device, refuse, sense};
use crate::rig::{Fault, Fencing, Rig};

const BLOCKS: u8 = 16;
const PORTS: u16 = 3;

#[derive(Clone, Debug)]
enum Step {
    Write {
        block: u8,
        blocks: u8,
        value: u8,
        durable: bool,
    },
    Read {
        block: u8,
        blocks: u8,
    },
    Zero {
        block: u8,
        blocks: u8,
        deallocate: bool,
    },
    Discard {
        block: u8,
        blocks: u8,
    },
    Flush,
    Fault {
        port: u16,
        kind: u8,
        times: u8,
    },
    Access {
        port: u16,
        state: AccessState,
    },
    /// The port's path goes; a new one comes later.
    Lose {
        port: u16,
        executed: bool,
    },
    Return {
        port: u16,
    },
    Hold,
    LetGo,
    Pass {
        millis: u64,
    },
    Policy(Policy),
    /// The target executes something of a nexus that is gone.
    Haunt,
    /// The oldest fence is proved.
    Prove,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = || (0..BLOCKS, 1..5u8).prop_map(|(block, blocks)| (block, blocks.min(BLOCKS - block)));
    let port = || 1..=PORTS;
    let state = prop_oneof![
        4 => Just(AccessState::Optimized),
        2 => Just(AccessState::NonOptimized),
        1 => Just(AccessState::Standby),
        1 => Just(AccessState::Unavailable),
        2 => Just(AccessState::Transitioning),
    ];
    let step = prop_oneof![
        8 => (range(), 1..=255u8, any::<bool>())
            .prop_map(|((block, blocks), value, durable)| Step::Write { block, blocks, value, durable }),
        6 => range().prop_map(|(block, blocks)| Step::Read { block, blocks }),
        1 => (range(), any::<bool>())
            .prop_map(|((block, blocks), deallocate)| Step::Zero { block, blocks, deallocate }),
        1 => range().prop_map(|(block, blocks)| Step::Discard { block, blocks }),
        1 => Just(Step::Flush),
        8 => (port(), any::<u8>(), 1..4u8).prop_map(|(port, kind, times)| Step::Fault { port, kind, times }),
        2 => (port(), state).prop_map(|(port, state)| Step::Access { port, state }),
        1 => (port(), any::<bool>()).prop_map(|(port, executed)| Step::Lose { port, executed }),
        2 => port().prop_map(|port| Step::Return { port }),
        1 => Just(Step::Hold),
        2 => Just(Step::LetGo),
        4 => (0..5_000u64).prop_map(|millis| Step::Pass { millis }),
        3 => Just(Step::Haunt),
        2 => Just(Step::Prove),
        1 => prop_oneof![Just(Policy::Numa), Just(Policy::RoundRobin), Just(Policy::QueueDepth)]
            .prop_map(Step::Policy),
    ];
    prop::collection::vec(step, 1..80)
}

fn fault(kind: u8) -> Fault {
    let attention = |asc, ascq| Fault::Reply(sense(SenseKey::UnitAttention, asc, ascq));
    let status = |status| Fault::Reply(Reply { status, ..Reply::good() });
    match kind % 27 {
        0 | 1 => Fault::LostBefore,
        2 | 3 => Fault::LostAfter,
        4 => Fault::NotSent,
        5 => Fault::Aborted,
        6 => status(Status::Busy),
        7 => status(Status::TaskSetFull),
        8 => status(Status::TaskAborted),
        9 => status(Status::ReservationConflict),
        10 => status(Status::CheckCondition),
        11 => attention(0x29, 0x00),
        12 => attention(0x29, 0x07),
        13 => attention(0x2a, 0x06),
        14 => attention(0x2a, 0x09),
        15 => attention(0x3f, 0x0e),
        16 => Fault::Reply(sense(SenseKey::NotReady, 0x04, 0x0a)),
        17 => Fault::Reply(sense(SenseKey::NotReady, 0x04, 0x0b)),
        18 => Fault::Reply(sense(SenseKey::NotReady, 0x04, 0x01)),
        19 => Fault::Reply(sense(SenseKey::MediumError, 0x11, 0x00)),
        20 => Fault::Executed(sense(SenseKey::AbortedCommand, 0x00, 0x00)),
        21 => Fault::Executed(sense(SenseKey::HardwareError, 0x44, 0x00)),
        22 => Fault::Reply(refuse(0x25, 0x00)),
        24..=26 => Fault::LostLate,
        _ => Fault::Executed(sense(SenseKey::RecoveredError, 0x18, 0x00)),
    }
}

/// What each block may hold: one value after an acknowledged write, more after one whose fate is unknown.
struct Model {
    blocks: Vec<Vec<u8>>,
    /// Requests that have not ended, with what they do to which blocks.
    open: BTreeMap<Tag, (Operation, u8)>,
}

impl Model {
    fn new() -> Self {
        Self { blocks: vec![vec![0]; BLOCKS.into()], open: BTreeMap::new() }
    }

    fn blocks_of(operation: &Operation) -> core::ops::Range<usize> {
        let (offset, length) = operation.extent().unwrap_or((0, 0));
        let first = usize::try_from(offset).expect("small") / BLOCK;
        first..first + length as usize / BLOCK
    }

    /// Whether an open request touches the same blocks: then the outcome is nobody's to predict.
    fn is_busy(&self, operation: &Operation) -> bool {
        let wanted = Self::blocks_of(operation);
        self.open.values().any(|(open, _)| {
            let open = Self::blocks_of(open);
            open.start < wanted.end && wanted.start < open.end
        })
    }

    /// Takes in what has ended since.
    fn catch_up(&mut self, rig: &mut Rig) {
        for (tag, (completion, buffer)) in core::mem::take(&mut rig.finished) {
            let (operation, value) = self.open.remove(&tag).expect("a request ends once");
            let range = Self::blocks_of(&operation);
            match (operation, completion) {
                (Operation::Read { .. }, Ok(())) => {
                    for (at, bytes) in range.zip(buffer.chunks(BLOCK)) {
                        assert!(bytes.iter().all(|&byte| byte == bytes[0]), "a block is whole");
                        let may_hold = &mut self.blocks[at];
                        assert!(may_hold.contains(&bytes[0]), "block {at}: {} of {may_hold:?}", bytes[0]);
                        // What is late may still change it.
                        if rig.ghosts.is_empty() {
                            *may_hold = vec![bytes[0]];
                        }
                    }
                }
                (Operation::Write { .. } | Operation::WriteZeroes { .. }, Ok(())) => {
                    self.blocks[range].fill(vec![value]);
                }
                // It may have been executed, in part or whole.
                (Operation::Write { .. } | Operation::WriteZeroes { .. } | Operation::Discard { .. }, _) => {
                    self.blocks[range].iter_mut().for_each(|may_hold| may_hold.push(value));
                }
                _ => {}
            }
        }
    }
}

struct Chaos {
    rig: Rig,
    model: Model,
    path_at: BTreeMap<u16, PathId>,
    next_path: u32,
}

impl Chaos {
    fn new(fence: FencePolicy) -> Self {
        let mut device = Device::new(BLOCKS.into(), 1);
        device.limits.transfer_max = 3;
        device.limits.unmap_blocks_max = 2;
        device.limits.unmap_descriptors_max = 1;
        device.provisioning.unmap = true;
        device.provisioning.write_same_16 = true;
        let head = multipath::Options {
            no_path: NoPath::QueueFor(Duration::from_secs(30)),
            delayed_removal: Duration::from_secs(100_000),
            ..Options::default().head
        };
        let mut rig = Rig::with_options(device, PORTS, Options { head, fence, ..Options::default() });
        rig.fencing = Fencing::ByHand;
        let path_at = (1..=PORTS).map(|port| (port, PathId(port.into()))).collect();
        Self { rig, model: Model::new(), path_at, next_path: 100 }
    }

    fn submit(&mut self, operation: Operation, value: u8) {
        if self.model.is_busy(&operation) {
            return;
        }
        let buffer = match operation {
            Operation::Read { length, .. } => Buffer::zeroed(length as usize),
            Operation::Write { length, .. } => Buffer::from(vec![value; length as usize]),
            _ => Buffer::empty(),
        };
        let tag = self.rig.next_tag();
        self.model.open.insert(tag, (operation, value));
        self.rig.submit(operation, buffer);
    }

    fn step(&mut self, step: Step) {
        let extent = |block: u8, blocks: u8| {
            (u64::from(block) * u64::from(BLOCK_LENGTH), u32::from(blocks) * BLOCK_LENGTH)
        };
        match step {
            Step::Write { block, blocks, value, durable } => {
                let (offset, length) = extent(block, blocks);
                let durability = if durable { Durability::ForceUnitAccess } else { Durability::Volatile };
                self.submit(Operation::Write { offset, length, durability }, value);
            }
            Step::Read { block, blocks } => {
                let (offset, length) = extent(block, blocks);
                self.submit(Operation::Read { offset, length }, 0);
            }
            Step::Zero { block, blocks, deallocate } => {
                let (offset, length) = extent(block, blocks);
                let (durability, effort) = (Durability::Volatile, Effort::Any);
                let provisioning =
                    if deallocate { Provisioning::MayDeallocate } else { Provisioning::KeepAllocated };
                self.submit(Operation::WriteZeroes { offset, length, durability, provisioning, effort }, 0);
            }
            Step::Discard { block, blocks } => {
                let (offset, length) = extent(block, blocks);
                self.submit(Operation::Discard { offset, length }, 0);
            }
            Step::Flush => self.submit(Operation::Flush, 0),
            Step::Fault { port, kind, times } => {
                if let Some(path) = self.path_at.get(&port) {
                    (0..times).for_each(|_| self.rig.fault(path.0, fault(kind)));
                }
            }
            Step::Access { port, state } => {
                self.rig.device.access.insert(port, state);
            }
            Step::Lose { port, executed } => {
                if let Some(path) = self.path_at.remove(&port) {
                    self.rig.lose(path, executed);
                    self.rig.handle(Event::PathRemoved { path });
                }
            }
            Step::Return { port } => self.return_path(port),
            Step::Hold => self.rig.holding = vec![op::WRITE_16, op::READ_16, op::INQUIRY],
            Step::LetGo => self.rig.let_go(),
            Step::Pass { millis } => self.rig.pass(Duration::from_millis(millis)),
            Step::Policy(policy) => self.rig.handle(Event::SetPolicy(policy)),
            Step::Haunt => self.rig.haunt(),
            Step::Prove => self.prove_oldest(),
        }
        self.model.catch_up(&mut self.rig);
    }

    fn prove_oldest(&mut self) {
        if let Some(path) = self.rig.owed.first().copied() {
            self.rig.prove(path, Proof::Reinstated);
        }
        while !self.rig.functions.is_empty() {
            self.rig.answer(Managed::Complete);
        }
    }

    fn return_path(&mut self, port: u16) {
        if self.path_at.contains_key(&port) {
            return;
        }
        self.next_path += 1;
        let path = PathId(self.next_path);
        self.path_at.insert(port, path);
        self.rig.find(path, port);
    }

    /// Lets everything be well again: everything must end, and the medium hold what was acknowledged.
    fn finish(mut self) {
        self.rig.faults.clear();
        self.rig.device.access.values_mut().for_each(|state| *state = AccessState::Optimized);
        self.rig.let_go();
        (1..=PORTS).for_each(|port| self.return_path(port));
        while !self.rig.owed.is_empty() {
            self.prove_oldest();
        }
        self.rig.pass(Duration::from_secs(300));
        self.model.catch_up(&mut self.rig);
        assert!(self.model.open.is_empty(), "everything ends: {:?}", self.model.open);
        assert_eq!(self.rig.disk.requests(), 0);
        for block in 0..BLOCKS {
            let before = self.model.blocks[usize::from(block)].len();
            self.step(Step::Read { block, blocks: 1 });
            assert!(before >= 1 && self.model.open.is_empty(), "a read with all paths well ends at once");
        }
        self.rig.handle(Event::Shutdown);
        self.rig.pass(Duration::from_secs(40));
        assert!(self.rig.gone, "a shutdown ends");
    }
}

fn live_through(steps: Vec<Step>, fence: FencePolicy) {
    let mut chaos = Chaos::new(fence);
    for step in steps {
        chaos.step(step);
    }
    chaos.finish();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_request_ends_once_and_reads_return_what_was_acknowledged(steps in steps()) {
        live_through(steps, FencePolicy::Strict);
    }
}

/// A path was to ask about port groups when its question about something else failed.
#[test]
fn a_question_that_was_taken_back_is_not_asked_without_end() {
    let write = || Step::Write { block: 0, blocks: 1, value: 1, durable: false };
    let fault = |port, kind, times| Step::Fault { port, kind, times };
    let steps = [
        vec![write(), write(), fault(1, 132, 1), write(), Step::Hold, Step::Read { block: 0, blocks: 1 }],
        vec![Step::Pass { millis: 0 }, fault(3, 175, 2), Step::Lose { port: 2, executed: false }],
        vec![fault(3, 183, 1), Step::LetGo, fault(3, 119, 1), Step::Pass { millis: 100 }],
    ];
    live_through(steps.concat(), FencePolicy::Strict);
}

/// Or else the test above would not see a ghost if there was one.
#[test]
fn without_fences_the_same_histories_go_wrong() {
    let config = ProptestConfig {
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::with_cases(2_000)
    };
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        live_through(steps, FencePolicy::Unsafe);
        Ok(())
    });
    assert!(outcome.is_err());
}

/// A question about port groups was out that nobody had allowed yet; the one that was allowed then made the next such
/// question, and so on without end.
#[test]
fn a_question_that_is_out_when_one_is_allowed_is_followed_by_one_and_no_more() {
    let fault = |port, kind, times| Step::Fault { port, kind, times };
    let steps = vec![
        fault(3, 11, 1),
        fault(3, 24, 3),
        Step::Lose { port: 1, executed: true },
        Step::Hold,
        fault(2, 14, 3),
        Step::Zero { block: 14, blocks: 2, deallocate: false },
        Step::LetGo,
        fault(3, 13, 3),
        Step::Pass { millis: 1546 },
    ];
    let mut chaos = Chaos::new(FencePolicy::Strict);
    steps.into_iter().for_each(|step| chaos.step(step));
    assert!(chaos.rig.answers.len() < 20, "{}", chaos.rig.answers.len());
}
