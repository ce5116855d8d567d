//! The initiator device (SAM): its nexuses, the surveys of what is behind them, the disks that come out, and the
//! fences between them. Without a socket: a driver carries bytes and time.
//!
//! A [`Host`] is driven with three verbs: [`Host::handle`], [`Host::poll_action`] and [`Host::poll_timeout`]. Bytes
//! take no detour: the driver reads and writes straight with [`Host::session_mut`], and then says which nexus it
//! touched.

mod access;
mod activation;
mod agenda;
mod backoff;
pub mod config;
mod connection;
mod debt;
mod device;
mod disks;
mod event;
pub mod explain;
pub mod failover;
mod fence;
mod host;
pub mod log;
mod login;
mod memory;
pub mod names;
mod nexus;
mod ping;
mod reconnect;
mod reports;
mod route;
pub mod state;
mod survey;
mod tasks;
#[cfg(test)]
mod tests;
mod timers;
pub mod verbs;
mod view;

pub use config::Options;
pub use event::{Action, DiskIndex, Event, Loss, NexusIndex, Notice, NoticeKind, Parting, Severity, Trace};
pub use host::Host;
pub use iscsi::chap::{CHALLENGE_LENGTH, Challenge};
pub use timers::Timers;
pub use verbs::{Ticket, Verb, VerbError};
pub use view::{DiskView, Latency, NexusView, PathView};
