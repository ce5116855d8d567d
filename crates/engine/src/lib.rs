//! The real driver of smpath: shards (threads) with epoll, sockets and timers, and the machines that they drive.
//!
//! A [`ShardHandle`] runs disks over iSCSI sessions and serves them as NBD; an [`ArrayHandle`] runs the embedded
//! array. Nothing here decides what a reply means or which path is taken.

mod array_server;
pub mod config;
mod shard;
pub mod state_folder;
pub mod status;
mod stream;

pub use array;
pub use array_server::{
    ArrayConfig, ArrayError, ArrayHandle, ArrayRemote, ArrayStatus, Behaviour, PortFault, Profile,
    STUCK_MARKER, Slow, Sticking, Stuck, UnitConfig, UnitStatus,
};
pub use block;
pub use clock;
pub use host::Verb;
pub use host::names::choose_disk;
pub use multipath::{NoPath, Policy};
pub use nbd;
pub use scsi::Lun;
pub use shard::{AskError, Message, ShardHandle, StartError};
