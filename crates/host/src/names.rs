//! What operators call disks, paths and portals. The one place where a name becomes a thing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use multipath::PathId;

use crate::disks::Standing;
use crate::event::DiskIndex;
use crate::host::Host;

/// Candidates that an error lists; the rest is counted.
const CANDIDATES_MAX: usize = 16;

/// A name that stands for nothing, or for too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    kind: Kind,
    /// None if nothing was named although there is a choice.
    name: Option<String>,
    is_ambiguous: bool,
    candidates: Vec<String>,
}

/// What a name should be the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Disk,
    Path,
    Portal,
}

/// What a name of a disk, of a path or of a portal stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    Disk(DiskIndex),
    Paths(Vec<PathId>),
}

/// The place of the candidate whose name begins so, or is it whole; the only one if nothing is said.
///
/// # Errors
/// If there is none, or more than one.
pub fn choose_disk(candidates: &[String], name: Option<&str>) -> Result<usize, NameError> {
    let error = |is_ambiguous, candidates: Vec<String>| NameError {
        kind: Kind::Disk,
        name: name.map(str::to_owned),
        is_ambiguous,
        candidates,
    };
    if let Some(place) = candidates.iter().position(|candidate| Some(candidate.as_str()) == name) {
        return Ok(place);
    }
    let begins = |candidate: &str| name.is_none_or(|name| candidate.starts_with(name));
    let found: Vec<usize> = (0..candidates.len()).filter(|place| begins(&candidates[*place])).collect();
    match found[..] {
        [place] => Ok(place),
        [] => Err(error(false, candidates.to_vec())),
        _ => Err(error(true, found.iter().map(|place| candidates[*place].clone()).collect())),
    }
}

impl Host {
    /// Whatever is meant by a name; the only disk if nothing is said.
    ///
    /// # Errors
    /// If it stands for nothing, or for more than one disk.
    pub fn named(&self, name: Option<&str>) -> Result<Named, NameError> {
        match name {
            Some(name) if Portal::parse(name).is_some() || path_number(name).is_some() => {
                self.paths_named(name).map(Named::Paths)
            }
            name => self.disk_named(name).map(Named::Disk),
        }
    }

    /// The disk whose identity begins so; the only one if nothing is said.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn disk_named(&self, name: Option<&str>) -> Result<DiskIndex, NameError> {
        let (indices, names): (Vec<u32>, Vec<String>) =
            self.disks.registry.iter().map(|(index, name, _)| (index.0, name.to_string())).unzip();
        choose_disk(&names, name).map(|place| DiskIndex(indices[place]))
    }

    /// The paths that are meant by `P3`, `DISK:P3`, or a portal (`ADDRESS` or `ADDRESS:PORT`): one, or all of the
    /// portal.
    ///
    /// # Errors
    /// If there is none.
    pub fn paths_named(&self, name: &str) -> Result<Vec<PathId>, NameError> {
        if let Some(portal) = Portal::parse(name) {
            let is_behind = |nexus: u32| portal.is(self.nexuses[nexus as usize].portal);
            if !self.nexuses.iter().any(|nexus| portal.is(nexus.portal)) {
                return Err(self.no_such_portal(name));
            }
            return Ok(self.known_paths().filter(|path| is_behind(self.paths[path].nexus)).collect());
        }
        let disk = name.rsplit_once(':').filter(|_| path_number(name).is_some());
        let disk = disk.map(|(disk, _)| self.disk_named(Some(disk))).transpose()?.map(|disk| disk.0);
        let number = path_number(name);
        let of_disk = |path: &PathId| disk.is_none_or(|disk| self.paths[path].disk == disk);
        let found = self.known_paths().filter(of_disk).find(|path| Some(path.0) == number);
        found.map(|path| vec![path]).ok_or_else(|| NameError {
            kind: Kind::Path,
            name: Some(name.to_owned()),
            is_ambiguous: false,
            candidates: self.known_paths().filter(of_disk).map(|path| self.path_name(path)).collect(),
        })
    }

    /// The nexuses, discovery among them, of a portal (`ADDRESS` or `ADDRESS:PORT`); all if none is named.
    pub(crate) fn nexuses_named(&self, name: Option<&str>) -> Result<Vec<u32>, NameError> {
        let Some(name) = name else { return Ok((0..).zip(&self.nexuses).map(|(index, _)| index).collect()) };
        let portal = Portal::parse(name).ok_or_else(|| self.no_such_portal(name))?;
        let found = (0..).zip(&self.nexuses).filter(|(_, nexus)| portal.is(nexus.portal));
        let found: Vec<u32> = found.map(|(index, _)| index).collect();
        if found.is_empty() { Err(self.no_such_portal(name)) } else { Ok(found) }
    }

    pub(crate) fn known_paths(&self) -> impl Iterator<Item = PathId> {
        let known = self.paths.iter().filter(|(_, path)| path.standing != Standing::Removed);
        known.map(|(path, _)| *path)
    }

    fn no_such_portal(&self, name: &str) -> NameError {
        let mut candidates: Vec<String> = self.nexuses.iter().map(|nexus| nexus.portal.to_string()).collect();
        candidates.sort();
        candidates.dedup();
        NameError { kind: Kind::Portal, name: Some(name.to_owned()), is_ambiguous: false, candidates }
    }
}

/// The number in `P3` or `DISK:P3`.
fn path_number(name: &str) -> Option<u32> {
    let path = name.rsplit_once(':').map_or(name, |(_, path)| path);
    path.strip_prefix('P')?.parse().ok()
}

/// An address, with or without a port.
#[derive(Clone, Copy)]
pub(crate) enum Portal {
    Address(IpAddr),
    Socket(SocketAddr),
}

impl Portal {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        name.parse().map(Self::Socket).or_else(|_| name.parse().map(Self::Address)).ok()
    }

    pub(crate) fn is(self, portal: SocketAddr) -> bool {
        match self {
            Self::Address(address) => portal.ip() == address,
            Self::Socket(address) => portal == address,
        }
    }
}

impl std::error::Error for NameError {}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, is_ambiguous, candidates } = self;
        let (one, command) = match kind {
            Kind::Disk => ("disk", "smpath list"),
            Kind::Path => ("path", "smpath paths"),
            Kind::Portal => ("portal", "smpath paths"),
        };
        match (name, is_ambiguous) {
            _ if candidates.is_empty() => return write!(f, "there is no {one}"),
            (None, _) => write!(f, "there are {} {one}s: name one of", candidates.len())?,
            (Some(name), true) => {
                write!(f, "{} {one}s begin with {name}: give more of the name of", candidates.len())?;
            }
            (Some(name), false) => {
                write!(f, "no {one} {name}: `{command}` shows what is there, and there is")?;
            }
        }
        let mut between = " ";
        for candidate in candidates.iter().take(CANDIDATES_MAX) {
            write!(f, "{between}{candidate}")?;
            between = ", ";
        }
        match candidates.len().saturating_sub(CANDIDATES_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(name: Option<&str>) -> Result<usize, String> {
        let candidates = ["naa.60a", "naa.60b", "eui.7"].map(str::to_owned);
        choose_disk(&candidates, name).map_err(|error| error.to_string())
    }

    #[test]
    fn a_disk_is_named_by_its_beginning_if_that_is_enough() {
        assert_eq!((chosen(Some("naa.60b")), chosen(Some("eui"))), (Ok(1), Ok(2)));
        assert_eq!(choose_disk(&[String::from("only")], None), Ok(0));
    }

    #[test]
    fn a_name_that_does_not_fit_lists_what_would() {
        let expected = "no disk t10: `smpath list` shows what is there, and there is naa.60a, naa.60b, eui.7";
        assert_eq!(chosen(Some("t10")), Err(expected.to_owned()));
        let expected = "2 disks begin with naa: give more of the name of naa.60a, naa.60b";
        assert_eq!(chosen(Some("naa")), Err(expected.to_owned()));
        assert_eq!(chosen(None), Err("there are 3 disks: name one of naa.60a, naa.60b, eui.7".to_owned()));
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let candidates: Vec<String> = (0..CANDIDATES_MAX + 3).map(|number| format!("d{number}")).collect();
        assert!(choose_disk(&candidates, Some("x")).unwrap_err().to_string().ends_with("d15 and 3 more"));
    }
}
