//! What the real-target tests and the benchmarks share: child processes with limits, a tgtd of our own, the `smpath`
//! binary, links that can be cut, and the tools that nobody here wrote.

pub(crate) mod backend;
pub(crate) mod cpus;
pub(crate) mod fio;
pub(crate) mod link;
pub(crate) mod nbd;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod room;
pub(crate) mod shim;
pub(crate) mod smpath;
pub(crate) mod tgt;
