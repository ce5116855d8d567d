//! Code fields of one byte or less. Every value survives parsing and emitting.

macro_rules! codes {
    ($(#[$about:meta])* $name:ident, $other:ident { $($(#[$note:meta])* $code:literal => $variant:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$note])* $variant,)*
            /// Reserved, vendor specific, or newer than this code.
            $other(u8),
        }

        impl From<u8> for $name {
            fn from(code: u8) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    other => Self::$other(other),
                }
            }
        }

        impl From<$name> for u8 {
            fn from(value: $name) -> Self {
                match value {
                    $($name::$variant => $code,)*
                    $name::$other(code) => code,
                }
            }
        }
    };
}

codes! {
    /// What a PDU is (RFC 7143, 11.2.1.2).
    Opcode, Other {
        0x00 => NopOut,
        0x01 => ScsiCommand,
        0x02 => TaskManagementRequest,
        0x03 => LoginRequest,
        0x04 => TextRequest,
        0x05 => DataOut,
        0x06 => LogoutRequest,
        0x10 => Snack,
        0x20 => NopIn,
        0x21 => ScsiResponse,
        0x22 => TaskManagementResponse,
        0x23 => LoginResponse,
        0x24 => TextResponse,
        0x25 => DataIn,
        0x26 => LogoutResponse,
        0x31 => ReadyToTransfer,
        0x32 => AsyncMessage,
        0x3f => Reject,
    }
}

codes! {
    /// Whether the target could execute the command at all (RFC 7143, 11.4.3).
    ResponseCode, Other {
        0x00 => CompletedAtTarget,
        0x01 => TargetFailure,
    }
}

codes! {
    /// Task management functions (RFC 7143, 11.5.1, and RFC 7144).
    TaskManagementFunction, Other {
        1 => AbortTask,
        2 => AbortTaskSet,
        3 => ClearAca,
        4 => ClearTaskSet,
        5 => LogicalUnitReset,
        6 => TargetWarmReset,
        7 => TargetColdReset,
        8 => TaskReassign,
        9 => QueryTask,
        10 => QueryTaskSet,
        11 => ITNexusReset,
        12 => QueryAsynchronousEvent,
    }
}

codes! {
    /// How a task management function ended (RFC 7143, 11.6.1).
    TaskManagementResponseCode, Other {
        0 => Complete,
        1 => TaskDoesNotExist,
        2 => LunDoesNotExist,
        3 => TaskStillAllegiant,
        4 => ReassignmentNotSupported,
        5 => NotSupported,
        6 => AuthorizationFailed,
        /// RFC 7144: the task is in the task set.
        7 => Succeeded,
        255 => Rejected,
    }
}

codes! {
    /// Stages of a login (RFC 7143, 11.12.3): a field of two bits.
    Stage, Other {
        0 => Security,
        1 => Operational,
        3 => FullFeature,
    }
}

codes! {
    /// Why a logout is asked for (RFC 7143, 11.14.1).
    LogoutReason, Other {
        0 => CloseSession,
        1 => CloseConnection,
        2 => RemoveForRecovery,
    }
}

codes! {
    /// How a logout ended (RFC 7143, 11.15.1).
    LogoutResponseCode, Other {
        0 => Closed,
        1 => ConnectionNotFound,
        2 => RecoveryNotSupported,
        3 => CleanupFailed,
    }
}

codes! {
    /// What an asynchronous message reports (RFC 7143, 11.9.1).
    AsyncEvent, Other {
        0 => Scsi,
        1 => LogoutRequested,
        2 => ConnectionDropped,
        3 => AllConnectionsDropped,
        4 => NegotiationRequested,
        5 => TasksTerminated,
        255 => VendorSpecific,
    }
}

codes! {
    /// Why a PDU was rejected (RFC 7143, 11.17.1).
    RejectReason, Other {
        0x02 => DataDigestError,
        0x03 => SnackReject,
        0x04 => ProtocolError,
        0x05 => CommandNotSupported,
        0x06 => ImmediateCommandRejected,
        0x07 => TaskInProgress,
        0x08 => InvalidDataAck,
        0x09 => InvalidPduField,
        0x0a => LongOperationRejected,
        0x0b => DeprecatedNegotiationReset,
        0x0c => WaitingForLogout,
    }
}

codes! {
    /// What a SNACK asks for (RFC 7143, 11.16.1).
    SnackType, Other {
        0 => DataOrReadyToTransfer,
        1 => Status,
        2 => DataAck,
        3 => ReissueData,
    }
}

/// How a login ended (RFC 7143, 11.13.5): class and detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginStatus {
    Success,
    TargetMovedTemporarily,
    TargetMovedPermanently,
    InitiatorError,
    AuthenticationFailed,
    AuthorizationFailed,
    TargetNotFound,
    TargetRemoved,
    UnsupportedVersion,
    TooManyConnections,
    MissingParameter,
    CannotIncludeInSession,
    SessionTypeNotSupported,
    SessionDoesNotExist,
    InvalidDuringLogin,
    TargetError,
    ServiceUnavailable,
    OutOfResources,
    Other { class: u8, detail: u8 },
}

impl LoginStatus {
    #[must_use]
    pub const fn from_wire(class: u8, detail: u8) -> Self {
        match (class, detail) {
            (0, 0) => Self::Success,
            (1, 1) => Self::TargetMovedTemporarily,
            (1, 2) => Self::TargetMovedPermanently,
            (2, 0x00) => Self::InitiatorError,
            (2, 0x01) => Self::AuthenticationFailed,
            (2, 0x02) => Self::AuthorizationFailed,
            (2, 0x03) => Self::TargetNotFound,
            (2, 0x04) => Self::TargetRemoved,
            (2, 0x05) => Self::UnsupportedVersion,
            (2, 0x06) => Self::TooManyConnections,
            (2, 0x07) => Self::MissingParameter,
            (2, 0x08) => Self::CannotIncludeInSession,
            (2, 0x09) => Self::SessionTypeNotSupported,
            (2, 0x0a) => Self::SessionDoesNotExist,
            (2, 0x0b) => Self::InvalidDuringLogin,
            (3, 0x00) => Self::TargetError,
            (3, 0x01) => Self::ServiceUnavailable,
            (3, 0x02) => Self::OutOfResources,
            (class, detail) => Self::Other { class, detail },
        }
    }

    /// Class and detail.
    #[must_use]
    pub const fn to_wire(self) -> (u8, u8) {
        match self {
            Self::Success => (0, 0),
            Self::TargetMovedTemporarily => (1, 1),
            Self::TargetMovedPermanently => (1, 2),
            Self::InitiatorError => (2, 0x00),
            Self::AuthenticationFailed => (2, 0x01),
            Self::AuthorizationFailed => (2, 0x02),
            Self::TargetNotFound => (2, 0x03),
            Self::TargetRemoved => (2, 0x04),
            Self::UnsupportedVersion => (2, 0x05),
            Self::TooManyConnections => (2, 0x06),
            Self::MissingParameter => (2, 0x07),
            Self::CannotIncludeInSession => (2, 0x08),
            Self::SessionTypeNotSupported => (2, 0x09),
            Self::SessionDoesNotExist => (2, 0x0a),
            Self::InvalidDuringLogin => (2, 0x0b),
            Self::TargetError => (3, 0x00),
            Self::ServiceUnavailable => (3, 0x01),
            Self::OutOfResources => (3, 0x02),
            Self::Other { class, detail } => (class, detail),
        }
    }
}
