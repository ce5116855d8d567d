//! Logins of both sides together.

use iscsi::chap::{CHALLENGE_LENGTH, Challenge};
use iscsi::initiator::{self, Action, LoginError};
use iscsi::negotiation::{DigestPolicy, Offers};
use iscsi::pdu::{Isid, LoginStatus};
use iscsi::stream::Digest;
use iscsi::target::{Admission, Disconnect, SessionKey, Sessions};

use crate::pair::*;

fn offers(digest: DigestPolicy, initial_r2t: bool, immediate_data: bool) -> Offers {
    Offers { header_digest: digest, data_digest: digest, initial_r2t, immediate_data, ..Offers::default() }
}

const POLICIES: [DigestPolicy; 4] =
    [DigestPolicy::Never, DigestPolicy::Accept, DigestPolicy::Prefer, DigestPolicy::Require];

#[test]
fn every_combination_of_offers_ends_in_an_agreement_or_in_a_reason() {
    let mut seed = 0;
    for (ours, theirs) in POLICIES.into_iter().flat_map(|ours| POLICIES.map(|theirs| (ours, theirs))) {
        for bits in 0..16 {
            let bit = |n: u32| bits >> n & 1 == 1;
            seed += 1;
            let mut initiator = initiator_options(TARGET);
            initiator.offers = offers(ours, bit(0), bit(1));
            let mut target = target_options();
            target.offers = offers(theirs, bit(2), bit(3));
            let mut pair = Pair::new(seed, initiator, target);
            pair.connect();
            let exclude = matches!(
                (ours, theirs),
                (DigestPolicy::Never, DigestPolicy::Require) | (DigestPolicy::Require, DigestPolicy::Never)
            );
            match pair.said.pop_front() {
                Some(Action::LoggedIn(logged_in)) => {
                    let negotiated = logged_in.negotiated;
                    assert!(!exclude);
                    assert_eq!(negotiated.initial_r2t, bit(0) || bit(2));
                    assert_eq!(negotiated.immediate_data, bit(1) && bit(3));
                    let crc = ours == DigestPolicy::Require
                        || theirs == DigestPolicy::Require
                        || ours == DigestPolicy::Prefer && theirs != DigestPolicy::Never;
                    assert_eq!(negotiated.data_digest == Digest::Crc32c, crc, "{ours:?} {theirs:?}");
                }
                Some(Action::LoginFailed(_)) => assert!(exclude, "{ours:?} {theirs:?}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn with_chap(secret: &[u8], mutual: Option<&[u8]>) -> initiator::Options {
    let mutual = mutual.map(|secret| initiator::Mutual {
        credentials: credentials("array", secret),
        challenge: Challenge { identifier: 1, bytes: [0x5a; CHALLENGE_LENGTH] },
    });
    let chap = initiator::Chap { credentials: credentials("host", secret), mutual };
    initiator::Options { chap: Some(chap), ..initiator_options(GUARDED) }
}

#[test]
fn chap_lets_in_one_way_and_both_ways() {
    for mutual in [None, Some(&b"the target secret"[..])] {
        for seed in 0..20 {
            Pair::logged_in(seed, with_chap(b"initiator secret", mutual), target_options());
        }
    }
}

#[test]
fn a_wrong_secret_on_either_side_is_told_as_what_it_is() {
    let mut pair = Pair::new(1, with_chap(b"not the secret", None), target_options());
    pair.connect();
    let said = pair.said.pop_front();
    let refused = LoginError::Refused(LoginStatus::AuthenticationFailed);
    assert!(matches!(&said, Some(Action::LoginFailed(error)) if *error == refused), "{said:?}");
    assert_eq!(pair.target_over, Some(Disconnect::LoginRefused(LoginStatus::AuthenticationFailed)));

    let mut pair = Pair::new(1, with_chap(b"initiator secret", Some(b"not the target")), target_options());
    pair.connect();
    let said = pair.said.pop_front();
    assert!(matches!(said, Some(Action::LoginFailed(LoginError::Chap(_)))), "{said:?}");

    let mut pair = Pair::new(1, initiator_options(GUARDED), target_options());
    pair.connect();
    let said = pair.said.pop_front();
    assert!(matches!(said, Some(Action::LoginFailed(_))), "{said:?}");
}

#[test]
fn a_target_that_is_not_there_is_told_as_that() {
    let mut pair = Pair::new(1, initiator_options("iqn.2026-01.example:elsewhere"), target_options());
    pair.connect();
    let said = pair.said.pop_front();
    let refused = LoginError::Refused(LoginStatus::TargetNotFound);
    assert!(matches!(&said, Some(Action::LoginFailed(error)) if *error == refused), "{said:?}");
}

#[test]
fn discovery_finds_every_target_with_its_portals() {
    for seed in 0..20 {
        let options = initiator::Options { kind: initiator::Kind::Discovery, ..initiator_options(TARGET) };
        let mut pair = Pair::logged_in(seed, options, target_options());
        pair.tell(initiator::Event::SendTargets(initiator::Scope::All));
        pair.run();
        let Some(Action::Discovered(records)) = pair.said.pop_front() else { panic!() };
        let found: Vec<_> = records
            .iter()
            .map(|record| {
                let portals =
                    record.portals.iter().map(|portal| (portal.host.as_str(), portal.port, portal.group));
                (record.name.as_str(), portals.collect::<Vec<_>>())
            })
            .collect();
        let portals = vec![("192.0.2.1", 3260, Some(1)), ("2001:db8::2", 3261, Some(2))];
        assert_eq!(found, [(TARGET, portals.clone()), (GUARDED, portals)]);
    }
}

#[test]
fn a_login_with_the_same_isid_reinstates_the_session() {
    let mut sessions = Sessions::new(16);
    let key = SessionKey {
        initiator_name: INITIATOR.into(),
        isid: Isid([0x80, 0, 0, 0, 0, 1]),
        target_name: Some(TARGET.into()),
        portal_group: 1,
    };
    let mut old = Pair::new(1, initiator_options(TARGET), target_options());
    old.admission = sessions.admit(key.clone(), 0, 10);
    old.server.holds = true;
    old.connect();
    old.said.clear();
    old.write(1, 0, &pattern(1, 4096));
    old.run();
    assert_eq!(old.server.held.len(), 1);

    let mut new = Pair::new(2, initiator_options(TARGET), target_options());
    new.admission = sessions.admit(key, 0, 20);
    assert_eq!(new.admission, Admission::Reinstates { tsih: 2, previous: 10, previous_tsih: 1 });
    // The driver ends the old session with its commands before it lets the new one in.
    old.server.held.clear();
    old.tell_target(iscsi::target::Event::Closed);
    assert_eq!(old.target_over, Some(Disconnect::Closed));
    sessions.ended(1);
    new.connect();
    assert!(matches!(new.said.pop_front(), Some(Action::LoggedIn(_))));
    assert_eq!(sessions.connection(2), Some(20));
}
