//! Why a disk does what it does: which path the next small read takes, why the others do not, and what waits for what.

use clock::Instant;
use multipath::{HeadIndex, Lag, NoPath, Pace, PathId, PathState, Policy, Why};
use scsi_multipath::{AccessState, Disk, Hold, PathView, Reason};

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
    /// `next`, `in-turn`, `together`, `more-in-flight`, `later`, `farther`, `not-optimized`, `slow`, `backed-off`,
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
        let explained = disk.explain(self.now);
        let next = explained.iter().find(|it| it.why == Why::Chosen).map(|it| it.path);
        let why = |path: PathId| explained.iter().find(|it| it.path == path).map(|it| it.why);
        let paths =
            disk.paths().filter_map(|view| Some(self.explain_path(&view, why(view.status.id)?))).collect();
        Some(DiskExplanation { policy: disk.status().policy, next, paths, waits: self.waits(disk, entry) })
    }

    fn explain_path(&self, view: &PathView, why: Why) -> PathExplanation {
        let verdict = match view.status.state {
            PathState::Usable(_) => usable(view, why),
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
            Reason::Lost => self.lost(id, view.hold),
            Reason::Access | Reason::Assumed => access(view.access),
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
    fn lost(&self, path: PathId, hold: Option<Hold>) -> (String, String) {
        let nexus = self.paths.get(&path).map(|path| &self.nexuses[path.nexus as usize]);
        let Some(nexus) = nexus else { return (words("its session is gone"), words("a new login")) };
        if nexus.is_up() {
            let why = words("a command on it failed in the transport, and its session stands");
            return (why, words("its answer to INQUIRY of VPD page 83h, which is asked for"));
        }
        let error = nexus.last_error.as_deref().unwrap_or("the session was lost");
        let kept_out = match hold {
            Some(Hold::Failed) => "; and an operator has failed it",
            Some(Hold::Drained) => "; and an operator has drained it",
            None => "",
        };
        let remedy = match nexus.state() {
            "waiting" => {
                words("the next login, which is tried again and again; `smpath rescan` tries at once")
            }
            state => format!("a login, which is at: {state}"),
        };
        (format!("no session with {}: {error}{kept_out}", nexus.portal), remedy)
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
fn usable(view: &PathView, why: Why) -> Verdict {
    let (code, remedy, until) = match why {
        Why::Chosen => ("next", "", None),
        Why::NotUsable(_) => ("not-usable", "see its state", None),
        Why::BackedOff { until } => (
            "backed-off",
            "then a read of our own tries it, and it is used again if that succeeds",
            Some(until),
        ),
        Why::OnTrial => ("on-trial", "the end of the read that tries it", None),
        Why::Slow => {
            ("slow", "three reads of our own in a row that are as fast on it as on the others", None)
        }
        Why::NonOptimized => (
            "not-optimized",
            "used when no optimized path is left, or when its port group becomes optimized",
            None,
        ),
        Why::Farther { .. } => ("farther", "taken when the nearer one is lost", None),
        Why::Deeper { .. } => ("more-in-flight", "taken when it has the fewest in flight", None),
        Why::Later { .. } => ("later", "taken when a read is expected to end first on it", None),
        Why::Together => ("together", "taken when it is its turn: each some milliseconds", None),
        Why::NotItsTurn => ("in-turn", "taken in its turn, or when that one is lost", None),
    };
    let why = match (why, view.status.pace) {
        (Why::Slow, Pace::Slow { why: Lag::Late, took, peers, .. }) => {
            format!("requests take {took:?} on it and {peers:?} on another path: it is the last resort")
        }
        (Why::Slow, Pace::Slow { why: Lag::Stalled, took, peers, .. }) => {
            format!(
                "nothing came back from it for {took:?}, while another path took {peers:?}: it is the last resort"
            )
        }
        (Why::Chosen, _) => words("takes the next small read"),
        (why, _) => why.to_string(),
    };
    Verdict { code, until, why, remedy: words(remedy) }
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
