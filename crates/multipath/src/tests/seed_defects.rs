//! The defects of the first published native multipath head, each ruled out: by a type where one can, else by a test
//! whose name is the claim.
//!
//! Lock imbalance in the search, an unlock without lock and a double unlock cannot be written: there is no lock, the
//! registry is borrowed mutably instead. A head published half made cannot either: `find_or_create` stores
//! what `create` returns. That paths of different capacity are not mixed is for the disk to see, which knows what
//! a capacity is.

use alloc::rc::Rc;
use alloc::string::String;

use super::*;
use crate::{Entry, HeadIndex, Registry};

fn key(last: char) -> String {
    let mut key = String::from("naa.");
    key.extend(core::iter::repeat_n('6', 251));
    key.push(last);
    key
}

#[test]
fn a_miss_and_a_hit_leave_the_registry_in_the_same_shape() {
    let mut registry = Registry::new();
    assert_eq!(registry.find(&1), None);
    assert_eq!(registry.find_or_create(&1, |_| 'a'), Ok(Entry::Created(HeadIndex(0))));
    assert_eq!(registry.find_or_create(&1, |_| panic!("it is there")), Ok(Entry::Found(HeadIndex(0))));
    assert_eq!(registry.len(), 1);
}

#[test]
fn a_removed_head_is_no_longer_found() {
    let mut registry = Registry::new();
    let index = registry.find_or_create(&1, |_| 'a').unwrap().index();
    assert_eq!(registry.remove(index), Some((1, 'a')));
    assert_eq!((registry.find(&1), registry.get(index)), (None, None));
    assert_eq!(registry.remove(index), None, "twice is once");
    assert!(registry.is_empty());
}

#[test]
fn a_dying_head_cannot_be_resurrected() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED]);
    bench.submit(1);
    bench.remove(0);
    bench.add(1, OPTIMIZED);
    let refused = Change::Refused { path: PathId(1), misuse: crate::Misuse::Ending };
    assert_eq!(bench.changes.last(), Some(&refused));
    assert_eq!(bench.end(1, Verdict::Done), [Finish(1, Outcome::Done), Gone]);
}

#[test]
fn an_identity_has_no_second_head_while_the_first_has_requests_in_flight() {
    let mut registry = Registry::new();
    let index = registry
        .find_or_create(&"naa.1", |_| Bench::with_paths(Options::default(), &[OPTIMIZED]))
        .unwrap()
        .index();
    let dying = registry.get_mut(index).unwrap();
    dying.submit(1);
    dying.remove(0);
    let found = registry.find_or_create(&"naa.1", |_| panic!("a second head for one identity"));
    assert_eq!(found, Ok(Entry::Found(index)));

    let dying = registry.get_mut(index).unwrap();
    assert_eq!(dying.end(1, Verdict::Done), [Finish(1, Outcome::Done), Gone]);
    drop(registry.remove(index));
    let created = registry.find_or_create(&"naa.1", |_| Bench::new(Options::default()));
    assert_eq!(created, Ok(Entry::Created(index)));
}

#[test]
fn the_last_removal_and_a_create_leave_one_live_head_in_either_order() {
    for create_first in [true, false] {
        let mut registry = Registry::new();
        let index = registry.find_or_create(&1, |_| 'a').unwrap().index();
        if create_first {
            assert_eq!(registry.find_or_create(&1, |_| 'b'), Ok(Entry::Found(index)));
            registry.remove(index);
        } else {
            registry.remove(index);
            assert_eq!(registry.find_or_create(&1, |_| 'b'), Ok(Entry::Created(index)));
            assert_eq!(registry.get(index), Some(&'b'));
        }
        assert!(registry.len() <= 1);
    }
}

#[test]
fn a_removed_head_is_dropped_with_all_that_it_holds() {
    let request = Rc::new(());
    let mut head: Head<Rc<()>> = Head::new(with_no_path(NoPath::Queue));
    head.handle(
        Instant::START,
        Event::Submit { node: Node(0), kind: Kind::default(), request: Rc::clone(&request) },
    );
    let mut registry = Registry::new();
    let index = registry.find_or_create(&1, |_| head).unwrap().index();
    assert_eq!(Rc::strong_count(&request), 2);
    drop(registry.remove(index));
    assert_eq!(Rc::strong_count(&request), 1);
}

#[test]
fn an_index_is_stable_and_reused_only_after_its_value_is_gone() {
    let mut registry = Registry::new();
    for (number, name) in (0..).zip(["a", "b", "c"]) {
        assert_eq!(registry.find_or_create(&name, |index| index), Ok(Entry::Created(HeadIndex(number))));
    }
    registry.remove(HeadIndex(1));
    assert_eq!(registry.find(&"c"), Some(HeadIndex(2)), "others do not move");
    assert_eq!(registry.find_or_create(&"d", |index| index), Ok(Entry::Created(HeadIndex(1))));
    assert_eq!(registry.find_or_create(&"e", |index| index), Ok(Entry::Created(HeadIndex(3))));
    let names: Vec<_> = registry.iter().map(|(index, name, _)| (index.0, *name)).collect();
    assert_eq!(names, [(0, "a"), (1, "d"), (2, "c"), (3, "e")]);
    assert_eq!(registry.key(HeadIndex(1)), Some(&"d"));
}

#[test]
fn a_full_registry_says_so_and_keeps_no_trace() {
    let mut registry = Registry::new();
    for number in 0..crate::HEADS_MAX {
        assert!(registry.find_or_create(&number, |_| ()).is_ok());
    }
    assert_eq!(registry.find_or_create(&u32::MAX, |_| ()), Err(crate::RegistryFull));
    assert_eq!(registry.find(&u32::MAX), None);
    registry.remove(HeadIndex(77));
    assert_eq!(registry.find_or_create(&u32::MAX, |_| ()), Ok(Entry::Created(HeadIndex(77))));
}

#[test]
fn identities_that_differ_in_their_last_byte_are_two_disks() {
    let mut registry = Registry::new();
    for (number, last) in (0..).zip(['1', '2']) {
        assert_eq!(registry.find_or_create(&key(last), |_| ()), Ok(Entry::Created(HeadIndex(number))));
    }
}

#[test]
fn a_path_that_the_head_refuses_is_never_refused_silently() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED]);
    bench.add(0, OPTIMIZED);
    assert!(matches!(bench.changes.as_slice(), [Change::Refused { .. }]));
}
