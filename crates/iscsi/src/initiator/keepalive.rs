//! Whether the target lives: a ping after silence, and an end after more silence.

use clock::{Duration, Instant};

use crate::pdu::InitiatorTaskTag;

#[derive(Debug)]
pub(super) struct Keepalive {
    interval: Option<Duration>,
    timeout: Duration,
    /// When bytes of the target came last.
    heard: Instant,
    ping: Option<Ping>,
}

#[derive(Debug)]
struct Ping {
    tag: InitiatorTaskTag,
    /// Since when an answer could be on its way.
    since: Instant,
    /// It has left the outgoing queue.
    sent: bool,
}

/// What silence calls for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    GiveUp,
}

impl Keepalive {
    pub(super) const fn new(interval: Option<Duration>, timeout: Duration) -> Self {
        Self { interval, timeout, heard: Instant::START, ping: None }
    }

    pub(super) const fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    pub(super) fn ping(&mut self, now: Instant, tag: InitiatorTaskTag) {
        self.ping = Some(Ping { tag, since: now, sent: false });
    }

    /// While bytes queued before the ping are leaving, nobody can have answered it.
    pub(super) fn note_sent(&mut self, now: Instant, ping_is_sent: bool) {
        if let Some(ping) = self.ping.as_mut().filter(|ping| !ping.sent) {
            ping.since = now;
            ping.sent = ping_is_sent;
        }
    }

    /// How long the answer took since the ping left; none if it is not the one that is waited for.
    pub(super) fn answer(&mut self, now: Instant, tag: InitiatorTaskTag) -> Option<Duration> {
        let ping = self.ping.take_if(|ping| ping.tag == tag)?;
        Some(now.since(ping.since))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match (&self.ping, self.interval) {
            (Some(ping), _) => Some(ping.since.max(self.heard) + self.timeout),
            (None, Some(interval)) => Some(self.heard + interval),
            (None, None) => None,
        }
    }

    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        Some(if self.ping.is_some() { Due::GiveUp } else { Due::Ping })
    }
}
