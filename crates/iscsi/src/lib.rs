//! iSCSI (RFC 7143), both sides, without a socket: bytes in, bytes out.
//!
//! [`initiator::Session`] carries SCSI commands to a target; [`target::Session`] serves one connection of an
//! initiator. Both are machines with three verbs (`handle`, `poll_action`, `poll_timeout`) and share the codec
//! ([`pdu`]), the framing of the byte stream ([`stream`]), login text ([`text`], [`negotiation`]) and [`chap`].
//! Nothing here retries a command, interprets sense data or picks a path.
//!
//! One connection per session and ErrorRecoveryLevel 0 only: more is rare in practice, and a lost connection
//! is for the multipath layer to deal with.
pub mod chap;
pub mod initiator;
pub mod name;
pub mod negotiation;
pub mod pdu;
pub mod stream;
pub mod target;
pub mod text;
