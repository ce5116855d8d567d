//! The NBD export: server sessions without input and output, and a small client.
//!
//! A [`Session`] is one connection of the fixed newstyle protocol. It turns bytes into [`block::Request`]s and
//! completions into bytes; it owns no socket and reads no clock. Clauses are those of the protocol document of the
//! Network Block Device project (`doc/proto.md`).

mod export;
mod metrics;
pub mod protocol;
mod session;
mod uri;

pub use export::Export;
pub use metrics::{Count, Metrics};
pub use session::{Action, Event, Reason, Session};
pub use uri::{Address, Uri, UriError};
