//! Sessions of both sides against each other, and a target against bytes that nobody should send.

mod chance;
mod commands;
mod garbage;
mod login;
mod pair;
