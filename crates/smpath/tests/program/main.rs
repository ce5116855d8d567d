//! The program as its users meet it: processes, sockets, lines and exit codes.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod alua;
mod bad_input;
mod common;
mod credentials;
mod endings;
mod garbage;
mod modes;
mod operators;
mod service;
mod settings;
