//! Every crate that is linked or run carries a licence that lets anybody use the result. deny.toml says the same
//! to `cargo deny`; this needs nothing but `cargo metadata`.

use super::Finding;
use crate::workspace::{Foreign, Workspace};

/// Permissive licences. Keep in step with deny.toml.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    workspace.foreign.iter().filter_map(finding).collect()
}

fn finding(package: &Foreign) -> Option<Finding> {
    let Foreign { name, version, licence } = package;
    match licence.as_deref() {
        None => Some(format!("{name} {version}: no licence in its manifest")),
        Some(expression) if is_allowed(expression) => None,
        Some(expression) => {
            Some(format!("{name} {version}: its licence is {expression}, which is not allowed"))
        }
    }
}

/// Whether an SPDX expression can be met with allowed licences alone. An expression that cannot be read is refused.
fn is_allowed(expression: &str) -> bool {
    // Old manifests write "MIT/Apache-2.0" for a choice.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words };
    reader.any_of() == Some(true) && reader.words.is_empty()
}

/// Recursive descent over `OR`, `AND`, `WITH` and parentheses. `None`: not an expression.
struct Reader<'a> {
    words: &'a [&'a str],
}

impl Reader<'_> {
    fn any_of(&mut self) -> Option<bool> {
        let mut allowed = self.all_of()?;
        while self.take("OR") {
            allowed |= self.all_of()?;
        }
        Some(allowed)
    }

    fn all_of(&mut self) -> Option<bool> {
        let mut allowed = self.one()?;
        while self.take("AND") {
            allowed &= self.one()?;
        }
        Some(allowed)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let allowed = self.any_of()?;
            return self.take(")").then_some(allowed);
        }
        let licence = self.word()?;
        if self.take("WITH") {
            let exception = self.word()?;
            return Some(ALLOWED.contains(&format!("{licence} WITH {exception}").as_str()));
        }
        Some(ALLOWED.contains(&licence.as_str()))
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn word(&mut self) -> Option<String> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some((*first).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn a_choice_needs_one_allowed_licence_and_a_sum_needs_all() {
        assert!(is_allowed("GPL-3.0-only OR MIT"));
        assert!(is_allowed("MIT/Apache-2.0"));
        assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(is_allowed("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT"));
        assert!(!is_allowed("MIT AND AGPL-3.0-or-later"));
        assert!(!is_allowed("(MIT OR Apache-2.0) AND GPL-2.0-only"));
    }

    #[test]
    fn what_is_not_an_expression_is_refused() {
        for broken in ["", "MIT Apache-2.0", "(MIT", "MIT OR", "AND MIT", "GPL-2.0 WITH"] {
            assert!(!is_allowed(broken), "{broken}");
        }
    }
}
