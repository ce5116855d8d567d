//! The documents exist, ARCHITECTURE.md names every crate of ours and every crate that we took in, and the tests that
//! SPECIFICATION.md names for its scenarios are there.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;

use super::Finding;
use crate::workspace::Workspace;

const REQUIRED: &[&str] = &["README.md", "ARCHITECTURE.md", "SPECIFICATION.md", "CHANGELOG.md"];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let missing = |name: &&&str| !workspace.root.join(name).is_file();
    let mut findings: Vec<Finding> =
        REQUIRED.iter().filter(missing).map(|name| format!("{name} is missing")).collect();
    if let Ok(architecture) = fs::read_to_string(workspace.root.join("ARCHITECTURE.md")) {
        findings.extend(not_named(workspace, &architecture));
    }
    if let Ok(specification) = fs::read_to_string(workspace.root.join("SPECIFICATION.md")) {
        findings.extend(without_test(&specification, &tests(workspace)?));
    }
    Ok(findings)
}

/// The names of all tests.
fn tests(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for file in super::sources::files(&workspace.root)?.iter().filter(|file| file.ends_with(".rs")) {
        let Ok(text) = fs::read_to_string(workspace.root.join(file)) else { continue };
        names.extend(text.split("#[test]").skip(1).filter_map(name_of_function));
    }
    Ok(names)
}

/// Of the function that the text begins with, its attributes apart.
fn name_of_function(text: &str) -> Option<String> {
    let (_, after) = text.split_once("fn ")?;
    after.split_once('(').map(|(name, _)| name.to_owned())
}

/// Every name in the last column of the tables below `## Scenarios` is that of a test.
fn without_test(specification: &str, tests: &BTreeSet<String>) -> Vec<Finding> {
    let Some((_, scenarios)) = specification.split_once("\n## Scenarios\n") else {
        return vec!["SPECIFICATION.md has no scenarios".to_owned()];
    };
    let scenarios = scenarios.split("\n## ").next().unwrap_or_default();
    let cells = scenarios.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit(" | ").next());
    let named = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let missing = named.filter(|name| !tests.contains(*name));
    missing.map(|name| format!("SPECIFICATION.md names the test `{name}`, which is nowhere")).collect()
}

fn not_named(workspace: &Workspace, architecture: &str) -> Vec<Finding> {
    let ours = workspace.members.iter().filter(|member| !is_named(architecture, &member.name));
    let ours = ours.map(|member| format!("ARCHITECTURE.md does not describe the crate `{}`", member.name));

    let direct = workspace.members.iter().flat_map(|member| &member.dependencies);
    let foreign: BTreeSet<&str> =
        direct.filter(|dependency| !dependency.ours).map(|dependency| dependency.name.as_str()).collect();
    let foreign = foreign.into_iter().filter(|name| !is_named(architecture, name));
    let foreign =
        foreign.map(|name| format!("ARCHITECTURE.md does not say why the dependency `{name}` is here"));

    ours.chain(foreign).collect()
}

/// Named as code (`name`, `crates/name`) or as a folder in a tree (`name/`).
fn is_named(text: &str, name: &str) -> bool {
    let forms = [format!("`{name}`"), format!("crates/{name}`"), format!(" {name}/"), format!("\n{name}/")];
    forms.iter().any(|form| text.contains(form.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_whose_test_has_another_name_is_a_finding() {
        let text = "\n## Scenarios\n\n| case | test |\n|---|---|\n| a `word` | `one`, `two` |\n\n## Else\n| b | `three` |\n";
        let tests = BTreeSet::from(["one".to_owned()]);
        let findings = without_test(text, &tests);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains("`two`"));
    }

    #[test]
    fn a_name_inside_another_name_does_not_count() {
        assert!(is_named("| `scsi` | wire types |", "scsi"));
        assert!(is_named("crates/\n  scsi/  wire types", "scsi"));
        assert!(!is_named("| `scsi-multipath` |", "scsi"));
        assert!(!is_named("  scsi-multipath/  the disk", "multipath"));
    }
}
