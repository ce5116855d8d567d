//! The mutation gate: the product with one defect at a time, and whether somebody sees it.
//!
//! A mutant is a change of the source text, made in a copy of the tree, so that the product itself knows nothing of
//! it. Each is built, and run until a seed fails, or judged by the test that claims that there is no such defect. One
//! that survives means that the checkers, the faults or the tests are blind.

mod judge;
mod list;
mod tested;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use judge::{Court, Fate};
use list::{Judge, MUTANTS, Mutant};
use tested::TESTED;

/// What of the tree the copy has: what the simulator is built from, what tests read, and the manifests of everything else.
const COPIED: [&str; 7] =
    ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "clippy.toml", "SPECIFICATION.md", "crates", "xtask"];

/// Which mutants run, and how far.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Only those with this in their names; all if none.
    pub(crate) only: Option<String>,
    /// Only those that tests judge.
    pub(crate) by_tests: bool,
    /// Seeds that each may survive at most.
    pub(crate) seeds: u64,
    /// Profiles that each is run with, one after the other.
    pub(crate) profile: String,
}

impl Gate {
    /// Prints the table. True if every mutant was killed.
    pub(crate) fn run(&self) -> Result<bool> {
        let root = workspace()?;
        let court = Court {
            tree: root.join("target/mutants/tree"),
            build: root.join("target/mutants/build"),
            seeds: self.seeds,
            profile: self.profile.clone(),
        };
        fs::create_dir_all(&court.tree)?;
        for name in COPIED {
            copy(&root.join(name), &court.tree.join(name))?;
        }
        let wanted =
            |mutant: &&Mutant| self.only.as_ref().is_none_or(|only| mutant.name.contains(only.as_str()));
        let by_seeds = MUTANTS.iter().filter(|_| !self.by_tests);
        let mutants: Vec<&Mutant> = by_seeds.chain(TESTED).filter(wanted).collect();
        try_sound(&court, &mutants)?;
        println!("{:<80} {:>6} {:>7}  killed by", "mutant", "seed", "seconds");
        let mut all_killed = true;
        for mutant in mutants {
            let started = now();
            let fate = live(&court, mutant)?;
            all_killed &= matches!(fate, Fate::Killed { .. });
            println!("{}", line(mutant, &fate, started.elapsed().as_secs(), self.seeds));
        }
        Ok(all_killed)
    }
}

/// A test that fails anyway would kill any mutant.
fn try_sound(court: &Court, mutants: &[&Mutant]) -> Result<()> {
    let mut tests: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for mutant in mutants {
        if let Judge::Test { package, test } = mutant.judge {
            tests.entry(package).or_default().push(test);
        }
    }
    tests.iter().try_for_each(|(package, tests)| court.try_sound(package, tests))
}

fn live(court: &Court, mutant: &Mutant) -> Result<Fate> {
    let path = court.tree.join(mutant.file);
    let sound = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let Some(mutated) = mutant.apply(&sound) else {
        return Ok(Fate::Stillborn(format!("its text is not found once in {}", mutant.file)));
    };
    fs::write(&path, mutated)?;
    let fate = match mutant.judge {
        Judge::Seeds => court.by_seeds(),
        Judge::Test { package, test } => court.by_test(package, test),
    };
    fs::write(&path, sound)?;
    fate
}

/// A line of the table.
fn line(mutant: &Mutant, fate: &Fate, seconds: u64, seeds: u64) -> String {
    let (seed, by) = match (fate, mutant.judge) {
        (Fate::Killed { seed: Some(seed), by }, _) => (seed.to_string(), by.clone()),
        (Fate::Killed { seed: None, by }, _) => (String::from("-"), by.clone()),
        (Fate::Survived, Judge::Seeds) => (seeds.to_string(), String::from("NOTHING")),
        (Fate::Survived, Judge::Test { test, .. }) => (String::from("-"), format!("NOTHING: {test} passes")),
        (Fate::Stillborn(why), _) => (String::from("-"), format!("NOT BORN: {why}")),
    };
    format!("{:<80} {seed:>6} {seconds:>7}  {by}", mutant.name)
}

/// The folder that the workspace's manifest is in, from here upward.
fn workspace() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let found = here.ancestors().find(|folder| folder.join("crates/simulator").is_dir());
    match found {
        Some(folder) => Ok(folder.to_owned()),
        None => bail!("--mutants builds changed copies of the source: run it inside a checkout"),
    }
}

/// Copies what differs, so that what is alike keeps its time and is not built again, and removes what is there no more.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        for entry in fs::read_dir(to)? {
            let old = entry?;
            if from.join(old.file_name()).exists() {
                continue;
            }
            if old.file_type()?.is_dir() {
                fs::remove_dir_all(old.path())?;
            } else {
                fs::remove_file(old.path())?;
            }
        }
        return Ok(());
    }
    ensure!(from.is_file(), "{} is not there", from.display());
    let wanted = fs::read(from)?;
    if fs::read(to).ok().as_ref() != Some(&wanted) {
        fs::write(to, wanted)?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "how long a mutant lives is told in real seconds")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
    }

    fn has(folder: &Path, text: &str) -> bool {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
            let is_source = path.extension().is_some_and(|extension| extension == "rs");
            (path.is_dir() && has(&path, text))
                || (is_source && fs::read_to_string(&path).unwrap().contains(text))
        })
    }

    #[test]
    fn every_mutant_fits_the_source_as_it_is_now() {
        for mutant in MUTANTS.iter().chain(TESTED) {
            let source = fs::read_to_string(root().join(mutant.file)).unwrap();
            assert!(mutant.apply(&source).is_some(), "{}: its text is not found once", mutant.name);
        }
    }

    #[test]
    fn every_test_that_judges_is_there() {
        for mutant in TESTED {
            let Judge::Test { package, test } = mutant.judge else { panic!("{}", mutant.name) };
            let text = format!("fn {test}()");
            assert!(has(&root().join("crates").join(package), &text), "{package} has no {test}");
        }
    }

    #[test]
    fn no_two_mutants_have_one_name() {
        let mut names: Vec<_> = MUTANTS.iter().chain(TESTED).map(|mutant| mutant.name).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b));
    }
}
