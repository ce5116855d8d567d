//! Where a process remembers its nexuses: in a folder of its own, named after what it serves.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use engine::config::ExportAddress;

/// What was said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing is remembered.
    None,
    /// In a folder under this one.
    Under(PathBuf),
}

/// `none` or a folder.
pub(crate) fn state(text: &str) -> Result<State, String> {
    match text {
        "" => Err(String::from("a folder is expected, or none")),
        "none" => Ok(State::None),
        folder => Ok(State::Under(PathBuf::from(folder))),
    }
}

/// Where state is kept when nobody says otherwise: where systemd says (`StateDirectory=`), else where the
/// system's daemons or this user's programs keep it. None if there is no such place.
pub(crate) fn default_base(variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Option<PathBuf> {
    let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folders) = variable("STATE_DIRECTORY").filter(|value| !value.is_empty()) {
        // A unit may have several; the first is the one that it is named after.
        let folders = folders.to_string_lossy();
        return folders.split(':').next().map(PathBuf::from);
    }
    if is_root {
        return Some(PathBuf::from("/var/lib/smpath"));
    }
    // XDG Base Directory Specification: a relative path is to be ignored.
    let users = folder("XDG_STATE_HOME").filter(|folder| folder.is_absolute());
    let users = users.or_else(|| folder("HOME").map(|home| home.join(".local/state")));
    users.map(|folder| folder.join("smpath"))
}

/// The folder of the process that serves this export first. Two processes cannot serve the same export, so they
/// never have the same folder; and a process that gets more exports, or other targets, finds its own again.
pub(crate) fn folder(base: &Path, first: &ExportAddress) -> PathBuf {
    base.join(match first {
        ExportAddress::NbdUnix(path) => format!("unix{}", path_name(path)),
        ExportAddress::NbdTcp(address) => format!("tcp+{}+{}", address.ip(), address.port()),
    })
}

/// `+run+disk.sock`: a name that can be read, and that no other path has.
fn path_name(path: &Path) -> String {
    let mut name = String::new();
    for part in path.components() {
        let Component::Normal(part) = part else { continue };
        name.push('+');
        for letter in part.to_string_lossy().chars() {
            if letter.is_alphanumeric() || "._-".contains(letter) {
                name.push(letter);
            } else {
                name.push_str(&format!("%{:02x}", u32::from(letter)));
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(variables: &[(&str, &str)], is_root: bool) -> Option<PathBuf> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        default_base(|name| find(name).map(|(_, value)| value.into()), is_root)
    }

    fn name(export: &str) -> String {
        let export = crate::url::export(export).unwrap();
        folder(Path::new("/base"), &export).strip_prefix("/base").unwrap().display().to_string()
    }

    #[test]
    fn state_is_kept_where_the_system_keeps_state() {
        let home = ("HOME", "/users/me");
        assert_eq!(base(&[home], true), Some("/var/lib/smpath".into()));
        assert_eq!(base(&[home], false), Some("/users/me/.local/state/smpath".into()));
        assert_eq!(base(&[home, ("XDG_STATE_HOME", "/state")], false), Some("/state/smpath".into()));
        assert_eq!(base(&[("XDG_STATE_HOME", "state")], false), None);
        for is_root in [false, true] {
            let systemd = ("STATE_DIRECTORY", "/var/lib/disks:/var/lib/more");
            assert_eq!(base(&[home, systemd], is_root), Some("/var/lib/disks".into()));
        }
        assert_eq!(base(&[("HOME", "")], false), None);
    }

    #[test]
    fn a_folder_is_named_after_the_export_so_that_a_person_finds_it() {
        assert_eq!(name("nbd+unix:///run/disk.sock"), "unix+run+disk.sock");
        assert_eq!(name("nbd+unix:///run//./disk.sock"), "unix+run+disk.sock");
        assert_eq!(name("nbd://127.0.0.1:10809"), "tcp+127.0.0.1+10809");
        assert_eq!(name("nbd://[::1]:10809"), "tcp+::1+10809");
    }

    #[test]
    fn different_exports_never_share_a_folder() {
        let exports = [
            "nbd+unix:///run/a/b",
            "nbd+unix:///run/a+b",
            "nbd+unix:///run/a%2bb",
            "nbd+unix:///run/a-b",
            "nbd+unix:///tcp/127.0.0.1/1",
            "nbd://127.0.0.1:1",
            "nbd://127.0.0.1:11",
        ];
        let names: std::collections::BTreeSet<String> = exports.map(name).into();
        assert_eq!(names.len(), exports.len(), "{names:?}");
    }

    #[test]
    fn none_is_no_folder() {
        assert_eq!(state("none"), Ok(State::None));
        assert_eq!(state("./none"), Ok(State::Under("./none".into())));
        assert!(state("").is_err());
    }
}
