//! smpath: SCSI multipath in userspace.

mod array;
mod check;
mod cli;
mod config;
mod control;
mod demo;
mod query;
mod render;
mod run;
mod signals;
mod units;
mod url;

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
        .init();
    let outcome = match &cli.command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Array(arguments) => array::run(arguments),
        Command::List(query) => query::list(query),
        Command::Show(show) => query::show(show),
        Command::Paths(query) => query::paths(query),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smpath: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
