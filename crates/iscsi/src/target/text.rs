//! Text requests in the full feature phase (RFC 7143, 11.10 and 11.11): SendTargets, in as many PDUs as it takes.

use super::portals::Scope;
use super::session::{Kind, Session};
use crate::negotiation::parse_number;
use crate::pdu::{Header, RejectReason, TargetTransferTag, TextRequest, TextResponse};
use crate::text::{Text, TextBuffer};

/// The one text exchange that may be going on.
#[derive(Debug)]
pub(super) struct TextExchange {
    request: TextBuffer,
    answer: Vec<u8>,
    sent: usize,
    /// Names the exchange while it is not over.
    tag: Option<TargetTransferTag>,
    next_tag: u32,
}

/// Text of one request with its continuations, in bytes: SendTargets and a name is the longest of use.
const REQUEST_MAX: usize = 8192;

impl Default for TextExchange {
    fn default() -> Self {
        Self { request: TextBuffer::new(REQUEST_MAX), answer: Vec::new(), sent: 0, tag: None, next_tag: 0 }
    }
}

impl TextExchange {
    fn restart(&mut self) {
        let next_tag = self.next_tag;
        *self = Self { next_tag, ..Self::default() };
    }

    /// A tag for the next PDU of the exchange.
    fn go_on(&mut self) -> TargetTransferTag {
        self.next_tag = (self.next_tag + 1) & 0x7fff_ffff;
        let tag = TargetTransferTag(self.next_tag);
        self.tag = Some(tag);
        tag
    }

    /// As much of the answer as fits a PDU.
    fn next_part(&mut self, length_max: u32) -> Vec<u8> {
        let rest = &self.answer[self.sent..];
        let part = rest[..rest.len().min(length_max as usize)].to_vec();
        self.sent += part.len();
        part
    }

    fn is_sent(&self) -> bool {
        self.sent == self.answer.len()
    }
}

impl Session {
    pub(super) fn text_request(&mut self, header: &Header, pdu: &TextRequest) {
        if pdu.target_transfer_tag == TargetTransferTag::NONE {
            self.text.restart();
        } else if self.text.tag != Some(pdu.target_transfer_tag) {
            return self.reject(header, RejectReason::InvalidPduField);
        }
        if self.text.request.push(self.incoming.data()).is_err() || pdu.more && pdu.last {
            self.text.restart();
            return self.reject(header, RejectReason::ProtocolError);
        }
        if pdu.more {
            let tag = self.text.go_on();
            return self.push_text(pdu, false, tag, Vec::new());
        }
        if self.text.is_sent() {
            let Ok(request) = self.text.request.take() else {
                self.text.restart();
                return self.reject(header, RejectReason::ProtocolError);
            };
            self.text.answer = self.answer_text(&request).as_bytes().to_vec();
            self.text.sent = 0;
        }
        let part = self.text.next_part(self.peer_segment_max);
        if self.text.is_sent() && pdu.last {
            self.text.restart();
            self.push_text(pdu, true, TargetTransferTag::NONE, part);
        } else {
            let tag = self.text.go_on();
            self.push_text(pdu, false, tag, part);
        }
    }

    fn push_text(&mut self, pdu: &TextRequest, last: bool, tag: TargetTransferTag, data: Vec<u8>) {
        let serials = self.status_serials();
        let header = TextResponse {
            last,
            more: !self.text.is_sent(),
            lun: pdu.lun,
            initiator_task_tag: pdu.initiator_task_tag,
            target_transfer_tag: tag,
            serials,
        }
        .emit();
        self.outgoing.push_own(header, None, data);
    }

    fn answer_text(&mut self, request: &Text) -> Text {
        let mut answer = Text::new();
        for (key, value) in request.iter() {
            match key {
                "SendTargets" => self.send_targets(value, &mut answer),
                // A declaration: it holds from now on, and has no answer (RFC 7143, 13.12).
                "MaxRecvDataSegmentLength" => match parse_number(value) {
                    Some(length @ 512..=0xff_ffff) => self.peer_segment_max = length,
                    _ => answer.push(key, "Reject"),
                },
                _ => answer.push(key, "NotUnderstood"),
            }
        }
        answer
    }

    /// RFC 7143, Appendix C: `All` only in a discovery session; nothing or a name elsewhere.
    fn send_targets(&self, value: &str, answer: &mut Text) {
        let portals = &self.options.portals;
        match (&self.kind, value) {
            (Kind::Discovery, "All") => portals.send_targets(Scope::All, answer),
            (Kind::Discovery, "") | (Kind::Normal { .. }, "All") => answer.push("SendTargets", "Reject"),
            (Kind::Discovery, name) => portals.send_targets(Scope::Named(name), answer),
            (Kind::Normal { target_name }, name) => {
                if name.is_empty() || name == target_name {
                    portals.send_targets(Scope::Named(target_name), answer);
                }
            }
        }
    }
}
