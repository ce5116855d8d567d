//! Clients that are not listened to for a moment.
//!
//! A client with a deep queue sends its requests one by one, and another one for each answer. To be woken for each costs
//! it, us and the target more than the request itself. So while a client awaits many answers, and they come quickly, it is
//! mute: what it asks does not wake the shard, but is taken after its next answers. It is never mute for longer than a
//! millisecond without an answer. A client that awaits few answers is always heard at once.

use std::io;

use clock::{Duration, Instant};

use super::{Shard, Source};

/// How often the pace is taken.
const WINDOW: Duration = Duration::from_millis(1);
/// Answers in a millisecond that are quick: the next one is due in 50 µs, which is what a wake-up may take.
const QUICK: u64 = 20;
/// Who awaits fewer answers may have little else to do than to hand in its next request.
const AWAITED_MIN: u32 = 12;
/// A mute client with fewer is heard again; less than above, as it has just been answered.
const AWAITED_MUTE_MIN: u32 = 8;
/// Bytes that a client sends for each answer that are little: requests, and data of writes of up to 8 KiB. More than that
/// is work of its own, and is better done while answers are awaited.
const LITTLE: u64 = 9 << 10;
/// So long it is mute without an answer: the least that epoll counts.
pub(super) const UNANSWERED_MAX: Duration = Duration::from_millis(1);
/// How long it is not mute again after it had to wait for that long; doubled while that keeps happening. What it awaits may
/// be on a path that has fallen silent. In the long run that costs it a thousandth of its time.
const DISTRUST_MIN: Duration = Duration::from_millis(4);
const DISTRUST_MAX: Duration = Duration::from_secs(1);

/// Of a client, ever.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    answers: u64,
    /// Bytes that it sent.
    asked: u64,
}

/// Whether a client is mute.
#[derive(Debug)]
pub(super) struct Muting {
    is_mute: bool,
    /// Requests that were not answered yet.
    awaited: u32,
    sums: Sums,
    /// When the pace was taken last, and from which sums.
    since: Instant,
    before: Sums,
    is_quick: bool,
    /// Of the last answer, or of the last time that it became mute.
    answered: Instant,
    /// It was answered, and nothing came from it since.
    is_stirred: bool,
    /// It had waited too long for an answer, and nothing came from it since.
    is_overdue: bool,
    /// How long it was not to be mute last, and until when.
    distrust: Duration,
    distrusted_until: Instant,
}

/// What to do about a client's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// There can hardly be anything.
    No,
    /// Take what there is.
    Yes,
    /// That, and listen to it from now on.
    Listen,
}

impl Muting {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            is_mute: false,
            awaited: 0,
            sums: Sums::default(),
            since: now,
            before: Sums::default(),
            is_quick: false,
            answered: now,
            is_stirred: false,
            is_overdue: false,
            distrust: DISTRUST_MIN,
            distrusted_until: now,
        }
    }

    pub(super) const fn note_request(&mut self) {
        self.awaited += 1;
    }

    pub(super) const fn note_answer(&mut self, now: Instant) {
        self.awaited = self.awaited.saturating_sub(1);
        self.sums.answers += 1;
        self.answered = now;
        self.is_stirred = true;
    }

    /// So many bytes were read from its socket, if any.
    pub(super) fn note_read(&mut self, now: Instant, bytes: usize) {
        let is_overdue = std::mem::take(&mut self.is_overdue);
        if bytes == 0 {
            return;
        }
        self.sums.asked += bytes as u64;
        self.is_stirred = false;
        if is_overdue {
            let is_again = now < self.distrusted_until + self.distrust;
            let doubled = (self.distrust + self.distrust).min(DISTRUST_MAX);
            self.distrust = if is_again { doubled } else { DISTRUST_MIN };
            self.distrusted_until = now + self.distrust;
        }
    }

    /// Whether it is mute from now on, once all that there was for it was sent.
    fn judge(&mut self, now: Instant) -> bool {
        let time = now.since(self.since);
        if time >= WINDOW {
            let answers = self.sums.answers - self.before.answers;
            let asked = self.sums.asked - self.before.asked;
            self.is_quick = answers >= time.as_millis() * QUICK && asked <= answers * LITTLE;
            (self.since, self.before) = (now, self.sums);
        }
        let least = if self.is_mute { AWAITED_MUTE_MIN } else { AWAITED_MIN };
        let is_mute = self.is_quick && self.awaited >= least && self.distrusted_until <= now;
        if is_mute && !self.is_mute {
            self.answered = now;
        }
        is_mute
    }

    /// What to do about a mute client's socket.
    fn look(&mut self, now: Instant) -> Look {
        if now.since(self.answered) >= UNANSWERED_MAX {
            self.is_overdue = true;
            return Look::Listen;
        }
        if self.is_stirred { Look::Yes } else { Look::No }
    }
}

impl Shard {
    /// To be called at the beginning of a turn.
    pub(super) fn look_at_mute_clients(&mut self) {
        for place in (0..self.mute.len()).rev() {
            let index = self.mute[place];
            let Some(Some(client)) = self.clients.get_mut(index as usize) else { continue };
            match client.muting.look(self.now) {
                Look::No => continue,
                Look::Yes => {}
                Look::Listen if self.set_mute(index, false).is_ok() => {}
                Look::Listen => {
                    self.close_client(index);
                    continue;
                }
            }
            if let Some(Some(client)) = self.clients.get_mut(index as usize) {
                client.stream.expect_bytes();
                self.ready.add(Source::Client(index));
            }
        }
    }

    /// To be called after each flush of a client: listens to its socket for what matters now.
    pub(super) fn attend(&mut self, index: u32) -> io::Result<()> {
        let Some(Some(client)) = self.clients.get_mut(index as usize) else { return Ok(()) };
        // A client that does not take its answers is to say when it does.
        let is_mute = client.stream.is_writable() && client.muting.judge(self.now);
        if is_mute != client.muting.is_mute {
            return self.set_mute(index, is_mute);
        }
        if is_mute {
            return Ok(());
        }
        client.stream.watch_room(self.poll.registry(), Source::Client(index).token())
    }

    fn set_mute(&mut self, index: u32, is_mute: bool) -> io::Result<()> {
        let Some(Some(client)) = self.clients.get_mut(index as usize) else { return Ok(()) };
        if is_mute {
            client.stream.deregister(self.poll.registry())?;
            self.mute.push(index);
        } else {
            // What has come meanwhile makes an edge.
            client.stream.register(self.poll.registry(), Source::Client(index).token())?;
            self.mute.retain(|mute| *mute != index);
        }
        client.muting.is_mute = is_mute;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1_000)
    }

    impl Muting {
        fn see(&mut self, time: u64, answers: u64, bytes: usize) -> bool {
            for _ in 0..answers {
                self.note_answer(at(time));
                self.note_read(at(time), bytes);
                self.note_request();
            }
            self.is_mute = self.judge(at(time));
            self.is_mute
        }
    }

    /// A client that has awaited so many answers for a millisecond, in which so many came.
    fn after(awaited: u32, answers: u64) -> Muting {
        let mut client = Muting { awaited, ..Muting::new(at(0)) };
        client.see(1_000, answers, 28);
        client
    }

    #[test]
    fn a_client_with_many_requests_that_are_answered_quickly_is_mute() {
        assert!(after(12, 20).is_mute);
    }

    #[test]
    fn a_client_that_is_answered_slowly_is_heard() {
        assert!(!after(32, 19).is_mute);
    }

    #[test]
    fn a_client_with_few_requests_is_heard() {
        assert!(!after(11, 100).is_mute);
    }

    #[test]
    fn a_mute_client_is_heard_again_when_it_awaits_few_answers() {
        let mut client = after(12, 20);
        client.awaited = 8;
        assert!(client.see(1_001, 0, 0));
        client.awaited = 7;
        assert!(!client.see(1_002, 0, 0));
    }

    #[test]
    fn a_client_that_writes_much_is_heard() {
        let writing = |bytes| Muting { awaited: 32, ..Muting::new(at(0)) }.see(1_000, 100, bytes);
        assert!(writing(9_216));
        assert!(!writing(9_217));
    }

    #[test]
    fn the_pace_is_that_of_the_last_window() {
        let mut client = after(32, 100);
        assert!(client.see(1_999, 0, 0));
        assert!(!client.see(2_000, 0, 0));
    }

    #[test]
    fn a_burst_after_a_rest_is_not_a_quick_pace_yet() {
        let mut client = Muting { awaited: 32, ..Muting::new(at(0)) };
        assert!(!client.see(100_000, 32, 28));
        assert!(client.see(101_000, 32, 28));
    }

    #[test]
    fn a_mute_client_is_looked_at_after_an_answer() {
        let mut client = after(32, 100);
        assert_eq!(client.look(at(1_010)), Look::No);
        client.note_answer(at(1_020));
        assert_eq!(client.look(at(1_030)), Look::Yes);
        client.note_read(at(1_030), 0);
        assert_eq!(client.look(at(1_040)), Look::Yes, "it may need a moment for it");
        client.note_read(at(1_040), 28);
        assert_eq!(client.look(at(1_050)), Look::No);
    }

    #[test]
    fn a_mute_client_without_answers_is_heard_after_a_millisecond() {
        let mut client = after(32, 100);
        assert_eq!(client.look(at(1_999)), Look::No);
        assert_eq!(client.look(at(2_000)), Look::Listen);
    }

    /// Is mute, and waits in vain at that millisecond; returns for how many it is heard from then on.
    fn heard_for(client: &mut Muting, time: u64) -> u64 {
        client.answered = at(0);
        assert_eq!(client.look(at(time * 1_000)), Look::Listen);
        client.note_read(at(time * 1_000), 28);
        let is_mute = |later: &u64| client.see((time + later) * 1_000, 1_000, 28);
        (1..2_000).find(is_mute).expect("trust comes back")
    }

    #[test]
    fn a_client_that_waits_in_vain_again_and_again_is_mute_ever_more_rarely() {
        let mut client = after(32, 100);
        let mut time = 100;
        let mut rests = Vec::new();
        for _ in 0..10 {
            rests.push(heard_for(&mut client, time));
            time += rests.last().expect("there is one");
        }
        assert_eq!(rests, [4, 8, 16, 32, 64, 128, 256, 512, 1_000, 1_000]);
        assert_eq!(heard_for(&mut client, time + 3_000), 4, "that is long ago");
    }

    #[test]
    fn a_client_that_had_nothing_to_say_has_not_waited_in_vain() {
        let mut client = after(32, 100);
        assert_eq!(client.look(at(2_000)), Look::Listen);
        client.note_read(at(2_000), 0);
        client.note_read(at(2_100), 28);
        assert_eq!(client.distrusted_until, at(0));
    }
}
