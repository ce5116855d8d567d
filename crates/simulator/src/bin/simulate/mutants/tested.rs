//! Defects that no simulated world shows, and the tests that claim their absence: a disk sends no COMPARE AND WRITE, claims
//! hide in which order requests are sent again, and the simulated array knows FUA on every path.

use super::list::{Judge, Mutant};

const CLASS: &str = "crates/scsi-multipath/src/disposition/class.rs";
const ROWS: &str = "crates/scsi-multipath/src/disposition/rows.rs";
const COMPLETE: &str = "crates/scsi-multipath/src/disk/complete.rs";
const ACTIVATE: &str = "crates/scsi-multipath/src/disk/activate.rs";
const CHECK: &str = "crates/scsi-multipath/src/disk/check.rs";
const PATHS: &str = "crates/scsi-multipath/src/disk/paths.rs";
const FEATURES: &str = "crates/scsi-multipath/src/disk/features.rs";
const FENCE: &str = "crates/scsi-multipath/src/disk/fence.rs";
const PATH: &str = "crates/scsi-multipath/src/disk/path.rs";
const PROBE: &str = "crates/scsi-multipath/src/disk/probe.rs";
const PLAN: &str = "crates/scsi-multipath/src/disk/plan.rs";
const DISK: &str = "crates/scsi-multipath/src/disk/mod.rs";
const HOST_SURVEY: &str = "crates/host/src/survey.rs";
const HOST_DISKS: &str = "crates/host/src/disks.rs";
const RECONNECT: &str = "crates/host/src/reconnect.rs";
const ROUTE: &str = "crates/host/src/route.rs";
const DRAIN: &str = "crates/host/src/verbs/drain.rs";
const POLICY: &str = "crates/multipath/src/policy.rs";
const WATCH: &str = "crates/multipath/src/watch.rs";
const PACE: &str = "crates/multipath/src/pace.rs";
const GATHER: &str = "crates/multipath/src/gather.rs";
const HEAD: &str = "crates/multipath/src/head.rs";
const PARKING: &str = "crates/multipath/src/parking.rs";
const REGISTRY: &str = "crates/multipath/src/registry.rs";

/// The core.
const CORE: &str = "multipath";
/// What SCSI means for it.
const SCSI: &str = "scsi-multipath";
/// The initiator's side.
const HOST: &str = "host";

/// A defect that a test of its package finds.
const fn tested(
    package: &'static str,
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    test: &'static str,
) -> Mutant {
    Mutant { name, file, from, to, judge: Judge::Test { package, test } }
}

pub(super) const TESTED: &[Mutant] = &[
    // What may be sent twice.
    tested(
        SCSI,
        "COMPARE AND WRITE is sent again as a write is",
        CLASS,
        "op::COMPARE_AND_WRITE | op::WRITE_STREAM_16 | op::ZBC_OUT => Self::Conditional,",
        "op::COMPARE_AND_WRITE => Self::Write,\n            op::WRITE_STREAM_16 | op::ZBC_OUT => Self::Conditional,",
        "every_command_has_the_class_that_its_repetition_asks_for",
    ),
    tested(
        SCSI,
        "XDWRITE is sent again as a write is",
        CLASS,
        "op::XDWRITE_10 | op::XPWRITE_10 | op::XDWRITEREAD_10 => Self::Relative,",
        "op::XDWRITE_10 | op::XPWRITE_10 | op::XDWRITEREAD_10 => Self::Write,",
        "every_command_has_the_class_that_its_repetition_asks_for",
    ),
    tested(
        SCSI,
        "a command that is not known is sent again",
        CLASS,
        "            op::VARIABLE_LENGTH => variable_length(cdb),\n            _ => Self::Modal,",
        "            op::VARIABLE_LENGTH => variable_length(cdb),\n            _ => Self::Write,",
        "no_more_than_the_listed_codes_are_ever_sent_twice",
    ),
    tested(
        SCSI,
        "a conditional command that was lost goes another way",
        ROWS,
        "        CommandClass::Read => failover(failure),",
        "        CommandClass::Read | CommandClass::Conditional => failover(failure),",
        "nothing_but_reads_and_absolute_writes_is_sent_again_after_an_unknown_outcome",
    ),
    tested(
        SCSI,
        "a conditional command that was aborted is sent again",
        CLASS,
        "matches!(self, Self::Read | Self::Write)",
        "matches!(self, Self::Read | Self::Write | Self::Conditional)",
        "the_table_is_the_one_that_was_judged",
    ),
    tested(
        SCSI,
        "whatever another host has aborted is sent again",
        ROWS,
        "once(class, retry(Duration::ZERO, ABORTED_TIMES, Then::Failover, Failure::Aborted))\n                .and",
        "retry(Duration::ZERO, ABORTED_TIMES, Then::Failover, Failure::Aborted)\n                .and",
        "the_table_is_the_one_that_was_judged",
    ),
    // The order in which requests are sent.
    tested(
        CORE,
        "the youngest of those that wait for a path starts first",
        PARKING,
        "self.parked.pop_first()",
        "self.parked.pop_last()",
        "ten_thousand_parked_requests_start_in_order_and_without_recursion",
    ),
    tested(
        CORE,
        "what is sent again goes behind what came later",
        HEAD,
        "            _ => self.parking.park(ticket.sequence, waiting),",
        "            _ => {\n                let last = self.take_sequence();\n                self.parking.park(last, waiting);\n            }",
        "a_resent_request_goes_before_younger_parked_ones",
    ),
    tested(
        CORE,
        "what pauses loses its place",
        HEAD,
        "                self.parking.pause(now + after.min(PAUSE_MAX), ticket.sequence, waiting);",
        "                let last = self.take_sequence();\n                self.parking.pause(now + after.min(PAUSE_MAX), last, waiting);",
        "every_short_history_keeps_every_request_in_order_and_without_path_policy",
    ),
    tested(
        CORE,
        "the oldest of those that wait gives way",
        PARKING,
        "self.parked.pop_last().map",
        "self.parked.pop_first().map",
        "queueing_is_bounded_and_the_youngest_gives_way",
    ),
    // The end of a head.
    tested(
        CORE,
        "a head that is going away is brought back by a path",
        HEAD,
        "        if self.life.is_over() {\n            return self.refuse(path, Misuse::Ending);\n        }\n",
        "        if self.life.is_over() {\n            self.life = Life::Live;\n        }\n",
        "a_dying_head_cannot_be_resurrected",
    ),
    tested(
        CORE,
        "a head that is gone is found by its identity",
        REGISTRY,
        "        self.indices.remove(&key);\n",
        "",
        "a_removed_head_is_no_longer_found",
    ),
    // Durability.
    tested(
        SCSI,
        "a durable write is not flushed where FUA is not known",
        PLAN,
        "    is_durable(&work.operation) && !forced && features.write_cache == WriteCache::Back",
        "    is_durable(&work.operation) && !forced && features.blocks == 0",
        "a_durable_write_is_flushed_where_fua_is_not_known",
    ),
    tested(
        SCSI,
        "FUA is used again after it was refused",
        FEATURES,
        "unit.force_unit_access && !missing.contains(Feature::ForceUnitAccess)",
        "unit.force_unit_access",
        "a_durable_write_is_flushed_where_fua_is_refused_after_all",
    ),
    tested(
        SCSI,
        "a flush covers writes that were acknowledged while it was on its way",
        COMPLETE,
        "self.cache.flushed(work.covers);",
        "self.cache.flushed(self.cache.acknowledged);",
        "a_flush_does_not_cover_what_is_acknowledged_while_it_is_on_its_way",
    ),
    tested(
        SCSI,
        "a predecessor is thought to have flushed",
        FENCE,
        "        self.cache.acknowledged += 1;\n",
        "",
        "a_cache_that_is_lost_after_a_restart_may_have_held_what_the_predecessor_acknowledged",
    ),
    // What operators and settings ask for.
    tested(
        SCSI,
        "what came of a change of port groups is not asked for",
        ACTIVATE,
        "        self.want_access(path, AccessCause::Again, now);\n",
        "",
        "with_no_usable_path_a_standby_group_is_activated_at_once",
    ),
    tested(
        SCSI,
        "a path that an operator keeps out is waited for before port groups are changed",
        ACTIVATE,
        "path.hold.is_none() && matches!(path.standing, Standing::Verified | Standing::Suspect(_));",
        "matches!(path.standing, Standing::Verified | Standing::Suspect(_));",
        "a_group_that_serves_takes_over_for_one_whose_path_an_operator_keeps_out",
    ),
    tested(
        SCSI,
        "paths that are used are asked whether they are ready",
        CHECK,
        "            path.used_at = now;\n        }\n    }\n",
        "            let _ = path;\n        }\n    }\n",
        "a_path_that_is_used_is_not_asked_whether_it_is_ready",
    ),
    tested(
        SCSI,
        "a path that is reinstated is used before it has shown its identity",
        PATHS,
        "                path.suspect(Reason::Verifying, now);\n            }\n        });\n    }\n\n    pub(super) fn path_lost",
        "            }\n        });\n    }\n\n    pub(super) fn path_lost",
        "a_path_that_is_given_back_shows_its_identity_before_it_is_used",
    ),
    tested(
        HOST,
        "a lost cache that a survey is told of is kept secret",
        HOST_SURVEY,
        "SurveyAction::CacheLost { lun, reply } => self.loss_heard(index, lun, reply),",
        "SurveyAction::CacheLost { .. } => {}",
        "a_lost_cache_that_is_told_on_a_way_that_is_not_used_fails_the_next_flush",
    ),
    tested(
        HOST,
        "a path stays whose number stands for another unit",
        HOST_DISKS,
        "        self.remove_replaced(nexus, lun, &identity);\n",
        "",
        "a_path_whose_number_stands_for_a_unit_that_needs_no_more_paths_is_removed",
    ),
    tested(
        HOST,
        "a lost cache that is told on a way that is not used is kept secret",
        HOST_DISKS,
        "        self.pass_on_loss(place, lun, disk);\n",
        "",
        "a_lost_cache_that_is_told_on_a_way_that_is_not_used_fails_the_next_flush",
    ),
    tested(
        HOST,
        "a drain goes on although the path that could read is lost",
        DRAIN,
        "others.iter().any(|path| outcome(path) == Some(&Ok(())))",
        "checks.values().any(|check| *check == Some(Ok(())))",
        "a_drain_is_refused_if_the_path_that_could_read_is_lost_before_it_begins",
    ),
    tested(
        HOST,
        "a drain goes on although no other path is left",
        DRAIN,
        "        if let Err(error) = self.leaves_a_path(&paths) {\n            return self.drain_refused(&drain, error);\n        }\n        for disk in self.disks_of(&paths) {\n",
        "        for disk in self.disks_of(&paths).into_iter().skip(1) {\n",
        "a_drain_is_refused_if_no_other_path_is_left_when_it_begins",
    ),
    tested(
        SCSI,
        "a success on a path in doubt is one",
        COMPLETE,
        "Fate::Complete if self.may_be_another(path) => {",
        "Fate::Complete if self.may_be_another(path) && self.next_id == 0 => {",
        "a_success_on_a_path_whose_identity_is_in_doubt_is_none",
    ),
    // Paths that are slow.
    tested(
        CORE,
        "latency keeps to a path that is gone",
        POLICY,
        "            && paths[batch.position].rank() == Some(Rank::Optimized)\n",
        "",
        "latency_keeps_requests_together_that_come_at_one_time",
    ),
    tested(
        CORE,
        "latency gives turns to slower paths",
        POLICY,
        "candidates().filter(is_as_fast).find(",
        "candidates().find(",
        "latency_sends_little_to_a_path_that_has_become_slower_by_less_than_its_slack",
    ),
    tested(
        CORE,
        "writes may all lie on one path",
        POLICY,
        "((depths.sum::<u32>() + 1) * SHARE_MAX[0] / SHARE_MAX[1]).max(1)",
        "u32::MAX",
        "writes_go_on_when_one_of_two_paths_falls_silent",
    ),
    tested(
        CORE,
        "latency keeps to a path from which nothing comes back",
        POLICY,
        ".max(path.silence(wanted.now).as_nanos())",
        "",
        "latency_leaves_a_path_from_which_nothing_comes_back",
    ),
    tested(
        CORE,
        "a silent path is not found out before its requests are old",
        WATCH,
        "let is_silent = silent_in == Some(Duration::ZERO);",
        "let is_silent = false;",
        "a_path_that_falls_silent_with_several_requests_is_found_out_sooner",
    ),
    tested(
        CORE,
        "a path that has answered since counts as silent",
        PACE,
        "let is_silent = is_silent && silence >= now.since(self.since);",
        "",
        "a_path_from_which_anything_comes_back_is_not_silent",
    ),
    tested(
        CORE,
        "a comparison waits for a peer that has fallen silent",
        PACE,
        "if now < limit { Compared::Open(limit) } else { Compared::Equal }",
        "Compared::Open(limit + COMPARE_MAX.saturating_mul(30))",
        "a_path_that_falls_silent_while_another_is_compared_with_it_is_found_out_too",
    ),
    tested(
        CORE,
        "a path is compared with what others took before",
        WATCH,
        "peer.gauge.mean_since(ticket.started, now, class, SAMPLES_MIN)?",
        "peer.gauge.fresh_mean(now, class, SAMPLES_MIN)?",
        "a_rest_of_all_while_one_path_has_the_requests_demotes_none",
    ),
    tested(
        CORE,
        "a path is trusted for good",
        PACE,
        "self.patience.filter(|(_, until)| now < *until)",
        "self.patience",
        "what_made_a_path_trusted_is_forgotten_after_a_minute",
    ),
    tested(
        CORE,
        "requests go together although they are faster apart",
        GATHER,
        "        if self.wins == WINS {\n",
        "        if self.wins == 0 {\n",
        "requests_go_apart_where_that_is_faster",
    ),
    tested(
        SCSI,
        "a copy of a read is sent although another one was the answer",
        DISK,
        "        if self.is_moot(&work) {\n            let verdict",
        "        if false {\n            let verdict",
        "a_copy_that_waits_when_the_other_one_is_the_answer_is_not_sent_any_more",
    ),
    // Questions.
    tested(
        SCSI,
        "a unit that shrank keeps its size",
        PROBE,
        "            path.unit.capacity = Some(capacity);",
        "            if path.unit.capacity.as_ref().is_none_or(|ours| ours.blocks < capacity.blocks) {\n                path.unit.capacity = Some(capacity);\n            }",
        "a_disk_that_shrank_refuses_what_is_beyond_its_end",
    ),
    tested(
        SCSI,
        "an answer counts that is older than the question's reason",
        PATH,
        "what.without(self.renewed)",
        "what",
        "a_capacity_that_was_told_before_the_last_change_is_asked_for_again",
    ),
    // When lost paths are tried again.
    tested(
        HOST,
        "what may lead to a disk without a path waits as if nobody missed it",
        RECONNECT,
        "let until = nexus.not_earlier(self.now + pause).min(until);",
        "let until = nexus.not_earlier(until.max(self.now + pause));",
        "a_nexus_that_is_damped_is_tried_at_once_when_the_last_other_one_is_lost",
    ),
    tested(
        HOST,
        "a target that wants no login is asked for one",
        RECONNECT,
        "let until = nexus.not_earlier(self.now + pause).min(until);",
        "let until = (self.now + pause).min(until);",
        "a_nexus_that_its_target_keeps_away_is_not_hastened",
    ),
    tested(
        HOST,
        "a disk without a path is tried more and more rarely",
        RECONNECT,
        "if nexus.owes() || disks.any(|disk| self.is_stranded(disk)) {",
        "if nexus.owes() {",
        "every_portal_is_tried_once_a_second_while_a_disk_has_no_path",
    ),
    tested(
        HOST,
        "nobody is hastened when the only path stalls",
        HOST_DISKS,
        "Report::Head(Change::Alone { path, .. }) if self.hasten(disk) > 0 => {",
        "Report::Head(Change::Alone { path, .. }) if self.answered == u64::MAX => {",
        "a_nexus_is_tried_at_once_when_the_last_other_one_seems_to_stall",
    ),
    tested(
        HOST,
        "the portal that fell silent is tried before one that may answer",
        ROUTE,
        "Loss::Silent => (Half::Sibling, Half::Own),",
        "Loss::Silent => (Half::Own, Half::Sibling),",
        "after_silence_a_sibling_comes_first_be_it_up_or_not",
    ),
    tested(
        CORE,
        "a path that stalls alone says nothing",
        WATCH,
        "self.changed(Change::Alone { path, took });",
        "let _ = took;",
        "a_path_that_falls_silent_while_the_others_are_down_says_so_each_second",
    ),
    tested(
        CORE,
        "a path from which nothing ever came back is given more time",
        WATCH,
        "let has_several = path.in_flight >= SILENCE_DEPTH;",
        "let has_several = mean.is_some() && path.in_flight >= SILENCE_DEPTH;",
        "a_path_that_is_silent_from_its_first_request_on_is_found_out_as_soon",
    ),
];
