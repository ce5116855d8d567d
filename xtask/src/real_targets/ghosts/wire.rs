//! E5 and E6: what the program says when it logs in, read off the wire, and what the target makes of it.

use anyhow::{Result, ensure};

use super::super::{Case, Outcome};
use super::stand::{Server, Stand, Target};
use super::{LIMIT, PREFIX, Scenario};
use crate::harness::link::{Login, Newcomers};
use crate::harness::process::wait_until;

pub(super) fn cases(server: Server) -> Vec<Case> {
    vec![
        Case::new(
            format!("{PREFIX}E6 a login after a loss keeps the ISID | - | {server}"),
            server.tools(),
            move || keeps_its_isid(server),
        ),
        Case::new(
            format!("{PREFIX}E5 no second session beside the first | - | {server}"),
            server.tools(),
            move || replaces_its_session(server),
        ),
    ]
}

/// The same nexus is named again, and the login begins at the security stage: only so do all targets take it for a
/// reinstatement.
fn keeps_its_isid(server: Server) -> Result<Outcome> {
    let stand = Stand::new(Scenario::StuckAndReset, server, &[])?;
    let link = &stand.links[0];
    link.cut();
    link.restore();
    let logins =
        wait_until(LIMIT, "second login", || Some(link.logins()).filter(|logins| logins.len() >= 2))?;
    let [first, second] = logins[..] else {
        anyhow::bail!("{} logins for one loss: {logins:x?}", logins.len())
    };
    ensure!(first == second, "another nexus was named: {logins:x?}");
    for Login { tsih, stage, .. } in [first, second] {
        ensure!(tsih == 0 && stage == 0, "not a login that reinstates: {logins:x?}");
    }
    let other = stand.links[1].logins();
    ensure!(other.iter().all(|login| login.isid != first.isid), "two paths have one ISID: {other:x?}");
    Ok(Outcome::Passed(format!("same nexus: ISID {:02x?}, TSIH 0, security stage, both times", first.isid)))
}

/// The target still holds the old connection open when the program logs in again.
fn replaces_its_session(server: Server) -> Result<Outcome> {
    let stand = Stand::new(Scenario::StuckAndSilent, server, &[])?;
    let before = stand.nexuses()?;
    stand.links[0].hold(Newcomers::Carried);
    wait_until(LIMIT, "second login", || (stand.links[0].logins().len() >= 2).then_some(()))?;
    stand.wait_until_usable(2)?;
    let after = stand.nexuses()?;
    ensure!(before == 2 && after == 2, "{before} sessions before the loss, {after} after it");
    Ok(Outcome::Passed("one session: two paths have two before and after".to_owned()))
}

impl Stand {
    fn nexuses(&self) -> Result<usize> {
        match &self.target {
            Target::Tgt(tgt) => tgt.nexuses(0),
            Target::Array(_) => anyhow::bail!("the array does not tell its sessions"),
        }
    }
}
