mod event;
mod report;
use crate::{AccessState, Identity};
use block::Geometry;
use clock::Instant;
pub use event::{Action, Event};
use multipath::{PathStatus, Status};
pub use report::{Feature, Reason, Report};

#[derive(Debug)]
pub(crate) struct Flight;

/// Settings of a disk.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub head: multipath::Options,
}

/// One path, as seen now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathView {
    pub status: PathStatus,
    pub access: AccessState,
    pub port: crate::Port,
}

#[derive(Debug)]
pub struct Disk {
    identity: Identity,
}
impl Disk {
    pub fn new(identity: Identity, _options: Options) -> Self {
        Self { identity }
    }
    pub fn handle(&mut self, _now: Instant, _event: Event) {}
    pub fn poll_action(&mut self) -> Option<Action> {
        None
    }
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
    pub fn geometry(&self) -> Option<Geometry> {
        None
    }
    pub fn status(&self) -> Status {
        multipath::Head::<()>::new(multipath::Options::default()).status()
    }
    pub fn paths(&self) -> impl Iterator<Item = PathView> {
        core::iter::empty()
    }
}
