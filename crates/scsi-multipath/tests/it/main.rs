//! Stories about surveys and disks, told against a small device server that executes at once or never.

mod device;
mod rig;
mod stories;
