//! The commands that a session holds: those that still gather data, and those that the device server has.

use block::Buffer;
use scsi::{CdbBytes, Lun, TaskAttribute};

use super::data::Gather;
use super::{CommandTag, Direction};
use crate::pdu::{Delivery, InitiatorTaskTag, SerialNumber};

/// Index of a command in [`Tasks`].
pub(super) type Slot = u16;

/// A command from its PDU until its reply.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) initiator_task_tag: InitiatorTaskTag,
    pub(super) lun: Lun,
    pub(super) cdb: CdbBytes,
    pub(super) attribute: TaskAttribute,
    pub(super) direction: Direction,
    pub(super) expected_length: u32,
    pub(super) delivery: Delivery,
    pub(super) cmd_sn: SerialNumber,
    pub(super) state: State,
    /// Data-Out until the command is handed to the device server.
    pub(super) buffer: Buffer,
    /// R2Ts sent so far.
    pub(super) r2ts: u32,
    /// Set by [`Tasks::insert`]: the order of arrival.
    pub(super) sequence: u64,
}

#[derive(Debug)]
pub(super) enum State {
    /// Data-Out is on its way.
    Gathering(Gather),
    /// All data is here; another command has to be delivered first.
    Ready,
    /// The device server has it.
    Delivered,
}

/// All commands of a session, bounded by the command window and the bound on immediate commands.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    slots: Vec<Option<Task>>,
    /// Initiator task tag of each slot (any value in a free one): what a search runs over.
    tags: Vec<InitiatorTaskTag>,
    free: Vec<Slot>,
    next_sequence: u64,
    ordered: usize,
    immediate: usize,
    /// Data-Out of all commands, in bytes.
    data_out: usize,
    /// Commands with the ORDERED attribute that are not delivered.
    barriers: usize,
    /// Commands in [`State::Ready`].
    ready: usize,
}

/// How many bits of a [`CommandTag`] say which slot it is; the others count commands.
const SLOT_BITS: u32 = 16;

impl Tasks {
    pub(super) fn insert(&mut self, mut task: Task) -> Slot {
        task.sequence = self.next_sequence;
        self.next_sequence += 1;
        *self.count_of(task.delivery) += 1;
        self.data_out += data_out_of(&task);
        self.barriers += usize::from(is_barrier(&task));
        self.ready += usize::from(matches!(task.state, State::Ready));
        let tag = task.initiator_task_tag;
        if let Some(slot) = self.free.pop() {
            self.slots[usize::from(slot)] = Some(task);
            self.tags[usize::from(slot)] = tag;
            return slot;
        }
        let slot = Slot::try_from(self.slots.len()).expect("the window bounds commands far below 65536");
        self.slots.push(Some(task));
        self.tags.push(tag);
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Task> {
        let task = self.slots.get_mut(usize::from(slot))?.take()?;
        self.free.push(slot);
        *self.count_of(task.delivery) -= 1;
        self.data_out -= data_out_of(&task);
        self.barriers -= usize::from(is_barrier(&task));
        self.ready -= usize::from(matches!(task.state, State::Ready));
        Some(task)
    }

    /// All data of the command is here.
    pub(super) fn make_ready(&mut self, slot: Slot) {
        let Some(task) = self.get_mut(slot) else { return };
        if matches!(task.state, State::Gathering(_)) {
            task.state = State::Ready;
            self.ready += 1;
        }
    }

    /// Hands a ready command to the device server: the task stays, its data goes.
    pub(super) fn deliver(&mut self, slot: Slot) -> Option<Buffer> {
        let task = self.slots.get_mut(usize::from(slot))?.as_mut()?;
        self.barriers -= usize::from(is_barrier(task));
        self.ready -= usize::from(matches!(task.state, State::Ready));
        task.state = State::Delivered;
        Some(std::mem::take(&mut task.buffer))
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Task> {
        self.slots.get(usize::from(slot))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Task> {
        self.slots.get_mut(usize::from(slot))?.as_mut()
    }

    pub(super) fn find(&self, initiator_task_tag: InitiatorTaskTag) -> Option<Slot> {
        let matches = |&(index, &tag): &(usize, &InitiatorTaskTag)| {
            tag == initiator_task_tag && self.slots[index].is_some()
        };
        let (index, _) = self.tags.iter().enumerate().find(matches)?;
        Slot::try_from(index).ok()
    }

    /// The tag by which the device server knows the command in `slot`.
    pub(super) fn tag(&self, slot: Slot) -> Option<CommandTag> {
        let sequence = self.get(slot)?.sequence;
        Some(CommandTag(sequence << SLOT_BITS | u64::from(slot)))
    }

    pub(super) fn by_tag(&self, tag: CommandTag) -> Option<Slot> {
        let slot = Slot::try_from(tag.0 & ((1 << SLOT_BITS) - 1)).ok()?;
        (self.tag(slot)? == tag).then_some(slot)
    }

    /// Whether the command may be handed over as far as ORDERED commands go (SAM, task set management): an
    /// ordered one after everything older, and nothing before an older ordered one.
    fn may_pass(&self, slot: Slot) -> bool {
        let Some(task) = self.get(slot) else { return false };
        if self.barriers == 0 {
            return true;
        }
        let ordered = task.attribute == TaskAttribute::Ordered;
        !self.slots.iter().flatten().any(|other| {
            other.is_before(task)
                && !matches!(other.state, State::Delivered)
                && other.lun == task.lun
                && (ordered || is_barrier(other))
        })
    }

    /// The oldest command that is ready and held back neither by an older one nor by a gap before its CmdSN.
    /// `latest` is the one that may have become ready: if it is the only one, nothing is searched.
    pub(super) fn next_ready(&self, exp_cmd_sn: SerialNumber, latest: Option<Slot>) -> Option<Slot> {
        if self.ready == 0 {
            return None;
        }
        if let (1, Some(slot)) = (self.ready, latest)
            && self.get(slot).is_some_and(|task| matches!(task.state, State::Ready))
        {
            return self.may_be_delivered(slot, exp_cmd_sn).then_some(slot);
        }
        (0..)
            .zip(&self.slots)
            .filter_map(|(slot, task)| Some((slot, task.as_ref()?)))
            .filter(|(slot, _)| self.may_be_delivered(*slot, exp_cmd_sn))
            .reduce(|first, next| if next.1.is_before(first.1) { next } else { first })
            .map(|(slot, _)| slot)
    }

    fn may_be_delivered(&self, slot: Slot, exp_cmd_sn: SerialNumber) -> bool {
        let in_order = |task: &Task| task.delivery == Delivery::Immediate || task.cmd_sn.precedes(exp_cmd_sn);
        let ready = |task: &Task| matches!(task.state, State::Ready) && in_order(task);
        self.get(slot).is_some_and(ready) && self.may_pass(slot)
    }

    /// Slots of all commands, oldest first. Allocates: for task management only.
    pub(super) fn slots_by_age(&self) -> Vec<Slot> {
        let mut slots: Vec<(u64, Slot)> = (0..)
            .zip(&self.slots)
            .filter_map(|(slot, task)| task.as_ref().map(|task| (task.sequence, slot)))
            .collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Commands that count against the window.
    pub(super) const fn ordered(&self) -> usize {
        self.ordered
    }

    pub(super) const fn immediate(&self) -> usize {
        self.immediate
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.ordered + self.immediate == 0
    }

    /// Data-Out that is held or that the device server has, in bytes.
    pub(super) const fn data_out(&self) -> usize {
        self.data_out
    }

    /// The sequence that the next command will get: what is older was there before now.
    pub(super) const fn now(&self) -> u64 {
        self.next_sequence
    }

    const fn count_of(&mut self, delivery: Delivery) -> &mut usize {
        match delivery {
            Delivery::Ordered => &mut self.ordered,
            Delivery::Immediate => &mut self.immediate,
        }
    }
}

impl Task {
    /// Whether the command has to be delivered before `other`: by CmdSN, or by arrival if one is immediate.
    fn is_before(&self, other: &Self) -> bool {
        if self.delivery == Delivery::Ordered && other.delivery == Delivery::Ordered {
            return self.cmd_sn.precedes(other.cmd_sn);
        }
        self.sequence < other.sequence
    }
}

/// Counted by what was asked for, so that it can be told after the buffer has moved on.
fn data_out_of(task: &Task) -> usize {
    match task.direction {
        Direction::ToDevice => task.expected_length as usize,
        Direction::None | Direction::FromDevice => 0,
    }
}

fn is_barrier(task: &Task) -> bool {
    task.attribute == TaskAttribute::Ordered && !matches!(task.state, State::Delivered)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CmdSN and task tag are the same.
    fn task(tag: u32, attribute: TaskAttribute, state: State) -> Task {
        Task {
            initiator_task_tag: InitiatorTaskTag(tag),
            lun: Lun::default(),
            cdb: CdbBytes::new(&[0; 6]),
            attribute,
            direction: Direction::ToDevice,
            expected_length: 512,
            delivery: Delivery::Ordered,
            cmd_sn: SerialNumber(tag),
            state,
            buffer: Buffer::zeroed(512),
            r2ts: 0,
            sequence: 0,
        }
    }

    #[test]
    fn a_slot_is_reused_and_its_tag_is_not() {
        let mut tasks = Tasks::default();
        let first = tasks.insert(task(7, TaskAttribute::Simple, State::Ready));
        let first_tag = tasks.tag(first).unwrap();
        tasks.remove(first);
        assert_eq!((tasks.ordered(), tasks.data_out()), (0, 0));
        let second = tasks.insert(task(7, TaskAttribute::Simple, State::Ready));
        assert_eq!(first, second);
        assert_ne!(tasks.tag(second), Some(first_tag));
        assert_eq!(tasks.by_tag(first_tag), None);
        assert_eq!(tasks.find(InitiatorTaskTag(7)), Some(second));
    }

    #[test]
    fn an_ordered_command_waits_for_older_ones_and_holds_back_younger_ones() {
        let mut tasks = Tasks::default();
        let older = tasks.insert(task(1, TaskAttribute::Simple, State::Ready));
        let ordered = tasks.insert(task(2, TaskAttribute::Ordered, State::Ready));
        let younger = tasks.insert(task(3, TaskAttribute::Simple, State::Ready));
        assert!(tasks.may_pass(older));
        assert!(!tasks.may_pass(ordered));
        assert!(!tasks.may_pass(younger));
        tasks.deliver(older);
        assert_eq!(tasks.next_ready(SerialNumber(4), None), Some(ordered));
        tasks.deliver(ordered);
        assert_eq!(tasks.next_ready(SerialNumber(4), None), Some(younger));
    }
}
