//! Defects that no simulated world shows, and the tests that claim their absence: a disk sends no COMPARE AND WRITE, claims
//! hide in which order requests are sent again, and the simulated array knows FUA on every path.

use super::list::{Judge, Mutant};

const CLASS: &str = "crates/scsi-multipath/src/disposition/class.rs";
const ROWS: &str = "crates/scsi-multipath/src/disposition/rows.rs";
const COMPLETE: &str = "crates/scsi-multipath/src/disk/complete.rs";
const FEATURES: &str = "crates/scsi-multipath/src/disk/features.rs";
const FENCE: &str = "crates/scsi-multipath/src/disk/fence.rs";
const PATH: &str = "crates/scsi-multipath/src/disk/path.rs";
const PLAN: &str = "crates/scsi-multipath/src/disk/plan.rs";
const HEAD: &str = "crates/multipath/src/head.rs";
const PARKING: &str = "crates/multipath/src/parking.rs";
const REGISTRY: &str = "crates/multipath/src/registry.rs";

/// A defect in the core, for a test of the core.
const fn core(
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    test: &'static str,
) -> Mutant {
    Mutant { name, file, from, to, judge: Judge::Test { package: "multipath", test } }
}

/// A defect in what SCSI means for multipath.
const fn scsi(
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    test: &'static str,
) -> Mutant {
    Mutant { name, file, from, to, judge: Judge::Test { package: "scsi-multipath", test } }
}

pub(super) const TESTED: &[Mutant] = &[
    // What may be sent twice.
    scsi(
        "COMPARE AND WRITE is sent again as a write is",
        CLASS,
        "op::COMPARE_AND_WRITE | op::WRITE_STREAM_16 | op::ZBC_OUT => Self::Conditional,",
        "op::COMPARE_AND_WRITE => Self::Write,\n            op::WRITE_STREAM_16 | op::ZBC_OUT => Self::Conditional,",
        "every_command_has_the_class_that_its_repetition_asks_for",
    ),
    scsi(
        "XDWRITE is sent again as a write is",
        CLASS,
        "op::XDWRITE_10 | op::XPWRITE_10 | op::XDWRITEREAD_10 => Self::Relative,",
        "op::XDWRITE_10 | op::XPWRITE_10 | op::XDWRITEREAD_10 => Self::Write,",
        "every_command_has_the_class_that_its_repetition_asks_for",
    ),
    scsi(
        "a command that is not known is sent again",
        CLASS,
        "            op::VARIABLE_LENGTH => variable_length(cdb),\n            _ => Self::Modal,",
        "            op::VARIABLE_LENGTH => variable_length(cdb),\n            _ => Self::Write,",
        "no_more_than_the_listed_codes_are_ever_sent_twice",
    ),
    scsi(
        "a conditional command that was lost goes another way",
        ROWS,
        "        CommandClass::Read => failover(failure),",
        "        CommandClass::Read | CommandClass::Conditional => failover(failure),",
        "nothing_but_reads_and_absolute_writes_is_sent_again_after_an_unknown_outcome",
    ),
    scsi(
        "a conditional command that was aborted is sent again",
        CLASS,
        "matches!(self, Self::Read | Self::Write)",
        "matches!(self, Self::Read | Self::Write | Self::Conditional)",
        "the_table_is_the_one_that_was_judged",
    ),
    scsi(
        "whatever another host has aborted is sent again",
        ROWS,
        "once(class, retry(Duration::ZERO, ABORTED_TIMES, Then::Failover, Failure::Aborted))\n                .and",
        "retry(Duration::ZERO, ABORTED_TIMES, Then::Failover, Failure::Aborted)\n                .and",
        "the_table_is_the_one_that_was_judged",
    ),
    // The order in which requests are sent.
    core(
        "the youngest of those that wait for a path starts first",
        PARKING,
        "self.parked.pop_first()",
        "self.parked.pop_last()",
        "ten_thousand_parked_requests_start_in_order_and_without_recursion",
    ),
    core(
        "what is sent again goes behind what came later",
        HEAD,
        "            _ => self.parking.park(ticket.sequence, waiting),",
        "            _ => {\n                let last = self.take_sequence();\n                self.parking.park(last, waiting);\n            }",
        "a_resent_request_goes_before_younger_parked_ones",
    ),
    core(
        "what pauses loses its place",
        HEAD,
        "                self.parking.pause(now + after.min(PAUSE_MAX), ticket.sequence, waiting);",
        "                let last = self.take_sequence();\n                self.parking.pause(now + after.min(PAUSE_MAX), last, waiting);",
        "every_short_history_keeps_every_request_in_order_and_without_path_policy",
    ),
    core(
        "the oldest of those that wait gives way",
        PARKING,
        "self.parked.pop_last().map",
        "self.parked.pop_first().map",
        "queueing_is_bounded_and_the_youngest_gives_way",
    ),
    // The end of a head.
    core(
        "a head that is going away is brought back by a path",
        HEAD,
        "        if self.life.is_over() {\n            return self.refuse(path, Misuse::Ending);\n        }\n",
        "        if self.life.is_over() {\n            self.life = Life::Live;\n        }\n",
        "a_dying_head_cannot_be_resurrected",
    ),
    core(
        "a head that is gone is found by its identity",
        REGISTRY,
        "        self.indices.remove(&key);\n",
        "",
        "a_removed_head_is_no_longer_found",
    ),
    // Durability.
    scsi(
        "a durable write is not flushed where FUA is not known",
        PLAN,
        "    is_durable(&work.operation) && !forced && features.write_cache == WriteCache::Back",
        "    is_durable(&work.operation) && !forced && features.blocks == 0",
        "a_durable_write_is_flushed_where_fua_is_not_known",
    ),
    scsi(
        "FUA is used again after it was refused",
        FEATURES,
        "unit.force_unit_access && !missing.contains(Feature::ForceUnitAccess)",
        "unit.force_unit_access",
        "a_durable_write_is_flushed_where_fua_is_refused_after_all",
    ),
    scsi(
        "a flush covers writes that were acknowledged while it was on its way",
        COMPLETE,
        "self.cache.flushed(work.covers);",
        "self.cache.flushed(self.cache.acknowledged);",
        "a_flush_does_not_cover_what_is_acknowledged_while_it_is_on_its_way",
    ),
    scsi(
        "a predecessor is thought to have flushed",
        FENCE,
        "        self.cache.acknowledged += 1;\n",
        "",
        "a_cache_that_is_lost_after_a_restart_may_have_held_what_the_predecessor_acknowledged",
    ),
    // Questions.
    scsi(
        "an answer counts that is older than the question's reason",
        PATH,
        "what.without(self.renewed)",
        "what",
        "a_capacity_that_was_told_before_the_last_change_is_asked_for_again",
    ),
];
