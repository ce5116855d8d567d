//! Where an export is, as the NBD project writes it (`doc/uri.md`).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::protocol::PORT;

/// `nbd://host[:port]/[export]` or `nbd+unix:///[export]?socket=PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    pub address: Address,
    /// Empty means the server's default export.
    pub export: String,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Why a text is no NBD URI that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    #[error("an NBD URI starts with nbd:// or nbd+unix://")]
    Scheme,
    #[error("NBD over TLS is not supported")]
    Tls,
    #[error("the host is missing")]
    NoHost,
    #[error("the port is not a number between 1 and 65535")]
    Port,
    #[error("user names make no sense without TLS")]
    User,
    #[error("the socket is missing: nbd+unix:///EXPORT?socket=PATH")]
    NoSocket,
    #[error("a host makes no sense in front of a Unix socket: nbd+unix:///EXPORT?socket=PATH")]
    HostWithSocket,
    #[error("a % is not followed by two hexadecimal digits, or what they spell is not UTF-8")]
    Escape,
    #[error("an NBD URI has no fragment")]
    Fragment,
}

const TCP_SCHEME: &str = "nbd://";
const UNIX_SCHEME: &str = "nbd+unix://";
const TLS_SCHEMES: [&str; 2] = ["nbds://", "nbds+unix://"];

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.contains('#') {
            return Err(UriError::Fragment);
        }
        if TLS_SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
            return Err(UriError::Tls);
        }
        if let Some(rest) = text.strip_prefix(UNIX_SCHEME) {
            parse_unix(rest)
        } else if let Some(rest) = text.strip_prefix(TCP_SCHEME) {
            parse_tcp(rest)
        } else {
            Err(UriError::Scheme)
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp { host, port } => {
                f.write_str(TCP_SCHEME)?;
                if host.contains(':') {
                    write!(f, "[{host}]")?;
                } else {
                    write_escaped(f, host)?;
                }
                if *port != PORT {
                    write!(f, ":{port}")?;
                }
                f.write_str("/")?;
                write_escaped(f, &self.export)
            }
            Address::Unix(path) => {
                write!(f, "{UNIX_SCHEME}/")?;
                write_escaped(f, &self.export)?;
                f.write_str("?socket=")?;
                write_escaped(f, &path.to_string_lossy())
            }
        }
    }
}

fn parse_unix(rest: &str) -> Result<Uri, UriError> {
    let (location, query) = split_query(rest);
    let Some(export) = location.strip_prefix('/') else {
        return Err(if location.is_empty() { UriError::NoSocket } else { UriError::HostWithSocket });
    };
    let socket = query.split('&').find_map(|pair| pair.strip_prefix("socket=")).ok_or(UriError::NoSocket)?;
    if socket.is_empty() {
        return Err(UriError::NoSocket);
    }
    Ok(Uri { address: Address::Unix(PathBuf::from(unescape(socket)?)), export: unescape(export)? })
}

fn parse_tcp(rest: &str) -> Result<Uri, UriError> {
    let (location, _) = split_query(rest);
    let (authority, export) = location.split_once('/').unwrap_or((location, ""));
    if authority.contains('@') {
        return Err(UriError::User);
    }
    let (host, port) = split_port(authority)?;
    if host.is_empty() {
        return Err(UriError::NoHost);
    }
    Ok(Uri { address: Address::Tcp { host: unescape(host)?, port }, export: unescape(export)? })
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// Splits `host`, `host:port`, `[v6]` and `[v6]:port`; the brackets are not part of the host.
fn split_port(authority: &str) -> Result<(&str, u16), UriError> {
    let (host, port) = if let Some(inside) = authority.strip_prefix('[') {
        let (host, after) = inside.split_once(']').ok_or(UriError::NoHost)?;
        (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(UriError::Port)?) })
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    match port {
        None => Ok((host, PORT)),
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => match digits.parse() {
            Ok(0) | Err(_) => Err(UriError::Port),
            Ok(port) => Ok((host, port)),
        },
        Some(_) => Err(UriError::Port),
    }
}

fn unescape(text: &str) -> Result<String, UriError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (rest.next().and_then(hex_digit), rest.next().and_then(hex_digit))
        else {
            return Err(UriError::Escape);
        };
        bytes.push(high << 4 | low);
    }
    String::from_utf8(bytes).map_err(|_| UriError::Escape)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// RFC 3986's unreserved characters and the slash stay; everything else is escaped.
fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            write!(f, "{}", char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(host: &str, port: u16, export: &str) -> Uri {
        Uri { address: Address::Tcp { host: host.into(), port }, export: export.into() }
    }

    #[test]
    fn the_forms_of_the_project_are_understood() {
        for (text, uri) in [
            ("nbd://example.com", tcp("example.com", 10809, "")),
            ("nbd://example.com/", tcp("example.com", 10809, "")),
            ("nbd://example.com:10810/disk", tcp("example.com", 10810, "disk")),
            ("nbd://[::1]:9/a/b", tcp("::1", 9, "a/b")),
            ("nbd://10.0.0.1//leading", tcp("10.0.0.1", 10809, "/leading")),
            ("nbd://h/with%20space", tcp("h", 10809, "with space")),
            (
                "nbd+unix:///disk?socket=/run/nbd.sock",
                Uri { address: Address::Unix("/run/nbd.sock".into()), export: "disk".into() },
            ),
        ] {
            assert_eq!(text.parse::<Uri>(), Ok(uri), "{text}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        for (text, error) in [
            ("http://h/", UriError::Scheme),
            ("nbds://h/", UriError::Tls),
            ("nbds+unix:///?socket=/s", UriError::Tls),
            ("nbd:///disk", UriError::NoHost),
            ("nbd://h:0/", UriError::Port),
            ("nbd://h:65536/", UriError::Port),
            ("nbd://h:+1/", UriError::Port),
            ("nbd://me@h/", UriError::User),
            ("nbd+unix://?socket=/s", UriError::NoSocket),
            ("nbd+unix:///disk", UriError::NoSocket),
            ("nbd+unix:///disk?socket=", UriError::NoSocket),
            ("nbd+unix://h/disk?socket=/s", UriError::HostWithSocket),
            ("nbd://h/%f", UriError::Escape),
            ("nbd://h/%ff", UriError::Escape),
            ("nbd://h/#x", UriError::Fragment),
        ] {
            assert_eq!(text.parse::<Uri>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed_again(host in "[a-z0-9.-]{1,9}|[0-9a-f]:[0-9a-f:]{1,9}", port in 1u16.., export in ".{0,20}", socket in "/.{0,20}") {
            for uri in [tcp(&host, port, &export), Uri { address: Address::Unix(socket.into()), export }] {
                prop_assert_eq!(uri.to_string().parse::<Uri>(), Ok(uri));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(nbd(s)?(\\+unix)?://)?.{0,40}") {
            let _ = text.parse::<Uri>();
        }
    }
}
