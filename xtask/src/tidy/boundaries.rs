//! Which crate may know which. The direct dependencies are enough: what is allowed is a tree, so nothing
//! forbidden can come in through a crate that is allowed.

use std::fs;

use anyhow::{Context, Result};

use super::Finding;
use crate::workspace::{DependencyKind, Member, Workspace};

/// What one crate of ours may depend on.
struct Rule {
    name: &'static str,
    layer: Layer,
    /// Our own crates that it may use.
    ours: &'static [&'static str],
    /// Our own crates that only its tests may use besides.
    ours_in_tests: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// `no_std`, nobody else's code at run time, no clock, no lock, no unsafe: machines that a simulator replays.
    Core,
    /// Bytes in, bytes out; the few foreign crates named here; no clock, no socket, no unsafe.
    SansIo(&'static [&'static str]),
    /// Talks to the kernel: the only place for unsafe code.
    Kernel,
    /// Drivers, programs and tools.
    Driver,
}

const RULES: &[Rule] = &[
    Rule { name: "clock", layer: Layer::Core, ours: &[], ours_in_tests: &[] },
    Rule { name: "block", layer: Layer::Core, ours: &[], ours_in_tests: &[] },
    Rule { name: "multipath", layer: Layer::Core, ours: &["clock"], ours_in_tests: &[] },
    Rule { name: "scsi", layer: Layer::Core, ours: &["block"], ours_in_tests: &[] },
    Rule {
        name: "scsi-multipath",
        layer: Layer::Core,
        ours: &["clock", "block", "scsi", "multipath"],
        ours_in_tests: &["array"],
    },
    // What is tested against must not share mistakes with what is tested: no multipath and no initiator here.
    Rule { name: "array", layer: Layer::Core, ours: &["clock", "block", "scsi"], ours_in_tests: &[] },
    Rule {
        name: "iscsi",
        layer: Layer::SansIo(&["crc32c", "md-5", "thiserror"]),
        ours: &["clock", "block", "scsi"],
        ours_in_tests: &["array"],
    },
    // An export does not know that there is more than one path, nor that the disk speaks SCSI.
    Rule { name: "nbd", layer: Layer::SansIo(&["thiserror"]), ours: &["clock", "block"], ours_in_tests: &[] },
    Rule { name: "ublk", layer: Layer::Kernel, ours: &["clock", "block"], ours_in_tests: &[] },
    Rule { name: "vhost-user", layer: Layer::Kernel, ours: &["clock", "block"], ours_in_tests: &[] },
    Rule { name: "sg", layer: Layer::Kernel, ours: &["clock", "block", "scsi"], ours_in_tests: &[] },
    // The initiator's side, wired once for both drivers: the engine and the simulator. Latencies are counted where
    // commands pass: `hdrhistogram` is told times, and knows no clock.
    Rule {
        name: "host",
        layer: Layer::SansIo(&["crc32c", "thiserror", "hdrhistogram"]),
        ours: &["clock", "block", "scsi", "multipath", "scsi-multipath", "iscsi"],
        ours_in_tests: &["array"],
    },
    Rule {
        name: "simulator",
        layer: Layer::Driver,
        ours: &["clock", "block", "scsi", "multipath", "scsi-multipath", "iscsi", "nbd", "array", "host"],
        ours_in_tests: &[],
    },
    Rule {
        name: "engine",
        layer: Layer::Driver,
        ours: &[
            "clock",
            "block",
            "scsi",
            "multipath",
            "scsi-multipath",
            "iscsi",
            "sg",
            "array",
            "nbd",
            "ublk",
            "vhost-user",
            "host",
        ],
        ours_in_tests: &[],
    },
    Rule { name: "smpath", layer: Layer::Driver, ours: &["engine"], ours_in_tests: &["block", "nbd"] },
    Rule { name: "xtask", layer: Layer::Driver, ours: &[], ours_in_tests: &[] },
];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for member in &workspace.members {
        let Some(rule) = RULES.iter().find(|rule| rule.name == member.name) else {
            findings
                .push(format!("{}: a crate without a rule; add its row to tidy/boundaries.rs", member.name));
            continue;
        };
        findings.extend(dependencies(member, rule));
        findings.extend(manifest_and_root(member, rule)?);
    }
    Ok(findings)
}

fn dependencies(member: &Member, rule: &Rule) -> Vec<Finding> {
    let mut findings = Vec::new();
    for dependency in &member.dependencies {
        let name = dependency.name.as_str();
        let in_tests = dependency.kind == DependencyKind::Development;
        let allowed = match (dependency.ours, rule.layer) {
            (true, _) => rule.ours.contains(&name) || in_tests && rule.ours_in_tests.contains(&name),
            (false, _) if in_tests => true,
            (false, Layer::Core) => false,
            (false, Layer::SansIo(allowed)) => allowed.contains(&name),
            (false, Layer::Kernel | Layer::Driver) => true,
        };
        if !allowed {
            findings.push(format!("{}: must not depend on {name} ({:?})", member.name, dependency.kind));
        }
    }
    findings
}

/// What a crate of its layer says about itself: `no_std`, the workspace's lints, and the bans of its clippy.toml.
fn manifest_and_root(member: &Member, rule: &Rule) -> Result<Vec<Finding>> {
    let read = |file: &str| {
        let path = member.folder.join(file);
        fs::read_to_string(&path).with_context(|| format!("{} is not readable", path.display()))
    };
    let mut findings = Vec::new();
    if rule.layer != Layer::Kernel && !read("Cargo.toml")?.contains("[lints]\nworkspace = true") {
        // The workspace's lints forbid unsafe code.
        findings.push(format!("{}: Cargo.toml does not take the workspace's lints", member.name));
    }
    if rule.layer == Layer::Core && !read("src/lib.rs")?.lines().any(|line| line == "#![no_std]") {
        findings.push(format!("{}: a core crate is #![no_std]", member.name));
    }
    if matches!(rule.layer, Layer::Core | Layer::SansIo(_)) {
        let bans = read("clippy.toml").unwrap_or_default();
        for banned in ["std::time::Instant::now", "std::time::SystemTime::now", "std::thread::sleep"] {
            if !bans.contains(banned) {
                findings.push(format!("{}: clippy.toml does not ban {banned}", member.name));
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn member(name: &str, dependency: &str, ours: bool, kind: DependencyKind) -> Member {
        let dependencies = vec![Dependency { name: dependency.to_owned(), kind, ours }];
        Member { name: name.to_owned(), folder: "unused".into(), dependencies }
    }

    fn is_refused(name: &str, dependency: &str, ours: bool, kind: DependencyKind) -> bool {
        let rule = RULES.iter().find(|rule| rule.name == name).unwrap();
        !dependencies(&member(name, dependency, ours, kind), rule).is_empty()
    }

    #[test]
    fn the_array_may_not_learn_from_what_it_tests() {
        assert!(is_refused("array", "multipath", true, DependencyKind::Normal));
        assert!(is_refused("array", "iscsi", true, DependencyKind::Development));
        assert!(!is_refused("array", "scsi", true, DependencyKind::Normal));
    }

    #[test]
    fn a_core_crate_takes_foreign_code_in_tests_only() {
        assert!(is_refused("multipath", "serde", false, DependencyKind::Normal));
        assert!(is_refused("multipath", "serde", false, DependencyKind::Build));
        assert!(!is_refused("multipath", "proptest", false, DependencyKind::Development));
    }

    #[test]
    fn every_allowed_crate_is_itself_known_and_stands_below() {
        for (position, rule) in RULES.iter().enumerate() {
            for name in rule.ours {
                let below = RULES.iter().position(|other| other.name == *name).unwrap();
                assert!(below < position, "{} allows {name}, which stands above it", rule.name);
            }
        }
    }
}
