//! The NBD export: server sessions without input and output, and a small client.
//!
//! A [`Session`] is one connection of the fixed newstyle protocol. It turns bytes into [`block::Request`]s and
//! completions into bytes; it owns no socket and reads no clock. Clauses are those of the protocol document of the
//! Network Block Device project (`doc/proto.md`).

pub mod client;
mod decode;
mod export;
mod metrics;
mod negotiation;
mod outbox;
pub mod protocol;
mod session;
mod slots;
mod staging;
mod transmission;
mod uri;

pub use export::Export;
pub use metrics::{Count, Metrics};
pub use session::{Action, Event, LINGER_TIMEOUT, NEGOTIATION_TIMEOUT, Reason, Session};
pub use transmission::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX};
pub use uri::{Address, Uri, UriError};
