//! `iscsi-test-cu`, the conformance suite of libiscsi, against our array and, as the measure, against tgtd.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Case, Outcome};
use crate::harness::process::run;
use crate::harness::room::Room;
use crate::harness::smpath::Array;
use crate::harness::tgt::{Provisioning, Tgt};

const LIMIT: Duration = Duration::from_secs(300);

/// Suites about SCSI-2 and persistent reservations: reported, not judged.
const RESERVATION_SUITES: [&str; 3] = ["Prin", "Prout", "Reserve6"];

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new(
        "array: iscsi-test-cu fails in nothing that tgt passes",
        &["tgtd", "iscsi-ls", "iscsi-test-cu"],
        compare,
    )]
}

/// What one run of the suite said.
struct Verdict {
    ran: u32,
    failures: BTreeSet<String>,
}

fn compare() -> Result<Outcome> {
    let ours = {
        let array = Array::start(&["size=256M"])?;
        suite(&[array.routes[0].url()])?
    };
    let theirs = {
        let room = Room::new()?;
        let tgt = Tgt::start(&room.zeroes("lu", 256 << 20)?, Provisioning::Full)?;
        suite(&[tgt.url(0, 0)])?
    };
    let only_ours: Vec<&str> = ours.failures.difference(&theirs.failures).map(String::as_str).collect();
    let judged: Vec<&&str> = only_ours.iter().filter(|name| !is_about_reservations(name)).collect();
    let report = format!(
        "array: {} tests, failing: {}\ntgt: {} tests, failing: {}",
        ours.ran,
        in_a_row(&ours.failures),
        theirs.ran,
        in_a_row(&theirs.failures)
    );
    ensure!(judged.is_empty(), "{report}\nfails here and not on tgt: {judged:?}");
    Ok(Outcome::Passed(report))
}

fn suite(urls: &[String]) -> Result<Verdict> {
    // The family ALL holds every suite once; the others hold the same suites again.
    let common = ["--dataloss", "--normal", "--test", "ALL"].map(str::to_owned);
    let finished = run("iscsi-test-cu", common.iter().chain(urls), LIMIT)?;
    parse(&finished.stdout).with_context(|| format!("{finished}"))
}

fn parse(report: &str) -> Result<Verdict> {
    let failures = report.lines().filter_map(failed_test).collect();
    let totals = report.lines().find(|line| line.trim_start().starts_with("tests ")).context("no summary")?;
    let ran = totals.split_whitespace().nth(2).context("no count of tests")?.parse()?;
    Ok(Verdict { ran, failures })
}

/// `Suite NAME, Test NAME had failures:`
fn failed_test(line: &str) -> Option<String> {
    let (suite, test) =
        line.trim().strip_prefix("Suite ")?.strip_suffix(" had failures:")?.split_once(", Test ")?;
    Some(format!("{suite}.{test}"))
}

fn is_about_reservations(test: &str) -> bool {
    RESERVATION_SUITES.iter().any(|suite| test.starts_with(suite))
}

fn in_a_row(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_totals_are_read_from_a_report() {
        let report = "\
    [FAILED] GET_LBA_STATUS successful but should have failed

Suite GetLBAStatus, Test BeyondEol had failures:
    1. test_get_lba_status_beyond_eol.c:38  - CU_ASSERT_EQUAL(_r,0)
Suite ProutReserve, Test OwnershipEA had failures:
Run Summary:    Type  Total    Ran Passed Failed Inactive
              suites     51     51    n/a      0        0
               tests    230    229    222      8        0
";
        let verdict = parse(report).unwrap();
        assert_eq!(verdict.ran, 229);
        assert_eq!(in_a_row(&verdict.failures), "GetLBAStatus.BeyondEol, ProutReserve.OwnershipEA");
        assert!(is_about_reservations("ProutReserve.OwnershipEA"));
        assert!(parse("Suite A, Test B had failures:").is_err());
    }
}
