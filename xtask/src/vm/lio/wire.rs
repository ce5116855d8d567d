//! What smpath says when it logs in to LIO, read off the wire, and what LIO makes of it.

use anyhow::{Result, bail, ensure};

use super::guest::{Case, Seen, Verdict};
use super::product::{LIMIT, Layout, Stand};
use super::target::Lio;
use crate::harness::link::{Login, Newcomers};
use crate::harness::process::wait_until;

pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(&Lio) -> Result<Seen>| Case {
        name: format!("smpath: {name}"),
        mode: "default".to_owned(),
        target: "one group",
        expected: Verdict::Passed,
        run: Box::new(run),
    };
    vec![
        case("E5 no second session beside the first", replaces_its_session),
        case("E6 a login after a loss keeps the ISID", keeps_its_isid),
    ]
}

/// The same nexus is named again, and the login begins at the security stage.
fn keeps_its_isid(lio: &Lio) -> Result<Seen> {
    let stand = Stand::new(lio, Layout::OneGroup, &[])?;
    stand.links[0].cut();
    stand.links[0].restore();
    let logins = wait_until(LIMIT, "second login", || {
        Some(stand.links[0].logins()).filter(|logins| logins.len() >= 2)
    })?;
    let [first, second] = logins[..] else { bail!("{} logins for one loss: {logins:x?}", logins.len()) };
    ensure!(first == second, "another nexus was named: {logins:x?}");
    let Login { isid, tsih, stage } = first;
    ensure!(tsih == 0 && stage == 0, "not a login that reinstates: {logins:x?}");
    let other = stand.links[1].logins();
    ensure!(other.iter().all(|login| login.isid != isid), "two paths have one ISID: {other:x?}");
    stand.wait_until_usable(2)?;
    let summary = format!("ISID {isid:02x?}, TSIH 0, security stage, both times");
    Ok(Seen { verdict: Verdict::Passed, summary, steps: stand.end()? })
}

/// LIO still holds the old connection open when smpath logs in again.
fn replaces_its_session(lio: &Lio) -> Result<Seen> {
    let stand = Stand::new(lio, Layout::OneGroup, &[])?;
    let before = lio.sessions()?;
    stand.links[0].hold(Newcomers::Carried);
    wait_until(LIMIT, "second login", || (stand.links[0].logins().len() >= 2).then_some(()))?;
    stand.wait_until_usable(2)?;
    let after = lio.sessions()?;
    ensure!(before == 2 && after == 2, "{before} sessions before the loss, {after} after it");
    let summary = "two paths, two sessions before and after".to_owned();
    Ok(Seen { verdict: Verdict::Passed, summary, steps: stand.end()? })
}
