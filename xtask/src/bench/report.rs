//! Medians, ratios to the peer, and whether the budgets are kept.

use std::fmt::{self, Write};

use super::{DIRECT, OURS_FOUR, OURS_ONE, PEER};

/// One measurement of one server under one load. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) iops: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Of the serving process, user and system, for each I/O.
    pub(super) cpu: f64,
}

#[derive(Debug)]
pub(super) struct Report {
    title: String,
    servers: Vec<&'static str>,
    loads: Vec<&'static str>,
    samples: Vec<(&'static str, &'static str, Sample)>,
}

/// The load that the budgets speak of.
const BUDGET_LOAD: &str = "randread 4k qd32";
const IOPS_RATIO_MIN: f64 = 1.5;
const CPU_RATIO_MAX: f64 = 0.6;
const DIRECT_RATIO_MIN: f64 = 0.98;

impl Report {
    pub(super) fn new(title: String, servers: Vec<&'static str>, loads: Vec<&'static str>) -> Self {
        Self { title, servers, loads, samples: Vec::new() }
    }

    pub(super) fn add(&mut self, server: &'static str, load: &'static str, sample: Sample) {
        self.samples.push((server, load, sample));
    }

    /// Each figure's own median over the rounds.
    fn median(&self, server: &str, load: &str) -> Option<Sample> {
        let of_cell = |figure: fn(&Sample) -> f64| {
            let cell = self.samples.iter().filter(|(of, under, _)| *of == server && *under == load);
            median(cell.map(|(_, _, sample)| figure(sample)).collect())
        };
        Some(Sample {
            iops: of_cell(|sample| sample.iops)?,
            p50: of_cell(|sample| sample.p50)?,
            p99: of_cell(|sample| sample.p99)?,
            cpu: of_cell(|sample| sample.cpu)?,
        })
    }

    /// A markdown table: one row for each load and server.
    pub(super) fn table(&self) -> String {
        let mut text = format!("### {}\n\n", self.title);
        text += "| load | server | IOPS | p50 µs | p99 µs | CPU µs per I/O | IOPS to peer | CPU to peer |\n";
        text += "|---|---|---:|---:|---:|---:|---:|---:|\n";
        for load in &self.loads {
            let peer = self.median(PEER, load);
            for server in &self.servers {
                let Some(Sample { iops, p50, p99, cpu }) = self.median(server, load) else { continue };
                let ratios = peer.map_or_else(String::new, |peer| {
                    format!("{:.2} | {:.2}", iops / peer.iops, cpu / peer.cpu)
                });
                let row =
                    format!("| {load} | {server} | {iops:.0} | {p50:.0} | {p99:.0} | {cpu:.1} | {ratios} |");
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{row}");
            }
        }
        text
    }

    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        let ratio = |server, base, figure: fn(&Sample) -> f64| {
            Some(figure(&self.median(server, BUDGET_LOAD)?) / figure(&self.median(base, BUDGET_LOAD)?))
        };
        vec![
            Verdict {
                claim: format!("{BUDGET_LOAD}: IOPS over 4 paths to {PEER} at least {IOPS_RATIO_MIN}"),
                seen: ratio(OURS_FOUR, PEER, |sample| sample.iops),
                bound: Bound::AtLeast(IOPS_RATIO_MIN),
            },
            Verdict {
                claim: format!("{BUDGET_LOAD}: CPU per I/O over 4 paths to {PEER} at most {CPU_RATIO_MAX}"),
                seen: ratio(OURS_FOUR, PEER, |sample| sample.cpu),
                bound: Bound::AtMost(CPU_RATIO_MAX),
            },
            Verdict {
                claim: format!("{BUDGET_LOAD}: IOPS over 1 path to {DIRECT} at least {DIRECT_RATIO_MIN}"),
                seen: ratio(OURS_ONE, DIRECT, |sample| sample.iops),
                bound: Bound::AtLeast(DIRECT_RATIO_MIN),
            },
        ]
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

/// One budget and what was seen.
#[derive(Debug)]
pub(super) struct Verdict {
    claim: String,
    /// `None`: not measured in this run.
    seen: Option<f64>,
    bound: Bound,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Verdict {
    /// A budget that was not measured is not broken; the line says that it was not.
    pub(super) fn is_met(&self) -> bool {
        self.seen.is_none_or(|seen| match self.bound {
            Bound::AtLeast(least) => seen >= least,
            Bound::AtMost(most) => seen <= most,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_met() { "kept" } else { "BROKEN" };
        match self.seen {
            Some(seen) => write!(f, "{}: {seen:.2}, {word}", self.claim),
            None => write!(f, "{}: not measured", self.claim),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(iops: f64, cpu: f64) -> Sample {
        Sample { iops, p50: 1.0, p99: 2.0, cpu }
    }

    #[test]
    fn a_budget_is_judged_by_medians() {
        let mut report = Report::new("test".to_owned(), vec![OURS_FOUR, PEER], vec![BUDGET_LOAD]);
        for iops in [1.0, 160.0, 1000.0] {
            report.add(OURS_FOUR, BUDGET_LOAD, sample(iops, 7.0));
            report.add(PEER, BUDGET_LOAD, sample(100.0, 10.0));
        }
        let words: Vec<String> = report.verdicts().iter().map(ToString::to_string).collect();
        assert!(words[0].ends_with("1.60, kept"), "{}", words[0]);
        assert!(words[1].ends_with("0.70, BROKEN"), "{}", words[1]);
        assert!(words[2].ends_with("not measured"), "{}", words[2]);
        assert!(report.table().contains("| 160 | 1 | 2 | 7.0 | 1.60 | 0.70 |"));
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median_in_between() {
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
