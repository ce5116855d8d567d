//! What can be logged in to: targets, their portals, and who may enter. Answers SendTargets (RFC 7143, Appendix C).

use std::net::SocketAddr;

use crate::chap::Credentials;
use crate::text::Text;

/// A target: a name and the doors to it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The iSCSI name, `iqn.…`, `eui.…` or `naa.…` in normal form (RFC 7143, 4.2.7).
    pub name: String,
    /// Answered as TargetAlias at login, if there is one.
    pub alias: Option<String>,
    pub portals: Vec<Portal>,
    /// None lets everybody in.
    pub chap: Option<Chap>,
}

/// A network portal and the portal group that it belongs to (RFC 7143, 4.2.7 and 13.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portal {
    pub address: SocketAddr,
    pub group: u16,
}

/// What an initiator must prove to log in, and what the target can prove if asked (RFC 7143, 12.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chap {
    pub initiator: Credentials,
    pub target: Option<Credentials>,
}

/// The targets that can be reached through one listening portal's process.
#[derive(Clone, Debug, Default)]
pub struct Portals {
    pub targets: Vec<Target>,
    /// Asked of initiators that want a discovery session.
    pub discovery_chap: Option<Chap>,
}

/// Which targets a SendTargets asks for (RFC 7143, Appendix C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope<'a> {
    All,
    Named(&'a str),
}

impl Portals {
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }

    /// The answer to SendTargets as text keys. An unknown name gets an empty answer, as the appendix asks.
    pub(super) fn send_targets(&self, scope: Scope<'_>, text: &mut Text) {
        for target in &self.targets {
            if matches!(scope, Scope::Named(name) if name != target.name) {
                continue;
            }
            text.push("TargetName", &target.name);
            for portal in &target.portals {
                text.push("TargetAddress", &format!("{},{}", portal.address, portal.group));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portals() -> Portals {
        let target = |name: &str, portals| Target { name: name.into(), alias: None, portals, chap: None };
        let portal = |address: &str, group| Portal { address: address.parse().unwrap(), group };
        Portals {
            targets: vec![
                target(
                    "iqn.2026-01.example:a",
                    vec![portal("192.0.2.1:3260", 1), portal("[2001:db8::1]:3260", 2)],
                ),
                target("iqn.2026-01.example:b", vec![portal("192.0.2.2:3261", 7)]),
            ],
            discovery_chap: None,
        }
    }

    fn send_targets(scope: Scope<'_>) -> String {
        let mut text = Text::new();
        portals().send_targets(scope, &mut text);
        String::from_utf8(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn send_targets_lists_every_portal_with_its_group() {
        let expected = "TargetName=iqn.2026-01.example:a\0TargetAddress=192.0.2.1:3260,1\0\
            TargetAddress=[2001:db8::1]:3260,2\0TargetName=iqn.2026-01.example:b\0\
            TargetAddress=192.0.2.2:3261,7\0";
        assert_eq!(send_targets(Scope::All), expected);
    }

    #[test]
    fn send_targets_for_a_name_lists_that_target_or_nothing() {
        let named = send_targets(Scope::Named("iqn.2026-01.example:b"));
        assert_eq!(named, "TargetName=iqn.2026-01.example:b\0TargetAddress=192.0.2.2:3261,7\0");
        assert!(send_targets(Scope::Named("iqn.2026-01.example:c")).is_empty());
    }
}
