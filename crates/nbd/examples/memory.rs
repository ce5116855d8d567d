//! Serves a disk in memory on a Unix socket: the smallest driver that a session can have.
//!
//! `cargo run -p nbd --example memory -- /tmp/nbd.sock [SIZE-IN-MIB [BLOCK-SIZE]]`, then for example
//! `nbdinfo 'nbd+unix:///?socket=/tmp/nbd.sock'`.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is a driver, with sockets and threads"
)]

use std::io::{IoSlice, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::{env, error, fs, thread};

use block::{Access, Completion, Geometry, Operation, Request, Rotation, Support, WriteCache};
use clock::Instant;
use nbd::{Action, Event, Export, Reason, Session};

/// Slices for one system call: 32 replies of a header and a payload.
const SLICES: usize = 64;

type Disk = Arc<Mutex<Vec<u8>>>;

fn main() -> Result<(), Box<dyn error::Error>> {
    let mut arguments = env::args().skip(1);
    let path = arguments.next().ok_or("usage: memory SOCKET [SIZE-IN-MIB [BLOCK-SIZE]]")?;
    let mebibytes: usize = arguments.next().map_or(Ok(64), |size| size.parse())?;
    let block_size: u32 = arguments.next().map_or(Ok(512), |size| size.parse())?;

    let disk: Disk = Arc::new(Mutex::new(vec![0; mebibytes << 20]));
    let export = Export {
        name: "memory".into(),
        description: "a disk in memory".into(),
        geometry: geometry(mebibytes, block_size),
        multi_conn: true,
    };
    // A socket that an earlier run left behind.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    for (connection, stream) in (0u32..).zip(listener.incoming()) {
        let (stream, disk) = (stream?, Arc::clone(&disk));
        let session = Session::new(connection, vec![export.clone()]);
        thread::spawn(move || match serve(session, stream, &disk) {
            Ok(reason) => eprintln!("{connection}: {reason}"),
            Err(error) => eprintln!("{connection}: {error}"),
        });
    }
    Ok(())
}

fn geometry(mebibytes: usize, block_size: u32) -> Geometry {
    Geometry {
        size: (mebibytes as u64) << 20,
        block_size,
        preferred_size: block_size.max(4096),
        transfer_max: 32 << 20,
        access: Access::ReadWrite,
        write_cache: WriteCache::Back,
        discard: Support::Yes,
        write_zeroes: Support::Yes,
        rotation: Rotation::Unknown,
    }
}

/// Runs one session to its end. Nothing here takes time, so the clock may stand still and no timeout comes.
fn serve(mut session: Session, mut stream: UnixStream, disk: &Disk) -> std::io::Result<Reason> {
    let now = Instant::START;
    loop {
        if let Some(reason) = answer_all(&mut session, disk) {
            return Ok(reason);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = session.transmit(&mut slices);
        if used > 0 {
            let sent = stream.write_vectored(&slices[..used])?;
            session.handle(now, Event::Sent(sent));
            continue;
        }
        match stream.read_vectored(&mut session.receive_into())? {
            0 => session.handle(now, Event::Closed),
            received => session.handle(now, Event::Received(received)),
        }
    }
}

fn answer_all(session: &mut Session, disk: &Disk) -> Option<Reason> {
    while let Some(action) = session.poll_action() {
        match action {
            Action::Attach { .. } => {}
            Action::Submit(mut request) => {
                let completion =
                    execute(&mut request, &mut disk.lock().expect("no thread panics with the disk"));
                session.handle(Instant::START, Event::Completed(request, completion));
            }
            Action::Disconnect(reason) => return Some(reason),
        }
    }
    None
}

fn execute(request: &mut Request, disk: &mut [u8]) -> Completion {
    let Some((offset, length)) = request.operation.extent() else { return Ok(()) };
    let start = usize::try_from(offset).map_err(|_| block::Error::Invalid)?;
    let range = disk.get_mut(start..start + length as usize).ok_or(block::Error::Invalid)?;
    match request.operation {
        Operation::Read { .. } => request.buffer.copy_from_slice(range),
        Operation::Write { .. } => range.copy_from_slice(&request.buffer),
        Operation::WriteZeroes { .. } => range.fill(0),
        Operation::Flush | Operation::Discard { .. } => {}
    }
    Ok(())
}
