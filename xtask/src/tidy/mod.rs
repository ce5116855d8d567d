//! What the design promises and a script can check. `cargo test` runs it too, as a test of this crate.

mod boundaries;
mod documents;
mod licences;
mod sources;

use std::process::ExitCode;

use anyhow::Result;

use crate::workspace::Workspace;

/// One broken promise, in one line that says where and what.
pub(crate) type Finding = String;

/// `xtask tidy`: prints every finding; fails if there is one.
pub(crate) fn command() -> Result<ExitCode> {
    let findings = check(&Workspace::load()?)?;
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    if findings.is_empty() {
        println!("tidy: all is in order");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("tidy: {} finding(s)", findings.len());
    Ok(ExitCode::FAILURE)
}

fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = boundaries::check(workspace)?;
    findings.extend(sources::check(workspace)?);
    findings.extend(licences::check(workspace));
    findings.extend(documents::check(workspace)?);
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let findings = check(&Workspace::load().unwrap()).unwrap();
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }
}
