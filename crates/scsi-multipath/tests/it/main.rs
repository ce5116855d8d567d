//! Stories about surveys and disks, told against a small device server that executes at once or never.

mod access;
mod changes;
mod chaos;
mod device;
mod dispositions;
mod failovers;
mod fences;
mod identities;
mod operator;
mod rig;
mod slow;
mod stories;
mod surveys;
