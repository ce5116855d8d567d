//! The whole way from an NBD client to the medium, simulated: virtual time, one thread, one seed.
//!
//! The machines are those of production: `nbd::Session`, `scsi_multipath::Disk`, `iscsi::initiator::Session`,
//! `iscsi::target::Session`, `array::Array`. Byte links connect them. A seed draws the topology, the load and the
//! faults ([`Plan`]); [`run`] carries them out, first with faults (nothing wrong may happen), then without
//! (everything must finish), and reads everything back. The same seed gives the same [`Outcome::hash`].

mod check;
mod client;
mod fault;
mod host;
mod injector;
mod link;
mod log;
mod operator;
mod plan;
mod random;
mod scene;
mod shrink;
mod stamp;
mod store;
mod target;
mod world;

pub use check::{Rule, Violation};
pub use fault::{Danger, FaultCounters, Kind};
pub use link::Closing;
pub use plan::{Choice, Plan, Profile, Reduction};
pub use scsi_multipath::FencePolicy;
pub use shrink::shrink;
pub use target::{Successions, TargetProfile};
pub use world::{Outcome, run};
