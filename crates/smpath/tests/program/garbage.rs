//! Whoever sends nonsense, or nothing, harms only himself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use block::Durability;

use crate::common::{Array, Process, Room, ask, noise};

fn nonsense() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [1, 28, 48, 4096, 1 << 20].map(noise).to_vec();
    all.push(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec());
    all
}

/// Sends nonsense on every connection, and leaves each open.
fn pester<S: Read + Write>(connect: impl Fn() -> S) -> Vec<S> {
    nonsense()
        .iter()
        .map(|bytes| {
            let mut stream = connect();
            // The other side may hang up in the middle.
            let _ = stream.write_all(bytes);
            stream
        })
        .collect()
}

#[test]
fn nonsense_on_a_portal_of_the_array_stops_no_disk() {
    let (mut array, room) = (Array::start(&["--lu", "size=1M"]), Room::new());
    let mut run = room.serve(&[&array.url(0)]);
    let mut client = room.client("");
    let _open = pester(|| TcpStream::connect(array.portals[0]).unwrap());
    // Half a login request, then silence.
    let mut half = TcpStream::connect(array.portals[0]).unwrap();
    half.write_all(&[0x43, 0x87, 0, 0, 0, 0, 1, 0]).unwrap();
    client.write(0, &[9; 4096], Durability::ForceUnitAccess).unwrap();
    let mut data = [0; 4096];
    client.read(0, &mut data).unwrap();
    assert_eq!(data, [9; 4096]);
    drop(client);
    run.stop();
    array.process.stop();
    assert!(!array.process.said.contains("panicked"), "{}", array.process.said);
}

#[test]
fn nonsense_on_the_nbd_socket_stops_no_other_client() {
    let (array, room) = (Array::start(&["--lu", "size=1M"]), Room::new());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut run = room.serve(&["--export", &format!("nbd://{free}"), &array.url(0)]);
    let mut client = room.client("");
    let _open = pester(|| UnixStream::connect(room.path("disk.sock")).unwrap());
    let _open = pester(|| TcpStream::connect(free).unwrap());
    client.write(0, &[9; 4096], Durability::Volatile).unwrap();
    assert_eq!(room.client("").export().size, 1 << 20);
    drop(client);
    run.stop();
}

#[test]
fn nonsense_and_silence_on_the_control_socket_hold_up_nobody() {
    let (array, room) = (Array::start(&["--lu", "size=1M"]), Room::new());
    let mut run = room.serve(&[&array.url(0)]);
    let _silent: Vec<UnixStream> =
        (0..8).map(|_| UnixStream::connect(room.path("control.sock")).unwrap()).collect();
    let _open = pester(|| UnixStream::connect(room.path("control.sock")).unwrap());
    assert!(ask(&["list", "--control", &room.control()]).contains("1/1"));
    run.stop();
}

#[test]
fn something_else_on_the_control_socket_is_not_taken_for_an_answer() {
    let room = Room::new();
    let listener = std::os::unix::net::UnixListener::bind(room.path("control.sock")).unwrap();
    let control = room.control();
    let mut list = Process::start(&["list", "--control", &control]);
    let (mut stream, _) = listener.accept().unwrap();
    let _ = stream.read(&mut [0; 64]);
    stream.write_all(b"HTTP/1.1 400 Bad Request\n").unwrap();
    list.fails(&["not smpath"]);
}
