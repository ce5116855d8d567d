//! Serves a disk in memory whose writes can be told to arrive late, to one client after the other.
//!
//! `late SOCKET [SIZE-IN-MIB]`. A write whose data begins with `LATE`, then a number of milliseconds (32 bits, big
//! endian) and a number of its own (64 bits), takes effect and is answered only after that time; a second copy of it,
//! with the same number, takes effect at once, as everything else does. So the copy that a lost path left behind can
//! stay in a target's back end while the same block is written again, which no delaying block device can do: that holds
//! what comes later, too.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is a driver, with sockets and a clock"
)]

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};
use std::{env, error, fs};

use block::{Access, Completion, Geometry, Operation, Request, Rotation, Support, WriteCache};
use nbd::{Action, Event, Export, Reason, Session};

/// Slices for one system call: 32 replies of a header and a payload.
const SLICES: usize = 64;

/// Between two looks at the clock.
const POLL: Duration = Duration::from_millis(5);

fn main() -> Result<(), Box<dyn error::Error>> {
    let mut arguments = env::args().skip(1);
    let path = arguments.next().ok_or("usage: late SOCKET [SIZE-IN-MIB]")?;
    let mebibytes: usize = arguments.next().map_or(Ok(64), |size| size.parse())?;
    let export = Export {
        name: String::new(),
        description: "a disk whose writes may be late".into(),
        geometry: geometry(mebibytes),
        multi_conn: false,
    };
    let mut disk = Disk {
        started: Instant::now(),
        bytes: vec![0; mebibytes << 20],
        seen: BTreeSet::new(),
        late: Vec::new(),
    };
    // A socket that an earlier run left behind.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    for (connection, stream) in (0u32..).zip(listener.incoming()) {
        let reason = disk.serve(Session::new(connection, vec![export.clone()]), stream?)?;
        disk.say(&format!("connection {connection}: {reason}"));
    }
    Ok(())
}

fn geometry(mebibytes: usize) -> Geometry {
    Geometry {
        size: (mebibytes as u64) << 20,
        block_size: 512,
        preferred_size: 4096,
        transfer_max: 32 << 20,
        access: Access::ReadWrite,
        write_cache: WriteCache::Through,
        discard: Support::No,
        write_zeroes: Support::Yes,
        rotation: Rotation::Unknown,
    }
}

struct Disk {
    started: Instant,
    bytes: Vec<u8>,
    /// The numbers of the late writes that came once.
    seen: BTreeSet<u64>,
    late: Vec<Late>,
}

/// A write whose time has not come.
struct Late {
    due: Instant,
    request: Request,
}

impl Disk {
    /// Runs one session to its end.
    fn serve(&mut self, mut session: Session, mut stream: UnixStream) -> io::Result<Reason> {
        stream.set_read_timeout(Some(POLL))?;
        loop {
            self.complete_what_is_due(&mut session);
            if let Some(reason) = self.answer_all(&mut session) {
                return Ok(reason);
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = session.transmit(&mut slices);
            if used > 0 {
                let sent = stream.write_vectored(&slices[..used])?;
                self.tell(&mut session, Event::Sent(sent));
                continue;
            }
            match stream.read_vectored(&mut session.receive_into()) {
                Ok(0) => self.tell(&mut session, Event::Closed),
                Ok(received) => self.tell(&mut session, Event::Received(received)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn tell(&self, session: &mut Session, event: Event) {
        session.handle(clock::Instant::START + clock::Duration::from(self.started.elapsed()), event);
    }

    fn answer_all(&mut self, session: &mut Session) -> Option<Reason> {
        while let Some(action) = session.poll_action() {
            match action {
                Action::Attach { .. } => {}
                Action::Submit(request) => match self.lateness(&request) {
                    Some(time) => {
                        self.say(&format!("held for {time:?}: {:?}", request.operation));
                        self.late.push(Late { due: Instant::now() + time, request });
                    }
                    None => self.complete(session, request),
                },
                Action::Disconnect(reason) => return Some(reason),
            }
        }
        None
    }

    fn complete_what_is_due(&mut self, session: &mut Session) {
        let now = Instant::now();
        while let Some(position) = self.late.iter().position(|late| late.due <= now) {
            let request = self.late.remove(position).request;
            self.say(&format!("executed late: {:?}", request.operation));
            self.complete(session, request);
        }
    }

    fn complete(&mut self, session: &mut Session, mut request: Request) {
        let completion = self.execute(&mut request);
        self.tell(session, Event::Completed(request, completion));
    }

    /// How late a request wants to be, if it is the first copy of one that does.
    fn lateness(&mut self, request: &Request) -> Option<Duration> {
        let Operation::Write { .. } = request.operation else { return None };
        let (milliseconds, rest) = request.buffer.strip_prefix(b"LATE")?.split_first_chunk()?;
        let number = u64::from_be_bytes(*rest.first_chunk()?);
        let milliseconds = u32::from_be_bytes(*milliseconds);
        self.seen.insert(number).then(|| Duration::from_millis(milliseconds.into()))
    }

    fn execute(&mut self, request: &mut Request) -> Completion {
        let Some((offset, length)) = request.operation.extent() else { return Ok(()) };
        let start = usize::try_from(offset).map_err(|_| block::Error::Invalid)?;
        let range = self.bytes.get_mut(start..start + length as usize).ok_or(block::Error::Invalid)?;
        match request.operation {
            Operation::Read { .. } => request.buffer.copy_from_slice(range),
            Operation::Write { .. } => range.copy_from_slice(&request.buffer),
            Operation::WriteZeroes { .. } => range.fill(0),
            Operation::Flush | Operation::Discard { .. } => {}
        }
        Ok(())
    }

    fn say(&self, what: &str) {
        println!("{:8.3} s  {what}", self.started.elapsed().as_secs_f32());
    }
}
