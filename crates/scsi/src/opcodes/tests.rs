use proptest::prelude::*;

use super::*;

#[test]
fn all_commands_are_understood_and_said() {
    let bytes = [
        0x00, 0x00, 0x00, 0x1c, // 28 bytes follow
        0x28, 0x00, 0x00, 0x00, // READ(10)
        0x00, 0x02, 0x00, 0x0a, // CTDP; 10 bytes
        0x00, 0x0a, 0x00, 0x05, // timeouts descriptor: length; reserved; command specific 5
        0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x1e, // nominal 1 s, recommended 30 s
        0x9e, 0x00, 0x00, 0x10, // READ CAPACITY(16): service action 10h
        0x00, 0x01, 0x00, 0x10, // SERVACTV; 16 bytes
    ];
    let timeouts = CommandTimeouts { command_specific: 5, nominal_secs: 1, recommended_secs: 30 };
    let list = SupportedOperations {
        operations: vec![
            SupportedOperation { code: 0x28, service_action: None, cdb_length: 10, timeouts: Some(timeouts) },
            SupportedOperation { code: 0x9e, service_action: Some(0x10), cdb_length: 16, timeouts: None },
        ],
    };
    assert_eq!(SupportedOperations::parse(&bytes), Ok(list.clone()));
    assert_eq!(list.emit(), bytes);
    assert_eq!(SupportedOperations::parse(&bytes[..31]), Err(ParseError::Truncated { needed: 32, got: 31 }));
}

#[test]
fn one_command_is_understood_and_said() {
    let bytes = [
        0x00, 0x83, 0x00, 0x06, // CTDP, supported as the standard has it; 6 bytes of usage
        0x12, 0x01, 0xff, 0xff, 0xff, 0x00, // INQUIRY: EVPD, page code, allocation length
        0x00, 0x0a, 0x00, 0x00, // timeouts descriptor: length; reserved; command specific
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, // nominal not said, recommended 5 s
    ];
    let one = OneOperation {
        support: Support::Standard,
        usage: vec![0x12, 0x01, 0xff, 0xff, 0xff, 0x00],
        timeouts: Some(CommandTimeouts { recommended_secs: 5, ..CommandTimeouts::default() }),
    };
    assert_eq!(OneOperation::parse(&bytes), Ok(one.clone()));
    assert_eq!(one.emit(), bytes);
}

#[test]
fn a_command_that_is_not_supported_has_no_usage() {
    let no = OneOperation { support: Support::No, usage: vec![], timeouts: None };
    assert_eq!(no.emit(), [0x00, 0x01, 0x00, 0x00]);
    assert_eq!(OneOperation::parse(&no.emit()), Ok(no));
    let error = Err(ParseError::TooMany { limit: USAGE_LENGTH_MAX });
    assert_eq!(OneOperation::parse(&[0, 3, 0xff, 0xff]), error);
}

#[test]
fn task_management_functions_are_understood_and_said() {
    let bytes = [
        0xfe, 0x07, 0x00,
        0x0c, // ABORT TASK to TARGET RESET; QAES, QTSS, ITNRS; reserved; 12 bytes follow
        0x01, 0x00, 0x00, 0x00, // the timeouts are valid
        0x00, 0x00, 0x01, 0x2c, // long: 30 s
        0x00, 0x00, 0x00, 0x32, // short: 5 s
    ];
    let all = SupportedTaskManagement {
        abort_task: true,
        abort_task_set: true,
        clear_aca: true,
        clear_task_set: true,
        logical_unit_reset: true,
        query_task: true,
        target_reset: true,
        query_asynchronous_event: true,
        query_task_set: true,
        nexus_reset: true,
        timeouts: Some(TaskManagementTimeouts { valid: true, long: 300, short: 50 }),
    };
    assert_eq!(SupportedTaskManagement::parse(&bytes), Ok(all));
    assert_eq!(all.emit(), bytes);
    let basic = SupportedTaskManagement { timeouts: None, ..all };
    assert_eq!(basic.emit(), [0xfe, 0x07, 0x00, 0x00]);
    assert_eq!(SupportedTaskManagement::parse(&basic.emit()), Ok(basic));
}

fn any_timeouts() -> impl Strategy<Value = Option<CommandTimeouts>> {
    any::<Option<(u8, u32, u32)>>().prop_map(|timeouts| {
        let (command_specific, nominal_secs, recommended_secs) = timeouts?;
        Some(CommandTimeouts { command_specific, nominal_secs, recommended_secs })
    })
}

proptest! {
    #[test]
    fn any_list_survives(
        commands in proptest::collection::vec((any::<(u8, Option<u16>, u16)>(), any_timeouts()), 0..32),
    ) {
        let operations = commands.into_iter().map(|((code, service_action, cdb_length), timeouts)| {
            SupportedOperation { code, service_action, cdb_length, timeouts }
        }).collect();
        let list = SupportedOperations { operations };
        prop_assert_eq!(SupportedOperations::parse(&list.emit()), Ok(list));
    }

    #[test]
    fn any_one_command_survives(
        support in 0..8_u8,
        usage in proptest::collection::vec(any::<u8>(), 0..=USAGE_LENGTH_MAX),
        timeouts in any_timeouts(),
    ) {
        let one = OneOperation { support: support.into(), usage, timeouts };
        prop_assert_eq!(OneOperation::parse(&one.emit()), Ok(one));
    }
}
