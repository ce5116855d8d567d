//! Who judges a mutant: the simulated world with one seed after the other, or one test of a crate.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::now;

/// Longer than any one test takes on a busy machine; a mutant that makes one hang is not judged by it.
const TEST_LIMIT: Duration = Duration::from_secs(300);

/// What became of one.
pub(super) enum Fate {
    Killed {
        /// None if a test did it.
        seed: Option<u64>,
        by: String,
    },
    Survived,
    /// It cannot be judged: the source has moved on, the change does not compile, its test is not there or hangs.
    Stillborn(String),
}

/// Where mutants are built and run.
pub(super) struct Court {
    /// The copy of the source.
    pub(super) tree: PathBuf,
    pub(super) build: PathBuf,
    /// Seeds that each may survive at most.
    pub(super) seeds: u64,
    /// The profile that those run with.
    pub(super) profile: String,
}

/// What one test came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
}

impl Court {
    pub(super) fn by_seeds(&self) -> Result<Fate> {
        let output = self.cargo(&["build", "-p", "simulator", "--bin", "simulate"])?;
        match output {
            Ok(_) => self.first_failure(&self.build.join("mutants/simulate")),
            Err(why) => Ok(Fate::Stillborn(why)),
        }
    }

    pub(super) fn by_test(&self, package: &str, test: &str) -> Result<Fate> {
        let found = match self.tests(package, &[test])? {
            Ok(found) => found,
            Err(why) => return Ok(Fate::Stillborn(why)),
        };
        Ok(match found.get(test) {
            Some(Verdict::Failed) => Fate::Killed { seed: None, by: test.to_owned() },
            Some(Verdict::Passed) => Fate::Survived,
            None => Fate::Stillborn(format!("{package} has no test {test}, or it did not end")),
        })
    }

    /// Makes sure that tests which are to fail with a defect pass without one.
    pub(super) fn try_sound(&self, package: &str, tests: &[&str]) -> Result<()> {
        let found = self.tests(package, tests)?.map_err(anyhow::Error::msg)?;
        for test in tests {
            ensure!(
                found.get(*test) == Some(&Verdict::Passed),
                "{package}: {test} does not pass without a defect"
            );
        }
        Ok(())
    }

    /// Builds the tests of a package and runs these. The inner error is the line that says why they cannot be built.
    fn tests(&self, package: &str, names: &[&str]) -> Result<Result<BTreeMap<String, Verdict>, String>> {
        let built =
            self.cargo(&["test", "-p", package, "--tests", "--no-run", "--message-format", "json"])?;
        let messages = match built {
            Ok(messages) => messages,
            Err(why) => return Ok(Err(why)),
        };
        let mut found = BTreeMap::new();
        for program in messages.lines().filter_map(executable) {
            let mut command = Command::new(program);
            command.args(names).current_dir(&self.tree);
            for line in lines(command, TEST_LIMIT)? {
                if let Some((name, verdict)) = tested(&line)
                    && names.contains(&name)
                {
                    found.insert(name.to_owned(), verdict);
                }
            }
        }
        Ok(Ok(found))
    }

    /// What cargo prints, or the line that says what is wrong.
    fn cargo(&self, arguments: &[&str]) -> Result<Result<String, String>> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(arguments)
            .args(["--quiet", "--locked", "--profile", "mutants", "--target-dir"])
            .arg(&self.build)
            .current_dir(&self.tree)
            .env("RUSTFLAGS", "-Awarnings")
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned()));
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| line.starts_with("error")).unwrap_or("the build failed");
        Ok(Err(line.to_owned()))
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
                fate = Fate::Killed { seed: Some(seed), by };
                break;
            }
        }
        child.kill()?;
        child.wait()?;
        Ok(fate)
    }
}

/// What a program prints until it ends, or until its time is over and it is killed.
fn lines(mut command: Command, limit: Duration) -> Result<Vec<String>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut output = child.stdout.take().context("it was asked for")?;
    let started = now();
    let (sender, receiver) = channel();
    let text = std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut text = Vec::new();
            // What was printed before an error is what there is.
            let _ = output.read_to_end(&mut text);
            let _ = sender.send(text);
        });
        let left = limit.saturating_sub(started.elapsed());
        match receiver.recv_timeout(left) {
            Err(RecvTimeoutError::Timeout) => {
                child.kill()?;
                Ok(receiver.recv().unwrap_or_default())
            }
            text => anyhow::Ok(text.unwrap_or_default()),
        }
    })?;
    child.wait()?;
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}

/// The test program that a message of cargo tells of.
fn executable(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("\"executable\":\"")?;
    rest.split_once('"').map(|(path, _)| path)
}

/// `test tests::parking::a_claim ... FAILED`, by the last part of the name.
fn tested(line: &str) -> Option<(&str, Verdict)> {
    let (path, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let verdict = match outcome {
        "ok" => Verdict::Passed,
        "FAILED" => Verdict::Failed,
        _ => return None,
    };
    Some((path.rsplit("::").next().unwrap_or(path), verdict))
}

/// `seed 17 fails: Ghost at …` or `seed 17 panics; …`.
fn failure(line: &str) -> Option<(u64, String)> {
    let (seed, rest) = line.strip_prefix("seed ")?.split_once(' ')?;
    let what = rest.strip_prefix("fails: ").or_else(|| rest.starts_with("panics").then_some("panic"))?;
    let by = what.split([' ', ':']).next().unwrap_or(what);
    Some((seed.parse().ok()?, by.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_seed_is_understood() {
        assert_eq!(failure("seed 17 fails: Ghost at 1 s: x"), Some((17, String::from("Ghost"))));
        assert_eq!(failure("seed 3 panics; replay: simulate"), Some((3, String::from("panic"))));
        assert_eq!(failure("  replay: simulate --seed 17"), None);
    }

    #[test]
    fn a_test_that_failed_is_told_from_one_that_passed_and_from_other_lines() {
        assert_eq!(tested("test tests::parking::a_claim ... FAILED"), Some(("a_claim", Verdict::Failed)));
        assert_eq!(tested("test a_claim ... ok"), Some(("a_claim", Verdict::Passed)));
        assert_eq!(tested("test result: FAILED. 3 passed; 1 failed"), None);
        assert_eq!(tested("test a_claim has been running for over 60 seconds"), None);
    }

    #[test]
    fn test_programs_are_found_in_what_cargo_tells() {
        let message = r#"{"reason":"compiler-artifact","executable":"target/deps/it-1","fresh":true}"#;
        assert_eq!(executable(message), Some("target/deps/it-1"));
        assert_eq!(executable(r#"{"reason":"compiler-artifact","executable":null}"#), None);
    }
}
