//! What waits is bounded by what clients may have in flight: nothing is invented, nothing piles up.

/// Limits of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoundsCheck {
    /// Requests that one disk can have at most.
    pub(crate) requests_max: usize,
    /// The most that waited for a path at a time.
    pub(crate) parked_most: usize,
}

impl BoundsCheck {
    pub(crate) const fn new(requests_max: usize) -> Self {
        Self { requests_max, parked_most: 0 }
    }

    /// What a disk holds, with copies of reads that nobody waits for, and how much of it waits for a path.
    pub(crate) fn disk(&mut self, requests: usize, moot: usize, waiting: usize) -> Result<(), String> {
        self.parked_most = self.parked_most.max(waiting);
        if requests > self.requests_max {
            return Err(format!(
                "a disk holds {requests} requests; clients have at most {}",
                self.requests_max
            ));
        }
        if waiting > requests + moot {
            return Err(format!("{waiting} requests wait for a path, but the disk holds {requests}"));
        }
        Ok(())
    }
}
