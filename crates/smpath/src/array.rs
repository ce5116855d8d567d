//! `smpath array`: the embedded array alone.

use std::time::Duration;

use anyhow::{Result, bail};
use engine::{ArrayConfig, ArrayHandle, Behaviour, Slow, Sticking, Stuck, UnitConfig};

use crate::array_control::ArrayControl;
use crate::cli::Array;
use crate::signals::Signals;
use crate::units::Owner;
use crate::{config, units};

/// As many as the largest arrays show one host.
const UNITS_MAX: usize = 4096;
/// The units of a portal that are listed at the start; nobody reads a thousand lines.
const UNITS_LISTED: usize = 16;

pub(crate) fn run(arguments: &Array) -> Result<()> {
    let signals = Signals::install()?;
    let portals =
        arguments.portals.iter().map(|text| config::listen_address(text)).collect::<Result<Vec<_>>>()?;
    let units: Vec<UnitConfig> = arguments.units.iter().flat_map(unit_configs).collect();
    if units.len() > UNITS_MAX {
        bail!("at most {UNITS_MAX} logical units");
    }
    let chap = arguments.chap_file.as_deref().map(config::chap_file).transpose()?;
    let config = ArrayConfig {
        portals,
        target_name: arguments.target_name.clone(),
        units,
        chap,
        behaviour: behaviour(arguments)?,
    };
    let array = ArrayHandle::start(&config)?;
    let control =
        arguments.control.clone().map(|path| ArrayControl::serve(path, array.remote())).transpose()?;
    println!("{}", config.target_name);
    for address in array.addresses() {
        for lun in 0..config.units.len().min(UNITS_LISTED) {
            println!("  iscsi://{address}/{}/{lun}", config.target_name);
        }
    }
    if config.units.len() > UNITS_LISTED {
        println!("  … {} logical units in all", config.units.len());
    }
    while !signals.received() {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    drop(control);
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
        access_changes: arguments.tpgs.into(),
        slow: arguments.slow.iter().map(slow).collect::<Result<_>>()?,
        failing_reads: arguments.fail_reads.iter().map(|port| port - 1).collect(),
    })
}

fn unit_configs(unit: &units::Unit) -> impl Iterator<Item = UnitConfig> {
    (0..unit.count).map(|number| unit_config(unit, number))
}

fn unit_config(unit: &units::Unit, place: u16) -> UnitConfig {
    UnitConfig {
        size: unit.size,
        block_size: unit.block_size,
        file: unit.file.clone(),
        serial: unit.serial.clone(),
        number: unit.id.map(|id| id + u64::from(place)),
        thin: unit.thin,
        read_only: unit.read_only,
        rotation_rate: unit.rotation_rate,
        is_nameless: unit.is_nameless,
        owner: match unit.owner {
            Owner::None => None,
            Owner::Controller(controller) => Some(controller),
            Owner::Turns => Some(place % 2),
        },
    }
}
