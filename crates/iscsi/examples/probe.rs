//! Asks a portal for its targets, or logs in to one, says what disk it is and reads its beginning.
//!
//! ```text
//! probe ADDRESS                      which targets are there?
//! probe ADDRESS TARGET [OPTION]...   what is LUN 1 of it?
//!   digests              require CRC32C for headers and data
//!   segment=BYTES        the longest data segment that we take
//!   burst=BYTES          MaxBurstLength and FirstBurstLength
//!   r2t                  InitialR2T=Yes and ImmediateData=No
//!   chap=NAME:SECRET     authenticate with CHAP
//!   mutual=NAME:SECRET   the target has to, too
//!   lun=NUMBER           another LUN, up to 255
//!   overwrite=BYTES      write a pattern to the beginning and read it back
//! ```

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "an example is its own driver")]

mod driver;

use std::error::Error;
use std::io::Read as _;

use driver::Driver;
use iscsi::chap::{Challenge, Credentials, Secret};
use iscsi::initiator::{Action, Chap, Event, Kind, Mutual, Options, Scope};
use iscsi::negotiation::DigestPolicy;
use iscsi::pdu::{Isid, LogoutReason};
use scsi::{Lun, Reply, Status, Transfer};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, rest @ ..] = arguments.as_slice() else {
        return Err("usage: probe ADDRESS [TARGET]".into());
    };
    let initiator = "iqn.2026-01.com.example:probe".parse()?;
    // A random ISID (RFC 7143, 11.12.5: T = 10b) would come from the driver; a probe may use a fixed one.
    let isid = Isid([0x80, 0x12, 0x34, 0x56, 0, 1]);
    let Some((target, flags)) = rest.split_first() else {
        return discover(log_in(address, Options::new(initiator, isid, Kind::Discovery))?);
    };
    let mut options = Options::new(initiator, isid, Kind::Normal { target_name: target.parse()? });
    let (mut lun, mut overwrite) = (1, 0);
    for flag in flags {
        match flag.split_once('=').unwrap_or((flag, "")) {
            ("lun", number) => lun = number.parse()?,
            ("overwrite", bytes) => overwrite = bytes.parse()?,
            (key, value) => set(&mut options, key, value)?,
        }
    }
    let mut driver = log_in(address, options)?;
    driver.lun = Lun([0, lun, 0, 0, 0, 0, 0, 0]);
    look(driver, overwrite)
}

fn log_in(address: &str, options: Options) -> Result<Driver, Box<dyn Error>> {
    let (driver, logged_in) = Driver::log_in(address, options)?;
    println!("logged in: {logged_in:#?}");
    Ok(driver)
}

fn set(options: &mut Options, key: &str, value: &str) -> Result<(), Box<dyn Error>> {
    match key {
        "digests" => {
            options.offers.header_digest = DigestPolicy::Require;
            options.offers.data_digest = DigestPolicy::Require;
        }
        "segment" => options.offers.max_recv_data_segment_length = value.parse()?,
        "burst" => {
            options.offers.max_burst_length = value.parse()?;
            options.offers.first_burst_length = value.parse()?;
        }
        "r2t" => {
            options.offers.initial_r2t = true;
            options.offers.immediate_data = false;
        }
        "chap" => options.chap = Some(Chap { credentials: credentials(value)?, mutual: None }),
        "mutual" => {
            let mut bytes = [0; 16];
            std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
            let challenge = Challenge { identifier: bytes[0], bytes };
            let chap = options.chap.as_mut().ok_or("`mutual` comes behind `chap`")?;
            chap.mutual = Some(Mutual { credentials: credentials(value)?, challenge });
        }
        other => return Err(format!("there is no option `{other}`").into()),
    }
    Ok(())
}

fn credentials(value: &str) -> Result<Credentials, Box<dyn Error>> {
    let (name, secret) = value.split_once(':').ok_or("expected NAME:SECRET")?;
    Ok(Credentials { name: name.to_owned(), secret: Secret::new(secret.as_bytes())? })
}

fn discover(mut driver: Driver) -> Result<(), Box<dyn Error>> {
    driver.handle(Event::SendTargets(Scope::All));
    if let Action::Discovered(targets) = driver.next_action()? {
        println!("{targets:#?}");
    }
    log_out(&mut driver)
}

fn look(mut driver: Driver, overwrite: u32) -> Result<(), Box<dyn Error>> {
    // The unit attention of a fresh nexus.
    while read(&mut driver, &[0; 6], 0)?.0.status == Status::CheckCondition {}
    let (_, inquiry) = read(&mut driver, &[0x12, 0, 0, 0, 96, 0], 96)?;
    println!("INQUIRY: {}", inquiry[8..36].escape_ascii());
    let (_, capacity) = read(&mut driver, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], 32)?;
    let block_size = u32::from_be_bytes(capacity[8..12].try_into()?);
    println!("READ CAPACITY: {:02x?}", &capacity[..12]);
    let (reply, data) = transfer(&mut driver, 0x88, block_size, vec![0; 8 * block_size as usize])?;
    println!("READ of 8 blocks: {reply:?}, {:02x?} ...", &data[..16]);
    if overwrite > 0 {
        let length = overwrite / block_size * block_size;
        let pattern = |i: u32| i.wrapping_mul(0x9e37_79b1).to_le_bytes();
        let written: Vec<u8> = (0..length / 4).flat_map(pattern).collect();
        let (reply, _) = transfer(&mut driver, 0x8a, block_size, written.clone())?;
        println!("WRITE of {length} bytes: {reply:?}");
        let (reply, read) = transfer(&mut driver, 0x88, block_size, vec![0; length as usize])?;
        println!("READ back: {reply:?}, the same: {}", read == written);
        if read != written {
            let wrong = read.iter().zip(&written).position(|(read, written)| read != written);
            return Err(format!("the disk does not hold what was written; first at {wrong:?}").into());
        }
    }
    log_out(&mut driver)
}

fn log_out(driver: &mut Driver) -> Result<(), Box<dyn Error>> {
    driver.handle(Event::Logout(LogoutReason::CloseSession));
    while !matches!(driver.next_action()?, Action::Disconnect(_)) {}
    Ok(())
}

fn read(driver: &mut Driver, cdb: &[u8], length: u32) -> Result<(Reply, Vec<u8>), Box<dyn Error>> {
    let transfer = if length == 0 { Transfer::None } else { Transfer::FromDevice { offset: 0, length } };
    driver.run(cdb, transfer, vec![0; length as usize])
}

/// READ(16) or WRITE(16) of the first blocks.
fn transfer(
    driver: &mut Driver,
    operation: u8,
    block_size: u32,
    data: Vec<u8>,
) -> Result<(Reply, Vec<u8>), Box<dyn Error>> {
    let length = u32::try_from(data.len())?;
    let mut cdb = [0; 16];
    cdb[0] = operation;
    cdb[10..14].copy_from_slice(&(length / block_size).to_be_bytes());
    let transfer = match operation {
        0x88 => Transfer::FromDevice { offset: 0, length },
        _ => Transfer::ToDevice { offset: 0, length },
    };
    driver.run(&cdb, transfer, data)
}
