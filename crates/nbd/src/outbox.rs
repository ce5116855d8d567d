//! What is to be sent, in order.

use std::collections::VecDeque;
use std::io::IoSlice;

use block::Buffer;

use crate::slots::SlotId;

/// A content chunk with its offset is the longest header of a reply.
const HEADER_MAX: usize = 28;

/// One reply: a header in small memory of its own, and a payload that is sent from where it was read to.
#[derive(Debug)]
pub(crate) struct Message {
    header: [u8; HEADER_MAX],
    header_length: usize,
    pub(crate) payload: Buffer,
    /// The request that this is the reply to.
    pub(crate) slot: Option<SlotId>,
}

/// Messages on their way out. Their number is bounded by the slots that they occupy; in the negotiation, by reading
/// nothing while there is one.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    messages: VecDeque<Message>,
    /// Bytes of the first message, and maybe of later ones, that were sent.
    sent: usize,
}

impl Message {
    /// A message without a payload of its own that must come back.
    pub(crate) fn bytes(bytes: Vec<u8>) -> Self {
        Self { header: [0; HEADER_MAX], header_length: 0, payload: Buffer::from(bytes), slot: None }
    }

    /// The reply to the request in `slot`: `header` and `more` of it, then the payload.
    pub(crate) fn reply(slot: SlotId, header: &[u8], more: &[u8], payload: Buffer) -> Self {
        let mut bytes = [0; HEADER_MAX];
        let header_length = header.len() + more.len();
        bytes[..header.len()].copy_from_slice(header);
        bytes[header.len()..header_length].copy_from_slice(more);
        Self { header: bytes, header_length, payload, slot: Some(slot) }
    }

    fn len(&self) -> usize {
        self.header_length + self.payload.len()
    }
}

impl Outbox {
    pub(crate) fn push(&mut self, message: Message) {
        self.messages.push_back(message);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.sent = 0;
    }

    pub(crate) fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = self.messages.iter().flat_map(|m| [&m.header[..m.header_length], &m.payload[..]]);
        let mut skip = self.sent;
        let mut used = 0;
        for part in parts {
            if part.len() <= skip {
                skip -= part.len();
                continue;
            }
            let Some(slice) = slices.get_mut(used) else { break };
            *slice = IoSlice::new(&part[skip..]);
            skip = 0;
            used += 1;
        }
        used
    }

    /// This many more bytes were sent; [`Self::take_sent`] hands out the messages that are through.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// The next message that was sent to its end.
    pub(crate) fn take_sent(&mut self) -> Option<Message> {
        match self.messages.front() {
            Some(message) if message.len() <= self.sent => {
                self.sent -= message.len();
                self.messages.pop_front()
            }
            Some(_) => None,
            None => {
                assert!(self.sent == 0, "the driver sends no more than it was given");
                None
            }
        }
    }
}
