//! Stories of a host with real target sessions and an array, in virtual time.

mod access;
mod access_table;
mod changes;
mod explain;
mod failovers;
mod fences;
mod holds;
mod losses;
mod memory;
mod operators;
mod pings;
mod reports;
mod rig;
mod surveys;
