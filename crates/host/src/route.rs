//! Through which portal a lost nexus is reinstated.
//!
//! A login with the nexus's ISID reinstates it at any portal of its target portal group (RFC 7143, 6.3.5): so a
//! portal that is dark keeps no fence open while another one of its group answers.

use std::net::SocketAddr;

use crate::event::Loss;

/// Which way the next login takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    #[default]
    Own,
    /// Another portal of the same target portal group.
    Sibling(SocketAddr),
}

/// Another portal of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sibling {
    pub(crate) address: SocketAddr,
    /// A session of ours stands there.
    pub(crate) is_up: bool,
}

/// The next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    pub(crate) way: Way,
    /// Every portal of a round has failed: not at once.
    pub(crate) after_a_pause: bool,
}

/// The tries since a loss. They go in rounds: in each, the nexus's own portal and one sibling.
#[derive(Debug)]
pub(crate) struct Route {
    loss: Loss,
    round: usize,
    /// The first half of the round was tried, and this is the other one.
    rest: Option<Half>,
    is_fresh: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Own,
    Sibling,
}

impl Route {
    pub(crate) const fn new(loss: Loss) -> Self {
        Self { loss, round: 0, rest: None, is_fresh: true }
    }

    /// Where to go next, given the siblings that are known now.
    pub(crate) fn next(&mut self, siblings: &[Sibling]) -> Leg {
        if let Some(half) = self.rest.take() {
            let after_a_pause = half == Half::Sibling && siblings.is_empty();
            let way = self.way(half, siblings);
            self.round += 1;
            return Leg { way, after_a_pause };
        }
        let after_a_pause = !std::mem::take(&mut self.is_fresh);
        if siblings.is_empty() {
            return Leg { way: Way::Own, after_a_pause };
        }
        // Whoever was silent a moment ago is likely to stay so: even a sibling without a session is the better guess.
        let (first, rest) = match self.loss {
            Loss::Silent => (Half::Sibling, Half::Own),
            Loss::Broken => (Half::Own, Half::Sibling),
        };
        let way = self.way(first, siblings);
        self.rest = Some(rest);
        Leg { way, after_a_pause }
    }

    /// Siblings take turns; those with a session come before those without.
    fn way(&self, half: Half, siblings: &[Sibling]) -> Way {
        let is_up = siblings.iter().any(|sibling| sibling.is_up);
        let candidates = siblings.iter().filter(|sibling| sibling.is_up == is_up);
        let count = candidates.clone().count();
        match candidates.cycle().nth(self.round % count.max(1)) {
            Some(sibling) if half == Half::Sibling => Way::Sibling(sibling.address),
            _ => Way::Own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sibling(number: u8, is_up: bool) -> Sibling {
        Sibling { address: SocketAddr::from(([192, 0, 2, number], 3260)), is_up }
    }

    fn legs(route: &mut Route, siblings: &[Sibling], count: usize) -> Vec<(Option<u8>, bool)> {
        let number = |way| match way {
            Way::Sibling(SocketAddr::V4(address)) => Some(address.ip().octets()[3]),
            _ => None,
        };
        (0..count).map(|_| route.next(siblings)).map(|leg| (number(leg.way), leg.after_a_pause)).collect()
    }

    #[test]
    fn after_a_reset_the_own_portal_comes_first_and_the_sibling_at_once_behind_it() {
        let mut route = Route::new(Loss::Broken);
        let expected = [(None, false), (Some(2), false), (None, true), (Some(2), false), (None, true)];
        assert_eq!(legs(&mut route, &[sibling(2, true)], 5), expected);
    }

    #[test]
    fn after_silence_a_sibling_comes_first_be_it_up_or_not() {
        for is_up in [true, false] {
            let mut route = Route::new(Loss::Silent);
            let expected = [(Some(2), false), (None, false), (Some(2), true), (None, false)];
            assert_eq!(legs(&mut route, &[sibling(2, is_up)], 4), expected);
        }
    }

    #[test]
    fn siblings_take_turns_and_those_that_are_up_go_before_the_others() {
        let mut route = Route::new(Loss::Broken);
        let siblings = [sibling(2, true), sibling(3, false), sibling(4, true)];
        let visited = legs(&mut route, &siblings, 6);
        let visited: Vec<u8> = visited.iter().filter_map(|(number, _)| *number).collect();
        assert_eq!(visited, [2, 4, 2]);
    }

    #[test]
    fn without_a_sibling_each_try_but_the_first_waits() {
        let mut route = Route::new(Loss::Silent);
        assert_eq!(legs(&mut route, &[], 3), [(None, false), (None, true), (None, true)]);
    }

    #[test]
    fn a_sibling_that_vanishes_in_the_middle_of_a_round_leaves_the_own_portal() {
        let mut route = Route::new(Loss::Broken);
        assert_eq!(legs(&mut route, &[sibling(2, true)], 1), [(None, false)]);
        assert_eq!(legs(&mut route, &[], 1), [(None, true)]);
    }
}
