//! The ghost write, made on purpose: a write is stuck in the target's back end or on the network, its path is lost, the
//! program sends it again elsewhere, a newer write to the same blocks is acknowledged, and then the first copy is let
//! go. What the medium holds in the end is the newer data, or it is corrupt.
//!
//! Without a fence every case must corrupt: that is the positive control, without which "kept" says nothing.

mod stand;
mod wire;

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use self::stand::{Pending, SERVERS, Server, Stand};
use super::{Case, Outcome};
use crate::harness::link::Newcomers;
use crate::harness::smpath;

/// For a write to be acknowledged that nothing holds, over a path whose loss must first be noticed.
const LIMIT: Duration = Duration::from_secs(60);
/// A write that is not acknowledged by then is held by something.
const HELD_AFTER: Duration = Duration::from_millis(1500);
/// A write that is held for so long after the stuck one has landed is not waiting for that one.
const HELD_FOR_GOOD_AFTER: Duration = Duration::from_secs(5);
/// For bytes that the link has delivered to be executed, if they ever will be.
const LANDING: Duration = Duration::from_millis(500);

/// What happens to the first copy, and to its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    /// Stuck in the back end; the connection is reset, and the portal does not come back.
    StuckAndCut,
    /// Stuck in the back end; the connection is reset, and the next login reaches the target at once.
    StuckAndReset,
    /// Stuck in the back end; the connection goes silent and stays open at the target, and the next login reaches it.
    StuckAndSilent,
    /// So many writes on the network, delivered when the program has long given the connection up.
    Late { writes: usize },
    /// Stuck behind one of two targets that know nothing of each other and share the medium; its portal is lost.
    TwoTargets,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario::StuckAndCut,
    Scenario::StuckAndReset,
    Scenario::StuckAndSilent,
    Scenario::Late { writes: 1 },
    Scenario::Late { writes: 3 },
    Scenario::TwoTargets,
];

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StuckAndCut => f.write_str("E1 stuck in the back end, portal gone"),
            Self::StuckAndReset => f.write_str("E2 stuck in the back end, connection reset"),
            Self::StuckAndSilent => f.write_str("E2 stuck in the back end, connection silent"),
            Self::Late { writes } => write!(f, "E3 late on the network, writes: {writes}"),
            Self::TwoTargets => f.write_str("E4 stuck behind one of two targets"),
        }
    }
}

impl Scenario {
    const fn writes(self) -> usize {
        match self {
            Self::Late { writes } => writes,
            _ => 1,
        }
    }

    const fn is_stuck_in_back_end(self) -> bool {
        !matches!(self, Self::Late { .. })
    }
}

/// How the program fences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Unsafe,
    /// The default.
    Bounded,
    /// So few seconds that the time decides.
    BoundedTo(u32),
    Strict,
    /// No fence, and no data that the target did not ask for.
    UnsafeWithoutEarlyData,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsafe => f.write_str("unsafe"),
            Self::Bounded => f.write_str("bounded"),
            Self::BoundedTo(seconds) => write!(f, "bounded:{seconds}s"),
            Self::Strict => f.write_str("strict"),
            Self::UnsafeWithoutEarlyData => f.write_str("unsafe, early data off"),
        }
    }
}

impl Mode {
    /// The options of `smpath run` for it, or none if this build cannot do it.
    fn options(self) -> Result<Option<Vec<String>>> {
        let (fence, early_data) = (smpath::takes("run", "--fence")?, smpath::takes("run", "--early-data")?);
        let options = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        Ok(match self {
            // A build without a fence is as unsafe as one that is told to be.
            Self::Unsafe if !fence => options(&[]),
            Self::Unsafe => options(&["--fence", "unsafe"]),
            Self::UnsafeWithoutEarlyData if !early_data => None,
            Self::UnsafeWithoutEarlyData => options(&["--fence", "unsafe", "--early-data", "off"]),
            Self::Bounded | Self::BoundedTo(_) | Self::Strict if !fence => None,
            Self::Bounded => options(&[]),
            Self::BoundedTo(_) | Self::Strict => options(&["--fence", &self.to_string()]),
        })
    }
}

/// What became of the newer data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Corrupt {
        blocks: usize,
    },
    Kept,
    /// The newer write waited for the lost path's return, and was kept then.
    Held,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { blocks } => write!(f, "corrupt ({blocks})"),
            Self::Kept => f.write_str("kept"),
            Self::Held => f.write_str("held"),
        }
    }
}

/// What the name of every case of ours begins with; then come case, mode and target.
const PREFIX: &str = "ghost: ";

/// What came of every case that ran, to be read at one glance.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<String>);

impl Table {
    /// Takes what a case says up to its first colon; other people's cases are none of its business.
    pub(super) fn add(&mut self, case: &str, note: &str) {
        if let Some(case) = case.strip_prefix(PREFIX) {
            let outcome = note.split(':').next().unwrap_or_default();
            self.0.push(format!("| {case} | {outcome} |"));
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() {
            writeln!(f, "\n| case | mode | target | newer data |\n|---|---|---|---|")?;
            self.0.iter().try_for_each(|row| writeln!(f, "{row}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for server in SERVERS {
        for scenario in SCENARIOS.into_iter().filter(|scenario| server.can_play(*scenario)) {
            for mode in modes(scenario) {
                cases.push(Case::new(
                    format!("{PREFIX}{scenario} | {mode} | {server}"),
                    server.tools(),
                    move || judge(scenario, mode, server),
                ));
            }
        }
    }
    cases.extend(wire::cases(Server::Tgt));
    cases
}

fn modes(scenario: Scenario) -> Vec<Mode> {
    match scenario {
        Scenario::TwoTargets => vec![Mode::Unsafe, Mode::BoundedTo(4), Mode::Strict],
        Scenario::Late { .. } => {
            vec![Mode::Unsafe, Mode::UnsafeWithoutEarlyData, Mode::Bounded, Mode::Strict]
        }
        _ => vec![Mode::Unsafe, Mode::Bounded, Mode::Strict],
    }
}

fn judge(scenario: Scenario, mode: Mode, server: Server) -> Result<Outcome> {
    let Some(options) = mode.options()? else {
        return Ok(Outcome::Skipped("this smpath run has no such option".to_owned()));
    };
    let stand = Stand::new(scenario, server, &options)?;
    let (verdict, note) = play(&stand, scenario).with_context(|| stand.log())?;
    let told = format!("{verdict}: {note}");
    let as_expected = match (mode, scenario) {
        (Mode::Unsafe, _) => matches!(verdict, Verdict::Corrupt { .. }),
        (Mode::Strict, Scenario::TwoTargets) => verdict == Verdict::Held,
        _ => verdict == Verdict::Kept,
    };
    // A target that lies can undo what was acknowledged, whatever an initiator does: a known limit, shown and not judged.
    let is_judged = mode == Mode::Unsafe || server.can_be_fenced();
    ensure!(as_expected || !is_judged, "{told}\n{}", stand.log());
    Ok(Outcome::Passed(told))
}

/// The whole story, up to what the medium holds in the end.
fn play(stand: &Stand, scenario: Scenario) -> Result<(Verdict, String)> {
    let writes = scenario.writes();
    let lost = match scenario {
        Scenario::Late { .. } => stand.hold_on_the_network(writes)?,
        _ => stand.stick_in_the_back_end(writes)?,
    };
    let (lost, first) = lost;
    match scenario {
        Scenario::StuckAndCut | Scenario::TwoTargets => stand.links[lost].cut(),
        Scenario::StuckAndReset => {
            stand.links[lost].cut();
            stand.links[lost].restore();
        }
        Scenario::StuckAndSilent => stand.links[lost].hold(Newcomers::Carried),
        Scenario::Late { .. } => {}
    }
    let failed_over = all_acknowledged(&first, LIMIT)?.context("the first write was never acknowledged")?;

    let second = stand.write_all_newer(writes)?;
    let at_once = all_acknowledged(&second, HELD_AFTER)?;
    if scenario.is_stuck_in_back_end() {
        stand.let_go(writes)?;
    } else {
        stand.links[lost].deliver();
        std::thread::sleep(LANDING);
    }
    let patience = if scenario == Scenario::TwoTargets { HELD_FOR_GOOD_AFTER } else { LIMIT };
    let by_itself = all_acknowledged(&second, patience)?;
    if by_itself.is_none() {
        stand.links[lost].restore();
        all_acknowledged(&second, LIMIT)?
            .context("the newer write was not acknowledged when the path was back")?;
    }
    let corrupt = stand.corrupt_blocks(writes)?;
    let verdict = match (corrupt, by_itself) {
        (1.., _) => Verdict::Corrupt { blocks: corrupt },
        (0, Some(_)) => Verdict::Kept,
        (0, None) => Verdict::Held,
    };
    let waited = match (at_once, by_itself) {
        (Some(after), _) => format!("after {after:.1?}, before the first copy was let go"),
        (None, Some(after)) => format!("after {after:.1?}, when the first copy was gone"),
        (None, None) => "only when the lost path was back".to_owned(),
    };
    Ok((verdict, format!("first write acknowledged after {failed_over:.1?}, newer one {waited}")))
}

/// The time until the last of them was acknowledged; none if that takes longer than `limit`.
fn all_acknowledged(writes: &[Pending], limit: Duration) -> Result<Option<Duration>> {
    let end = std::time::Instant::now() + limit;
    let mut last = Duration::ZERO;
    for write in writes {
        match write.acknowledged_by(end) {
            Ok(Some(after)) => last = last.max(after),
            Ok(None) => return Ok(None),
            Err(error) => bail!("a write failed: {error:#}"),
        }
    }
    Ok(Some(last))
}
