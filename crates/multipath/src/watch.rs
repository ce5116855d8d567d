//! How the head keeps an eye on the time that requests take: paths that are slow, and requests that are late.
//!
//! A path is judged against its peers, never by itself: a logical unit that is slow is slow on all of its paths. Where
//! peers carry requests of the same class, averages are compared. Where they do not (`numa` uses one path), or nothing
//! comes back at all, two canaries are: the same small read, at the same time, on both. A path that carries nothing is known by
//! the pings of its transport: where those take far longer than its peers', canaries tell whether reads do as well, since a
//! target may answer pings when it has nothing better to do.

use clock::{Duration, Instant};

use crate::pace::{
    ALONE_EVERY, COMPARE_EVERY, COMPARE_SILENT_EVERY, Compared, Comparison, GOOD_PAUSE, MARGIN, Pace,
    SAMPLES_MIN, SILENCE_DEPTH, SILENCE_FACTOR, SILENCE_MIN, SUSPECT_FACTOR, SUSPECT_MIN, Suspicion, Verdict,
    WRITE_PATIENCE, is_behind,
};
use crate::paths::{Path, Rank};
use crate::{Action, Change, Class, Head, Hedging, Lag, Misuse, PathId, SlowPaths, Ticket, Tried};

/// A hedge is not sent earlier: drivers wake up once in a millisecond or so.
const HEDGE_DELAY_MIN: Duration = Duration::from_millis(1);
/// Until the delay of hedges is known, it is looked so often whether it is.
const HEDGE_LOOK: Duration = Duration::from_millis(10);
/// Hedges that may be saved up, in 1/100: enough for what is in flight when a path begins to stall.
const HEDGES_MAX: u32 = 64 * 100;
/// What one costs.
const HEDGE_PRICE: u32 = 100;

impl<R> Head<R> {
    /// The first request since nothing was in flight has been started.
    #[cold]
    pub(crate) fn begin_watch(&mut self, now: Instant, position: usize) {
        let look = match self.hedging {
            Hedging::Off => SUSPECT_MIN,
            Hedging::On { percent } => {
                hedge_delay(&self.paths.present()[position], percent).unwrap_or(HEDGE_LOOK)
            }
        };
        self.watch_by(now + look);
    }

    /// A hedge is earned by so many reads.
    #[inline]
    pub(crate) fn earn_hedges(&mut self, percent: u8) {
        self.hedges = (self.hedges + u32::from(percent)).min(HEDGES_MAX);
    }

    /// Sends the canaries that are due, and looks at what is in flight if it is time.
    pub(crate) fn send_canaries(&mut self, now: Instant) {
        while let Some(position) = self.paths.take_trial() {
            self.try_path(now, position);
        }
        if self.watch_at.is_some_and(|at| at <= now) {
            self.set_watch(now);
        }
    }

    /// Looks at everything, and says when to look again.
    pub(crate) fn set_watch(&mut self, now: Instant) {
        self.watch_at = None;
        if !self.paths.is_timed() {
            return;
        }
        let keeps_tails = self.hedging != Hedging::Off;
        let mut next = self.decide(now);
        let mut is_busy = false;
        for position in 0..self.paths.present().len() {
            let path = &mut self.paths.present_mut()[position];
            path.gauge.keep_tails(keeps_tails);
            is_busy |= !path.flights.is_empty();
            let looks = [
                self.try_slow_path(now, position),
                self.look_for_stall(now, position),
                self.look_for_late_reads(now, position),
            ];
            next = looks.into_iter().chain([next]).flatten().min();
        }
        if let Hedging::On { percent } = self.hedging
            && is_busy
        {
            let delays = self.paths.present().iter().filter_map(|path| hedge_delay(path, percent));
            let soon = now + delays.min().unwrap_or(HEDGE_LOOK);
            next = Some(next.map_or(soon, |next| next.min(soon)));
        }
        self.watch_at = next;
    }

    /// Whether a request took long enough to look at its path.
    #[inline]
    pub(crate) fn is_remarkable(&self, now: Instant, ticket: &Ticket) -> bool {
        self.slow_paths == SlowPaths::Demote
            && ticket.kind.class != Class::Other
            && now.since(ticket.started) > MARGIN
    }

    /// A request took long: has its path fallen behind the others?
    #[cold]
    #[inline(never)]
    pub(crate) fn compare(&mut self, now: Instant, ticket: &Ticket) {
        let class = ticket.kind.class;
        let Some(position) = self.paths.position(ticket.path) else { return };
        let path = &self.paths.present()[position];
        if path.rank().is_none_or(|rank| rank == Rank::LastResort) {
            return;
        }
        let Some(took) = path.gauge.fresh_mean(now, class, SAMPLES_MIN).filter(|took| *took > MARGIN) else {
            return;
        };
        let depth = path.gauge.depth(class) + 16;
        // What others took before says nothing of a time at which the unit, or all of this machine, may have rested.
        let peers = self.peers(position).filter_map(|(_, peer)| {
            let mean = peer.gauge.mean_since(ticket.started, now, class, SAMPLES_MIN)?;
            // As if it were as busy as this one, and served one after the other: so much the peer might take.
            let busier = (depth / (peer.gauge.depth(class) + 16)).max(1);
            Some(mean.saturating_mul(busier))
        });
        match peers.min() {
            Some(peers) if is_behind(took, peers) => {
                self.slow_down(now, position, Verdict { why: Lag::Late, took, peers });
            }
            Some(_) => {}
            None => {
                let suspicion = Suspicion { oldest: took, mean: took, is_silent: false };
                self.begin_comparison(now, position, suspicion);
            }
        }
        self.settle(now);
    }

    /// The transport of a path has answered a ping: is it far behind those of the others?
    pub(crate) fn pinged(&mut self, now: Instant, id: PathId, took: Duration, peers: Option<Duration>) {
        let Some(position) = self.paths.position(id) else { return };
        let path = &self.paths.present()[position];
        let is_measured = !path.flights.is_empty() || path.gauge.is_fresh(now);
        if self.slow_paths == SlowPaths::Ignore
            || is_measured
            // Pings that took so long have turned out to say nothing of reads.
            || took < path.watch.patience(now)
            || path.rank().is_none_or(|rank| rank == Rank::LastResort)
        {
            return;
        }
        // A peer that carries requests is not pinged; none of those takes less than a ping would.
        let reads = self.peers(position);
        let reads = reads.filter_map(|(_, peer)| peer.gauge.fresh_mean(now, Class::SmallRead, SAMPLES_MIN));
        if reads.chain(peers).min().is_some_and(|peers| is_behind(took, peers)) {
            self.begin_comparison(now, position, Suspicion { oldest: took, mean: took, is_silent: false });
            self.settle(now);
        }
    }

    /// A canary came back.
    pub(crate) fn tried(&mut self, now: Instant, id: PathId, tried: Tried) {
        // A path that left meanwhile is nobody's concern any more.
        let Some(position) = self.paths.position(id) else { return };
        let path = &mut self.paths.present_mut()[position];
        let Some(sent) = path.watch.canary.take() else { return self.refuse(id, Misuse::ForeignTicket) };
        let took = now.since(sent);
        let worked = (tried == Tried::Worked).then_some(took);
        let pace = path.watch.pace;
        let learned = self.paths.tried(now, position, tried, &self.back_off);
        self.learn(id, learned);
        let is_compared = match (self.comparison.as_mut().filter(|it| it.concerns(id)), worked) {
            (Some(comparison), Some(took)) => {
                comparison.hear(now, id, took);
                true
            }
            (Some(_), None) => {
                self.comparison = None;
                false
            }
            (None, _) => false,
        };
        if let Pace::Slow { peers, .. } = pace
            && !is_compared
        {
            self.judge(now, position, worked, peers);
        }
        self.set_watch(now);
        self.settle(now);
    }

    /// A canary on a slow path has come back, in so long a time; one on another path took as long as `peer`.
    fn judge(&mut self, now: Instant, position: usize, took: Option<Duration>, peer: Duration) {
        let path = &mut self.paths.present_mut()[position];
        if path.watch.judge(now, took, peer) {
            let id = path.id;
            path.gauge.forget();
            self.selection.forget_all();
            self.changed(Change::Steady { path: id });
        }
    }

    /// Paths that another one can be compared with, and that can take its place: the best first.
    fn peers(&self, position: usize) -> impl Iterator<Item = (usize, &Path)> {
        let is_peer = move |(at, path): &(usize, &Path)| {
            *at != position && path.rank().is_some_and(|rank| rank < Rank::LastResort)
        };
        self.paths.present().iter().enumerate().filter(is_peer)
    }

    fn try_path(&mut self, now: Instant, position: usize) {
        let path = &mut self.paths.present_mut()[position];
        if path.watch.canary.is_none() {
            path.watch.canary = Some(now);
            let path = path.id;
            self.act(Action::Try { path });
        }
    }

    /// The next canary of a slow path, if it is time.
    fn try_slow_path(&mut self, now: Instant, position: usize) -> Option<Instant> {
        let path = &mut self.paths.present_mut()[position];
        path.rank()?;
        let is_compared = self.comparison.as_ref().is_some_and(|it| it.concerns(path.id));
        if !path.watch.is_slow() || path.watch.canary.is_some() || is_compared {
            return None;
        }
        // None if the comparison that was to tell came to no end: that may have been at once, so it is not begun anew at once.
        let due = *path.watch.due.get_or_insert(now + GOOD_PAUSE);
        if due > now {
            return Some(due);
        }
        path.watch.due = None;
        let suspect = path.id;
        // What another path takes at the same time is what counts: the unit may be slow now on all of them.
        let peer = self.peers(position).find(|(_, peer)| peer.watch.canary.is_none());
        let peer = peer.map(|(at, peer)| (at, peer.id)).filter(|_| self.comparison.is_none());
        self.try_path(now, position);
        if let Some((peer, peer_id)) = peer {
            self.comparison = Some(Comparison::new(now, suspect, peer_id, Suspicion::default()));
            self.try_path(now, peer);
        }
        None
    }

    /// Requests that have been out for too long, while their path has peers: is it the path?
    fn look_for_stall(&mut self, now: Instant, position: usize) -> Option<Instant> {
        if self.slow_paths == SlowPaths::Ignore {
            return None;
        }
        let path = &self.paths.present()[position];
        path.rank()?;
        let oldest = path.flights.front()?;
        let mean = path.gauge.mean(oldest.kind.class);
        let usual = mean.unwrap_or(Duration::ZERO).saturating_mul(SUSPECT_FACTOR);
        if path.watch.stalls() {
            return self.tell_stalled(now, position, usual.max(SILENCE_MIN));
        }
        if path.watch.is_slow() {
            return None;
        }
        // Of a path that has little in flight, silence says no more than its oldest request does.
        let has_several = path.in_flight >= SILENCE_DEPTH;
        let silence = mean.unwrap_or(Duration::ZERO).saturating_mul(SILENCE_FACTOR).max(SILENCE_MIN);
        let silent_in = has_several.then(|| silence - path.silence(now));
        let patience = usual.max(SUSPECT_MIN).max(path.watch.patience(now));
        let oldest = now.since(oldest.started);
        let is_silent = silent_in == Some(Duration::ZERO);
        if is_silent || oldest >= patience {
            let suspicion = Suspicion { oldest, mean: mean.unwrap_or(Duration::ZERO), is_silent };
            self.begin_comparison(now, position, suspicion);
            return Some(now + SILENCE_MIN);
        }
        Some(now + silent_in.map_or(patience - oldest, |silent_in| silent_in.min(patience - oldest)))
    }

    /// Tells of every request that a path that stalls has had for too long.
    fn tell_stalled(&mut self, now: Instant, position: usize, patience: Duration) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let path = &mut self.paths.present_mut()[position];
        let id = path.id;
        let mut late = alloc::vec::Vec::new();
        for place in 0..path.flights.len() {
            let flight = &path.flights[place];
            let is_read = flight.kind.class.is_read();
            let at = flight.started + if is_read { patience } else { patience.max(WRITE_PATIENCE) };
            if at <= now {
                late.extend(path.tell(place));
            } else if !flight.is_told {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        for mark in late {
            self.act(Action::Late { path: id, mark, why: Lag::Stalled });
        }
        next
    }

    /// Reads that are among the slowest of their path are told of, as long as the budget lasts.
    fn look_for_late_reads(&mut self, now: Instant, position: usize) -> Option<Instant> {
        let Hedging::On { percent } = self.hedging else { return None };
        // A second copy goes to a path that is no worse than usual, or not at all.
        self.peers(position).next()?;
        let path = &mut self.paths.present_mut()[position];
        let id = path.id;
        let mut next: Option<Instant> = None;
        let mut late = alloc::vec::Vec::new();
        for place in 0..path.flights.len() {
            let flight = &path.flights[place];
            if flight.is_told || !flight.kind.class.is_read() {
                continue;
            }
            let Some(delay) = delay_of(path, flight.kind.class, percent) else { continue };
            let at = flight.started + delay;
            if at > now {
                next = Some(next.map_or(at, |next| next.min(at)));
            } else if self.hedges >= HEDGE_PRICE {
                self.hedges -= HEDGE_PRICE;
                late.extend(path.tell(place));
            } else {
                break;
            }
        }
        for mark in late {
            self.act(Action::Late { path: id, mark, why: Lag::Late });
        }
        next
    }

    /// Asks a path that seems slow, and the best of the others, for the same.
    fn begin_comparison(&mut self, now: Instant, position: usize, suspicion: Suspicion) {
        let suspect = &self.paths.present()[position];
        let pause = match suspicion.is_silent {
            _ if suspect.watch.has_lost() => GOOD_PAUSE,
            true => COMPARE_SILENT_EVERY,
            false => COMPARE_EVERY,
        };
        let is_due = self.compared.is_none_or(|at| at + pause <= now);
        if self.comparison.is_some() || !is_due {
            return;
        }
        let id = suspect.id;
        let free = self.peers(position).filter(|(_, peer)| peer.watch.canary.is_none());
        let Some((peer, peer_id)) =
            free.min_by_key(|(_, peer)| peer.rank()).map(|(position, peer)| (position, peer.id))
        else {
            return self.tell_alone(now, id, suspicion.oldest);
        };
        self.compared = Some(now);
        self.comparison = Some(Comparison::new(now, id, peer_id, suspicion));
        self.try_path(now, position);
        self.try_path(now, peer);
        self.watch_by(now + SILENCE_MIN);
    }

    /// Tells that a path seems to stall and that nothing could take its place, if somebody might bring another one back.
    fn tell_alone(&mut self, now: Instant, path: PathId, took: Duration) {
        let is_due = self.alone.is_none_or(|at| at + ALONE_EVERY <= now);
        let mut others = self.paths.present().iter().filter(|other| other.id != path);
        if is_due && others.all(|other| other.rank().is_none()) && self.paths.present().len() > 1 {
            self.alone = Some(now);
            self.changed(Change::Alone { path, took });
        }
    }

    /// Comes to a verdict about the comparison that is going on, if there is one.
    fn decide(&mut self, now: Instant) -> Option<Instant> {
        let comparison = self.comparison?;
        let position = self.paths.position(comparison.suspect);
        let silence = position.map_or(Duration::ZERO, |at| self.paths.present()[at].silence(now));
        let outcome = comparison.outcome(now, silence);
        let Some(position) = position.filter(|_| !matches!(outcome, Compared::GivenUp)) else {
            self.comparison = None;
            return None;
        };
        let watch = &mut self.paths.present_mut()[position].watch;
        if watch.is_slow() {
            return self.decide_about_slow(now, position, comparison, outcome);
        }
        match outcome {
            Compared::Open(at) => return Some(at),
            Compared::Behind(verdict) => {
                self.comparison = None;
                if watch.lose() {
                    self.slow_down(now, position, verdict);
                }
            }
            Compared::Stalled(verdict) => {
                self.comparison = None;
                self.slow_down(now, position, verdict);
            }
            Compared::Equal => {
                self.comparison = None;
                watch.acquit(now, comparison.suspicion());
            }
            Compared::GivenUp => {}
        }
        None
    }

    /// The same about a path that is slow already: is it still?
    fn decide_about_slow(
        &mut self,
        now: Instant,
        position: usize,
        comparison: Comparison,
        outcome: Compared,
    ) -> Option<Instant> {
        if let Compared::Open(at) = outcome {
            return Some(at);
        }
        self.comparison = None;
        // A canary that is still out is judged when it comes back.
        let (took, peer) = comparison.times()?;
        self.judge(now, position, Some(took), peer);
        self.paths.present()[position].watch.due
    }

    fn slow_down(&mut self, now: Instant, position: usize, verdict: Verdict) {
        // Never the last one: somebody has to carry the load.
        if self.peers(position).next().is_none() {
            return;
        }
        let path = &mut self.paths.present_mut()[position];
        path.watch.slow_down(now, verdict);
        let path = path.id;
        self.selection.forget_all();
        let Verdict { why, took, peers } = verdict;
        self.changed(Change::Slow { path, why, took, peers });
        self.watch_by(now);
    }
}

/// When a read of the path counts as late, if enough is known of its reads.
fn delay_of(path: &Path, class: Class, percent: u8) -> Option<Duration> {
    let per_mille = 1_000 - 10 * u32::from(percent.min(100));
    path.gauge.quantile(class, per_mille).map(|delay| delay.max(HEDGE_DELAY_MIN))
}

fn hedge_delay(path: &Path, percent: u8) -> Option<Duration> {
    let delays = [Class::SmallRead, Class::LargeRead].map(|class| delay_of(path, class, percent));
    delays.into_iter().flatten().min()
}
