//! What a request costs in the multipath layer: submit, start, end, finish, with 32 requests in flight.
//!
//! The budget is 50 ns a request with four paths and no allocation in steady state. A request that is drained right
//! after it was handled is the worst case for large ones: each move reads what the last one has just written. divan prints the time of one
//! round and the allocations made in it; a round is `ROUND` requests, so that time in microseconds is nanoseconds a
//! request.

use std::collections::VecDeque;

use clock::{Duration, Instant};
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use multipath::{
    Access, Action, Class, Event, HEDGE_PERCENT, Head, Hedging, Kind, Mark, Node, Options, PathId, PathState,
    Policy, SlowPaths, Ticket, Trial, Verdict,
};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const ROUND: usize = 1_000;
const IN_FLIGHT: usize = 32;
const KIND: Kind = Kind { class: Class::SmallRead, mark: Some(Mark(1)) };

/// As large as a SCSI command with its CDB, buffer handle and context.
type LargeRequest = [u64; 25];

/// Up to about this size a move is a few instructions; above it is a call, and most of the time goes there.
type MediumRequest = [u64; 12];

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 4, 32])]
fn numa(bencher: Bencher<'_, '_>, paths: u32) {
    rounds(bencher, Policy::Numa, paths, 7_u64);
}

#[divan::bench(args = [1, 4, 32])]
fn round_robin(bencher: Bencher<'_, '_>, paths: u32) {
    rounds(bencher, Policy::RoundRobin, paths, 7_u64);
}

#[divan::bench(args = [1, 4, 32])]
fn queue_depth(bencher: Bencher<'_, '_>, paths: u32) {
    rounds(bencher, Policy::QueueDepth, paths, 7_u64);
}

/// As a disk sets its head up: times are taken, and slow paths are looked for.
#[divan::bench(args = [1, 4, 32])]
fn queue_depth_watched(bencher: Bencher<'_, '_>, paths: u32) {
    let options = Options {
        policy: Policy::QueueDepth,
        slow_paths: SlowPaths::Demote,
        trial: Trial::Canary,
        ..Options::default()
    };
    rounds_with(bencher, options, paths, 7_u64);
}

#[divan::bench(args = [1, 4, 32])]
fn latency_watched(bencher: Bencher<'_, '_>, paths: u32) {
    let options = Options {
        policy: Policy::Latency,
        slow_paths: SlowPaths::Demote,
        trial: Trial::Canary,
        ..Options::default()
    };
    rounds_with(bencher, options, paths, 7_u64);
}

#[divan::bench(args = [1, 4, 32])]
fn latency_hedged(bencher: Bencher<'_, '_>, paths: u32) {
    let options = Options {
        policy: Policy::Latency,
        slow_paths: SlowPaths::Demote,
        trial: Trial::Canary,
        hedging: Hedging::On { percent: HEDGE_PERCENT },
        ..Options::default()
    };
    rounds_with(bencher, options, paths, 7_u64);
}

#[divan::bench(args = [1, 4, 32])]
fn queue_depth_medium(bencher: Bencher<'_, '_>, paths: u32) {
    rounds::<MediumRequest>(bencher, Policy::QueueDepth, paths, [7; 12]);
}

#[divan::bench(args = [1, 4, 32])]
fn numa_large(bencher: Bencher<'_, '_>, paths: u32) {
    rounds::<LargeRequest>(bencher, Policy::Numa, paths, [7; 25]);
}

#[divan::bench(args = [1, 4, 32])]
fn round_robin_large(bencher: Bencher<'_, '_>, paths: u32) {
    rounds::<LargeRequest>(bencher, Policy::RoundRobin, paths, [7; 25]);
}

#[divan::bench(args = [1, 4, 32])]
fn queue_depth_large(bencher: Bencher<'_, '_>, paths: u32) {
    rounds::<LargeRequest>(bencher, Policy::QueueDepth, paths, [7; 25]);
}

/// What this benchmark costs by itself: the request goes into the queue that stands for the transports and back.
#[divan::bench]
fn without_head_large(bencher: Bencher<'_, '_>) {
    let mut in_flight: VecDeque<(u128, LargeRequest)> = (0..32).map(|sequence| (sequence, [7; 25])).collect();
    bencher.counter(ItemsCount::new(ROUND)).bench_local(move || {
        for _ in 0..ROUND {
            if let Some((_, request)) = in_flight.pop_front() {
                black_box(request);
            }
            in_flight.push_back((1, black_box([7; 25])));
        }
    });
}

fn rounds<R: Copy>(bencher: Bencher<'_, '_>, policy: Policy, paths: u32, request: R) {
    rounds_with(bencher, Options { policy, ..Options::default() }, paths, request);
}

fn rounds_with<R: Copy>(bencher: Bencher<'_, '_>, options: Options, paths: u32, request: R) {
    let mut driver = Driver::new(options, paths);
    driver.fill(request);
    bencher.counter(ItemsCount::new(ROUND)).bench_local(move || {
        for _ in 0..ROUND {
            driver.end_oldest();
            driver.submit(black_box(request));
        }
    });
}

/// Stands for the disk above and the transports below.
struct Driver<R> {
    head: Head<R>,
    in_flight: VecDeque<(Ticket, R)>,
    now: Instant,
}

impl<R: Copy> Driver<R> {
    fn new(options: Options, paths: u32) -> Self {
        let mut head = Head::new(options);
        for path in 0..paths {
            let state = PathState::Usable(Access::Optimized);
            head.handle(Instant::START, Event::PathAdded { path: PathId(path), node: None, state });
        }
        Self { head, in_flight: VecDeque::with_capacity(IN_FLIGHT * 2), now: Instant::START }
    }

    fn fill(&mut self, request: R) {
        for _ in 0..IN_FLIGHT {
            self.submit(request);
        }
    }

    #[inline]
    fn submit(&mut self, request: R) {
        // A hundred thousand requests a second.
        self.now = self.now + Duration::from_micros(10);
        self.head.handle(self.now, Event::Submit { node: Node(0), kind: KIND, request });
        self.drain();
    }

    #[inline]
    fn end_oldest(&mut self) {
        let Some((ticket, request)) = self.in_flight.pop_front() else { return };
        self.head.handle(self.now, Event::Ended { ticket, request, verdict: Verdict::Done });
        self.drain();
    }

    #[inline]
    fn drain(&mut self) {
        while let Some(action) = self.head.poll_action() {
            match action {
                Action::Start { ticket, request, .. } => self.in_flight.push_back((ticket, request)),
                Action::Finish { request, .. } => {
                    black_box(request);
                }
                Action::Gone | Action::Changed(_) | Action::Try { .. } | Action::Late { .. } => {}
            }
        }
    }
}
