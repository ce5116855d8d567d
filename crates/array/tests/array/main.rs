//! What the array promises, command by command. CDBs are literal bytes: they are what initiators send.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod bench;

mod attentions;
mod blocks;
mod faults;
mod identity;
mod model;
mod modes;
mod port_groups;
mod provisioning;
mod random;
mod task_management;
