//! What a head may know of a request without looking into it.

/// What is said of a request when it is submitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kind {
    pub class: Class,
    /// None if nothing can be done about the request while it is in flight.
    pub mark: Option<Mark>,
}

/// Requests whose times on two paths may be compared. The issuer says where small ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Class {
    SmallRead,
    LargeRead,
    SmallWrite,
    LargeWrite,
    /// Nothing can be learned from how long it takes.
    #[default]
    Other,
}

/// Classes that are timed.
pub(crate) const TIMED_CLASSES: usize = 4;

/// How its issuer finds a request that is in flight. The issuer chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub u32);

impl Class {
    /// Whether it may be sent twice at the same time.
    #[must_use]
    pub const fn is_read(self) -> bool {
        matches!(self, Self::SmallRead | Self::LargeRead)
    }

    /// Where what is measured of the class stands; none if nothing is.
    pub(crate) const fn place(self) -> Option<usize> {
        match self {
            Self::SmallRead => Some(0),
            Self::LargeRead => Some(1),
            Self::SmallWrite => Some(2),
            Self::LargeWrite => Some(3),
            Self::Other => None,
        }
    }
}
