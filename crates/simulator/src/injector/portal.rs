//! What happens to portals and to whole controllers.

use array::UnitId;
use iscsi::pdu::LoginStatus;
use scsi::AdditionalSense;

use super::{Injector, Strike, Victims};
use crate::fault::Kind;
use crate::link::End;
use crate::scene::Scene;
use crate::target::{Logins, Portalling};

const REFUSALS: &[LoginStatus] = &[
    LoginStatus::TargetError,
    LoginStatus::ServiceUnavailable,
    LoginStatus::OutOfResources,
    LoginStatus::TargetNotFound,
    LoginStatus::TargetRemoved,
    LoginStatus::AuthenticationFailed,
    LoginStatus::AuthorizationFailed,
    LoginStatus::InitiatorError,
    LoginStatus::UnsupportedVersion,
    LoginStatus::TooManyConnections,
    LoginStatus::MissingParameter,
    LoginStatus::CannotIncludeInSession,
    LoginStatus::SessionTypeNotSupported,
    LoginStatus::SessionDoesNotExist,
    // With no word about where to.
    LoginStatus::TargetMovedTemporarily,
];

impl Injector {
    pub(super) fn break_portal(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &mut Strike) {
        let target = &mut *victims.target;
        let port = strike.port;
        match strike.kind {
            Kind::LoginHangs => target.ports[port] = Portalling::Mute,
            Kind::LoginRejected => {
                target.ports[port] = Portalling::Rejecting(strike.random.pick(REFUSALS));
            }
            Kind::LoginRedirected => {
                let beside = self.ports_beside(port);
                let other = beside.start + strike.random.index(beside.len());
                target.ports[port] = Portalling::Redirecting(other);
            }
            Kind::LoginSevered => target.logins[port] = Logins::Severed,
            Kind::DuplicateIsid => target.logins[port] = Logins::Duplicated,
            _ => return self.crash(scene, victims, strike),
        }
        // A session that is there has to log in again to notice.
        if let (Some(id), true) = (victims.host.is_up(port), strike.random.percent(70)) {
            scene.network.cut(id, End::Near, 1);
            let counts_itself =
                matches!(strike.kind, Kind::LoginSevered | Kind::DuplicateIsid | Kind::LoginRedirected);
            self.counters.struck(strike.kind, u64::from(!counts_itself));
        }
    }

    fn crash(&mut self, scene: &mut Scene, victims: &mut Victims<'_>, strike: &mut Strike) {
        for port in self.ports_beside(strike.port) {
            victims.target.ports[port] = Portalling::Down;
            for id in victims.target.connections(port) {
                victims.target.close(scene, id);
                self.counters.struck(strike.kind, 1);
            }
        }
        if strike.kind == Kind::ControllerCrashCacheLost {
            for unit in 0..self.plan.units.len() {
                let unit = UnitId(u32::try_from(unit).expect("few units"));
                let percent = strike.random.within(30..=100);
                self.lose_cache(victims, unit, &mut strike.random, percent);
                let attention = AdditionalSense::DEVICE_INTERNAL_RESET;
                victims.target.tell_array(scene, array::Event::PowerCycle { unit, attention });
            }
        }
    }

    pub(super) fn mend_portal(&mut self, victims: &mut Victims<'_>, strike: &Strike) {
        let target = &mut *victims.target;
        match strike.kind {
            Kind::LoginHangs | Kind::LoginRejected => target.ports[strike.port] = Portalling::Open,
            Kind::LoginRedirected => {
                target.ports[strike.port] = Portalling::Open;
                self.counters.struck(strike.kind, std::mem::take(&mut target.login_faults));
            }
            Kind::LoginSevered | Kind::DuplicateIsid => {
                target.logins[strike.port] = Logins::Admitted;
                self.counters.struck(strike.kind, std::mem::take(&mut target.login_faults));
            }
            Kind::ControllerCrash | Kind::ControllerCrashCacheLost => {
                for port in self.ports_beside(strike.port) {
                    target.ports[port] = Portalling::Open;
                }
            }
            _ => {}
        }
    }
}
