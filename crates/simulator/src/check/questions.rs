//! How often port groups are asked about: at the pace of the host, whatever targets do.

use std::collections::VecDeque;

use clock::{Duration, Instant};
use scsi::CdbBytes;

/// Of all targets of a run together: a few a second for each logical unit whose groups change all the time, and far less
/// than the pace would let one target have.
const REPORTS_MAX: usize = 400;
const WINDOW: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(crate) struct QuestionsCheck {
    asked: VecDeque<Instant>,
}

impl QuestionsCheck {
    pub(crate) fn started(&mut self, now: Instant, cdb: &CdbBytes) -> Result<(), String> {
        // MAINTENANCE IN, REPORT TARGET PORT GROUPS.
        let bytes = cdb.as_slice();
        if bytes.first() != Some(&0xa3) || bytes.get(1).is_none_or(|action| action & 0x1f != 0x0a) {
            return Ok(());
        }
        self.asked.push_back(now);
        while self.asked.front().is_some_and(|first| now.since(*first) >= WINDOW) {
            self.asked.pop_front();
        }
        if self.asked.len() > REPORTS_MAX {
            self.asked.clear();
            return Err(format!("port groups were asked about more than {REPORTS_MAX} times in {WINDOW:?}"));
        }
        Ok(())
    }
}
