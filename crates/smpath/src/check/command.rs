//! `smpath check`: the workload on any NBD disk, until told to stop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{LostServer, Options, Progress};
use crate::cli::Check;
use crate::signals::Signals;

/// How often a signal and the time are looked at.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) fn run(arguments: &Check) -> Result<()> {
    if !arguments.overwrite {
        bail!("everything on the disk will be overwritten: say --overwrite if that is meant");
    }
    let signals = Signals::install()?;
    let options = Options {
        server: arguments.server.clone(),
        export: arguments.disk.clone(),
        seed: arguments.seed,
        lost_server: if arguments.reconnect { LostServer::ComesBack } else { LostServer::Fails },
    };
    let (progress, started) = (Progress::default(), Instant::now());
    let end = arguments.duration.map(|duration| started + duration);
    let failure = std::thread::scope(|scope| {
        let workload = scope.spawn(|| super::run(&options, &progress));
        while !workload.is_finished() && !signals.received() && end.is_none_or(|end| Instant::now() < end) {
            std::thread::park_timeout(LOOK);
        }
        progress.stop.store(true, Ordering::Relaxed);
        workload.join().map_err(|_| anyhow::anyhow!("the workload panicked"))?
    });
    report(&progress, started.elapsed(), arguments.json)?;
    match failure? {
        Some(failure) => bail!("the check failed; first: {failure}"),
        None => Ok(()),
    }
}

fn report(progress: &Progress, took: Duration, json: bool) -> Result<()> {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let pause_ms = read(&progress.longest_pause_us) as f64 / 1e3;
    if json {
        let report = serde_json::json!({
            "seconds": took.as_secs_f64(),
            "requests": read(&progress.requests),
            "bytes": read(&progress.bytes),
            "acknowledged_writes": read(&progress.acknowledged_writes),
            "reconnections": read(&progress.reconnections),
            "longest_pause_ms": pause_ms,
            "errors": read(&progress.errors),
            "mismatches": read(&progress.mismatches),
        });
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    println!(
        "verified     {} requests, {} MiB in {:.1} s",
        read(&progress.requests),
        read(&progress.bytes) >> 20,
        took.as_secs_f64()
    );
    println!("writes       {} acknowledged", read(&progress.acknowledged_writes));
    println!("connection   lost and made again {} times", read(&progress.reconnections));
    println!("longest      {pause_ms:.1} ms without a completion");
    println!("result       {} errors, {} mismatches", read(&progress.errors), read(&progress.mismatches));
    Ok(())
}
