//! The commands that a session holds, in slots that are used again.
//!
//! A task tag names a slot and its generation, so that an answer to an earlier command of the slot cannot be
//! taken for one to the present command.

use clock::Instant;
use scsi::{Command, CommandId, Ending, Lun, Transfer};

use crate::pdu::{InitiatorTaskTag, SerialNumber};

/// Which slot. What payload in the byte streams is named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// All commands of a session.
#[derive(Debug)]
pub(super) struct Commands<C> {
    entries: Vec<Entry<C>>,
    free: Vec<u32>,
    entries_max: usize,
    /// The commands whose time runs, in the order in which they were handed over: all have the same time.
    oldest: Option<u32>,
    newest: Option<u32>,
}

/// One slot. All fields but `tag` and `aborted` are of the command that is in it.
#[derive(Debug)]
pub(super) struct Entry<C> {
    command: Option<Command<C>>,
    pub(super) tag: InitiatorTaskTag,
    /// The last command of this slot that a task management function ended: PDUs for it may still come.
    aborted: Option<InitiatorTaskTag>,
    pub(super) lun: Lun,
    pub(super) stage: Stage,
    pub(super) cmd_sn: SerialNumber,
    /// A byte of it has left: the target may know of it.
    pub(super) begun: bool,
    /// A byte of its data may have left.
    pub(super) data_begun: bool,
    /// PDUs in the outgoing queue that have to do with it.
    pub(super) queued: u32,
    /// Bursts of Data-Out that are not in the outgoing queue yet.
    pub(super) bursts: u32,
    pub(super) r2t_outstanding: u16,
    /// The DataSN or R2TSN that is due.
    pub(super) data_sn: u32,
    /// How far data have come in, or were asked for or sent unasked, in bytes.
    pub(super) moved: u32,
    /// How it ended, while its bytes are still in the outgoing queue.
    ending: Option<Ending>,
    deadline: Instant,
    timed: bool,
    older: Option<u32>,
    newer: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has no CmdSN yet.
    Waiting,
    Issued,
    /// ABORT TASK was sent because its time was over.
    Aborting,
}

/// What a task tag of the target means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Found(Slot),
    /// A task management function has ended it.
    Aborted,
    Unknown,
}

/// The highest bit of a tag says that it names no command; see [`super::Session`].
const INDEX_BITS: u32 = 15;
const GENERATION_MASK: u32 = 0xffff;

impl<C> Commands<C> {
    pub(super) const fn new(entries_max: usize) -> Self {
        Self { entries: Vec::new(), free: Vec::new(), entries_max, oldest: None, newest: None }
    }

    /// How many more commands there is room for.
    pub(super) fn room(&self) -> usize {
        self.entries_max - self.len()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Takes a command; gives it back if there is no room.
    pub(super) fn insert(
        &mut self,
        lun: Lun,
        command: Command<C>,
        deadline: Instant,
    ) -> Result<Slot, Command<C>> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.entries.len() < self.entries_max => {
                let index = u32::try_from(self.entries.len()).expect("fewer slots than an index can name");
                self.entries.push(Entry::vacant(InitiatorTaskTag(index)));
                index
            }
            None => return Err(command),
        };
        let entry = &mut self.entries[index as usize];
        let generation = (entry.tag.0 >> INDEX_BITS).wrapping_add(1) & GENERATION_MASK;
        *entry = Entry {
            command: Some(command),
            lun,
            deadline,
            aborted: entry.aborted,
            ..Entry::vacant(InitiatorTaskTag(generation << INDEX_BITS | index))
        };
        self.start_timer(index);
        Ok(Slot(index))
    }

    pub(super) fn find(&self, tag: InitiatorTaskTag) -> Lookup {
        let index = tag.0 & ((1 << INDEX_BITS) - 1);
        match self.entries.get(index as usize) {
            Some(entry) if entry.tag == tag && entry.is_live() => Lookup::Found(Slot(index)),
            Some(entry) if entry.aborted == Some(tag) => Lookup::Aborted,
            _ => Lookup::Unknown,
        }
    }

    /// By what its issuer calls it. Looks at every slot: only for task management.
    pub(super) fn find_id(&self, id: CommandId) -> Option<Slot> {
        self.iter().find(|&slot| self.command(slot).id == id && self.entry(slot).is_live())
    }

    /// Every command that is held, also those that wait for their bytes to leave.
    pub(super) fn iter(&self) -> impl Iterator<Item = Slot> + use<'_, C> {
        (0_u32..)
            .zip(&self.entries)
            .filter(|(_, entry)| entry.command.is_some())
            .map(|(index, _)| Slot(index))
    }

    pub(super) fn entry(&self, slot: Slot) -> &Entry<C> {
        &self.entries[slot.0 as usize]
    }

    pub(super) fn entry_mut(&mut self, slot: Slot) -> &mut Entry<C> {
        &mut self.entries[slot.0 as usize]
    }

    pub(super) fn command(&self, slot: Slot) -> &Command<C> {
        self.entry(slot).command.as_ref().expect("a slot is known only while a command is in it")
    }

    /// The memory that the data of a command move through.
    pub(super) fn data(&self, slot: Slot) -> &[u8] {
        self.command(slot).data()
    }

    pub(super) fn data_mut(&mut self, slot: Slot) -> &mut [u8] {
        let command = self.entry_mut(slot).command.as_mut();
        command.expect("a slot is known only while a command is in it").data_mut()
    }

    /// The command whose time is over first, and when that is.
    pub(super) fn oldest(&self) -> Option<(Slot, Instant)> {
        self.oldest.map(|index| (Slot(index), self.entries[index as usize].deadline))
    }

    pub(super) fn stop_timer(&mut self, slot: Slot) {
        let entry = self.entry_mut(slot);
        if !core::mem::take(&mut entry.timed) {
            return;
        }
        let (older, newer) = (entry.older.take(), entry.newer.take());
        match older {
            Some(older) => self.entries[older as usize].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.entries[newer as usize].older = older,
            None => self.newest = older,
        }
    }

    /// Notes how a command ended. Its slot and memory stay until none of its bytes is in the outgoing queue.
    pub(super) fn end(&mut self, slot: Slot, ending: Ending) {
        self.stop_timer(slot);
        let entry = self.entry_mut(slot);
        if matches!(ending, Ending::Aborted | Ending::Cleared) {
            entry.aborted = Some(entry.tag);
        }
        entry.ending = Some(ending);
    }

    /// Gives back a command that has ended and of which no byte is queued any more.
    pub(super) fn take_ended(&mut self, slot: Slot) -> Option<(Command<C>, Ending)> {
        let entry = self.entry_mut(slot);
        if entry.queued > 0 {
            return None;
        }
        let ending = entry.ending.take()?;
        let command = entry.command.take()?;
        self.free.push(slot.0);
        Some((command, ending))
    }

    /// Gives back a command at once, whatever is queued: the connection is over.
    pub(super) fn take(&mut self, slot: Slot) -> Option<(Command<C>, Ending)> {
        self.stop_timer(slot);
        let entry = self.entry_mut(slot);
        let command = entry.command.take()?;
        let ending = entry.ending.take().unwrap_or_else(|| entry.ending_without_answer(command.transfer));
        self.free.push(slot.0);
        Some((command, ending))
    }

    fn start_timer(&mut self, index: u32) {
        let older = self.newest.replace(index);
        let entry = &mut self.entries[index as usize];
        (entry.timed, entry.older) = (true, older);
        match older {
            Some(older) => self.entries[older as usize].newer = Some(index),
            None => self.oldest = Some(index),
        }
    }
}

impl<C> Entry<C> {
    /// Whether the target may still have something to say about it.
    pub(super) const fn is_live(&self) -> bool {
        self.command.is_some() && self.ending.is_none()
    }

    /// A command that never left cannot be executed, and neither can one that needs data of which none left: the
    /// target has the command and waits for data that only this session could have brought. So without early data
    /// (InitialR2T=Yes, ImmediateData=No) no write that was not asked for its data is in doubt.
    const fn ending_without_answer(&self, transfer: Transfer) -> Ending {
        match transfer {
            _ if !self.begun => Ending::NotSent,
            Transfer::ToDevice { length: 1.., .. } if !self.data_begun => Ending::NotSent,
            _ => Ending::Lost,
        }
    }

    const fn vacant(tag: InitiatorTaskTag) -> Self {
        Self {
            command: None,
            tag,
            aborted: None,
            lun: Lun([0; 8]),
            stage: Stage::Waiting,
            cmd_sn: SerialNumber(0),
            begun: false,
            data_begun: false,
            queued: 0,
            bursts: 0,
            r2t_outstanding: 0,
            data_sn: 0,
            moved: 0,
            ending: None,
            deadline: Instant::START,
            timed: false,
            older: None,
            newer: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::Buffer;
    use scsi::{CdbBytes, TaskAttribute};

    fn command(id: u64) -> Command<()> {
        Command {
            id: CommandId(id),
            cdb: CdbBytes::new(&[0]),
            attribute: TaskAttribute::Simple,
            transfer: Transfer::None,
            buffer: Buffer::empty(),
            context: (),
        }
    }

    fn insert(commands: &mut Commands<()>, id: u64) -> Slot {
        commands.insert(Lun::default(), command(id), Instant::from_nanos(id)).unwrap()
    }

    #[test]
    fn a_tag_of_an_earlier_command_of_the_slot_names_nothing() {
        let mut commands = Commands::new(1);
        let first = insert(&mut commands, 1);
        let old = commands.entry(first).tag;
        commands.end(first, Ending::Lost);
        assert_eq!(commands.take_ended(first).unwrap().0.id, CommandId(1));
        let second = insert(&mut commands, 2);
        assert_eq!(first, second);
        assert_eq!(commands.find(old), Lookup::Unknown);
        assert_eq!(commands.find(commands.entry(second).tag), Lookup::Found(second));
        assert!(commands.insert(Lun::default(), command(3), Instant::START).is_err());
    }

    #[test]
    fn an_aborted_command_is_remembered_by_its_tag() {
        let mut commands = Commands::new(1);
        let slot = insert(&mut commands, 1);
        let tag = commands.entry(slot).tag;
        commands.end(slot, Ending::Aborted);
        assert!(commands.take_ended(slot).is_some());
        insert(&mut commands, 2);
        assert_eq!(commands.find(tag), Lookup::Aborted);
    }

    #[test]
    fn the_oldest_command_is_known_whatever_ends_first() {
        let mut commands = Commands::new(4);
        let slots: Vec<_> = (1..=4).map(|id| insert(&mut commands, id)).collect();
        let oldest = |commands: &Commands<()>| commands.oldest().map(|(slot, _)| slot);
        commands.stop_timer(slots[1]);
        commands.stop_timer(slots[0]);
        assert_eq!(oldest(&commands), Some(slots[2]));
        commands.stop_timer(slots[3]);
        commands.stop_timer(slots[3]);
        assert_eq!(commands.oldest(), Some((slots[2], Instant::from_nanos(3))));
        commands.stop_timer(slots[2]);
        assert_eq!(oldest(&commands), None);
    }

    #[test]
    fn a_command_that_ended_stays_until_its_bytes_have_left() {
        let mut commands = Commands::new(1);
        let slot = insert(&mut commands, 1);
        commands.entry_mut(slot).queued = 1;
        commands.end(slot, Ending::Reply(scsi::Reply::good()));
        assert!(commands.take_ended(slot).is_none());
        assert_eq!(commands.find(commands.entry(slot).tag), Lookup::Unknown);
        commands.entry_mut(slot).queued = 0;
        assert!(commands.take_ended(slot).is_some());
    }
}
