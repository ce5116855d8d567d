//! A driver that does one thing after the other: one session, one socket, one thread.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::TcpStream;

use block::Buffer;
use clock::{Duration, Instant};
use iscsi::initiator::{Action, Event, LoggedIn, Options, Session};
use iscsi::pdu::{CommandSerials, Header, Opcode, ScsiCommand};
use scsi::{CdbBytes, Command, CommandId, Ending, Lun, Reply, TaskAttribute, Transfer};

/// Between two looks at the clock.
const POLL: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(crate) struct Driver {
    session: Session<()>,
    pub(crate) socket: TcpStream,
    started: std::time::Instant,
    actions: VecDeque<Action<()>>,
    pub(crate) lun: Lun,
    /// Of the last SCSI command that was sent.
    #[allow(dead_code, reason = "not every program that drives looks at them")]
    pub(crate) serials: CommandSerials,
}

impl Driver {
    /// Connects, and begins a login that nobody waits for yet.
    pub(crate) fn connect(address: &str, options: Options) -> Result<Self, Box<dyn Error>> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(POLL.into()))?;
        let session = Session::new(options)?;
        let (actions, started) = (VecDeque::new(), std::time::Instant::now());
        let serials = CommandSerials::default();
        let mut driver = Self { session, socket, started, actions, lun: Lun::default(), serials };
        driver.handle(Event::Connected);
        Ok(driver)
    }

    /// Connects and logs in.
    pub(crate) fn log_in(address: &str, options: Options) -> Result<(Self, LoggedIn), Box<dyn Error>> {
        let mut driver = Self::connect(address, options)?;
        match driver.next_action()? {
            Action::LoggedIn(logged_in) => Ok((driver, *logged_in)),
            other => Err(format!("{other:?}").into()),
        }
    }

    pub(crate) fn start(&mut self, id: u64, cdb: &[u8], transfer: Transfer, data: Vec<u8>) {
        let command = Command {
            id: CommandId(id),
            cdb: CdbBytes::new(cdb),
            attribute: TaskAttribute::Simple,
            transfer,
            buffer: Buffer::from(data),
            context: (),
        };
        self.handle(Event::Command { lun: self.lun, command });
    }

    pub(crate) fn run(
        &mut self,
        cdb: &[u8],
        transfer: Transfer,
        data: Vec<u8>,
    ) -> Result<(Reply, Vec<u8>), Box<dyn Error>> {
        self.start(1, cdb, transfer, data);
        match self.next_action()? {
            Action::Ended { command, ending: Ending::Reply(reply) } => Ok((reply, command.buffer.to_vec())),
            other => Err(format!("{other:?}").into()),
        }
    }

    pub(crate) fn handle(&mut self, event: Event<()>) {
        let now = Instant::START + Duration::from(self.started.elapsed());
        self.session.handle(now, event);
        let actions = core::iter::from_fn(|| self.session.poll_action());
        // Whoever waits for an answer does not wait for that of a ping.
        self.actions.extend(actions.filter(|action| !matches!(action, Action::Pinged { .. })));
    }

    /// Sends and receives until there is something to say.
    pub(crate) fn next_action(&mut self) -> Result<Action<()>, Box<dyn Error>> {
        loop {
            if let Some(action) = self.action_within(Duration::from_secs(1))? {
                return Ok(action);
            }
        }
    }

    /// The same, but not for longer than this.
    pub(crate) fn action_within(&mut self, limit: Duration) -> Result<Option<Action<()>>, Box<dyn Error>> {
        let end = std::time::Instant::now() + limit.into();
        while self.actions.is_empty() && std::time::Instant::now() < end {
            let mut slices = [IoSlice::new(&[]); 64];
            let used = self.session.transmit(&mut slices);
            if used > 0 {
                let mut headers =
                    slices[..used].iter().filter_map(|slice| Some(Header((**slice).try_into().ok()?)));
                let command = headers.rfind(|header| header.opcode() == Opcode::ScsiCommand);
                self.serials = command.map_or(self.serials, |header| ScsiCommand::parse(&header).serials);
                let sent = self.socket.write_vectored(&slices[..used])?;
                self.handle(Event::Sent(sent));
                continue;
            }
            match self.socket.read_vectored(&mut self.session.receive_into()) {
                Ok(0) => self.handle(Event::Closed),
                Ok(count) => self.handle(Event::Received(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.handle(Event::Timeout),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.actions.pop_front())
    }
}
