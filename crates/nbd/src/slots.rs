//! The requests of one connection that are not answered yet.

use block::Tag;

use crate::protocol::CommandType;

/// Which slot of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotId(u32);

/// A fixed number of slots and of bytes. A request has its slot from its header until the last byte of its reply
/// was sent, so that the table bounds everything: requests, memory, and unsent replies.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<SlotId>,
    at_disk: usize,
    bytes: usize,
    bytes_max: usize,
}

/// What the reply to a request needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) cookie: u64,
    pub(crate) command: CommandType,
    pub(crate) length: u32,
    pub(crate) after: After,
    /// Bytes of payload, in either direction.
    payload: u32,
    place: Place,
}

/// What follows when the disk has done what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Reply,
    Flush,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Free,
    /// Being received, or being answered.
    Here,
    AtDisk,
}

impl Slots {
    pub(crate) fn new(count: u32, bytes_max: usize) -> Self {
        let empty = Slot {
            cookie: 0,
            command: CommandType::Read,
            length: 0,
            after: After::Reply,
            payload: 0,
            place: Place::Free,
        };
        Self {
            slots: (0..count).map(|_| empty).collect(),
            free: (0..count).rev().map(SlotId).collect(),
            at_disk: 0,
            bytes: 0,
            bytes_max,
        }
    }

    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether a request with this much payload can be taken in. Alone, any request can.
    pub(crate) fn has_room(&self, payload: u32) -> bool {
        self.has_free() && (self.bytes == 0 || self.bytes + payload as usize <= self.bytes_max)
    }

    /// Takes a request in; [`Self::has_room`] said that it can be.
    pub(crate) fn take(&mut self, cookie: u64, command: CommandType, length: u32, payload: u32) -> SlotId {
        let id = self.free.pop().expect("a request is only taken in when there is room");
        self.bytes += payload as usize;
        self.slots[id.0 as usize] =
            Slot { cookie, command, length, after: After::Reply, payload, place: Place::Here };
        id
    }

    pub(crate) fn get(&self, id: SlotId) -> &Slot {
        &self.slots[id.0 as usize]
    }

    /// The request goes to the disk; its tag.
    pub(crate) fn submitted(&mut self, id: SlotId, connection: u32, after: After) -> Tag {
        let slot = &mut self.slots[id.0 as usize];
        debug_assert!(slot.place == Place::Here, "a request is submitted from here");
        slot.place = Place::AtDisk;
        slot.after = after;
        self.at_disk += 1;
        Tag(u64::from(connection) << 32 | u64::from(id.0))
    }

    /// The request of this tag came back from the disk; `None` if none of this connection is out under that tag.
    pub(crate) fn returned(&mut self, tag: Tag, connection: u32) -> Option<SlotId> {
        if tag.0 >> 32 != u64::from(connection) {
            return None;
        }
        let id = SlotId(u32::try_from(tag.0 & u64::from(u32::MAX)).ok()?);
        let slot = self.slots.get_mut(id.0 as usize)?;
        if slot.place != Place::AtDisk {
            return None;
        }
        slot.place = Place::Here;
        self.at_disk -= 1;
        Some(id)
    }

    /// The reply was sent, or will never be.
    pub(crate) fn release(&mut self, id: SlotId) {
        let slot = &mut self.slots[id.0 as usize];
        debug_assert!(
            slot.place == Place::Here,
            "a slot is released once, and not while its request is away"
        );
        slot.place = Place::Free;
        self.bytes -= slot.payload as usize;
        self.free.push(id);
    }

    /// Requests at the disk.
    pub(crate) fn at_disk(&self) -> usize {
        self.at_disk
    }
}
