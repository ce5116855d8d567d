//! The initiator device (SAM): its nexuses, the surveys of what is behind them, the disks that come out, and the
//! fences between them. Without a socket: a driver carries bytes and time.

pub mod state;
