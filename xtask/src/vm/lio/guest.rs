//! What runs inside the guest: the target is set up once, then one case after the other.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::target::Lio;
use super::{alua, product, raw, wire};

/// Which cases, and how much is said about each.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    /// Values of `smpath run --fence`; none: the default and `unsafe`.
    pub(super) fences: Vec<String>,
    pub(super) detail: bool,
    /// A case is run if its line in the table holds one of them; all are if there is none.
    pub(super) filters: Vec<String>,
}

impl Options {
    pub(super) fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--fence" => options.fences.push(words.next().context("--fence needs a value")?.clone()),
                "--detail" => options.detail = true,
                flag if flag.starts_with('-') => bail!("`{flag}` is no option of `xtask vm lio`"),
                filter => options.filters.push(filter.to_owned()),
            }
        }
        Ok(options)
    }

    fn wants(&self, case: &Case) -> bool {
        let line = format!("{}, {}, {}", case.name, case.mode, case.target);
        self.filters.is_empty() || self.filters.iter().any(|filter| line.contains(filter))
    }
}

/// What was in the block at the end, or that all that was claimed was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The newest data.
    Kept,
    /// What the stuck write brought.
    Corrupt,
    /// The newest data, whose write had waited for an operator's word.
    Held,
    /// It was about other things.
    Passed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kept => "kept",
            Self::Corrupt => "corrupt",
            Self::Held => "held",
            Self::Passed => "passed",
        })
    }
}

/// One row of the table.
pub(super) struct Case {
    pub(super) name: String,
    /// What fences: steps of a raw initiator, or the mode of smpath.
    pub(super) mode: String,
    /// Which portals of LIO.
    pub(super) target: &'static str,
    pub(super) expected: Verdict,
    pub(super) run: Box<Run>,
}

type Run = dyn Fn(&Lio) -> Result<Seen>;

pub(super) struct Seen {
    pub(super) verdict: Verdict,
    /// One line for the table.
    pub(super) summary: String,
    /// Each step with its time.
    pub(super) steps: Vec<String>,
}

/// `xtask vm lio-in-guest`: fails if a case does not end as expected.
pub(crate) fn command(arguments: &[String]) -> Result<ExitCode> {
    let options = Options::parse(arguments)?;
    let programs =
        std::env::current_exe()?.parent().map(PathBuf::from).context("a program is in a folder")?;
    let mut cases = raw::cases();
    cases.extend(product::cases(&options.fences)?);
    cases.extend(wire::cases());
    cases.extend(alua::cases());
    let lio = Lio::set_up(&programs)?;
    println!("LIO of Linux {}", std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim());
    println!("{:50} | {:38} | {:11} | {:7} | detail", "case", "mode", "target", "data");
    let (mut wrong, mut run) = (0, 0);
    for case in cases.iter().filter(|case| options.wants(case)) {
        let started = Instant::now();
        let seen = (case.run)(&lio);
        run += 1;
        let head = format!("{:50} | {:38} | {:11}", case.name, case.mode, case.target);
        let (as_expected, steps) = match seen {
            Ok(Seen { verdict, summary, steps }) => {
                let as_expected = verdict == case.expected;
                let remark =
                    if as_expected { String::new() } else { format!("EXPECTED {}; ", case.expected) };
                println!("{head} | {verdict:7} | {remark}{summary}");
                (as_expected, steps)
            }
            Err(error) => {
                println!("{head} | FAILED  | {error:#}");
                (false, lio.backend_said())
            }
        };
        wrong += u32::from(!as_expected);
        if options.detail || !as_expected {
            steps.iter().for_each(|step| println!("    {step}"));
            println!("    took {:.1} s", started.elapsed().as_secs_f32());
        }
    }
    println!("{run} cases, {wrong} not as expected");
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
