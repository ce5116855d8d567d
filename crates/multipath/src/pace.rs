//! Whether a path is slow, compared with its peers.

use clock::{Duration, Instant};

use crate::PathId;

/// A time that differs from those of the peers by less than this hurts nobody enough to shift load: a path that is only
/// busier than others differs by as much.
pub(crate) const MARGIN: Duration = Duration::from_millis(5);
/// So many times what the peers take, beyond the margin: below that, policies cope by themselves.
pub(crate) const FACTOR: u64 = 4;
/// Samples of a path before it is judged.
pub(crate) const SAMPLES_MIN: u32 = 8;
/// A request that has been out for so long is looked at: far more than any disk that works takes, far less than users
/// put up with.
pub(crate) const SUSPECT_MIN: Duration = Duration::from_millis(50);
/// The same, in averages of its own path: a unit that is slow on all paths is asked less often.
pub(crate) const SUSPECT_FACTOR: u64 = 16;
/// Nothing at all comes back from a path for so long, while it has several requests: it is looked at sooner, since far less
/// of what works does that. Longer than a thread waits for its turn on a machine with too few processors.
pub(crate) const SILENCE_MIN: Duration = Duration::from_millis(20);
/// The same, in averages of its own path: with several requests, none takes so long before another one comes back.
pub(crate) const SILENCE_FACTOR: u64 = 4;
/// What counts as several.
pub(crate) const SILENCE_DEPTH: u32 = 4;
/// A write is told to be late on a path that stalls no earlier than this: getting it back costs an abort.
pub(crate) const WRITE_PATIENCE: Duration = Duration::from_secs(1);
/// So long, at the least, a canary may be out on a path before it stalls.
const VERDICT_MIN: Duration = Duration::from_millis(50);
/// The same, if it has been silent before and ever since.
const VERDICT_SILENT_MIN: Duration = Duration::from_millis(10);
/// The same, in times of the canary on the other path.
const VERDICT_FACTOR: u64 = 8;
/// Paths are compared by canaries not more often than this.
pub(crate) const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// The same where a path has fallen silent: users wait by then.
pub(crate) const COMPARE_SILENT_EVERY: Duration = Duration::from_millis(250);
/// How often it is said that a path seems to stall and is alone: whoever can bring others back tries them then.
pub(crate) const ALONE_EVERY: Duration = Duration::from_secs(1);
/// A path that is found to be no worse than its peer is not suspected as early for so long.
const ACQUITTAL: Duration = Duration::from_secs(60);
/// Comparisons in a row that a path has to lose before it counts as slow: one canary may have had bad luck.
const LOSSES: u8 = 2;
/// A comparison without results by then is given up: if it is the unit, there is nothing to tell; if it is both paths, a third
/// one can.
const COMPARE_MAX: Duration = Duration::from_secs(1);
/// Canaries in a row that are as fast as the peers, before a slow path is used again.
const GOOD_CANARIES: u8 = 3;
/// Between those, and between comparisons in a row.
pub(crate) const GOOD_PAUSE: Duration = Duration::from_millis(100);
/// Until the first canary on a path that has become slow; twice as long after each that was slow too.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest: a repaired path is noticed within this time.
const PAUSE_LONGEST: Duration = Duration::from_secs(10);
/// So long a slow path has to be better than what would make it slow, so that it does not go back and forth. After that
/// it only has to be no worse: one that is a little slower for good is not kept out for good.
const STRICT: Duration = Duration::from_secs(60);
/// A path that becomes slow again within this time goes on where its last pauses had come to.
const RELAPSE: Duration = Duration::from_secs(60);

/// How a path keeps up with its peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pace {
    #[default]
    Steady,
    /// Used only if there is no other.
    Slow {
        since: Instant,
        why: Lag,
        /// What its requests took, or had been taking.
        took: Duration,
        /// What those of a peer took.
        peers: Duration,
    },
}

/// How a path, or a request on it, lags behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lag {
    /// It takes far longer than others.
    Late,
    /// Nothing comes back from the path, while it does from its peers.
    Stalled,
}

/// What is going on about the pace of one path.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Watch {
    pub(crate) pace: Pace,
    /// When the canary that is out was asked for.
    pub(crate) canary: Option<Instant>,
    /// When the next canary on a slow path is due.
    pub(crate) due: Option<Instant>,
    /// A request is not suspected before it is so old: younger ones turned out to be the unit's own. Until then.
    patience: Option<(Duration, Instant)>,
    /// Comparisons lost in a row.
    losses: u8,
    good: u8,
    pause: Duration,
    recovered: Option<Instant>,
}

impl Watch {
    #[inline]
    pub(crate) const fn is_slow(&self) -> bool {
        matches!(self.pace, Pace::Slow { .. })
    }

    pub(crate) const fn stalls(&self) -> bool {
        matches!(self.pace, Pace::Slow { why: Lag::Stalled, .. })
    }

    pub(crate) fn slow_down(&mut self, now: Instant, verdict: Verdict) {
        let Verdict { why, took, peers } = verdict;
        let relapsed = self.recovered.is_some_and(|at| now.since(at) < RELAPSE);
        self.pause = if relapsed { self.longer() } else { PAUSE_FIRST };
        self.pace = Pace::Slow { since: now, why, took, peers };
        (self.good, self.losses) = (0, 0);
        self.due = Some(now + self.pause);
    }

    /// A canary on a slow path has come back; none if it failed. True if the path is slow no more.
    pub(crate) fn judge(&mut self, now: Instant, took: Option<Duration>, peers: Duration) -> bool {
        let is_old = matches!(self.pace, Pace::Slow { since, .. } if now.since(since) >= STRICT);
        let is_good = |took| if is_old { !is_behind(took, peers) } else { took <= tolerable(peers) };
        if !took.is_some_and(is_good) {
            self.good = 0;
            self.pause = self.longer();
            self.due = Some(now + self.pause);
            return false;
        }
        self.good += 1;
        self.due = Some(now + GOOD_PAUSE);
        if self.good < GOOD_CANARIES {
            return false;
        }
        self.steady();
        self.recovered = Some(now);
        true
    }

    /// The path lost a comparison. True if that was one too many.
    pub(crate) const fn lose(&mut self) -> bool {
        self.losses = self.losses.saturating_add(1);
        self.losses >= LOSSES
    }

    pub(crate) const fn has_lost(&self) -> bool {
        self.losses > 0
    }

    /// The path is as good as its peer: what is old on it is so for another reason.
    pub(crate) fn acquit(&mut self, now: Instant, suspicion: Suspicion) {
        self.losses = 0;
        // To ask again about silence costs little, and users would wait.
        if !suspicion.is_silent {
            self.patience = Some((suspicion.oldest.saturating_mul(2), now + ACQUITTAL));
        }
    }

    /// How old a request may be before it is suspected, for what other ones turned out to be.
    pub(crate) fn patience(&self, now: Instant) -> Duration {
        self.patience.filter(|(_, until)| now < *until).map_or(Duration::ZERO, |(patience, _)| patience)
    }

    /// Nothing is held against the path any more.
    pub(crate) const fn steady(&mut self) {
        self.pace = Pace::Steady;
        (self.due, self.good, self.losses) = (None, 0, 0);
        self.patience = None;
    }

    fn longer(&self) -> Duration {
        self.pause.saturating_mul(2).min(PAUSE_LONGEST).max(PAUSE_FIRST)
    }
}

/// What a slow path may take to be used again: less than what made it slow, so that it does not go back and forth.
fn tolerable(peers: Duration) -> Duration {
    peers.saturating_mul(FACTOR / 2) + Duration::from_nanos(MARGIN.as_nanos() / 2)
}

/// Whether a path that takes so long has fallen behind one that takes as long as the other.
#[must_use]
pub fn is_behind(took: Duration, peer: Duration) -> bool {
    took > peer.saturating_mul(FACTOR) + MARGIN
}

/// Why a path is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) why: Lag,
    pub(crate) took: Duration,
    pub(crate) peers: Duration,
}

/// Why a path is to be compared with another one.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Suspicion {
    /// How long its requests have been out, and take on average.
    pub(crate) oldest: Duration,
    pub(crate) mean: Duration,
    /// Nothing has come back from it for a while.
    pub(crate) is_silent: bool,
}

/// Two canaries at the same time, of the same block, on a path that seems slow and on another one: what they differ by is the
/// paths', and not the logical unit's.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Comparison {
    pub(crate) suspect: PathId,
    pub(crate) peer: PathId,
    since: Instant,
    suspicion: Suspicion,
    suspect_took: Option<Duration>,
    peer_took: Option<Duration>,
}

/// What a comparison has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Nothing yet: look again then.
    Open(Instant),
    /// The canary on the suspect took longer.
    Behind(Verdict),
    Stalled(Verdict),
    /// The suspect is no worse.
    Equal,
    GivenUp,
}

impl Comparison {
    pub(crate) const fn new(now: Instant, suspect: PathId, peer: PathId, suspicion: Suspicion) -> Self {
        Self { suspect, peer, since: now, suspicion, suspect_took: None, peer_took: None }
    }

    /// A canary that was out before counts from the beginning of the comparison.
    pub(crate) fn hear(&mut self, now: Instant, path: PathId, took: Duration) {
        let took = took.min(now.since(self.since));
        if path == self.suspect {
            self.suspect_took = Some(took);
        } else if path == self.peer {
            self.peer_took = Some(took);
        }
    }

    pub(crate) const fn concerns(&self, path: PathId) -> bool {
        self.suspect.0 == path.0 || self.peer.0 == path.0
    }

    pub(crate) const fn suspicion(&self) -> Suspicion {
        self.suspicion
    }

    /// Of both, once they are known.
    pub(crate) fn times(&self) -> Option<(Duration, Duration)> {
        self.suspect_took.zip(self.peer_took)
    }

    /// `silence` is how long nothing has come back from the suspect.
    pub(crate) fn outcome(&self, now: Instant, silence: Duration) -> Compared {
        let Suspicion { oldest, mean, is_silent } = self.suspicion;
        match (self.suspect_took, self.peer_took) {
            (Some(took), Some(peers)) if is_behind(took, peers) => {
                Compared::Behind(Verdict { why: Lag::Late, took, peers })
            }
            (Some(_), Some(_)) => Compared::Equal,
            (None, Some(peers)) => {
                let slack = peers.saturating_mul(VERDICT_FACTOR).max(mean.saturating_mul(2));
                let is_silent = is_silent && silence >= now.since(self.since);
                let limit = self.since + slack.max(if is_silent { VERDICT_SILENT_MIN } else { VERDICT_MIN });
                if now < limit {
                    return Compared::Open(limit);
                }
                let took = oldest + now.since(self.since);
                Compared::Stalled(Verdict { why: Lag::Stalled, took, peers })
            }
            // The other one is the slower of the two.
            (Some(took), None) => {
                let limit = self.since + took.saturating_mul(VERDICT_FACTOR).max(VERDICT_MIN);
                if now < limit { Compared::Open(limit) } else { Compared::Equal }
            }
            (None, None) if now < self.since + COMPARE_MAX => Compared::Open(self.since + COMPARE_MAX),
            (None, None) => Compared::GivenUp,
        }
    }
}
