//! How a head comes to its end.

use clock::{Duration, Instant};

/// Where the head is in its life. It goes one way from `Ending` on: a dying head cannot be brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    /// Has a path, or has not had one yet.
    Live,
    /// The last path left at `since`; the delayed removal runs. A path that comes makes it `Live`.
    Emptied { since: Instant },
    /// Takes nothing new; waits for what is in flight.
    Ending,
    /// Said so, once.
    Gone,
}

impl Life {
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::Ending | Self::Gone)
    }

    /// When an emptied head goes. Saturates: a delay beyond the end of time means never.
    pub(crate) fn removal_at(self, delay: Duration) -> Option<Instant> {
        match self {
            Self::Emptied { since } => Some(since + delay),
            Self::Live | Self::Ending | Self::Gone => None,
        }
    }
}
