//! What operators tell a running process: one line each way.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::cli::{ControlSocket, Drain, Fail, Reinstate, Rescan, SetNoPath, SetPolicy, SetRemovalDelay};
use crate::control::Question;
use crate::{config, control, query};

pub(crate) fn policy(said: &SetPolicy) -> Result<()> {
    let question = Question::Policy { disk: said.disk.clone(), policy: said.policy.to_string() };
    tell(&said.control, &question, Duration::ZERO)
}

pub(crate) fn no_path(said: &SetNoPath) -> Result<()> {
    let question = Question::NoPath { disk: said.disk.clone(), no_path: said.no_path.clone() };
    tell(&said.control, &question, Duration::ZERO)
}

pub(crate) fn removal_delay(said: &SetRemovalDelay) -> Result<()> {
    let question = Question::RemovalDelay { disk: said.disk.clone(), delay_ms: millis(said.delay) };
    tell(&said.control, &question, Duration::ZERO)
}

pub(crate) fn fail(said: &Fail) -> Result<()> {
    let question = Question::Fail { path: said.path.clone(), force: said.force };
    tell(&said.control, &question, Duration::ZERO)
}

pub(crate) fn reinstate(said: &Reinstate) -> Result<()> {
    tell(&said.control, &Question::Reinstate { path: said.path.clone() }, Duration::ZERO)
}

pub(crate) fn drain(said: &Drain) -> Result<()> {
    let question =
        Question::Drain { path: said.path.clone(), force: said.force, timeout_ms: millis(said.timeout) };
    tell(&said.control, &question, said.timeout)
}

pub(crate) fn rescan(said: &Rescan) -> Result<()> {
    tell(&said.control, &Question::Rescan { portal: said.portal.clone() }, Duration::ZERO)
}

pub(crate) fn socket(control: &ControlSocket) -> PathBuf {
    control.socket.clone().unwrap_or_else(config::default_control)
}

fn tell(control: &ControlSocket, question: &Question, limit: Duration) -> Result<()> {
    query::text(&(control::tell(&socket(control), question, limit)? + "\n"))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
