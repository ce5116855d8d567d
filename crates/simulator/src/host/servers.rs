//! The NBD server's connections.

use std::io::{IoSlice, IoSliceMut};

use ::host::{DiskIndex, Event};
use block::{Completion, Geometry, Request};
use clock::Instant;

use super::Host;
use crate::link::{self, Arrived, ConnectionId, End, Wire};
use crate::log::Part;
use crate::scene::{Scene, Source};

#[derive(Debug)]
pub(super) struct Server {
    session: nbd::Session,
    exports: Vec<u32>,
    attached: Option<u32>,
    is_closed: bool,
}

impl Wire for nbd::Session {
    fn receive_into(&mut self) -> [IoSliceMut<'_>; 2] {
        Self::receive_into(self)
    }

    fn received(&mut self, now: Instant, count: usize) {
        self.handle(now, nbd::Event::Received(count));
    }

    fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        Self::transmit(self, slices)
    }

    fn sent(&mut self, now: Instant, count: usize) {
        self.handle(now, nbd::Event::Sent(count));
    }
}

impl Host {
    /// Something came for an NBD connection, or it may send again.
    pub(crate) fn wake_server(&mut self, scene: &mut Scene, id: ConnectionId) {
        match scene.network.arrived(scene.now, id, End::Far) {
            Arrived::Open => {
                scene.network.take_signal(scene.now, id, End::Far);
                if self.is_serving {
                    self.welcome(scene, id);
                } else {
                    self.backlog.push(id);
                }
            }
            Arrived::Finish | Arrived::Reset => {
                scene.network.take_signal(scene.now, id, End::Far);
                self.close_server(scene, id);
            }
            Arrived::Bytes | Arrived::Nothing => {
                if let Some(server) = self.servers.get_mut(&id)
                    && !server.is_closed
                {
                    link::receive(&mut scene.network, scene.now, id, End::Far, &mut server.session);
                }
            }
        }
        scene.touched.add(Source::Server(id));
    }

    pub(super) fn welcome(&mut self, scene: &mut Scene, id: ConnectionId) {
        let (exports, offered): (Vec<u32>, Vec<nbd::Export>) = self.exports().unzip();
        let mut session = nbd::Session::new(id.0, offered);
        // It learns what time it is, and so how long the negotiation may take.
        session.handle(scene.now, nbd::Event::Timeout);
        self.servers.insert(id, Server { session, exports, attached: None, is_closed: false });
        scene.network.accept(scene.now, id);
        scene.touched.add(Source::Server(id));
    }

    /// Disk number and export, the first found first.
    fn exports(&self) -> impl Iterator<Item = (u32, nbd::Export)> {
        self.machine.disks().filter_map(|view| {
            let (name, geometry) = (view.identity.to_string(), view.geometry?);
            let export = nbd::Export { name, description: String::new(), geometry, multi_conn: true };
            Some((view.index.0, export))
        })
    }

    fn close_server(&mut self, scene: &mut Scene, id: ConnectionId) {
        scene.network.reset(scene.now, id, End::Far);
        if let Some(server) = self.servers.get_mut(&id)
            && !server.is_closed
        {
            server.is_closed = true;
            server.session.handle(scene.now, nbd::Event::Closed);
        }
        scene.touched.add(Source::Server(id));
    }

    pub(super) fn expire_server(&mut self, scene: &mut Scene, id: ConnectionId) {
        if let Some(server) = self.servers.get_mut(&id) {
            server.session.handle(scene.now, nbd::Event::Timeout);
            scene.touched.add(Source::Server(id));
        }
    }

    pub(super) fn drain_server(&mut self, scene: &mut Scene, id: ConnectionId) {
        while let Some(action) = self.servers.get_mut(&id).and_then(|server| server.session.poll_action()) {
            match action {
                nbd::Action::Attach { export } => {
                    if let Some(server) = self.servers.get_mut(&id) {
                        server.attached = server.exports.get(export).copied();
                    }
                }
                nbd::Action::Submit(request) => self.submit(scene, id, request),
                nbd::Action::Disconnect(reason) => {
                    scene.note(Part::Server, [1, id.0.into(), 0], || {
                        format!("server {} ends: {reason}", id.0)
                    });
                    self.flush_server(scene, id);
                    self.close_server(scene, id);
                }
            }
        }
        let is_idle = |server: &Server| server.is_closed && server.session.is_idle();
        if self.servers.get(&id).is_some_and(is_idle) {
            self.servers.remove(&id);
            scene.timers.forget(Source::Server(id));
        }
    }

    fn submit(&mut self, scene: &mut Scene, id: ConnectionId, request: Request) {
        match self.servers.get(&id).and_then(|server| server.attached) {
            Some(disk) => self.tell(scene, Event::Block { disk: DiskIndex(disk), request }),
            None => self.complete(scene, request, Err(block::Error::Shutdown)),
        }
    }

    /// Hands a request back to the connection that sent it.
    pub(super) fn complete(&mut self, scene: &mut Scene, request: Request, completion: Completion) {
        let id = ConnectionId(u32::try_from(request.tag.0 >> 32).expect("32 bits are left"));
        scene.note(Part::Server, [2, request.tag.0, u64::from(completion.is_ok())], || {
            format!("{:?} of server {}: {completion:?}", request.operation, id.0)
        });
        if let Some(server) = self.servers.get_mut(&id) {
            server.session.handle(scene.now, nbd::Event::Completed(request, completion));
            scene.touched.add(Source::Server(id));
        }
    }

    pub(super) fn flush_server(&mut self, scene: &mut Scene, id: ConnectionId) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        if !server.is_closed {
            link::flush(&mut scene.network, scene.now, id, End::Far, &mut server.session);
            if link::receive(&mut scene.network, scene.now, id, End::Far, &mut server.session) {
                scene.touched.add(Source::Server(id));
            }
        }
        scene.timers.arm(Source::Server(id), server.session.poll_timeout());
    }

    /// The disk is gone, and its number may soon be another disk's: nobody who knew it by that number may go on.
    pub(super) fn detach_servers(&mut self, scene: &mut Scene, disk: u32) {
        for (id, server) in &mut self.servers {
            let chooses = server.attached.is_none() && server.exports.contains(&disk);
            if chooses || server.attached == Some(disk) {
                server.attached = None;
                server.exports.clear();
                server.session.handle(scene.now, nbd::Event::Shutdown);
                scene.touched.add(Source::Server(*id));
            }
        }
    }

    pub(super) fn resize_servers(&mut self, scene: &mut Scene, disk: DiskIndex, geometry: Geometry) {
        let Some(name) = self.machine.disk(disk).map(|view| view.identity.to_string()) else { return };
        for (id, server) in &mut self.servers {
            if server.exports.contains(&disk.0) {
                let event = nbd::Event::Resized { export: name.clone(), geometry };
                server.session.handle(scene.now, event);
                scene.touched.add(Source::Server(*id));
            }
        }
    }
}
