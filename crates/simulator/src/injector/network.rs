//! What happens to connections and to the ways that they take.

use clock::Duration;
use iscsi::target::{Event, Notification};

use super::{Injector, Strike, Victims};
use crate::fault::Kind;
use crate::link::{ConnectionId, Door, End, Tamper};
use crate::random::Random;
use crate::scene::Scene;
use crate::target::Portalling;

impl Injector {
    /// Things that happen once to a session that is up.
    pub(super) fn break_session(
        &mut self,
        scene: &mut Scene,
        victims: &mut Victims<'_>,
        strike: &mut Strike,
    ) {
        let Some(id) = victims.host.is_up(strike.port) else { return };
        let random = &mut strike.random;
        let toward = random.pick(&[End::Near, End::Far]);
        let bytes = usize::try_from(random.spread(1, 4_000)).expect("few bytes");
        match strike.kind {
            Kind::Reset => scene.network.cut(id, toward, bytes),
            Kind::Finish => scene.network.finish(scene.now, id, toward),
            Kind::BitFlip => scene.network.flip(id, toward, bytes),
            Kind::OldConnectionLives => {
                let after = Duration::from_millis(random.spread(1, 1_000));
                scene.network.strand(scene.now, id, after);
            }
            Kind::AsyncDrop => victims.target.tell(scene, id, Event::Notify(notification(random))),
            _ => return self.tamper(scene, id, strike),
        }
        self.counters.struck(strike.kind, 1);
    }

    /// What strikes is counted when the fault ends.
    fn tamper(&self, scene: &mut Scene, id: ConnectionId, strike: &mut Strike) {
        let random = &mut strike.random;
        let (toward, tamper) = match strike.kind {
            Kind::PduTruncated => (End::Near, Tamper::Shorten),
            Kind::R2tLost => (End::Near, Tamper::LoseR2t),
            Kind::R2tTwice => (End::Near, Tamper::RepeatR2t),
            Kind::SilentFlip => {
                scene.checks.wire_is_silent = true;
                let at = random.index(4_096);
                (random.pick(&[End::Near, End::Far]), Tamper::Flip { at })
            }
            _ => {
                let tampers = [
                    Tamper::StatusNumber,
                    Tamper::DataNumber,
                    Tamper::Offset,
                    Tamper::UnknownTask,
                    Tamper::Endless,
                ];
                (End::Near, random.pick(&tampers))
            }
        };
        scene.network.tamper(id, toward, tamper);
    }

    pub(super) fn break_route(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &mut Strike) {
        if strike.kind == Kind::PartitionOfController {
            return self.partition(scene, victims, strike);
        }
        let random = &mut strike.random;
        let route = scene.network.route_mut(Door::Port(strike.port));
        match strike.kind {
            Kind::HoleOneWay if random.percent(50) => route.hole_to_far = true,
            Kind::HoleOneWay => route.hole_to_near = true,
            Kind::DelaySpike => route.delay = Duration::from_millis(random.spread(10, 3_000)),
            Kind::BandwidthCollapse => route.rate = Some(random.spread(2_000, 500_000)),
            Kind::SlowWay => route.factor = random.pick(&[10, 100]),
            Kind::WindowClosed => {
                route.window_is_closed = true;
                // What strikes is counted when it ends.
                return;
            }
            _ => (route.hole_to_far, route.hole_to_near) = (true, true),
        }
        self.counters.struck(strike.kind, 1);
    }

    /// One controller is cut off: nothing comes through to it, or everybody is told so.
    fn partition(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &mut Strike) {
        let is_told = strike.random.percent(40);
        self.counters.struck(strike.kind, 1);
        for port in self.ports_beside(strike.port) {
            if is_told {
                victims.target.ports[port] = Portalling::Down;
                for id in victims.target.connections(port) {
                    scene.network.sever(scene.now, id);
                }
            } else {
                let route = scene.network.route_mut(Door::Port(port));
                (route.hole_to_far, route.hole_to_near) = (true, true);
            }
        }
    }

    pub(super) fn mend_route(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &Strike) {
        let door = Door::Port(strike.port);
        match strike.kind {
            Kind::HoleOneWay | Kind::Hole => scene.network.heal(scene.now, door, true),
            Kind::HoleDelivered => scene.network.heal(scene.now, door, false),
            Kind::DelaySpike => scene.network.route_mut(door).delay = Duration::ZERO,
            Kind::BandwidthCollapse => scene.network.route_mut(door).rate = None,
            Kind::SlowWay => scene.network.route_mut(door).factor = 1,
            Kind::OldConnectionLives => scene.network.release_stranded(scene.now, door),
            Kind::WindowClosed => {
                scene.network.route_mut(door).window_is_closed = false;
                self.counters.struck(strike.kind, scene.network.take_strikes(door));
            }
            Kind::PartitionOfController => {
                for port in self.ports_beside(strike.port) {
                    victims.target.ports[port] = Portalling::Open;
                    scene.network.heal(scene.now, Door::Port(port), true);
                }
            }
            _ => {}
        }
    }
}

fn notification(random: &mut Random) -> Notification {
    let (time_to_wait, time_to_retain) = (u16::try_from(random.below(3)).expect("small"), 0);
    random.pick(&[
        Notification::LogoutRequest { seconds: 3 },
        Notification::DropConnection { time_to_wait, time_to_retain },
        Notification::DropAll { time_to_wait, time_to_retain },
    ])
}
