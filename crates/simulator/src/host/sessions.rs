//! The connections of the host's nexuses.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;

use ::host::{Event, Loss, NexusIndex};
use clock::Instant;
use iscsi::initiator::{self, Session};
use scsi_multipath::Context;

use super::Host;
use crate::link::{self, Arrived, ConnectionId, Door, End, Wire};
use crate::log::Part;
use crate::scene::Scene;
use crate::target::port_at;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// It stands; until then it is being made.
    is_open: bool,
}

impl Wire for Session<Context> {
    fn receive_into(&mut self) -> [IoSliceMut<'_>; 2] {
        Self::receive_into(self)
    }

    fn received(&mut self, now: Instant, count: usize) {
        self.handle(now, initiator::Event::Received(count));
    }

    fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        Self::transmit(self, slices)
    }

    fn sent(&mut self, now: Instant, count: usize) {
        self.handle(now, initiator::Event::Sent(count));
    }
}

impl Host {
    /// Something came for the near end of an iSCSI connection, or it may send again.
    pub(crate) fn wake_nexus(&mut self, scene: &mut Scene, id: ConnectionId) {
        let Some(index) = scene.network.owner(id) else { return };
        let nexus = NexusIndex(index);
        let connection = self.connections.get_mut(index as usize).and_then(Option::as_mut);
        let Some(connection) = connection.filter(|connection| connection.id == id) else {
            // An older connection, which this side gave up.
            scene.network.take_signal(scene.now, id, End::Near);
            scene.network.reset(scene.now, id, End::Near);
            return;
        };
        match scene.network.arrived(scene.now, id, End::Near) {
            Arrived::Open => {
                scene.network.take_signal(scene.now, id, End::Near);
                connection.is_open = true;
                self.tell(scene, Event::Connected { nexus, challenge: None });
            }
            Arrived::Bytes | Arrived::Nothing => {
                if let Some(session) = self.machine.session_mut(nexus) {
                    link::receive(&mut scene.network, scene.now, id, End::Near, session);
                }
                self.tell(scene, Event::Touched { nexus });
            }
            Arrived::Finish | Arrived::Reset => {
                scene.network.take_signal(scene.now, id, End::Near);
                let is_open = connection.is_open;
                if is_open {
                    self.tell(
                        scene,
                        Event::Closed {
                            nexus,
                            loss: Loss::Broken,
                            why: String::from("the connection was closed"),
                        },
                    );
                } else {
                    self.disconnect(scene, nexus);
                    let why = String::from("the connection was refused");
                    self.tell(scene, Event::ConnectFailed { nexus, why });
                }
            }
        }
    }

    pub(super) fn connect(&mut self, scene: &mut Scene, nexus: NexusIndex, address: SocketAddr) {
        let index = nexus.0;
        let Some(port) = port_at(address) else {
            let why = String::from("nobody is there");
            return self.tell(scene, Event::ConnectFailed { nexus, why });
        };
        let id = scene.network.connect(scene.now, Door::Port(port), index);
        scene.note(Part::Nexus, [1, index.into(), id.0.into()], || {
            format!("nexus {index} connects to port {port} as {}", id.0)
        });
        let place = index as usize;
        if place >= self.connections.len() {
            self.connections.resize_with(place + 1, || None);
        }
        self.connections[place] = Some(Connection { id, is_open: false });
    }

    /// The simulated network knows one way to part: with a reset. After a logout there is nothing that it could cut.
    pub(super) fn disconnect(&mut self, scene: &mut Scene, nexus: NexusIndex) {
        if let Some(connection) = self.connections.get_mut(nexus.0 as usize).and_then(Option::take) {
            scene.network.reset(scene.now, connection.id, End::Near);
        }
    }

    pub(super) fn flush_nexus(&mut self, scene: &mut Scene, nexus: NexusIndex) {
        let Some(Some(connection)) = self.connections.get(nexus.0 as usize) else { return };
        let Some(session) = self.machine.session_mut(nexus) else { return };
        let id = connection.id;
        link::flush(&mut scene.network, scene.now, id, End::Near, session);
        if link::receive(&mut scene.network, scene.now, id, End::Near, session) {
            self.machine.handle(scene.now, Event::Touched { nexus });
        }
        self.tell(scene, Event::Flushed { nexus });
    }
}
