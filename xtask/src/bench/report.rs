//! Medians, ratios to the peer, and whether the budgets are kept.

use std::fmt::{self, Write};

use super::{DIRECT, OURS_FOUR, OURS_ONE, PEER};

/// One measurement of one server under one load. Times are in microseconds; what is not known is not a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) iops: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Of the serving process, user and system, for each I/O.
    pub(super) cpu: f64,
    /// The same of the target.
    pub(super) target: f64,
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

    /// In the order of the rounds.
    fn cell(&self, server: &str, load: &str) -> impl Iterator<Item = &Sample> {
        let of_cell = move |(of, under, _): &&(&str, &str, Sample)| *of == server && *under == load;
        self.samples.iter().filter(of_cell).map(|(_, _, sample)| sample)
    }

    /// Each figure's own median over the rounds.
    fn median(&self, server: &str, load: &str) -> Option<Sample> {
        let of_cell = |figure: fn(&Sample) -> f64| median(self.cell(server, load).map(figure).collect());
        Some(Sample {
            iops: of_cell(|sample| sample.iops)?,
            p50: of_cell(|sample| sample.p50)?,
            p99: of_cell(|sample| sample.p99)?,
            cpu: of_cell(|sample| sample.cpu)?,
            target: of_cell(|sample| sample.target)?,
        })
    }

    /// A figure of one server by that of another, in each round.
    fn ratio(&self, server: &str, base: &str, load: &str, figure: fn(&Sample) -> f64) -> Option<Ratio> {
        let pairs = self.cell(server, load).zip(self.cell(base, load));
        Ratio::of(pairs.map(|(sample, base)| figure(sample) / figure(base)).collect())
    }

    /// A markdown table: one row for each load and server.
    pub(super) fn table(&self) -> String {
        let mut text = format!("### {}\n\n", self.title);
        text += "| load | server | IOPS | p50 µs | p99 µs | CPU µs per I/O | target's CPU | target busy, CPUs | IOPS to peer | CPU to peer |\n";
        text += "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n";
        for load in &self.loads {
            for server in &self.servers {
                let Some(sample) = self.median(server, load) else { continue };
                let ratio =
                    |figure| self.ratio(server, PEER, load, figure).map_or(f64::NAN, |ratio| ratio.median);
                let cells = [
                    cell(sample.iops, 0),
                    cell(sample.p50, 0),
                    cell(sample.p99, 0),
                    cell(sample.cpu, 1),
                    cell(sample.target, 1),
                    cell(sample.target * sample.iops / 1e6, 2),
                    cell(ratio(|sample| sample.iops), 2),
                    cell(ratio(|sample| sample.cpu), 2),
                ];
                // Writing to a string cannot fail.
                let _ = writeln!(text, "| {load} | {server} | {} |", cells.join(" | "));
            }
        }
        text
    }

    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        let ratio = |server, base, figure| self.ratio(server, base, BUDGET_LOAD, figure);
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

/// What is not known is not shown.
fn cell(figure: f64, digits: usize) -> String {
    if figure.is_nan() { String::new() } else { format!("{figure:.digits$}") }
}

/// Of one figure to another one, over the rounds.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    least: f64,
    median: f64,
    most: f64,
}

impl Ratio {
    fn of(ratios: Vec<f64>) -> Option<Self> {
        let least = ratios.iter().copied().reduce(f64::min)?;
        let most = ratios.iter().copied().reduce(f64::max)?;
        Some(Self { least, median: median(ratios)?, most })
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
    seen: Option<Ratio>,
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
            Bound::AtLeast(least) => seen.median >= least,
            Bound::AtMost(most) => seen.median <= most,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_met() { "kept" } else { "BROKEN" };
        match self.seen {
            Some(Ratio { least, median, most }) => {
                write!(f, "{}: {median:.3} ({least:.2} to {most:.2}), {word}", self.claim)
            }
            None => write!(f, "{}: not measured", self.claim),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(iops: f64, cpu: f64) -> Sample {
        Sample { iops, p50: 1.0, p99: 2.0, cpu, target: 4.0 }
    }

    #[test]
    fn a_budget_is_judged_by_the_median_of_the_rounds() {
        let mut report = Report::new("test".to_owned(), vec![OURS_FOUR, PEER], vec![BUDGET_LOAD]);
        for (ours, peer) in [(1.0, 100.0), (320.0, 200.0), (1000.0, 100.0)] {
            report.add(OURS_FOUR, BUDGET_LOAD, sample(ours, 7.0));
            report.add(PEER, BUDGET_LOAD, sample(peer, 10.0));
        }
        let words: Vec<String> = report.verdicts().iter().map(ToString::to_string).collect();
        assert!(words[0].ends_with("1.600 (0.01 to 10.00), kept"), "{}", words[0]);
        assert!(words[1].ends_with("0.700 (0.70 to 0.70), BROKEN"), "{}", words[1]);
        assert!(words[2].ends_with("not measured"), "{}", words[2]);
        let table = report.table();
        assert!(table.contains("| 320 | 1 | 2 | 7.0 | 4.0 | 0.00 | 1.60 | 0.70 |"), "{table}");
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median_in_between() {
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
