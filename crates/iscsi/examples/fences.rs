//! What does a target promise about a write of a session that is lost? A write is left stuck in its back end, its
//! session is lost, some steps are taken, the same block is written again and then with newer data, and in the end it
//! is read: the newest data must be there.
//!
//! ```text
//! fences PORTAL TARGET STEP...       the LUN is 0, and its back end is the example `late` of the crate `nbd`
//!   for=MILLISECONDS    how long the write is stuck; 2000
//!   writes=NUMBER       so many writes are stuck, each to a block of its own; 1
//!   lose=reset|close|keep|logout   the connection is reset, closed, left open, or the session is logged out; reset
//!   portal=ADDRESS      later steps go there
//!   abandon=MILLISECONDS    log in as the lost session, and reset that connection before an answer
//!   login               log in as the lost session
//!   fresh               log in as a new session
//!   reset               LOGICAL UNIT RESET on the session that was logged in last
//!   wait=MILLISECONDS
//!   run=COMMAND         a shell runs it
//! ```

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "an example is its own driver")]

mod driver;

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use driver::Driver;
use iscsi::initiator::{Action, Event, Kind, Options, TaskManagement};
use iscsi::pdu::{
    CommandSerials, Delivery, HEADER_LENGTH, Header, InitiatorTaskTag, Isid, LogoutReason, LogoutRequest,
    LogoutResponse, Opcode,
};
use scsi::{CommandId, Status, Transfer};

/// One write of this size goes to each block that is looked at, with all of its data behind the command.
const BLOCK_BYTES: usize = 4096;

/// Far from those of commands, which count from the bottom.
const TAG_OF_THE_LOGOUT: InitiatorTaskTag = InitiatorTaskTag(0x7fff_0001);

/// In logical blocks of 512 bytes.
const BLOCKS: u32 = 8;

/// So long the target may take to show that a write is not stuck.
const STUCK_AFTER: Duration = Duration::from_millis(300);

/// So long after a stuck write's time its effect is certainly to be seen.
const SETTLED_AFTER: Duration = Duration::from_millis(700);

/// The answer to a login or to a reset may take as long as the write is stuck, and much longer if the target counts.
const PATIENCE: clock::Duration = clock::Duration::from_secs(120);

/// A later byte than this of a session identifier makes it another one (RFC 7143, 11.12.5: T = 10b).
const ISID_OF_THE_LOST: [u8; 6] = [0x80, 0x12, 0x34, 0x56, 0, 1];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [portal, target, steps @ ..] = arguments.as_slice() else {
        return Err("usage: fences PORTAL TARGET STEP...".into());
    };
    let mut case = Case::new(portal, target);
    let steps: Vec<(&str, &str)> =
        steps.iter().map(|step| step.split_once('=').unwrap_or((step, ""))).collect();
    let (settings, steps): (Vec<_>, Vec<_>) =
        steps.into_iter().partition(|(name, _)| ["for", "writes", "lose"].contains(name));
    for (name, value) in settings {
        match name {
            "for" => case.stuck_for = Duration::from_millis(value.parse()?),
            "writes" => case.writes = value.parse()?,
            _ => case.lose = value.to_owned(),
        }
    }
    case.stick()?;
    for (name, value) in steps {
        case.step(name, value)?;
    }
    case.overwrite()?;
    case.judge()
}

struct Case {
    portal: String,
    target: String,
    stuck_for: Duration,
    writes: u32,
    lose: String,
    /// When the write was sent.
    started: Instant,
    /// The session that the last step logged in.
    session: Option<Driver>,
    /// A lost session whose connection is left open.
    kept: Option<Driver>,
    /// Tells the copies of this run from those of every other.
    run: u64,
    sessions: u8,
}

impl Case {
    fn new(portal: &str, target: &str) -> Self {
        let since_1970 = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            portal: portal.to_owned(),
            target: target.to_owned(),
            stuck_for: Duration::from_secs(2),
            writes: 1,
            lose: "reset".to_owned(),
            started: Instant::now(),
            session: None,
            kept: None,
            run: u64::try_from(since_1970.as_micros()).unwrap_or_default(),
            sessions: 1,
        }
    }

    /// Sends the writes on a session that is then lost.
    fn stick(&mut self) -> Result<(), Box<dyn Error>> {
        let mut lost = self.log_in(Isid(ISID_OF_THE_LOST))?;
        for number in 0..self.writes {
            let (status, _) = write(&mut lost, number, vec![0; BLOCK_BYTES])?;
            expect_good(status)?;
        }
        self.started = Instant::now();
        for number in 0..self.writes {
            start_write(&mut lost, number, self.old(number));
        }
        if let Some(action) = lost.action_within(STUCK_AFTER.into())? {
            return Err(format!("the write is not stuck: {action:?}").into());
        }
        self.say("old copy sent, no answer");
        match self.lose.as_str() {
            "keep" => self.kept = Some(lost),
            "close" => drop(lost),
            "reset" => reset(lost)?,
            "logout" => self.log_out(lost)?,
            "abort" => self.abort(lost)?,
            other => return Err(format!("lose={other}?").into()),
        }
        Ok(())
    }

    /// Asks the target to close the session with all its commands, and hears what it says. By hand, because a session of
    /// ours does not log out with commands in flight.
    fn log_out(&self, mut lost: Driver) -> Result<(), Box<dyn Error>> {
        let CommandSerials { cmd_sn, exp_stat_sn } = lost.serials;
        let request = LogoutRequest {
            delivery: Delivery::Immediate,
            reason: LogoutReason::CloseSession,
            initiator_task_tag: TAG_OF_THE_LOGOUT,
            connection_id: 0,
            serials: CommandSerials { cmd_sn: cmd_sn.next(), exp_stat_sn },
        };
        let from = Instant::now();
        lost.socket.write_all(&request.emit().0)?;
        lost.socket.set_read_timeout(Some(STUCK_AFTER))?;
        let mut answer = Header([0; HEADER_LENGTH]);
        lost.socket.read_exact(&mut answer.0)?;
        let response = LogoutResponse::parse(&answer);
        if answer.opcode() != Opcode::LogoutResponse || response.initiator_task_tag != TAG_OF_THE_LOGOUT {
            return Err(format!("the logout was answered with {answer:?}").into());
        }
        self.say(&format!("logout after {:.3?}: {:?}", from.elapsed(), response.response));
        reset(lost)
    }

    /// Asks the target to abort each command, gives it a moment for an answer, and loses the connection.
    fn abort(&self, mut lost: Driver) -> Result<(), Box<dyn Error>> {
        for number in 0..self.writes {
            let function = TaskManagement::AbortTask(CommandId(number.into()));
            lost.handle(Event::TaskManagement { id: number.into(), function });
        }
        match lost.action_within(STUCK_AFTER.into())? {
            None => self.say("ABORT TASK is not answered"),
            Some(action) => self.say(&format!("ABORT TASK: {action:?}")),
        }
        reset(lost)
    }

    fn step(&mut self, name: &str, value: &str) -> Result<(), Box<dyn Error>> {
        match name {
            "portal" => value.clone_into(&mut self.portal),
            "wait" => thread::sleep(Duration::from_millis(value.parse()?)),
            "login" => self.session = Some(self.log_in(Isid(ISID_OF_THE_LOST))?),
            "fresh" => self.session = Some(self.log_in_afresh()?),
            "reset" => self.reset_unit()?,
            "abandon" => self.abandon_login(Duration::from_millis(value.parse()?))?,
            "run" => self.shell(value)?,
            other => return Err(format!("there is no step `{other}`").into()),
        }
        Ok(())
    }

    fn options(&self, isid: Isid) -> Result<Options, Box<dyn Error>> {
        let kind = Kind::Normal { target_name: self.target.parse()? };
        let mut options = Options::new("iqn.2026-01.com.example:fences".parse()?, isid, kind);
        options.login_timeout = PATIENCE;
        options.task_management_timeout = PATIENCE;
        options.command_timeout = PATIENCE;
        Ok(options)
    }

    fn log_in(&self, isid: Isid) -> Result<Driver, Box<dyn Error>> {
        let from = Instant::now();
        let (mut driver, logged_in) = Driver::log_in(&self.portal, self.options(isid)?)?;
        let (took, tsih) = (from.elapsed(), logged_in.tsih);
        self.say(&format!("{} answered a login after {took:.3?}: TSIH {tsih}", self.portal));
        take_unit_attentions(&mut driver)?;
        Ok(driver)
    }

    fn log_in_afresh(&mut self) -> Result<Driver, Box<dyn Error>> {
        self.sessions += 1;
        let mut isid = ISID_OF_THE_LOST;
        isid[5] = self.sessions;
        self.log_in(Isid(isid))
    }

    /// The fence that is cut off: nobody hears the answer.
    fn abandon_login(&self, after: Duration) -> Result<(), Box<dyn Error>> {
        let mut driver = Driver::connect(&self.portal, self.options(Isid(ISID_OF_THE_LOST))?)?;
        match driver.action_within(after.into())? {
            None => self.say(&format!("a login to {} had no answer for {after:.3?}: abandoned", self.portal)),
            Some(action) => self.say(&format!("a login was answered before it was abandoned: {action:?}")),
        }
        reset(driver)
    }

    fn reset_unit(&mut self) -> Result<(), Box<dyn Error>> {
        let mut driver = self.session.take().ok_or("`reset` comes after a login")?;
        let from = Instant::now();
        driver
            .handle(Event::TaskManagement { id: 1, function: TaskManagement::LogicalUnitReset(driver.lun) });
        let action = driver.next_action()?;
        let Action::TaskManagementEnded { response, .. } = action else {
            return Err(format!("LOGICAL UNIT RESET: {action:?}").into());
        };
        self.say(&format!("LOGICAL UNIT RESET answered after {:.3?}: {response:?}", from.elapsed()));
        take_unit_attentions(&mut driver)?;
        self.session = Some(driver);
        Ok(())
    }

    fn shell(&self, command: &str) -> Result<(), Box<dyn Error>> {
        let from = Instant::now();
        let status = std::process::Command::new("sh").args(["-c", command]).status()?;
        self.say(&format!("`{command}`: {status}, after {:.3?}", from.elapsed()));
        Ok(())
    }

    /// The host has failed over: it repeats the write, and its user writes newer data.
    fn overwrite(&mut self) -> Result<(), Box<dyn Error>> {
        let mut driver = self.session.take().ok_or("no step has logged in")?;
        for number in 0..self.writes {
            for data in [self.old(number), new(number)] {
                let (status, took) = write(&mut driver, number, data)?;
                self.say(&format!("block {number} written: {status:?} after {took:.3?}"));
                expect_good(status)?;
            }
        }
        self.session = Some(driver);
        Ok(())
    }

    fn judge(&mut self) -> Result<(), Box<dyn Error>> {
        thread::sleep((self.stuck_for + SETTLED_AFTER).saturating_sub(self.started.elapsed()));
        let mut driver = self.log_in_afresh()?;
        let mut overwritten = 0;
        for number in 0..self.writes {
            let length = u32::try_from(BLOCK_BYTES)?;
            let cdb = cdb(0x28, number);
            let (reply, data) =
                driver.run(&cdb, Transfer::FromDevice { offset: 0, length }, vec![0; BLOCK_BYTES])?;
            expect_good(reply.status)?;
            overwritten += u32::from(data == self.old(number));
            if data != new(number) && data != self.old(number) {
                return Err("the block holds neither the old nor the new data".into());
            }
        }
        self.say(&format!("{overwritten} of {} blocks hold old data", self.writes));
        println!("{}", if overwritten == 0 { "kept" } else { "corrupt" });
        Ok(())
    }

    /// The data of the write that is stuck: how long, and its number, stand where the back end looks for them.
    fn old(&self, number: u32) -> Vec<u8> {
        let mut data = vec![0xdd; BLOCK_BYTES];
        let milliseconds = u32::try_from(self.stuck_for.as_millis()).unwrap_or(u32::MAX);
        data[..4].copy_from_slice(b"LATE");
        data[4..8].copy_from_slice(&milliseconds.to_be_bytes());
        data[8..16].copy_from_slice(&(self.run + u64::from(number)).to_be_bytes());
        data
    }

    fn say(&self, what: &str) {
        println!("{:8.3} s  {what}", self.started.elapsed().as_secs_f32());
        let _ = std::io::stdout().flush();
    }
}

/// TEST UNIT READY, until what a fresh nexus or a reset leaves to be said is said.
fn take_unit_attentions(driver: &mut Driver) -> Result<(), Box<dyn Error>> {
    while driver.run(&[0; 6], Transfer::None, Vec::new())?.0.status == Status::CheckCondition {}
    Ok(())
}

/// The user's newer data.
fn new(number: u32) -> Vec<u8> {
    let mut data = vec![0xee; BLOCK_BYTES];
    data[..4].copy_from_slice(&number.to_be_bytes());
    data
}

/// WRITE(10) or READ(10) of one of the blocks.
fn cdb(operation: u8, number: u32) -> [u8; 10] {
    let mut cdb = [0; 10];
    cdb[0] = operation;
    cdb[2..6].copy_from_slice(&(number * BLOCKS).to_be_bytes());
    cdb[8] = 8;
    cdb
}

fn start_write(driver: &mut Driver, number: u32, data: Vec<u8>) {
    let length = u32::try_from(data.len()).expect("a block is short");
    driver.start(number.into(), &cdb(0x2a, number), Transfer::ToDevice { offset: 0, length }, data);
}

fn write(driver: &mut Driver, number: u32, data: Vec<u8>) -> Result<(Status, Duration), Box<dyn Error>> {
    let from = Instant::now();
    let length = u32::try_from(data.len())?;
    let (reply, _) = driver.run(&cdb(0x2a, number), Transfer::ToDevice { offset: 0, length }, data)?;
    Ok((reply.status, from.elapsed()))
}

fn expect_good(status: Status) -> Result<(), Box<dyn Error>> {
    if status == Status::Good { Ok(()) } else { Err(format!("the target answered {status:?}").into()) }
}

/// Ends a connection as a broken one ends: the target is told, and what was not sent never is.
fn reset(driver: Driver) -> Result<(), Box<dyn Error>> {
    socket2::SockRef::from(&driver.socket).set_linger(Some(Duration::ZERO))?;
    drop(driver);
    Ok(())
}
