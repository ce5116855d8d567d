//! smpath: SCSI multipath in userspace.

mod array;
mod array_control;
mod check;
mod cli;
mod config;
mod control;
mod demo;
mod events;
mod query;
mod render;
mod run;
mod signals;
mod state;
mod units;
mod url;
mod verbs;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("SMPATH_LOG").unwrap_or_else(|_| "off".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let outcome = match &cli.command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Array(arguments) => array::run(arguments),
        Command::Check(arguments) => check::command(arguments),
        Command::List(query) => query::list(query),
        Command::Show(show) => query::show(show),
        Command::Paths(query) => query::paths(query),
        Command::Alua(alua) => array_control::command(alua),
        Command::Waive(waive) => query::waive(waive),
        Command::Events(said) => events::events(said),
        Command::Explain(said) => query::explain(said),
        Command::Policy(said) => verbs::policy(said),
        Command::NoPath(said) => verbs::no_path(said),
        Command::RemovalDelay(said) => verbs::removal_delay(said),
        Command::Fail(said) => verbs::fail(said),
        Command::Reinstate(said) => verbs::reinstate(said),
        Command::Drain(said) => verbs::drain(said),
        Command::Rescan(said) => verbs::rescan(said),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smpath: error: {}", without_numbers(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// "No such file or directory", without the "(os error 2)" that helps nobody.
fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(')').map_or(part, |(_, rest)| rest))
}
