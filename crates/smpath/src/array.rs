//! `smpath array`: the embedded array alone.

use std::time::Duration;

use anyhow::{Result, bail};
use engine::{ArrayConfig, ArrayHandle, Behaviour, Slow, Sticking, Stuck, UnitConfig};

use crate::cli::Array;
use crate::signals::Signals;
use crate::{config, units};

pub(crate) fn run(arguments: &Array) -> Result<()> {
    let signals = Signals::install()?;
    let portals =
        arguments.portals.iter().map(|text| config::listen_address(text)).collect::<Result<Vec<_>>>()?;
    if arguments.units.len() > 256 {
        bail!("at most 256 logical units");
    }
    let chap = arguments.chap_file.as_deref().map(config::chap_file).transpose()?;
    let config = ArrayConfig {
        portals,
        target_name: arguments.target_name.clone(),
        units: arguments.units.iter().map(unit_config).collect(),
        chap,
        behaviour: behaviour(arguments)?,
    };
    let array = ArrayHandle::start(&config)?;
    println!("{}", config.target_name);
    for address in array.addresses() {
        for lun in 0..config.units.len() {
            println!("  iscsi://{address}/{}/{lun}", config.target_name);
        }
    }
    while !signals.received() {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    array.shutdown();
    Ok(())
}

fn behaviour(arguments: &Array) -> Result<Behaviour> {
    let marked = arguments.stick_marked.map(|time| Sticking { writes: Stuck::Marked, time });
    let some = arguments.stick_one_in.map(|(count, time)| Sticking { writes: Stuck::OneIn(count), time });
    let slow = |(port, by): &(u64, Duration)| match u16::try_from(port - 1) {
        Ok(port) => Ok(Slow { port, by: *by }),
        Err(_) => bail!("there is no port {port} that could be slow"),
    };
    Ok(Behaviour {
        profile: arguments.profile.into(),
        sticking: marked.or(some),
        slow: arguments.slow.iter().map(slow).collect::<Result<_>>()?,
    })
}

pub(crate) fn unit_config(unit: &units::Unit) -> UnitConfig {
    UnitConfig {
        size: unit.size,
        block_size: unit.block_size,
        file: unit.file.clone(),
        serial: unit.serial.clone(),
        number: unit.id,
        thin: unit.thin,
        read_only: unit.read_only,
    }
}
