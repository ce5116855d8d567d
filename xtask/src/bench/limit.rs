//! How much a target has to give: libiscsi's own load generator, with no disk in between.
//!
//! Where a disk comes near to that, it is the target that is measured, and no ratio to a peer tells much.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Load;
use super::report::Sample;
use crate::harness::process::run;

/// What `iscsi-perf` counts in.
const BLOCK_BYTES: u32 = 512;

/// None for a load that it does not have.
pub(super) fn measure(url: &str, load: &Load, time: Duration, limit: Duration) -> Result<Option<Sample>> {
    if load.pattern != "randread" {
        return Ok(None);
    }
    let (blocks, depth) = ((load.block_bytes / BLOCK_BYTES).to_string(), load.depth.to_string());
    // It takes whole seconds.
    let seconds = time.as_secs_f64().ceil().to_string();
    let arguments = ["-r", "-b", &blocks, "-m", &depth, "-t", &seconds, url];
    let finished = run("iscsi-perf", arguments, time + limit)?.good()?;
    let iops = average(&finished.stdout).context("iscsi-perf said nothing of IOPS")?;
    Ok(Some(Sample { iops, p50: f64::NAN, p99: f64::NAN, cpu: f64::NAN, target: f64::NAN }))
}

/// It writes over the same line again and again; the last one is of the whole time.
fn average(output: &str) -> Option<f64> {
    let (_, last) = output.rsplit_once("iops average ")?;
    last.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_average_counts() {
        let output = "will run for 2 seconds.\n\n\r00:00:01 - lba 27478, iops current 85567 (334 MB/s), iops average 85567 \
                      (334 MB/s), in_flight 32, busy 0 \riops average 85205 (332 MB/s)    \n\nfinished.\n";
        assert_eq!(average(output), Some(85_205.0));
        assert_eq!(average("failed to connect"), None);
    }
}
