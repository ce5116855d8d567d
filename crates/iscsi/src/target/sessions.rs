//! The table of live sessions of all targets: who is new, who comes back, and under which TSIH.

use std::collections::BTreeMap;

use crate::pdu::{Isid, LoginStatus};

/// What makes two sessions the same one (RFC 7143, 6.3.5): the I_T nexus by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey {
    pub initiator_name: String,
    pub isid: Isid,
    /// None for a discovery session.
    pub target_name: Option<String>,
    pub portal_group: u16,
}

/// Live sessions by their key. `K` is how the driver names a connection.
///
/// The driver asks [`Sessions::admit`] when a session says [`super::Action::Admit`], and calls [`Sessions::ended`]
/// when the connection of a session is over and the device server has let go of the nexus.
#[derive(Debug)]
pub struct Sessions<K> {
    live: BTreeMap<SessionKey, Live<K>>,
    /// TSIHs of `live`, and of reinstated sessions whose connection has not ended yet.
    in_use: BTreeMap<u16, K>,
    previous_tsih: u16,
    sessions_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Live<K> {
    tsih: u16,
    connection: K,
}

/// The answer to a login that is about to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission<K> {
    /// A session that was not there before.
    New {
        tsih: u16,
    },
    /// The session replaces one with the same key (RFC 7143, 6.3.5). The driver terminates `previous` with all its
    /// commands *before* it hands over [`super::Event::Admitted`]: an initiator reads the login response as
    /// proof that nothing of its old session can take effect any more.
    Reinstates {
        tsih: u16,
        previous: K,
        previous_tsih: u16,
    },
    Refused(LoginStatus),
}

/// The most sessions a table can hold: TSIHs are 16 bits, zero means "new", and one is kept free so
/// that the search for an unused one ends.
pub const SESSIONS_MAX: usize = u16::MAX as usize - 1;

impl<K: Copy + Eq> Sessions<K> {
    /// `sessions_max` bounds how many may live at a time; at most [`SESSIONS_MAX`].
    #[must_use]
    pub fn new(sessions_max: usize) -> Self {
        Self {
            live: BTreeMap::new(),
            in_use: BTreeMap::new(),
            previous_tsih: 0,
            sessions_max: sessions_max.min(SESSIONS_MAX),
        }
    }

    /// Decides about a login on `connection` that names the session `tsih` (RFC 7143, table in 6.3.5 and 11.12.6).
    pub fn admit(&mut self, key: SessionKey, tsih: u16, connection: K) -> Admission<K> {
        let previous = self.live.get(&key).copied();
        if tsih != 0 {
            // A second connection of a live session: a session here has one (MaxConnections is 1).
            return Admission::Refused(match previous {
                Some(live) if live.tsih == tsih => LoginStatus::TooManyConnections,
                _ => LoginStatus::SessionDoesNotExist,
            });
        }
        // A reinstatement takes the place of the old session: it must never fail for want of room, since an
        // initiator that lost a nexus needs it to be safe.
        let full = previous.is_none() && self.live.len() >= self.sessions_max;
        if full || self.in_use.len() >= SESSIONS_MAX {
            return Admission::Refused(LoginStatus::OutOfResources);
        }
        let tsih = self.unused_tsih();
        self.in_use.insert(tsih, connection);
        self.live.insert(key, Live { tsih, connection });
        match previous {
            Some(live) => Admission::Reinstates { tsih, previous: live.connection, previous_tsih: live.tsih },
            None => Admission::New { tsih },
        }
    }

    /// The session `tsih` is over: its TSIH may be used again. A session that was reinstated ends without
    /// touching its successor.
    pub fn ended(&mut self, tsih: u16) {
        self.in_use.remove(&tsih);
        self.live.retain(|_, live| live.tsih != tsih);
    }

    /// Which connection carries the session `tsih`.
    #[must_use]
    pub fn connection(&self, tsih: u16) -> Option<K> {
        self.in_use.get(&tsih).copied()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Goes round, so that a TSIH is reused as late as possible. Ends because not all can be in use.
    fn unused_tsih(&mut self) -> u16 {
        loop {
            self.previous_tsih = self.previous_tsih.wrapping_add(1);
            if self.previous_tsih != 0 && !self.in_use.contains_key(&self.previous_tsih) {
                return self.previous_tsih;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(isid: u8) -> SessionKey {
        SessionKey {
            initiator_name: "iqn.2026-01.example:host".into(),
            isid: Isid([0x80, 0, 0, 0, 0, isid]),
            target_name: Some("iqn.2026-01.example:array".into()),
            portal_group: 1,
        }
    }

    #[test]
    fn the_same_key_with_tsih_zero_reinstates_and_names_the_old_connection() {
        let mut sessions = Sessions::new(8);
        assert_eq!(sessions.admit(key(1), 0, 'a'), Admission::New { tsih: 1 });
        assert_eq!(sessions.admit(key(2), 0, 'b'), Admission::New { tsih: 2 });
        assert_eq!(
            sessions.admit(key(1), 0, 'c'),
            Admission::Reinstates { tsih: 3, previous: 'a', previous_tsih: 1 }
        );
        sessions.ended(1);
        assert_eq!(sessions.connection(3), Some('c'), "the successor outlives its predecessor");
        assert_eq!(sessions.len(), 2);
    }

    #[test]
    fn another_portal_group_is_another_session() {
        let mut sessions = Sessions::new(8);
        sessions.admit(key(1), 0, 'a');
        let elsewhere = SessionKey { portal_group: 2, ..key(1) };
        assert_eq!(sessions.admit(elsewhere, 0, 'b'), Admission::New { tsih: 2 });
    }

    #[test]
    fn a_login_to_a_session_that_is_not_there_is_refused() {
        let mut sessions = Sessions::new(8);
        let refused = Admission::Refused(LoginStatus::SessionDoesNotExist);
        assert_eq!(sessions.admit(key(1), 7, 'a'), refused);
        sessions.admit(key(1), 0, 'a');
        assert_eq!(sessions.admit(key(1), 7, 'b'), refused);
        assert_eq!(sessions.admit(key(1), 1, 'b'), Admission::Refused(LoginStatus::TooManyConnections));
        assert_eq!(sessions.connection(1), Some('a'));
    }

    #[test]
    fn the_table_has_a_limit_and_a_tsih_in_use_is_never_given_twice() {
        let mut sessions = Sessions::new(2);
        sessions.previous_tsih = u16::MAX - 1;
        assert_eq!(sessions.admit(key(1), 0, 'a'), Admission::New { tsih: u16::MAX });
        assert_eq!(sessions.admit(key(2), 0, 'b'), Admission::New { tsih: 1 });
        assert_eq!(sessions.admit(key(3), 0, 'c'), Admission::Refused(LoginStatus::OutOfResources));
        assert_eq!(
            sessions.admit(key(2), 0, 'd'),
            Admission::Reinstates { tsih: 2, previous: 'b', previous_tsih: 1 },
            "a reinstatement takes the place of its predecessor"
        );
        sessions.ended(u16::MAX);
        sessions.previous_tsih = 0;
        assert_eq!(sessions.admit(key(3), 0, 'c'), Admission::New { tsih: 3 }, "1 and 2 are still in use");
    }
}
