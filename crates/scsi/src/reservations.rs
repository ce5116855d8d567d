//! Persistent reservations (SPC, 5.13, 6.16 and 6.17).

/// What a reservation covers (SPC, 6.16.3: SCOPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    LogicalUnit,
    /// Obsolete or reserved; four bits.
    Other(u8),
}

/// What a reservation forbids to others (SPC, 6.16.3.4: TYPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationType {
    WriteExclusive,
    ExclusiveAccess,
    WriteExclusiveRegistrantsOnly,
    ExclusiveAccessRegistrantsOnly,
    WriteExclusiveAllRegistrants,
    ExclusiveAccessAllRegistrants,
    /// Obsolete or reserved; four bits.
    Other(u8),
}

impl From<u8> for Scope {
    /// Takes the four bits of the field.
    fn from(bits: u8) -> Self {
        if bits == 0 { Self::LogicalUnit } else { Self::Other(bits) }
    }
}

impl From<Scope> for u8 {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::LogicalUnit => 0,
            Scope::Other(bits) => bits,
        }
    }
}

impl From<u8> for ReservationType {
    /// Takes the four bits of the field.
    fn from(bits: u8) -> Self {
        match bits {
            1 => Self::WriteExclusive,
            3 => Self::ExclusiveAccess,
            5 => Self::WriteExclusiveRegistrantsOnly,
            6 => Self::ExclusiveAccessRegistrantsOnly,
            7 => Self::WriteExclusiveAllRegistrants,
            8 => Self::ExclusiveAccessAllRegistrants,
            other => Self::Other(other),
        }
    }
}

impl From<ReservationType> for u8 {
    fn from(kind: ReservationType) -> Self {
        match kind {
            ReservationType::WriteExclusive => 1,
            ReservationType::ExclusiveAccess => 3,
            ReservationType::WriteExclusiveRegistrantsOnly => 5,
            ReservationType::ExclusiveAccessRegistrantsOnly => 6,
            ReservationType::WriteExclusiveAllRegistrants => 7,
            ReservationType::ExclusiveAccessAllRegistrants => 8,
            ReservationType::Other(bits) => bits,
        }
    }
}
