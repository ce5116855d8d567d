//! Once nothing goes wrong any more, everything comes to its end within a bound.

use clock::{Duration, Instant};

/// How long recovery may take at most, from the end of the last fault: the longest of the timeouts that follow one
/// another (a silent connection, a login, a command and its abort, the poll for access states), with room to spare.
pub(crate) const RECOVERY_MAX: Duration = Duration::from_secs(300);

/// How long the end of the last fault takes to arrive everywhere.
const SETTLING: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct LivenessCheck {
    calm_since: Option<Instant>,
}

impl LivenessCheck {
    /// From now on nothing goes wrong.
    pub(crate) fn calm(&mut self, now: Instant) {
        self.calm_since = Some(now);
    }

    /// From when on everything can be told to be well: what the last fault did has shown by then.
    pub(crate) fn settled(&self) -> Option<Instant> {
        self.calm_since.map(|since| since + SETTLING)
    }

    /// When everything has to be over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.calm_since.map(|since| since + RECOVERY_MAX)
    }

    /// What is still waited for at that time.
    pub(crate) fn judge(&self, now: Instant, waiting: &str) -> Result<(), String> {
        match self.deadline() {
            Some(deadline) if now >= deadline && !waiting.is_empty() => {
                Err(format!("{waiting} {RECOVERY_MAX:?} after the last fault"))
            }
            _ => Ok(()),
        }
    }
}
