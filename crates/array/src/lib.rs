//! The embedded array: a small honest SCSI device server, with faults for those who test against it.
//!
//! Controllers (each a target port group) with ports, logical units behind them, a task set for each unit, unit
//! attentions for each nexus. It is a machine like all others here: [`Array::handle`], [`Array::poll_action`],
//! [`Array::poll_timeout`]. It shares no code with the initiator side, so that what is tested and what it is
//! tested against cannot have the same bug.
//!
//! A command is executed at one go, when nothing holds it: commands take effect in the order of their replies.
#![no_std]
extern crate alloc;

mod admission;
mod array;
mod attention;
mod dispatch;
mod execute;
mod faults;
mod inquiry;
mod limits;
mod medium;
mod mode;
mod operations;
mod port_groups;
mod provisioning;
mod refusal;
mod store;
mod task_management;
mod task_set;
mod topology;
mod unit;

pub use array::{Action, Array, AttentionPolicy, Event, HeldWrite, UnitView};
pub use faults::{Chance, Class, Effect, Fault, FaultId, Place, Scope, Treatment, Until, When};
pub use scsi::port_groups::AccessState;
pub use store::{Extent, Mapping, MemoryStore, Store, StoreError};
pub use task_management::{Function, Response};
pub use topology::{
    AccessChanges, Coordination, GroupId, NexusId, NexusLoss, Options, PortId, Provisioning, Remapping,
    UnitId, UnitOptions, WriteCache, WriteProtection,
};
pub use unit::{Counters, Identity, ShownIdentity};
