//! What a session has done so far.

use crate::protocol::CommandType;

/// Counters of one session; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    pub reads: Count,
    pub writes: Count,
    pub flushes: Count,
    pub trims: Count,
    pub zeroes: Count,
    pub caches: Count,
    /// Commands that this server does not know.
    pub unknown: Count,
}

/// How often a command was answered, and over how many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Answered without an error.
    pub done: u64,
    /// Bytes that the commands answered without an error were about.
    pub bytes: u64,
    /// Answered with an error, by the session or by the disk.
    pub failed: u64,
}

impl Metrics {
    pub(crate) fn record(&mut self, command: CommandType, length: u32, error: u32) {
        let count = match command {
            CommandType::Read => &mut self.reads,
            CommandType::Write => &mut self.writes,
            CommandType::Flush => &mut self.flushes,
            CommandType::Trim => &mut self.trims,
            CommandType::WriteZeroes => &mut self.zeroes,
            CommandType::Cache => &mut self.caches,
            _ => &mut self.unknown,
        };
        if error == 0 {
            count.done += 1;
            count.bytes += u64::from(length);
        } else {
            count.failed += 1;
        }
    }
}
