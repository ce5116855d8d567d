//! Where targets are and where disks go: `HOST[:PORT]`, `iscsi://…` as libiscsi and QEMU write it, `nbd…` URIs.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use engine::Lun;
use engine::config::{ExportAddress, PortalConfig};

/// The port of iSCSI targets (RFC 7143, 4.2.7 and IANA).
const ISCSI_PORT: u16 = 3260;

/// One `--target`, not yet resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    host: String,
    port: u16,
    /// None: ask the portal for its targets.
    name: Option<String>,
    lun: Option<Lun>,
}

/// `HOST[:PORT]` or `iscsi://HOST[:PORT]/TARGET[/LUN]`.
pub(crate) fn target(text: &str) -> Result<Target, String> {
    if text.contains('@') {
        // The text is not repeated: it holds a secret.
        return Err(String::from(
            "credentials in a URL can be read by everybody on this host: use --chap-file or SMPATH_CHAP_SECRET",
        ));
    }
    let Some(rest) = text.strip_prefix("iscsi://") else {
        if text.contains("://") {
            return Err(format!("'{text}' is neither HOST[:PORT] nor an iscsi:// URL"));
        }
        let (host, port) = host_and_port(text)?;
        return Ok(Target { host, port, name: None, lun: None });
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = host_and_port(authority)
        .map_err(|error| format!("{error}: an address is written iscsi://HOST[:PORT]/TARGET[/LUN]"))?;
    let (name, lun) = match path.split_once('/') {
        None => (path, None),
        Some((name, "")) => (name, None),
        Some((name, lun)) => {
            let number: u16 = lun.parse().map_err(|_| format!("'{lun}' is not a logical unit number"))?;
            (name, Some(Lun::from(number)))
        }
    };
    if name.is_empty() {
        return Ok(Target { host, port, name: None, lun });
    }
    if !["iqn.", "eui.", "naa."].iter().any(|kind| name.starts_with(kind)) {
        return Err(format!("'{name}' is not an iSCSI name: it must begin with iqn., eui. or naa."));
    }
    Ok(Target { host, port, name: Some(name.to_owned()), lun })
}

impl Target {
    /// Looks the host up; every address of a name is a portal of its own.
    pub(crate) fn resolve(&self) -> Result<Vec<PortalConfig>, String> {
        let addresses: Vec<SocketAddr> = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| format!("the host name {} cannot be resolved: {error}", self.host))?
            .collect();
        Ok(addresses
            .into_iter()
            .map(|portal| match &self.name {
                None => PortalConfig::Discover(portal),
                Some(name) => PortalConfig::Target { portal, target_name: name.clone(), lun: self.lun },
            })
            .collect())
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("'{text}' is not HOST[:PORT]");
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
        let port = match after.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| wrong())?,
            None if after.is_empty() => ISCSI_PORT,
            None => return Err(wrong()),
        };
        return Ok((host.to_owned(), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => {
            return Err(format!("'{text}': write IPv6 addresses in brackets"));
        }
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (text, ISCSI_PORT),
    };
    if host.is_empty() || port == 0 {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

/// `nbd+unix:///PATH`, `nbd+unix:///?socket=PATH` or `nbd://ADDRESS:PORT`.
pub(crate) fn export(text: &str) -> Result<ExportAddress, String> {
    if let Some(rest) = text.strip_prefix("nbd+unix://") {
        let path = rest.split_once("?socket=").map_or(rest, |(_, socket)| socket);
        if !path.starts_with('/') || path == "/" {
            return Err(format!("'{text}': an absolute path is expected, as in nbd+unix:///run/disk.sock"));
        }
        return Ok(ExportAddress::NbdUnix(PathBuf::from(path)));
    }
    if let Some(address) = text.strip_prefix("nbd://") {
        return address.trim_end_matches('/').parse().map(ExportAddress::NbdTcp).map_err(|_| {
            format!("'{text}': an address and a port are expected, as in nbd://127.0.0.1:10809")
        });
    }
    Err(format!("'{text}' is not an export: use nbd+unix:///PATH or nbd://ADDRESS:PORT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_portal_or_an_iscsi_url() {
        let portal = target("10.0.0.1").expect("valid");
        assert_eq!((portal.host.as_str(), portal.port, portal.name), ("10.0.0.1", 3260, None));
        let one = target("iscsi://[::1]:860/iqn.2001-04.com.example:disk/3").expect("valid");
        assert_eq!((one.host.as_str(), one.port), ("::1", 860));
        assert_eq!(
            (one.name.as_deref(), one.lun),
            (Some("iqn.2001-04.com.example:disk"), Some(Lun::from(3)))
        );
    }

    #[test]
    fn wrong_targets_are_refused_with_the_reason() {
        for (text, reason) in [
            ("", "not HOST"),
            ("host:port", "not HOST"),
            ("::1", "brackets"),
            ("http://host/", "neither"),
            ("iscsi://", "iscsi://HOST"),
            ("iscsi://host/disk", "iqn."),
            ("iscsi://host/iqn.2001-04.com.example:disk/x", "logical unit number"),
            ("iscsi://me%secret@host/iqn.2001-04.com.example:disk/1", "credentials"),
        ] {
            let error = target(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn exports_are_unix_sockets_or_tcp_addresses() {
        assert_eq!(export("nbd+unix:///run/a.sock"), Ok(ExportAddress::NbdUnix("/run/a.sock".into())));
        assert_eq!(
            export("nbd+unix:///?socket=/run/a.sock"),
            Ok(ExportAddress::NbdUnix("/run/a.sock".into()))
        );
        assert!(matches!(export("nbd://127.0.0.1:10809"), Ok(ExportAddress::NbdTcp(_))));
        for wrong in ["/run/a.sock", "nbd+unix://a.sock", "nbd://somewhere", "nbd+unix:///"] {
            assert!(export(wrong).is_err(), "{wrong}");
        }
    }
}
