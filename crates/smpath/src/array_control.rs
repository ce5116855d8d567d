//! The control socket of an embedded array: one JSON line in, one JSON line out; and `smpath alua`, which uses it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use engine::array::{Event, GroupId, UnitId};
use engine::{ArrayRemote, PortFault};
use serde::{Deserialize, Serialize};

use crate::cli::{AccessState, Alua};
use crate::control;

/// The longest answer: a thousand units with two groups each take about 60 KiB.
const ANSWER_MAX: u64 = 16 << 20;
/// How long either side waits for the other's line.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Question {
    Status,
    /// Changes a port group, for one unit or for all.
    Alua {
        group: u16,
        state: Option<String>,
        lun: Option<u16>,
        #[serde(default)]
        preferred: bool,
    },
    /// Breaks or mends a portal, counted from 1: `none`, `reset`, `black-hole`.
    Port {
        port: usize,
        fault: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Status(Status),
    Done,
    Error(String),
}

/// How an array stands.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Status {
    /// In the order of their LUNs.
    units: Vec<Unit>,
    /// In the order of `--portals`.
    ports: Vec<Port>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Unit {
    /// Of group 1 and so on.
    access: Vec<String>,
    preferred: Option<u16>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Port {
    commands: u64,
    reads: u64,
    writes: u64,
    /// REPORT TARGET PORT GROUPS.
    group_reports: u64,
    /// SET TARGET PORT GROUPS.
    group_changes: u64,
}

/// A control socket that is served until it is dropped.
#[derive(Debug)]
pub(crate) struct ArrayControl {
    path: PathBuf,
}

impl ArrayControl {
    pub(crate) fn serve(path: PathBuf, array: ArrayRemote) -> Result<Self> {
        let listener = control::bind(&path)?;
        std::thread::Builder::new()
            .name(String::from("array control"))
            .spawn(move || listen(&listener, &array))?;
        Ok(Self { path })
    }
}

impl Drop for ArrayControl {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One after the other: nobody but an operator asks.
fn listen(listener: &UnixListener, array: &ArrayRemote) {
    for stream in listener.incoming().flatten() {
        if let Err(error) = control::converse(&stream, |question| act(array, question), Answer::Error) {
            tracing::debug!("array control: {error:#}");
        }
    }
}

fn act(array: &ArrayRemote, question: Question) -> Result<Answer> {
    let status = status(array)?;
    match question {
        Question::Status => return Ok(Answer::Status(status)),
        Question::Alua { group, state, lun, preferred } => {
            for event in events(&status, group, state.as_deref(), lun, preferred)? {
                array.tell(event);
            }
        }
        Question::Port { port, fault } => {
            let fault = match fault.as_str() {
                "none" => PortFault::None,
                "reset" => PortFault::Reset,
                "black-hole" => PortFault::BlackHole,
                _ => bail!("'{fault}' is not none, reset or black-hole"),
            };
            if port == 0 || port > status.ports.len() {
                bail!("there is no portal {port}: there are {}", status.ports.len());
            }
            array.set_port(port - 1, fault);
        }
    }
    // What the array was told is done when it answers again.
    self::status(array)?;
    Ok(Answer::Done)
}

/// What the array is to be told. Everything is looked at first: an array takes what it is told for granted.
fn events(
    status: &Status,
    group: u16,
    state: Option<&str>,
    lun: Option<u16>,
    preferred: bool,
) -> Result<Vec<Event>> {
    let groups = status.units.first().map_or(0, |unit| unit.access.len());
    if group == 0 || usize::from(group) > groups {
        bail!("there is no group {group}: there are {groups}");
    }
    let units = u32::try_from(status.units.len())?;
    let unit = match lun {
        Some(lun) if u32::from(lun) >= units => bail!("there is no LUN {lun}: there are {units}"),
        Some(lun) => Some(UnitId(lun.into())),
        None => None,
    };
    let group = GroupId(group);
    let mut events = Vec::new();
    if let Some(state) = state {
        let state = access_state(state).with_context(|| format!("'{state}' is no access state"))?;
        events.push(match unit {
            Some(unit) => Event::SetUnitAccess { unit, group, state },
            None => Event::SetAccess { group, state },
        });
    }
    if preferred {
        let all = (0..units).map(UnitId).filter(|it| unit.is_none_or(|unit| unit == *it));
        events.extend(all.map(|unit| Event::SetPreferred { unit, group: Some(group) }));
    }
    Ok(events)
}

fn status(array: &ArrayRemote) -> Result<Status> {
    let status = array.status().context("the array has ended")?;
    let units = status.units.into_iter().map(|unit| Unit {
        access: unit.access.iter().map(ToString::to_string).collect(),
        preferred: unit.preferred,
    });
    let ports = status.ports.into_iter().map(|port| Port {
        commands: port.commands,
        reads: port.reads,
        writes: port.writes,
        group_reports: port.group_reports,
        group_changes: port.group_changes,
    });
    Ok(Status { units: units.collect(), ports: ports.collect() })
}

/// As access states are printed.
fn access_state(text: &str) -> Option<engine::array::AccessState> {
    use engine::array::AccessState as State;
    let all = [
        State::Optimized,
        State::NonOptimized,
        State::Standby,
        State::Unavailable,
        State::LogicalBlockDependent,
        State::Offline,
        State::Transitioning,
    ];
    all.into_iter().find(|state| state.to_string() == text)
}

/// `smpath alua`.
pub(crate) fn command(arguments: &Alua) -> Result<()> {
    let path = &arguments.control;
    match arguments.group {
        Some(group) if arguments.state.is_some() || arguments.preferred => {
            let state = arguments.state.map(|state| word(state).to_owned());
            let (lun, preferred) = (arguments.lun, arguments.preferred);
            match ask(path, &Question::Alua { group, state, lun, preferred })? {
                Answer::Done => Ok(()),
                answer => Err(unexpected(answer)),
            }
        }
        Some(group) => bail!("say what group {group} is to be: --state STATE, or --preferred"),
        None => match ask(path, &Question::Status)? {
            Answer::Status(status) if arguments.json => {
                println!("{}", serde_json::to_string_pretty(&status)?);
                Ok(())
            }
            Answer::Status(status) => {
                print!("{}", table(&status));
                Ok(())
            }
            answer => Err(unexpected(answer)),
        },
    }
}

const fn word(state: AccessState) -> &'static str {
    match state {
        AccessState::Optimized => "optimized",
        AccessState::NonOptimized => "non-optimized",
        AccessState::Standby => "standby",
        AccessState::Unavailable => "unavailable",
        AccessState::LbaDependent => "lba-dependent",
        AccessState::Offline => "offline",
        AccessState::Transitioning => "transitioning",
    }
}

/// How many units stand in which way, and what went through each portal.
fn table(status: &Status) -> String {
    let mut ways: BTreeMap<&Unit, usize> = BTreeMap::new();
    for unit in &status.units {
        *ways.entry(unit).or_default() += 1;
    }
    let mut text = String::new();
    for (unit, count) in ways {
        text += &format!("{count} unit(s):");
        for (group, access) in (1..).zip(&unit.access) {
            let mark = if unit.preferred == Some(group) { "*" } else { "" };
            text += &format!(" group {group} {access}{mark}");
        }
        text.push('\n');
    }
    for (number, port) in (1..).zip(&status.ports) {
        let Port { commands, reads, writes, group_reports, group_changes } = port;
        text += &format!(
            "portal {number}: {commands} commands, {reads} reads, {writes} writes, {group_reports} reports of port \
             groups, {group_changes} changes of them\n"
        );
    }
    text
}

fn unexpected(answer: Answer) -> anyhow::Error {
    match answer {
        Answer::Error(error) => anyhow::Error::msg(error),
        Answer::Status(_) | Answer::Done => anyhow::Error::msg("it answers another question"),
    }
}

fn ask(path: &Path, question: &Question) -> Result<Answer> {
    let mut stream = UnixStream::connect(path)
        .with_context(|| format!("no array answers at {}: give it that path as --control", path.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut question = serde_json::to_vec(question)?;
    question.push(b'\n');
    stream.write_all(&question)?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_MAX))
        .read_line(&mut line)
        .with_context(|| format!("whatever listens at {} does not answer", path.display()))?;
    serde_json::from_str(&line).context("whatever answers there is not an array of smpath")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let unit =
            |preferred| Unit { access: vec![String::from("optimized"), String::from("standby")], preferred };
        let units = vec![unit(Some(1)), unit(Some(1)), unit(None)];
        Status { units, ports: Vec::new() }
    }

    #[test]
    fn a_change_names_a_group_and_a_unit_that_are_there() {
        let changes = |group, lun| events(&status(), group, Some("offline"), lun, true).map(|all| all.len());
        assert_eq!(changes(2, None).unwrap(), 1 + 3);
        assert_eq!(changes(1, Some(2)).unwrap(), 1 + 1);
        for (group, lun) in [(0, None), (3, None), (1, Some(3))] {
            assert!(changes(group, lun).is_err(), "{group} {lun:?}");
        }
        assert!(events(&status(), 1, Some("asleep"), None, false).is_err());
    }

    #[test]
    fn every_state_of_the_command_line_is_one_that_the_array_knows() {
        use clap::ValueEnum;
        for state in AccessState::value_variants() {
            assert!(access_state(word(*state)).is_some(), "{state:?}");
        }
    }

    #[test]
    fn units_that_stand_alike_share_a_line() {
        assert_eq!(
            table(&status()),
            "1 unit(s): group 1 optimized group 2 standby\n2 unit(s): group 1 optimized* group 2 standby\n"
        );
    }
}
