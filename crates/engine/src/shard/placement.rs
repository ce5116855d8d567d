//! Which CPU the shard runs on.
//!
//! Linux wakes a thread on the CPU of whoever wakes it, if it may. Answers wake the shard on the CPU on which they
//! arrive: that of the network card's interrupts, or of the target where it is on this machine. If that one is busy, the
//! shard waits for it again and again while another CPU has nothing to do. So a shard with much to do that has to wait, on
//! the CPU where its answers arrive, leaves it for a while. Whatever its affinity does not allow stays out of question.

use std::fs::File;
use std::os::unix::fs::FileExt;

use clock::{Duration, Instant};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// How often it is looked at: some scheduling ticks, so that what is counted says something.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// So long it stays away at least, before the kernel has the choice again: many times what the move costs.
const AWAY: Duration = Duration::from_millis(200);
/// Who waits for the CPU for so much of the time is in somebody's way.
const WAITS_PERCENT: u64 = 20;
/// With fewer answers than this in a millisecond nobody misses the time that is waited.
const BUSY: u64 = 5;
/// What is older says nothing of now.
const STALE: Duration = Duration::from_millis(100);

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// Run anywhere but there.
    Leave(usize),
    /// Run wherever it was allowed before.
    Return,
}

/// A stay away from a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stay {
    from: usize,
    until: Instant,
    /// How much it waited there, in percent of the time.
    waited: u64,
}

/// When to leave, and when to return.
#[derive(Debug, Default)]
struct Judgement {
    looked_at: Instant,
    sums: Sums,
    stay: Option<Stay>,
}

/// Since the shard began.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    /// For its CPU.
    waited: Duration,
    answers: u64,
}

impl Judgement {
    fn is_due(&self, now: Instant) -> bool {
        now >= self.looked_at + LOOK_EVERY
    }

    fn look(&mut self, now: Instant, sums: Sums, own: usize, arrivals: Option<usize>) -> Option<Move> {
        let time = now.since(self.looked_at);
        let before = std::mem::replace(&mut self.sums, sums);
        self.looked_at = now;
        let waits = sums.waited.as_nanos().saturating_sub(before.waited.as_nanos());
        let percent = waits.saturating_mul(100) / time.as_nanos().max(1);
        let is_busy = sums.answers.saturating_sub(before.answers) >= time.as_millis() * BUSY;
        let arrivals = arrivals.filter(|_| is_busy);
        if arrivals == Some(own) && time <= STALE && percent >= WAITS_PERCENT {
            self.stay = Some(Stay { from: own, until: now + AWAY, waited: percent });
            return Some(Move::Leave(own));
        }
        let stay = self.stay.as_mut().filter(|stay| stay.until <= now)?;
        if arrivals == Some(stay.from) && percent < stay.waited {
            // The other CPU is still busy with them, and it is better off here.
            stay.until = now + AWAY;
            return None;
        }
        self.stay = None;
        Some(Move::Return)
    }
}

/// The masks of a shard that is away.
#[derive(Debug)]
struct Masks {
    before: CpuSet,
    now: CpuSet,
}

#[derive(Debug, Default)]
pub(super) struct Placement {
    judgement: Judgement,
    away: Option<Masks>,
    /// Where the kernel says how long this thread has waited for a CPU; the first look opens it.
    statistics: Option<File>,
}

impl Placement {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.judgement.is_due(now)
    }

    /// To be called by the shard's own thread, when it is due. It has had so many answers, which arrive on that CPU.
    pub(super) fn look(&mut self, now: Instant, answers: u64, arrivals: Option<usize>) {
        // Where the kernel does not count, nobody ever has to wait.
        let waited = self.waited().unwrap_or_default();
        match self.judgement.look(now, Sums { waited, answers }, sched_getcpu(), arrivals) {
            Some(Move::Leave(cpu)) => self.leave(cpu),
            Some(Move::Return) => self.come_back(),
            None => {}
        }
    }

    pub(super) const fn is_away(&self) -> bool {
        self.away.is_some()
    }

    fn leave(&mut self, cpu: usize) {
        let Ok(mask) = sched_getaffinity(None) else { return };
        // Whoever has chosen other CPUs for this thread meanwhile is not overruled.
        self.away.take_if(|away| away.now != mask);
        let before = self.away.as_ref().map_or(mask, |away| away.before);
        let mut now = before;
        now.unset(cpu);
        if now.count() > 0 && sched_setaffinity(None, &now).is_ok() {
            self.away = Some(Masks { before, now });
        }
    }

    fn come_back(&mut self) {
        let Some(Masks { before, now }) = self.away.take() else { return };
        if sched_getaffinity(None).is_ok_and(|mask| mask == now) {
            // What the kernel refuses now it would refuse again: the shard stays where it is.
            let _ = sched_setaffinity(None, &before);
        }
    }

    fn waited(&mut self) -> Option<Duration> {
        if self.statistics.is_none() {
            self.statistics = File::open("/proc/thread-self/schedstat").ok();
        }
        let mut text = [0; 96];
        let count = self.statistics.as_ref()?.read_at(&mut text, 0).ok()?;
        waited_in(text.get(..count)?)
    }
}

/// The second of three numbers: nanoseconds on the CPU, nanoseconds in wait for it, times that it had it.
fn waited_in(statistics: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(statistics).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    impl Judgement {
        fn see(&mut self, time: u64, waited: u64, own: usize, arrivals: Option<usize>) -> Option<Move> {
            let answers = self.sums.answers + 1_000;
            self.look(at(time), Sums { waited: Duration::from_millis(waited), answers }, own, arrivals)
        }
    }

    /// Twenty milliseconds, of which it has waited for so many.
    fn one_look(waited: u64, own: usize, arrivals: Option<usize>) -> Option<Move> {
        Judgement::default().see(20, waited, own, arrivals)
    }

    #[test]
    fn a_shard_that_waits_where_its_answers_arrive_leaves() {
        assert_eq!(one_look(4, 1, Some(1)), Some(Move::Leave(1)));
    }

    #[test]
    fn a_shard_that_hardly_waits_stays() {
        assert_eq!(one_look(3, 1, Some(1)), None);
    }

    #[test]
    fn a_shard_stays_where_its_answers_do_not_arrive() {
        assert_eq!(one_look(20, 1, Some(0)), None);
        assert_eq!(one_look(20, 1, None), None);
    }

    #[test]
    fn what_was_waited_for_before_an_idle_time_does_not_count() {
        assert_eq!(Judgement::default().see(5_000, 4_000, 1, Some(1)), None);
    }

    /// It has left CPU 1 after 20 ms, half of which it waited.
    fn away() -> Judgement {
        let mut judgement = Judgement::default();
        assert_eq!(judgement.see(20, 10, 1, Some(1)), Some(Move::Leave(1)));
        judgement
    }

    #[test]
    fn it_returns_after_a_while_and_leaves_again_if_it_has_to() {
        let mut judgement = away();
        assert_eq!(judgement.see(200, 10, 0, None), None);
        assert_eq!(judgement.see(220, 10, 0, None), Some(Move::Return));
        assert_eq!(judgement.see(240, 11, 1, Some(1)), None);
        assert_eq!(judgement.see(260, 15, 1, Some(1)), Some(Move::Leave(1)));
    }

    #[test]
    fn it_stays_away_while_answers_arrive_there_and_it_waits_less() {
        let mut judgement = away();
        assert_eq!(judgement.see(220, 90, 0, Some(1)), None);
        assert_eq!(judgement.see(420, 180, 0, Some(1)), None);
        assert_eq!(judgement.see(620, 280, 0, Some(1)), Some(Move::Return), "not less any more");
    }

    #[test]
    fn a_shard_with_few_answers_neither_leaves_nor_stays_away() {
        let few = |judgement: &Judgement, waited| Sums {
            waited: Duration::from_millis(waited),
            answers: judgement.sums.answers + 99,
        };
        let mut judgement = Judgement::default();
        assert_eq!(judgement.look(at(20), few(&judgement, 20), 1, Some(1)), None);
        let mut judgement = away();
        assert_eq!(judgement.look(at(220), few(&judgement, 10), 0, Some(1)), Some(Move::Return));
    }

    #[test]
    fn it_leaves_the_other_cpu_too_when_answers_follow_it() {
        let mut judgement = away();
        assert_eq!(judgement.see(40, 14, 0, Some(0)), Some(Move::Leave(0)));
    }

    #[test]
    fn the_kernels_numbers_are_read_and_nothing_else_is() {
        assert_eq!(waited_in(b"123456 7890 42\n"), Some(Duration::from_nanos(7_890)));
        for text in [&b""[..], b"12", b"a b c", b"1 -2 3", b"\xff \xff"] {
            assert_eq!(waited_in(text), None);
        }
    }

    #[test]
    fn a_thread_that_has_left_a_cpu_and_another_may_run_everywhere_afterwards() {
        let moves = || {
            let before = sched_getaffinity(None).unwrap();
            let mut placement = Placement::default();
            for _ in 0..2 {
                let cpu = sched_getcpu();
                placement.leave(cpu);
                assert_eq!(placement.is_away(), before.count() > 1);
                assert_eq!(sched_getaffinity(None).unwrap().is_set(cpu), !placement.is_away());
            }
            placement.come_back();
            assert!(sched_getaffinity(None).unwrap() == before);
        };
        std::thread::spawn(moves).join().unwrap();
    }

    #[test]
    fn cpus_that_were_chosen_meanwhile_are_kept() {
        let moves = || {
            let mut placement = Placement::default();
            placement.leave(sched_getcpu());
            let mut chosen = CpuSet::new();
            chosen.set(sched_getcpu());
            sched_setaffinity(None, &chosen).unwrap();
            // As if it had left another one.
            if let Some(masks) = &mut placement.away {
                masks.now = CpuSet::new();
            }
            placement.come_back();
            assert!(sched_getaffinity(None).unwrap() == chosen);
        };
        std::thread::spawn(moves).join().unwrap();
    }
}
