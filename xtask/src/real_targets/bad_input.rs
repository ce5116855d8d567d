//! Wrong addresses, wrong secrets, wrong peers: one clear line and a failing exit, or the rest goes on.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::disk::log_of;
use super::initiators::io;
use super::{Case, Outcome, passed};
use crate::harness::process::free_address;
use crate::harness::room::Room;
use crate::harness::smpath::{Array, Disk, nbd_unix_uri, smpath};
use crate::harness::tgt::{Account, Provisioning, Tgt};

/// In which a wrong start must have told so. A peer that takes a connection and says nothing is given up in it too.
const LIMIT: Duration = Duration::from_secs(40);
const BYTES: u64 = 32 << 20;

pub(super) fn cases() -> Vec<Case> {
    const TGT: &[&str] = &["tgtd", "nbdinfo"];
    const DISK: &[&str] = &["tgtd", "nbdinfo", "qemu-io"];
    vec![
        Case::new("bad input: no portal answers", &[], no_portal),
        Case::new("bad input: the portal is not an iSCSI target", &[], not_iscsi),
        Case::new("bad input: the portal says nothing", &[], silent),
        Case::new("bad input: no such target", TGT, || {
            refused_by_tgt(|tgt| url(tgt, "iqn.2026-11.example:none", 1))
        }),
        Case::new("bad input: no such LUN", TGT, || refused_by_tgt(|tgt| url(tgt, &tgt.targets[0], 77))),
        Case::new("bad input: a logical unit without identity", &["iscsi-ls"], nameless),
        Case::new("bad input: a name that no initiator may have", &[], || {
            refused(&["--target", "127.0.0.1", "--initiator-name", "host1"], "--initiator-name 'host1'")
        }),
        Case::new("bad input: CHAP with a wrong secret", TGT, wrong_secret),
        Case::new("bad input: CHAP without a name", TGT, no_secret),
        Case::new("good input: CHAP with the right secret", DISK, right_secret),
        Case::new("bad input: credentials in an address", &[], || {
            refused(&["iscsi://me%a-secret-of-12@127.0.0.1/iqn.2026-11.example:none/1"], "--chap-file")
        }),
        Case::new("bad input: an address that is none", &[], || refused(&["iscsi://"], "iscsi://")),
        Case::new("bad input: the export's socket is taken", TGT, socket_taken),
        Case::new("bad input: a configuration file that is none", &[], bad_configuration),
        Case::new("bad input: one portal of two is dead and the disk is served", DISK, one_dead_portal),
        Case::new(
            "bad input: same identity, other capacity: the second path is refused",
            DISK,
            other_capacity,
        ),
        Case::new("bad input: garbage on the NBD socket harms only its sender", DISK, garbage_on_nbd),
        Case::new(
            "bad input: garbage on the array's portal harms only its sender",
            &["iscsi-ls", "qemu-io"],
            garbage_on_array,
        ),
    ]
}

/// `smpath run` with these addresses must fail soon, in words that name `culprit`, and without a panic.
fn refused(addresses: &[&str], culprit: &str) -> Result<Outcome> {
    let room = Room::new()?;
    refused_in(&room, addresses, culprit)
}

fn refused_in(room: &Room, arguments: &[&str], culprit: &str) -> Result<Outcome> {
    let uri = nbd_unix_uri(&room.path("nbd"));
    let control = room.path("control").display().to_string();
    let mut all = vec!["run", "--export", &uri, "--control", &control, "--state", "none"];
    all.extend_from_slice(arguments);
    let finished = smpath(&all, LIMIT)?;
    ensure!(!finished.status.success(), "it ended as if all were well: {finished}");
    ensure!(finished.status.code().is_some(), "it was killed: {finished}");
    ensure!(!finished.stderr.contains("panicked"), "{finished}");
    let last = finished.stderr.lines().rfind(|line| !line.trim().is_empty()).context("it says nothing")?;
    ensure!(finished.stderr.contains(culprit), "no word about {culprit}: {finished}");
    Ok(Outcome::Passed(last.trim().to_owned()))
}

fn nameless() -> Result<Outcome> {
    let array = Array::start(&["size=32M,no-identity"])?;
    let outcome = refused(&["--target", &array.portals[0].to_string()], "it has no identity")?;
    array.stop()?;
    Ok(outcome)
}

fn no_portal() -> Result<Outcome> {
    let nobody = free_address()?.to_string();
    refused(&["--target", &nobody], &nobody)
}

/// A server of something else: says a line and closes.
fn not_iscsi() -> Result<Outcome> {
    let address = serve(|mut stream| {
        let _ =
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = stream.read(&mut [0; 4096]);
    })?;
    let address = address.to_string();
    refused(&["--target", &address], &address)
}

fn silent() -> Result<Outcome> {
    let address = serve(|mut stream| {
        // Takes everything until the other side gives up.
        while stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {}
    })?;
    let address = address.to_string();
    refused(&["--target", &address], &address)
}

fn serve(answer: impl Fn(TcpStream) + Send + Copy + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || answer(stream));
        }
    });
    Ok(address)
}

fn url(tgt: &Tgt, target: &str, lun: u32) -> (String, String) {
    let culprit = if lun == 1 { target.to_owned() } else { lun.to_string() };
    (format!("iscsi://{}/{target}/{lun}", tgt.portals[0]), culprit)
}

fn refused_by_tgt(address: fn(&Tgt) -> (String, String)) -> Result<Outcome> {
    let room = Room::new()?;
    let tgt = Tgt::start(&room.zeroes("lu", BYTES)?, Provisioning::Thin)?;
    let (address, culprit) = address(&tgt);
    refused_in(&room, &[&address], &culprit)
}

const ACCOUNT: Account<'_> = Account { name: "reader", secret: "a secret of 12+" };

fn wrong_secret() -> Result<Outcome> {
    let room = Room::new()?;
    let tgt = Tgt::start(&room.zeroes("lu", BYTES)?, Provisioning::Thin)?;
    tgt.require(ACCOUNT)?;
    let file = credentials(&room, "wrong-secret-12")?;
    let outcome = refused_in(&room, &["--chap-file", &file, &tgt.url(0, 0)], &tgt.targets[0])?;
    if let Outcome::Passed(line) = &outcome {
        ensure!(!line.contains("wrong-secret-12"), "the secret is in the message: {line}");
    }
    Ok(outcome)
}

fn right_secret() -> Result<Outcome> {
    let room = Room::new()?;
    let tgt = Tgt::start(&room.zeroes("lu", BYTES)?, Provisioning::Thin)?;
    tgt.require(ACCOUNT)?;
    let file = credentials(&room, ACCOUNT.secret)?;
    let disk = Disk::start(&room, &["--chap-file".to_owned(), file, tgt.url(0, 0), tgt.url(1, 1)])?;
    io(&disk.uri, &["write -P 7 0 64k", "read -P 7 0 64k"]).with_context(|| log_of(&disk))?;
    passed()
}

fn credentials(room: &Room, secret: &str) -> Result<String> {
    let file = room.path("chap.toml");
    std::fs::write(&file, format!("name = \"{}\"\nsecret = \"{secret}\"\n", ACCOUNT.name))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    Ok(file.to_string_lossy().into_owned())
}

fn no_secret() -> Result<Outcome> {
    let room = Room::new()?;
    let tgt = Tgt::start(&room.zeroes("lu", BYTES)?, Provisioning::Thin)?;
    tgt.require(ACCOUNT)?;
    refused_in(&room, &[&tgt.url(0, 0)], &tgt.targets[0])
}

fn socket_taken() -> Result<Outcome> {
    let room = Room::new()?;
    let tgt = Tgt::start(&room.zeroes("lu", BYTES)?, Provisioning::Thin)?;
    let mut first = Disk::start(&room, &[tgt.url(0, 0)])?;
    let uri = first.uri.clone();
    let outcome = refused_in(&Room::new()?, &["--export", &uri, &tgt.url(1, 1)], "nbd");
    first.ensure_alive()?;
    io(&uri, &["read 0 4k"]).context("the first program's export no longer answers")?;
    outcome
}

fn bad_configuration() -> Result<Outcome> {
    let room = Room::new()?;
    let file = room.path("broken.toml");
    std::fs::write(&file, "[[disk]\nname = \n")?;
    refused_in(&room, &["--config", &file.to_string_lossy()], "broken.toml")
}

fn one_dead_portal() -> Result<Outcome> {
    let room = Room::new()?;
    let tgt = Tgt::start(&room.zeroes("lu", BYTES)?, Provisioning::Thin)?;
    let dead = format!("iscsi://{}/{}/1", free_address()?, tgt.targets[0]);
    let disk = Disk::start(&room, &[dead, tgt.url(0, 0)])?;
    io(&disk.uri, &["write -P 7 0 64k", "read -P 7 0 64k"]).with_context(|| log_of(&disk))?;
    passed()
}

fn other_capacity() -> Result<Outcome> {
    let room = Room::new()?;
    let mut tgt = Tgt::empty(1)?;
    tgt.add_target("one", &room.zeroes("lu", BYTES)?, "twin01", Provisioning::Thin)?;
    tgt.add_target("two", &room.zeroes("other", BYTES * 2)?, "twin01", Provisioning::Thin)?;
    let disk = Disk::start(&room, &[tgt.url(0, 0), tgt.url(0, 1)])?;
    io(&disk.uri, &["write -P 7 0 64k", "read -P 7 0 64k"]).with_context(|| log_of(&disk))?;
    let log = disk.log();
    let line = log.lines().find(|line| line.contains("contradicts")).with_context(|| log_of(&disk))?;
    Ok(Outcome::Passed(line.to_owned()))
}

/// Bytes without meaning, the same in every run.
fn garbage(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn garbage_on_nbd() -> Result<Outcome> {
    let room = Room::new()?;
    let tgt = Tgt::start(&room.zeroes("lu", BYTES)?, Provisioning::Thin)?;
    let mut disk = Disk::start(&room, &[tgt.url(0, 0), tgt.url(1, 1)])?;
    io(&disk.uri, &["write -P 7 0 64k"])?;
    for length in [1, 28, 4096, 1 << 20] {
        let mut stream = UnixStream::connect(room.path("nbd"))?;
        // The program may hang up in the middle: it is not asked to listen to the end.
        let _ = stream.write_all(&garbage(length));
    }
    disk.ensure_alive()?;
    io(&disk.uri, &["read -P 7 0 64k"]).with_context(|| log_of(&disk))?;
    passed()
}

fn garbage_on_array() -> Result<Outcome> {
    let array = Array::start(&["size=32M"])?;
    let route = array.routes[0].clone();
    io(&route.url(), &["write -P 7 0 64k"])?;
    for length in [1, 48, 4096, 1 << 20] {
        let mut stream = TcpStream::connect(route.portal)?;
        let _ = stream.write_all(&garbage(length));
    }
    io(&route.url(), &["read -P 7 0 64k"])?;
    array.stop()?;
    passed()
}
