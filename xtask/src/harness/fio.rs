//! fio's `nbd` engine: a load and a verifier that nobody here wrote.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::process::run;

/// What one job is to do.
#[derive(Clone, Debug)]
pub(crate) struct Job<'a> {
    /// An NBD URI.
    pub(crate) uri: &'a str,
    /// fio's word: `randread`, `write`, …
    pub(crate) pattern: &'a str,
    pub(crate) block_bytes: u32,
    pub(crate) depth: u32,
    pub(crate) length: Length,
}

#[derive(Clone, Debug)]
pub(crate) enum Length {
    For(Duration),
    /// Write this many bytes once, at random places, then read every block back and check its crc32c.
    VerifiedBytes(u64),
}

/// What fio measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) ios: u64,
    pub(crate) iops: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
    pub(crate) longest: Duration,
}

/// Runs one job to its end. Fails if fio saw any error or any wrong block.
pub(crate) fn run_job(job: &Job<'_>, limit: Duration) -> Result<Measured> {
    let finished = run("fio", arguments(job), limit)?.good()?;
    parse(&finished.stdout, job.pattern.contains("write"))
        .with_context(|| format!("fio's report is not understood: {finished}"))
}

/// fio's command line for a job, for callers who run it beside something else.
pub(crate) fn arguments(job: &Job<'_>) -> Vec<String> {
    let mut arguments = vec![
        "--name=job".to_owned(),
        "--output-format=json".to_owned(),
        "--ioengine=nbd".to_owned(),
        format!("--uri={}", job.uri),
        format!("--rw={}", job.pattern),
        format!("--bs={}", job.block_bytes),
        format!("--iodepth={}", job.depth),
        "--thread=1".to_owned(),
        "--eta=never".to_owned(),
    ];
    match job.length {
        Length::For(time) => {
            arguments.extend(["--time_based=1".to_owned(), format!("--runtime={}ms", time.as_millis())]);
        }
        Length::VerifiedBytes(bytes) => arguments.extend([
            format!("--size={bytes}"),
            "--verify=crc32c".to_owned(),
            "--verify_fatal=1".to_owned(),
            "--verify_backlog=256".to_owned(),
            "--verify_state_save=0".to_owned(),
        ]),
    }
    arguments
}

fn parse(report: &str, writes: bool) -> Result<Measured> {
    // fio may print a note before the report.
    let start = report.find('{').context("no report")?;
    let report: Value = serde_json::from_str(&report[start..])?;
    let job = &report["jobs"][0];
    let error = job["error"].as_i64().context("no error field")?;
    ensure!(error == 0, "fio saw error {error}");
    let side = &job[if writes { "write" } else { "read" }];
    let percentile = |name: &str| {
        let nanos =
            side["clat_ns"]["percentile"][name].as_u64().with_context(|| format!("no percentile {name}"))?;
        Ok::<_, anyhow::Error>(Duration::from_nanos(nanos))
    };
    Ok(Measured {
        ios: side["total_ios"].as_u64().context("no count of I/Os")?,
        iops: side["iops"].as_f64().context("no rate")?,
        p50: percentile("50.000000")?,
        p99: percentile("99.000000")?,
        p999: percentile("99.900000")?,
        longest: Duration::from_nanos(side["clat_ns"]["max"].as_u64().context("no longest time")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_behind_a_note() {
        let report = r#"note: something
            {"jobs": [{"error": 0, "read": {"total_ios": 10, "iops": 5.5,
              "clat_ns": {"max": 9000,
                "percentile": {"50.000000": 1000, "99.000000": 2000, "99.900000": 3000}}}}]}"#;
        let measured = parse(report, false).unwrap();
        assert_eq!((measured.ios, measured.p99), (10, Duration::from_micros(2)));
        assert_eq!((measured.p999, measured.longest), (Duration::from_micros(3), Duration::from_micros(9)));
        assert!(parse(report, true).is_err());
        assert!(parse(&report.replace("\"error\": 0", "\"error\": 5"), false).is_err());
    }
}
