//! Commands, data and their ends, of both sides together.

use clock::Duration;
use iscsi::initiator::{self, Action, TaskManagementEnding};
use iscsi::negotiation::{DigestPolicy, Offers};
use iscsi::pdu::TaskManagementResponseCode;
use iscsi::target::{Disconnect, QUEUE_DEPTH};
use scsi::{CommandId, Ending, Reply};

use crate::pair::*;

/// Everything that changes how data moves.
fn combinations() -> Vec<Offers> {
    let mut all = Vec::new();
    for (initial_r2t, immediate_data) in [(false, false), (false, true), (true, false), (true, true)] {
        for digest in [DigestPolicy::Never, DigestPolicy::Require] {
            for (segment, first, burst, r2ts) in [
                (512, 512, 512, 1),
                (8192, 4096, 16_384, 3),
                (262_144, 65_536, 1 << 20, 8),
                (1000, 3000, 5000, 2),
            ] {
                all.push(Offers {
                    header_digest: digest,
                    data_digest: digest,
                    initial_r2t,
                    immediate_data,
                    max_recv_data_segment_length: segment,
                    first_burst_length: first,
                    max_burst_length: burst,
                    max_outstanding_r2t: r2ts,
                    ..Offers::default()
                });
            }
        }
    }
    all
}

fn pair_with(seed: u64, offers: Offers) -> Pair {
    let initiator = initiator::Options { offers, ..initiator_options(TARGET) };
    let mut target = target_options();
    target.offers = offers;
    Pair::logged_in(seed, initiator, target)
}

#[test]
fn what_is_written_is_what_is_read_whatever_was_agreed_on() {
    for (seed, offers) in (0..).zip(combinations()) {
        let mut pair = pair_with(seed, offers);
        let mut offset = 0;
        for (id, length) in (0..).zip([1, 511, 512, 513, 3001, 4096, 20_000, 65_536]) {
            let data = pattern(id, length);
            pair.write(id, offset, &data);
            pair.run();
            let (command, ending) = pair.ended();
            assert_eq!((command.context, ending), (id, Ending::Reply(Reply::good())), "{offers:?} {length}");
            pair.read(id, offset, length);
            pair.run();
            let (command, ending) = pair.ended();
            assert_eq!(ending, Ending::Reply(Reply::good()), "{offers:?} {length}");
            assert!(command.buffer[..] == data, "{offers:?} {length}");
            offset += u32::try_from(length).unwrap();
        }
        assert_eq!((pair.target.commands(), &pair.target_over), (0, &None));
    }
}

#[test]
fn many_commands_at_once_all_end_with_their_own_data() {
    for seed in 0..10 {
        let offers = Offers {
            max_recv_data_segment_length: 8192,
            max_burst_length: 16_384,
            first_burst_length: 8192,
            ..Offers::default()
        };
        let mut pair = pair_with(seed, offers);
        for id in 0..60 {
            let length = 512 + pair.chance.below(60_000);
            pair.write(id, u32::try_from(id).unwrap() << 16, &pattern(id, length));
            if pair.chance.one_in(3) {
                pair.run();
            }
        }
        pair.run();
        let written: Vec<_> = (0..60).map(|_| pair.ended()).collect();
        for (command, ending) in written {
            assert_eq!(ending, Ending::Reply(Reply::good()));
            pair.read(command.context, u32::try_from(command.context).unwrap() << 16, command.buffer.len());
        }
        pair.run();
        for _ in 0..60 {
            let (command, _) = pair.ended();
            assert!(command.buffer[..] == pattern(command.context, command.buffer.len()));
        }
    }
}

#[test]
fn a_device_server_never_holds_more_than_the_window_and_all_commands_end() {
    let mut pair = pair_with(1, Offers::default());
    pair.server.holds = true;
    for id in 0..500 {
        pair.read(id, 0, 512);
    }
    pair.run();
    assert_eq!(pair.server.held.len(), QUEUE_DEPTH);
    let mut ended = 0;
    while ended < 500 {
        pair.execute_held();
        pair.run();
        while !pair.said.is_empty() {
            assert_eq!(pair.ended().1, Ending::Reply(Reply::good()));
            ended += 1;
        }
    }
    assert_eq!(pair.server.held_most, QUEUE_DEPTH);
}

#[test]
fn an_aborted_command_ends_as_aborted_and_its_reply_goes_nowhere() {
    let mut pair = pair_with(1, Offers::default());
    pair.server.holds = true;
    pair.write(1, 0, &pattern(1, 4096));
    pair.read(2, 0, 512);
    pair.run();
    let function = initiator::TaskManagement::AbortTask(CommandId(1));
    pair.tell(initiator::Event::TaskManagement { id: 77, function });
    pair.run();
    let (command, ending) = pair.ended();
    assert_eq!((command.context, ending), (1, Ending::Aborted));
    let complete = TaskManagementEnding::Answered(TaskManagementResponseCode::Complete);
    let said = pair.said.pop_front();
    assert!(
        matches!(said, Some(Action::TaskManagementEnded { id: 77, response }) if response == complete),
        "{said:?}"
    );
    pair.execute_held();
    pair.run();
    assert_eq!(pair.ended().0.context, 2);
    assert!(pair.said.is_empty());
}

#[test]
fn a_command_that_takes_too_long_is_aborted_and_the_session_lives_on() {
    let mut pair = pair_with(1, Offers::default());
    pair.server.holds = true;
    pair.write(1, 0, &pattern(1, 100_000));
    pair.run();
    for _ in 0..31 {
        pair.pass(Duration::from_secs(1));
    }
    let (command, ending) = pair.ended();
    assert_eq!((command.context, ending), (1, Ending::Aborted));
    pair.server.holds = false;
    pair.read(2, 0, 512);
    pair.run();
    assert_eq!(pair.ended().1, Ending::Reply(Reply::good()));
}

#[test]
fn a_reset_of_the_logical_unit_ends_what_is_there() {
    let mut pair = pair_with(1, Offers::default());
    pair.server.holds = true;
    for id in 0..5 {
        pair.read(id, 0, 512);
    }
    pair.run();
    let function = initiator::TaskManagement::LogicalUnitReset(LUN);
    pair.tell(initiator::Event::TaskManagement { id: 5, function });
    pair.run();
    for _ in 0..5 {
        assert_eq!(pair.ended().1, Ending::Cleared);
    }
    assert!(matches!(pair.said.pop_front(), Some(Action::TaskManagementEnded { id: 5, .. })));
    assert_eq!(pair.target.commands(), 0);
}

#[test]
fn a_logout_ends_both_sides_in_peace() {
    let mut pair = pair_with(1, Offers::default());
    pair.write(1, 0, &pattern(1, 4096));
    pair.run();
    pair.ended();
    pair.tell(initiator::Event::Logout(iscsi::pdu::LogoutReason::CloseSession));
    pair.run();
    assert!(matches!(pair.said.pop_front(), Some(Action::LoggedOut)));
    assert!(pair.logged_out);
    assert_eq!(pair.target_over, Some(Disconnect::LoggedOut));
}

#[test]
fn a_damaged_byte_under_digests_never_becomes_data() {
    let offers = Offers {
        header_digest: DigestPolicy::Require,
        data_digest: DigestPolicy::Require,
        max_recv_data_segment_length: 8192,
        first_burst_length: 8192,
        max_burst_length: 16_384,
        ..Offers::default()
    };
    let data = pattern(9, 20_000);
    let mut given_up = 0;
    for seed in 0..200 {
        let mut pair = pair_with(seed, offers);
        pair.server.memory[..data.len()].copy_from_slice(&data);
        let direction = if pair.chance.one_in(2) { Direction::ToTarget } else { Direction::ToInitiator };
        let nth = pair.chance.below(20_000);
        pair.damage(direction, nth);
        pair.write(1, 1 << 16, &data);
        pair.read(2, 0, data.len());
        pair.run();
        let mut whole = 0;
        while let Some(said) = pair.said.pop_front() {
            if let Action::Ended { command, ending: Ending::Reply(reply) } = said {
                assert_eq!(reply, Reply::good());
                assert!(command.buffer[..] == data, "seed {seed}: damaged data were taken for good");
                whole += 1;
            }
        }
        let written = &pair.server.memory[1 << 16..][..data.len()];
        assert!(*written == data[..] || written.iter().all(|&byte| byte == 0), "seed {seed}");
        assert!(whole < 2 || pair.target_over.is_none(), "seed {seed}");
        given_up += usize::from(whole < 2);
    }
    assert!(given_up > 180, "{given_up} of 200 connections met the damage");
}
