//! The habits that a count can check: sizes of files and functions, and text that does not belong in the project.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Finding;
use crate::workspace::Workspace;

/// Lines of a source file before its tests. Beyond it nobody reads a file from top to bottom.
const FILE_LINES_MAX: usize = 900;

/// Lines of a function from its signature to its closing brace: what fits on a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer, each with the reason: `(file, function, reason)`. Keep it short.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

/// Text that names one machine or one registry. In pieces, so that this file is not its own finding.
const BANNED: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/fa", "rm/"), "a path of one machine"),
    (concat!("/ho", "me/"), "a path of one machine"),
    (concat!("://sta", "tic."), "a registry's host"),
    (concat!("://ind", "ex."), "a registry's host"),
    (concat!("://regi", "stry."), "a registry's host"),
    (concat!("://fi", "les."), "a registry's host"),
    (concat!("://d", "eb."), "a registry's host"),
    (concat!("://secu", "rity."), "a registry's host"),
];

/// Kept by cargo; it names the registry in every entry.
const GENERATED: &[&str] = &["Cargo.lock", "fuzz/Cargo.lock"];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files(&workspace.root)? {
        // A file that is not text (a corpus, a picture) or that is deleted but still listed has nothing to check.
        let Ok(text) = fs::read_to_string(workspace.root.join(&file)) else { continue };
        if !GENERATED.contains(&file.as_str()) {
            findings.extend(banned_words(&file, &text));
        }
        if file.ends_with(".rs") {
            findings.extend(sizes(&file, &text));
            findings.extend(ignored_tests(&file, &text));
        }
    }
    Ok(findings)
}

/// What git knows, and what it would take if asked.
pub(super) fn files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git does not start")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn banned_words(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in numbered(text) {
        for (word, why) in BANNED {
            if line.match_indices(word).any(|(at, _)| starts_a_word(line, at, word)) {
                findings.push(format!("{file}:{number}: names {why}"));
            }
        }
    }
    findings
}

/// `/wo..` inside a longer relative path (`net/wo..`, `./wo..`) names no machine.
fn starts_a_word(line: &str, at: usize, word: &str) -> bool {
    let before = line[..at].chars().next_back();
    !word.starts_with('/') || !before.is_some_and(|before| before.is_ascii_alphanumeric() || before == '.')
}

fn sizes(file: &str, text: &str) -> Vec<Finding> {
    if is_test_file(file) {
        return Vec::new();
    }
    let lines = before_the_tests(text);
    let mut findings = Vec::new();
    if lines.len() > FILE_LINES_MAX {
        findings.push(format!("{file}: {} lines without its tests, at most {FILE_LINES_MAX}", lines.len()));
    }
    for function in functions(&lines) {
        let excepted = LONG_FUNCTIONS.iter().any(|(path, name, _)| *path == file && *name == function.name);
        if function.lines > FUNCTION_LINES_MAX && !excepted {
            let Function { name, line, lines } = function;
            findings.push(format!("{file}:{line}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}"));
        }
    }
    findings
}

/// A test that is never run proves nothing, and a comment that says why does not change that.
fn ignored_tests(file: &str, text: &str) -> Vec<Finding> {
    let ignored = numbered(text).filter(|(_, line)| line.trim_start().starts_with(concat!("#[ig", "nore")));
    ignored.map(|(number, _)| format!("{file}:{number}: an ignored test")).collect()
}

fn is_test_file(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/") || file.contains("/benches/")
}

fn before_the_tests(text: &str) -> Vec<&str> {
    text.lines().take_while(|line| *line != "#[cfg(test)]").collect()
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

#[derive(Debug, PartialEq, Eq)]
struct Function<'a> {
    name: &'a str,
    line: usize,
    lines: usize,
}

/// Finds functions by their layout: rustfmt closes each with a brace under the first letter of its signature.
fn functions<'a>(lines: &[&'a str]) -> Vec<Function<'a>> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = lines[start..].iter().position(|line| closes(line, indent));
        if let Some(end) = end {
            found.push(Function { name, line: start + 1, lines: end + 1 });
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let before = words.by_ref().take_while(|word| *word != "fn");
    let qualifiers = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
    for word in before {
        if !qualifiers.contains(&word) {
            return None;
        }
    }
    let rest = words.next()?;
    rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()
}

/// The end of a function that starts at `indent`: its closing brace, or the semicolon of one without a body.
fn closes(line: &str, indent: &str) -> bool {
    let Some(rest) = line.strip_prefix(indent) else { return false };
    let one_line = function_name(line).is_some() && (rest.ends_with('}') || rest.ends_with(';'));
    rest == "}" || one_line || rest.starts_with(')') && rest.ends_with(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
impl Head {
    pub(crate) const fn short(&self) -> u32 { 1 }
    fn declared(&self);
    fn long(
        &self,
    ) -> u32 {
        if true {
            1
        }
    }
}
fn last() {
}";

    #[test]
    fn functions_are_measured_from_signature_to_brace() {
        let lines: Vec<&str> = SOURCE.lines().collect();
        let sizes: Vec<_> = functions(&lines).into_iter().map(|found| (found.name, found.lines)).collect();
        assert_eq!(sizes, [("short", 1), ("declared", 1), ("long", 7), ("last", 2)]);
    }

    #[test]
    fn a_function_beyond_the_limit_is_a_finding() {
        let body = "    let _ = 1;\n".repeat(FUNCTION_LINES_MAX - 1);
        assert_eq!(sizes("a.rs", &format!("fn long() {{\n{body}}}\n")).len(), 1);
        assert_eq!(sizes("a.rs", &format!("fn fits() {{\n{}}}\n", &body[15..])).len(), 0);
    }

    #[test]
    fn a_file_is_measured_without_its_tests() {
        let code = "// a line\n".repeat(FILE_LINES_MAX);
        assert!(sizes("a.rs", &format!("{code}#[cfg(test)]\nmod tests {{}}\n")).is_empty());
        assert_eq!(sizes("a.rs", &format!("{code}// one more\n")).len(), 1);
    }

    #[test]
    fn a_path_of_one_machine_is_found_and_a_relative_one_is_not() {
        let word = BANNED[0].0;
        assert_eq!(banned_words("a", &format!("cd {word}main")).len(), 1);
        assert_eq!(banned_words("a", &format!("cd net{word}main")).len(), 0);
    }
}
