//! The mutation gate: the product with one defect at a time, and whether the checkers see it.
//!
//! A mutant is a change of the source text, made in a copy of the tree, so that the product itself knows nothing of
//! it. Each is built and run until a seed fails. One that survives means that the checkers, or the faults, are blind.

mod list;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use list::{MUTANTS, Mutant};

/// What of the tree the copy has: what the simulator is built from, and the manifests of everything else.
const COPIED: [&str; 6] =
    ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "clippy.toml", "crates", "xtask"];

/// Which mutants run, and how far.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Only those with this in their names; all if none.
    pub(crate) only: Option<String>,
    /// Seeds that each may survive at most.
    pub(crate) seeds: u64,
    /// Profiles that each is run with, one after the other.
    pub(crate) profile: String,
}

/// What became of one.
enum Fate {
    Killed {
        seed: u64,
        by: String,
    },
    Survived,
    /// It cannot be judged: the source has moved on, or the change does not compile.
    Stillborn(String),
}

impl Gate {
    /// Prints the table. True if every mutant was killed.
    pub(crate) fn run(&self) -> Result<bool> {
        let root = workspace()?;
        let (tree, build) = (root.join("target/mutants/tree"), root.join("target/mutants/build"));
        fs::create_dir_all(&tree)?;
        for name in COPIED {
            copy(&root.join(name), &tree.join(name))?;
        }
        println!("{:<52} {:>6} {:>7}  killed by", "mutant", "seed", "seconds");
        let mut all_killed = true;
        let wanted =
            |mutant: &&Mutant| self.only.as_ref().is_none_or(|only| mutant.name.contains(only.as_str()));
        for mutant in MUTANTS.iter().filter(wanted) {
            let started = now();
            let fate = self.live(mutant, &tree, &build)?;
            let seconds = started.elapsed().as_secs();
            all_killed &= matches!(fate, Fate::Killed { .. });
            match fate {
                Fate::Killed { seed, by } => println!("{:<52} {seed:>6} {seconds:>7}  {by}", mutant.name),
                Fate::Survived => println!("{:<52} {:>6} {seconds:>7}  NOTHING", mutant.name, self.seeds),
                Fate::Stillborn(why) => {
                    println!("{:<52} {:>6} {seconds:>7}  NOT BORN: {why}", mutant.name, "-");
                }
            }
        }
        Ok(all_killed)
    }

    fn live(&self, mutant: &Mutant, tree: &Path, build: &Path) -> Result<Fate> {
        let path = tree.join(mutant.file);
        let sound = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let Some(mutated) = mutant.apply(&sound) else {
            return Ok(Fate::Stillborn(format!("its text is not found once in {}", mutant.file)));
        };
        fs::write(&path, mutated)?;
        let fate = self.judge(tree, build);
        fs::write(&path, sound)?;
        fate
    }

    fn judge(&self, tree: &Path, build: &Path) -> Result<Fate> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args([
                "build",
                "--quiet",
                "--locked",
                "--profile",
                "mutants",
                "-p",
                "simulator",
                "--bin",
                "simulate",
            ])
            .arg("--target-dir")
            .arg(build)
            .current_dir(tree)
            .env("RUSTFLAGS", "-Awarnings")
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let line = text.lines().find(|line| line.starts_with("error")).unwrap_or("the build failed");
            return Ok(Fate::Stillborn(line.to_owned()));
        }
        let simulate = build.join("mutants/simulate");
        self.first_failure(&simulate)
    }

    /// Runs seeds in order until one fails.
    fn first_failure(&self, simulate: &Path) -> Result<Fate> {
        let (reader, writer) = std::io::pipe()?;
        let mut command = Command::new(simulate);
        command.args(["--seeds", &self.seeds.to_string(), "--profile", &self.profile]);
        let mut child = command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
        // Its own copies of the pipe's end go, or reading would not end with the child.
        drop(command);
        let mut fate = Fate::Survived;
        for line in BufReader::new(reader).lines() {
            if let Some((seed, by)) = failure(&line?) {
                fate = Fate::Killed { seed, by };
                break;
            }
        }
        child.kill()?;
        child.wait()?;
        Ok(fate)
    }
}

/// `seed 17 fails: Ghost at …` or `seed 17 panics; …`.
fn failure(line: &str) -> Option<(u64, String)> {
    let (seed, rest) = line.strip_prefix("seed ")?.split_once(' ')?;
    let what = rest.strip_prefix("fails: ").or_else(|| rest.starts_with("panics").then_some("panic"))?;
    let by = what.split([' ', ':']).next().unwrap_or(what);
    Some((seed.parse().ok()?, by.to_owned()))
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

/// Copies what differs, so that what is alike keeps its time and is not built again.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
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

    #[test]
    fn every_mutant_fits_the_source_as_it_is_now() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        for mutant in MUTANTS {
            let source = fs::read_to_string(root.join(mutant.file)).unwrap();
            assert!(mutant.apply(&source).is_some(), "{}: its text is not found once", mutant.name);
        }
    }

    #[test]
    fn a_failing_seed_is_understood() {
        assert_eq!(failure("seed 17 fails: Ghost at 1 s: x"), Some((17, String::from("Ghost"))));
        assert_eq!(failure("seed 3 panics; replay: simulate"), Some((3, String::from("panic"))));
        assert_eq!(failure("  replay: simulate --seed 17"), None);
    }
}
