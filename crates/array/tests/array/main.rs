//! What the array promises, command by command. CDBs are literal bytes: they are what initiators send.

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
