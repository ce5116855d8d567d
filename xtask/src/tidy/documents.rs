//! The documents exist, and ARCHITECTURE.md names every crate of ours and every crate that we took in.

use std::collections::BTreeSet;
use std::fs;

use super::Finding;
use crate::workspace::Workspace;

const REQUIRED: &[&str] = &["README.md", "ARCHITECTURE.md", "SPECIFICATION.md", "CHANGELOG.md"];

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let missing = |name: &&&str| !workspace.root.join(name).is_file();
    let mut findings: Vec<Finding> =
        REQUIRED.iter().filter(missing).map(|name| format!("{name} is missing")).collect();
    if let Ok(architecture) = fs::read_to_string(workspace.root.join("ARCHITECTURE.md")) {
        findings.extend(not_named(workspace, &architecture));
    }
    findings
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
    use super::is_named;

    #[test]
    fn a_name_inside_another_name_does_not_count() {
        assert!(is_named("| `scsi` | wire types |", "scsi"));
        assert!(is_named("crates/\n  scsi/  wire types", "scsi"));
        assert!(!is_named("| `scsi-multipath` |", "scsi"));
        assert!(!is_named("  scsi-multipath/  the disk", "multipath"));
    }
}
