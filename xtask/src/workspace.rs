//! The workspace as `cargo metadata` tells it: our crates, what each depends on, and everybody else's crates.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The platform that the project is built for. Without the filter, cargo would fetch the Windows crates too.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) members: Vec<Member>,
    pub(crate) foreign: Vec<Foreign>,
}

/// One crate of ours.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// The folder of its Cargo.toml.
    pub(crate) folder: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: DependencyKind,
    /// One of our own crates.
    pub(crate) ours: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DependencyKind {
    Normal,
    Development,
    Build,
}

/// Somebody else's crate, wherever it stands in the tree.
#[derive(Debug)]
pub(crate) struct Foreign {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The SPDX expression in its manifest.
    pub(crate) licence: Option<String>,
}

impl Workspace {
    /// Asks cargo. Fails if the lock file is not up to date: a build that nobody has seen is not worth checking.
    pub(crate) fn load() -> Result<Self> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", PLATFORM])
            .arg("--manifest-path")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
            .output()
            .context("cargo metadata does not start")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Self::from_metadata(&serde_json::from_slice(&output.stdout)?)
    }

    fn from_metadata(metadata: &Value) -> Result<Self> {
        let mut members = Vec::new();
        let mut foreign = Vec::new();
        for package in metadata["packages"].as_array().context("no packages in the metadata")? {
            if package["source"].is_null() {
                members.push(Member::from_package(package)?);
            } else {
                foreign.push(Foreign::from_package(package)?);
            }
        }
        Ok(Self { root: PathBuf::from(text(metadata, "workspace_root")?), members, foreign })
    }
}

impl Member {
    fn from_package(package: &Value) -> Result<Self> {
        let manifest = PathBuf::from(text(package, "manifest_path")?);
        let dependencies = package["dependencies"].as_array().context("no dependencies in a package")?;
        Ok(Self {
            name: text(package, "name")?.to_owned(),
            folder: manifest.parent().context("a manifest without a folder")?.to_owned(),
            dependencies: dependencies.iter().map(Dependency::from_value).collect::<Result<_>>()?,
        })
    }
}

impl Dependency {
    fn from_value(value: &Value) -> Result<Self> {
        let kind = match value["kind"].as_str() {
            None => DependencyKind::Normal,
            Some("dev") => DependencyKind::Development,
            Some("build") => DependencyKind::Build,
            Some(other) => bail!("cargo knows a kind of dependency that this does not: {other}"),
        };
        Ok(Self { name: text(value, "name")?.to_owned(), kind, ours: value["path"].is_string() })
    }
}

impl Foreign {
    fn from_package(package: &Value) -> Result<Self> {
        Ok(Self {
            name: text(package, "name")?.to_owned(),
            version: text(package, "version")?.to_owned(),
            licence: package["license"].as_str().map(str::to_owned),
        })
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("no {key} in the metadata"))
}
