//! Why a disk does what it does: which path the next small read takes, why the others do not, and what waits for what.

use clock::Instant;
use multipath::{Access, HeadIndex, Health, NoPath, Node, PathId, PathState, Policy};
use scsi_multipath::{AccessState, Disk, PathView, Reason};

use crate::disks::Entry;
use crate::event::DiskIndex;
use crate::host::Host;
use crate::log::cause_of_path;
use crate::verbs::ShowNoPath;

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskExplanation {
    pub policy: Policy,
    /// The path that the next small read takes; none if it would wait or fail.
    pub next: Option<PathId>,
    pub paths: Vec<PathExplanation>,
    /// What waits, and why.
    pub waits: Vec<Wait>,
}

/// One path of a disk, as the next small read sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathExplanation {
    pub path: PathId,
    pub state: PathState,
    /// `next`, `in-turn`, `more-in-flight`, `other-path-of-node`, `not-optimized`, `backed-off`, `trial-due`,
    /// `on-trial`, or the cause of its state.
    pub code: &'static str,
    /// When its state last changed.
    pub since: Instant,
    /// Until when it holds at the most, if that is known.
    pub until: Option<Instant>,
    pub why: String,
    /// What would change it.
    pub remedy: String,
}

/// Something that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// `parked`, `pausing`, `held-writes`, `fence`, `removal`.
    pub code: &'static str,
    pub count: usize,
    pub since: Option<Instant>,
    pub until: Option<Instant>,
    pub why: String,
}

/// The answer of one path.
struct Verdict {
    code: &'static str,
    until: Option<Instant>,
    why: String,
    remedy: String,
}

impl Host {
    /// None without the multipath layer: then the only path takes everything.
    #[must_use]
    pub fn explain(&self, disk: DiskIndex) -> Option<DiskExplanation> {
        let entry = self.disks.registry.get(HeadIndex(disk.0))?;
        let disk = entry.device.disk()?;
        let next = disk.next_path(Node(0));
        let paths = disk.paths().map(|view| self.explain_path(disk, &view, next)).collect();
        Some(DiskExplanation { policy: disk.status().policy, next, paths, waits: self.waits(disk, entry) })
    }

    fn explain_path(&self, disk: &Disk, view: &PathView, next: Option<PathId>) -> PathExplanation {
        let verdict = match view.status.state {
            PathState::Usable(access) => usable(disk, view, access, next),
            PathState::Waiting | PathState::Down => self.unusable(view),
        };
        let Verdict { code, until, why, remedy } = verdict;
        let (path, state, since) = (view.status.id, view.status.state, view.status.since);
        PathExplanation { path, state, code, since, until, why, remedy }
    }

    /// Why nothing can be sent on a path.
    fn unusable(&self, view: &PathView) -> Verdict {
        let id = view.status.id;
        let (why, remedy) = match view.reason {
            Reason::FailedByOperator => (words("failed by an operator"), format!("`smpath reinstate {id}`")),
            Reason::Drained => (words("drained by an operator"), format!("`smpath reinstate {id}`")),
            Reason::Lost => self.lost(id),
            Reason::Access => access(view.access),
            Reason::Verifying | Reason::Verified => (
                words("it has to show its identity before anything is sent on it"),
                words("its answer to INQUIRY of VPD page 83h, which is asked for"),
            ),
            Reason::Doubtful => (
                words("it did not answer as it should"),
                words("its answer to INQUIRY of VPD page 83h, which is asked for"),
            ),
            Reason::TimedOut => (
                words("it waited too long for its answer or its access state"),
                words("an answer; it is asked again and again"),
            ),
            Reason::Gone => (
                words("the target says that the logical unit is not there"),
                words("map the unit to this port again; it is asked every second"),
            ),
            Reason::Quarantined => (
                words("another logical unit shows behind its number"),
                words("map the disk's unit there again, then `smpath rescan`"),
            ),
        };
        Verdict { code: cause_of_path(view.reason), until: view.waiting_until, why, remedy }
    }

    /// The session of a path is gone.
    fn lost(&self, path: PathId) -> (String, String) {
        let nexus = self.paths.get(&path).map(|path| &self.nexuses[path.nexus as usize]);
        let Some(nexus) = nexus else { return (words("its session is gone"), words("a new login")) };
        let error = nexus.last_error.as_deref().unwrap_or("the session was lost");
        let remedy = match nexus.state() {
            "waiting" => {
                words("the next login, which is tried again and again; `smpath rescan` tries at once")
            }
            state => format!("a login, which is at: {state}"),
        };
        (format!("no session with {}: {error}", nexus.portal), remedy)
    }

    fn waits(&self, disk: &Disk, entry: &Entry) -> Vec<Wait> {
        let status = disk.status();
        let mut waits = Vec::new();
        if status.parked > 0 {
            waits.push(parked(status.parked, status.no_path_since, entry.no_path));
        }
        if status.pausing > 0 {
            let why = words("the device asked for a pause before they are sent again");
            waits.push(Wait { code: "pausing", count: status.pausing, since: None, until: None, why });
        }
        if disk.held() > 0 {
            let why = words("they overlap a write that is on its way, or whose fate a fence has to settle");
            waits.push(Wait { code: "held-writes", count: disk.held(), since: None, until: None, why });
        }
        for fence in disk.fences() {
            let portal = self.paths.get(&fence.path).map(|path| self.nexuses[path.nexus as usize].portal);
            let place = portal.map_or_else(String::new, |portal| format!(" ({portal})"));
            let why = format!(
                "until the target proves that nothing is left of what was sent on {}{place}; `smpath waive` ends it on \
                 your word",
                fence.path
            );
            let since = Some(fence.since);
            waits.push(Wait { code: "fence", count: fence.writes, since, until: fence.until, why });
        }
        if let Some(at) = status.removal_at {
            let why = words("its last path is gone; it is removed unless one returns");
            waits.push(Wait { code: "removal", count: 1, since: None, until: Some(at), why });
        }
        waits
    }
}

fn parked(count: usize, no_path_since: Option<Instant>, no_path: NoPath) -> Wait {
    let until = match (no_path, no_path_since) {
        (NoPath::QueueFor(time), Some(since)) => Some(since + time),
        _ => None,
    };
    let why = match no_path_since {
        Some(_) => format!("no path is available; the no-path policy is {}", ShowNoPath(no_path)),
        None => words("no path can be used now, and one is expected back"),
    };
    Wait { code: "parked", count, since: no_path_since, until, why }
}

/// Why a path that may be used is used next, or is not.
fn usable(disk: &Disk, view: &PathView, access: Access, next: Option<PathId>) -> Verdict {
    let verdict = |code, why: String, remedy: &str| Verdict { code, until: None, why, remedy: words(remedy) };
    match view.status.health {
        Health::BackedOff { until, length } => {
            let why = format!("it failed requests in a row and is left alone for {length:?}");
            let remedy = words("then the next request tries it alone");
            return Verdict { code: "backed-off", until: Some(until), why, remedy };
        }
        Health::OnTrial { .. } => {
            let why = words("one request is out to try it after its back-off");
            return verdict("on-trial", why, "the end of that request");
        }
        Health::Good { .. } | Health::TrialDue { .. } => {}
    }
    if next == Some(view.status.id) {
        let why = match view.status.health {
            Health::TrialDue { .. } => {
                words("takes the next small read, alone, to try it after its back-off")
            }
            _ => words("takes the next small read"),
        };
        return verdict("next", why, "");
    }
    let status = disk.status();
    let best = disk.paths().find(|path| Some(path.status.id) == next);
    let is_better = best.as_ref().is_some_and(|path| path.status.state != view.status.state);
    if access == Access::NonOptimized && is_better {
        let remedy = "used when no optimized path is left, or when its port group becomes optimized";
        return verdict("not-optimized", words("non-optimized, and an optimized path is there"), remedy);
    }
    let in_flight = view.status.in_flight;
    match status.policy {
        Policy::QueueDepth => {
            let of_next = best.map_or(0, |path| path.status.in_flight);
            let why = match in_flight > of_next {
                true => format!("{in_flight} requests are in flight on it, {of_next} on the next one"),
                false => {
                    format!("as few requests in flight ({in_flight}) as the next one, which stands before it")
                }
            };
            verdict("more-in-flight", why, "taken when it has the fewest in flight")
        }
        Policy::RoundRobin => verdict("in-turn", words("it is not its turn"), "each takes one in turn"),
        Policy::Numa => {
            let why = words("another path is the one of this NUMA node");
            verdict("other-path-of-node", why, "taken when that path is lost")
        }
    }
}

/// Why an access state keeps a path from being used.
fn access(state: AccessState) -> (String, String) {
    let remedy = "the array makes its port group active; it is asked every 2 s while no path is usable, else every 60 s";
    let why = match state {
        AccessState::Transitioning => words("its port group is changing its access state"),
        state => format!("its port group is {state}"),
    };
    (why, words(remedy))
}

fn words(text: &str) -> String {
    text.to_owned()
}
