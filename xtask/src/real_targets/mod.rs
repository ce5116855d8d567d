//! `xtask real-targets`: the built program against targets and tools that nobody here wrote, each case on its own
//! processes, ports and files.

mod bad_input;
mod conformance;
mod disk;
mod failover;
mod ghosts;
mod initiators;
mod resets;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::harness::backend::Kind;
use crate::harness::process::is_installed;

/// Both targets that a case about the disk runs over.
const BACKENDS: [Kind; 2] = [Kind::Tgt, Kind::Array];

struct Case {
    name: String,
    /// Programs that must be installed; without one of them the case is skipped.
    tools: &'static [&'static str],
    run: Box<dyn Fn() -> Result<Outcome>>,
}

enum Outcome {
    /// With what was seen, if that is worth a line.
    Passed(String),
    Skipped(String),
}

impl Case {
    fn new(
        name: impl Into<String>,
        tools: &'static [&'static str],
        run: impl Fn() -> Result<Outcome> + 'static,
    ) -> Self {
        Self { name: name.into(), tools, run: Box::new(run) }
    }

    fn outcome(&self) -> Result<Outcome> {
        match self.tools.iter().find(|tool| !is_installed(tool)) {
            Some(tool) => Ok(Outcome::Skipped(format!("{tool} is not installed"))),
            None => (self.run)(),
        }
    }
}

/// Nothing more to say than that it held.
fn passed() -> Result<Outcome> {
    Ok(Outcome::Passed(String::new()))
}

/// Runs the cases whose name holds `filter`; fails if one fails. `--list` only names them.
pub(crate) fn command(arguments: &[String]) -> Result<ExitCode> {
    let all = cases();
    if arguments.first().is_some_and(|argument| argument == "--list") {
        all.iter().for_each(|case| println!("{}", case.name));
        return Ok(ExitCode::SUCCESS);
    }
    let filter = arguments.first().map_or("", String::as_str);
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let mut ghosts = ghosts::Table::default();
    for case in all.iter().filter(|case| case.name.contains(filter)) {
        let started = Instant::now();
        let outcome = case.outcome();
        let seconds = started.elapsed().as_secs_f32();
        match outcome {
            Ok(Outcome::Passed(note)) => {
                passed += 1;
                ghosts.add(&case.name, &note);
                println!("PASS  {} ({seconds:.1} s){}", case.name, indented(&note));
            }
            Ok(Outcome::Skipped(reason)) => {
                skipped += 1;
                println!("SKIP  {}: {reason}", case.name);
            }
            Err(error) => {
                failed += 1;
                ghosts.add(&case.name, "FAILED");
                println!("FAIL  {} ({seconds:.1} s){}", case.name, indented(&format!("{error:#}")));
            }
        }
    }
    print!("{ghosts}");
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn indented(note: &str) -> String {
    note.lines().map(|line| format!("\n      {line}")).collect()
}

fn cases() -> Vec<Case> {
    let mut cases = initiators::cases();
    cases.extend(disk::cases());
    cases.extend(failover::cases());
    cases.extend(resets::cases());
    cases.extend(ghosts::cases());
    cases.extend(conformance::cases());
    cases.extend(bad_input::cases());
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = cases().into_iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases().len());
    }
}
