//! Each request is answered once, with an answer that its kind may have.

use std::collections::BTreeSet;

/// Requests that clients wait for, as client and cookie.
#[derive(Debug, Default)]
pub(crate) struct CompletionCheck {
    open: BTreeSet<(u32, u64)>,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
}

impl CompletionCheck {
    pub(crate) fn asked(&mut self, client: u32, cookie: u64) {
        self.open.insert((client, cookie));
    }

    pub(crate) fn answered(&mut self, client: u32, cookie: u64, failed: bool) -> Result<(), String> {
        self.answered += 1;
        self.failed += u64::from(failed);
        if self.open.remove(&(client, cookie)) {
            Ok(())
        } else {
            Err(format!("client {client} got an answer to {cookie:#x}, which it does not wait for"))
        }
    }

    /// The connection is gone, and so are the answers.
    pub(crate) fn abandoned(&mut self, client: u32, cookie: u64) {
        self.open.remove(&(client, cookie));
    }

    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }
}
