//! The defects.

/// One defect, as a change of the source text.
#[derive(Debug)]
pub(super) struct Mutant {
    /// What the product does wrong then.
    pub(super) name: &'static str,
    pub(super) file: &'static str,
    /// Found once in the file …
    pub(super) from: &'static str,
    /// … and replaced by this.
    pub(super) to: &'static str,
    pub(super) judge: Judge,
}

/// Who has to see a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judge {
    /// The simulated world, in one of some seeds.
    Seeds,
    /// A test of a crate: for what no simulated world shows.
    Test { package: &'static str, test: &'static str },
}

impl Mutant {
    /// The source with the defect; none if its place is not found once.
    pub(super) fn apply(&self, source: &str) -> Option<String> {
        let is_once = source.matches(self.from).count() == 1;
        is_once.then(|| source.replacen(self.from, self.to, 1))
    }
}

pub(super) const fn mutant(
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
) -> Mutant {
    Mutant { name, file, from, to, judge: Judge::Seeds }
}

const CLAIMS: &str = "crates/scsi-multipath/src/disk/claims.rs";
const FENCE: &str = "crates/scsi-multipath/src/disk/fence.rs";
const COMPLETE: &str = "crates/scsi-multipath/src/disk/complete.rs";
const DISK: &str = "crates/scsi-multipath/src/disk/mod.rs";
const PATH: &str = "crates/scsi-multipath/src/disk/path.rs";
const PATHS: &str = "crates/scsi-multipath/src/disk/paths.rs";
const PLAN: &str = "crates/scsi-multipath/src/disk/plan.rs";
const ROWS: &str = "crates/scsi-multipath/src/disposition/rows.rs";
const UNIT: &str = "crates/scsi-multipath/src/unit.rs";
const WORK: &str = "crates/scsi-multipath/src/disk/work.rs";
const LATE: &str = "crates/scsi-multipath/src/disk/late.rs";
const PORT_GROUPS: &str = "crates/scsi/src/port_groups/mod.rs";
const HOST_ACCESS: &str = "crates/host/src/access.rs";
const WATCH: &str = "crates/multipath/src/watch.rs";
const PACE: &str = "crates/multipath/src/pace.rs";
const HEAD: &str = "crates/multipath/src/head.rs";
const ACTIVATE: &str = "crates/scsi-multipath/src/disk/activate.rs";
const CHECK: &str = "crates/scsi-multipath/src/disk/check.rs";
const HOST_DISKS: &str = "crates/host/src/disks.rs";
const VERBS: &str = "crates/host/src/verbs/mod.rs";
const HOLD: &str = "crates/host/src/verbs/hold.rs";
const DRAIN: &str = "crates/host/src/verbs/drain.rs";
const CONNECTION: &str = "crates/host/src/connection.rs";
const HOST_FENCE: &str = "crates/host/src/fence.rs";
const HOST_SURVEY: &str = "crates/host/src/survey.rs";
const COMMANDS: &str = "crates/iscsi/src/initiator/commands.rs";
const DATA: &str = "crates/iscsi/src/initiator/data.rs";
const NUMBERING: &str = "crates/iscsi/src/initiator/numbering.rs";
const INCOMING: &str = "crates/iscsi/src/stream/incoming.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    // Quarantine.
    mutant("nothing is quarantined", FENCE, "            self.claims.doubt(extent);\n", ""),
    mutant(
        "a second failure replaces the first one's quarantine",
        CLAIMS,
        "claim.doubts += 1;",
        "claim.doubts = 1;",
    ),
    mutant(
        "overlap is off by one block",
        CLAIMS,
        "partition_point(|claim| claim.extent.end <= extent.start)",
        "partition_point(|claim| claim.extent.end <= extent.start + 512)",
    ),
    mutant(
        "overlapping writes go at the same time",
        CLAIMS,
        "Some(next) if next.extent.overlaps(extent) => None,",
        "Some(next) if next.extent.overlaps(extent) && next.doubts > 0 => None,",
    ),
    mutant(
        "a write that failed leaves its quarantine",
        COMPLETE,
        "            self.claims.ended(extent);\n        }\n        self.finish_unclaimed",
        "            if completion.is_err() { self.claims.settled(extent); }\n            self.claims.ended(extent);\n        }\n        self.finish_unclaimed",
    ),
    mutant(
        "no claim outlives its request",
        CLAIMS,
        "if !self.taken[place].is_open && self.taken[place].doubts == 0 {",
        "if !self.taken[place].is_open {",
    ),
    mutant(
        "zeros and discards take no blocks",
        WORK,
        "Operation::Read { .. } | Operation::Flush => None,",
        "Operation::Write { .. } => self.operation.extent().map(|(offset, length)| Extent::new(offset, length)),\n            _ if true => None,",
    ),
    // Fences.
    mutant(
        "a fence is over when it is asked for",
        FENCE,
        "        self.actions.push_back(Action::Fence { path });\n",
        "        self.actions.push_back(Action::Fence { path });\n        self.fenced(now, path, Proof::Reinstated);\n",
    ),
    mutant(
        "the bounded wait is no wait",
        FENCE,
        "FencePolicy::Bounded { wait } => Some(now + wait),\n            FencePolicy::Strict",
        "FencePolicy::Bounded { .. } => Some(now),\n            FencePolicy::Strict",
    ),
    mutant(
        "a disk goes while its fence is open",
        DISK,
        "Life::HeadGone if self.probes_out == 0 && (self.fences.is_empty() || !self.is_patient) => {",
        "Life::HeadGone if self.probes_out == 0 => {",
    ),
    mutant(
        "a shared unit gets its write again at once",
        COMPLETE,
        "if is_fenced && self.options.sharing == Sharing::Shared {",
        "if is_fenced && self.options.sharing == Sharing::Shared && self.requests == usize::MAX {",
    ),
    mutant(
        "what a predecessor left is forgotten",
        FENCE,
        "            self.claims.close();\n            self.open_fence(now, path, Some(target), About::Everything);\n",
        "            let _ = (path, target);\n",
    ),
    mutant(
        "a fence is a reset without the login (fresh ISID, no gate)",
        CONNECTION,
        "session_options(&self.options.initiator, initiator, &nexus.purpose, nexus.isid, challenge);",
        "{ let mut isid = nexus.isid; isid[5] = isid[5].wrapping_add(nexus.logins as u8); session_options(&self.options.initiator, initiator, &nexus.purpose, isid, challenge) };",
    ),
    mutant(
        "a fence is a login without the reset (no drain)",
        HOST_FENCE,
        "reset.insert(Reset::Asked);\n                self.ask_for(index, TaskPurpose::Fence(lun), TaskManagement::LogicalUnitReset(lun));\n            }\n        }\n",
        "reset.insert(Reset::Done);\n            }\n        }\n        self.resets_over(index);\n",
    ),
    mutant(
        "the login of a fence is given up after a second",
        CONNECTION,
        "options.login_timeout = options.login_timeout.max(FENCE_LOGIN_LIMIT);",
        "options.login_timeout = Duration::from_secs(1);",
    ),
    mutant(
        "two nexuses share an ISID",
        CONNECTION,
        "            let isid = [0x80, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]];\n            if self",
        "            let isid = [0x80, 1, 2, 3, 4, 5];\n            if bytes[0] == bytes[0] || self",
    ),
    mutant(
        "a write of unknown fate counts as not sent",
        ROWS,
        "Ending::Lost => ambiguous(class, Failure::Transport).failing(PathEffect::Failed),",
        "Ending::Lost => failover(Failure::Transport).failing(PathEffect::Failed),",
    ),
    // Failover.
    mutant(
        "a lost write is taken for done",
        COMPLETE,
        "            work.said = Said::Held;\n            return Verdict::Done;\n        }\n        Verdict::Failover",
        "            work.said = Said::Held;\n            return Verdict::Done;\n        }\n        work.said = Said::Done;\n        Verdict::Done",
    ),
    mutant(
        "the memory of a lost write is used again",
        COMPLETE,
        "                work.buffer = buffer;\n",
        "                work.buffer = if *ending == Ending::Lost { block::Buffer::zeroed(buffer.len()) } else { buffer };\n",
    ),
    mutant(
        "a short transfer is a success",
        ROWS,
        "Residual::Underflow(_) | Residual::Overflow(_) => fail(Failure::Residual).and(FollowUp::NOTICE),",
        "Residual::Underflow(_) | Residual::Overflow(_) => plain(Fate::Complete),",
    ),
    mutant(
        "an aborted write is taken for done",
        ROWS,
        "Ending::Aborted => once(class, failover(Failure::Aborted)),",
        "Ending::Aborted => plain(Fate::Complete),",
    ),
    mutant("a lost path stays in use", PATHS, "                path.standing = Standing::Lost;\n", ""),
    mutant(
        "a path that comes wakes no request that waits",
        HEAD,
        "        self.notice_availability(now);\n        self.start_parked(now);\n",
        "        self.notice_availability(now);\n",
    ),
    mutant(
        "requests fail while a path is there",
        HEAD,
        "(true, Some(_)) => {\n                self.no_path_since = None;",
        "(true, Some(_)) => {",
    ),
    mutant(
        "the memory of a command is free while its bytes are queued",
        COMMANDS,
        "if entry.queued > 0 {\n            return None;\n        }\n        let ending",
        "let ending",
    ),
    mutant(
        "data go out from the beginning of the memory",
        DATA,
        "let range = burst.offset as usize..(burst.offset + length) as usize;",
        "let range = 0..length as usize;",
    ),
    mutant(
        "the data digest is not looked at",
        INCOMING,
        "        if self.digests.data == Digest::Crc32c {\n            let computed = crc32c::crc32c_append(digest, &self.staged()[..padding]);",
        "        if self.digests.data == Digest::Crc32c && self.digests.header != self.digests.data {\n            let computed = crc32c::crc32c_append(digest, &self.staged()[..padding]);",
    ),
    mutant(
        "commands are sent beyond the window of the target",
        NUMBERING,
        "if self.max_cmd_sn.precedes(self.cmd_sn) {",
        "if self.max_cmd_sn.precedes(self.cmd_sn) && self.cmd_sn.0 == 0 {",
    ),
    mutant(
        "commands have no timeout",
        COMMANDS,
        "self.oldest.map(|index| (Slot(index), self.entries[index as usize].deadline))",
        "self.oldest.filter(|_| self.entries.is_empty()).map(|index| (Slot(index), self.entries[index as usize].deadline))",
    ),
    mutant(
        "requests wait for a path for ever",
        HEAD,
        "NoPath::QueueFor(time) => now < since + time,",
        "NoPath::QueueFor(_) => true,",
    ),
    mutant(
        "a reservation conflict fails the path",
        ROWS,
        "Status::ReservationConflict => fail(Failure::ReservationConflict)",
        "Status::ReservationConflict => failover(Failure::ReservationConflict).failing(PathEffect::Failed)",
    ),
    // Flush and cache.
    mutant(
        "a flush is never sent",
        PLAN,
        "    cached.then_some(Step::Synchronize)",
        "    (cached && features.blocks == 0).then_some(Step::Synchronize)",
    ),
    mutant(
        "a lost cache is kept secret",
        DISK,
        "        let was_lost = core::mem::take(&mut self.is_lost);",
        "        let was_lost = core::mem::take(&mut self.is_lost) && self.acknowledged == 0;",
    ),
    mutant(
        "durable writes go without FUA",
        PLAN,
        "MediumAccess { force_unit_access: forced, ..MediumAccess",
        "MediumAccess { force_unit_access: false, ..MediumAccess",
    ),
    // Identity and access.
    mutant(
        "writes go on before the identity was read again",
        PATH,
        "PathEffect::None if follow_up.contains(FollowUp::IDENTITY) => {\n                self.suspect(Reason::Verifying, now);\n            }",
        "PathEffect::None if follow_up.contains(FollowUp::IDENTITY) => {}",
    ),
    mutant(
        "a path that refuses access stays in use",
        PATH,
        "            self.unit.access = access;\n            self.is_assumed = false;",
        "            self.is_assumed = false;",
    ),
    mutant(
        "a medium error fails the path",
        ROWS,
        "(0x11 | 0x13 | 0x14, _) => fail(Failure::Medium),",
        "(0x11 | 0x13 | 0x14, _) => failover(Failure::Medium).failing(PathEffect::Failed),",
    ),
    mutant(
        "any unit is the disk's",
        UNIT,
        "    if ours.name() != theirs.name() {\n",
        "    if ours.name() != theirs.name() {\n        return Ok(());\n    }\n    if ours.name() != theirs.name() {\n",
    ),
    mutant(
        "unit attentions have no consequence",
        ROWS,
        "SenseKey::UnitAttention => unit_attention(code),",
        "SenseKey::UnitAttention => retry(Duration::ZERO, ATTENTIONS_MAX, Then::Failover, Failure::Attention),",
    ),
    mutant(
        "a reset that a later survey is told of is a greeting",
        HOST_SURVEY,
        "if std::mem::replace(&mut link.was_surveyed, true) {",
        "if std::mem::replace(&mut link.was_surveyed, false) {",
    ),
    mutant(
        "what waits to be sent on a path in doubt is sent",
        PATHS,
        "            self.actions.push_back(Action::Withdraw { path: id });\n",
        "",
    ),
    // Access states.
    mutant(
        "what a port refuses is not taken for its access state",
        PATH,
        "            self.unit.access = access;\n            self.is_assumed = false;\n",
        "            self.is_assumed = false;\n",
    ),
    mutant(
        "the preferred bit is taken for a part of the state",
        PORT_GROUPS,
        "state: AccessState::from(bytes[0] & 0x0f)",
        "state: AccessState::from(bytes[0])",
    ),
    mutant(
        "port groups that have answered are asked again and again",
        HOST_ACCESS,
        "        (self.is_assumed, self.is_failing) = (false, false);\n        self.want = None;\n",
        "        (self.is_assumed, self.is_failing) = (false, false);\n",
    ),
    // Slow paths.
    mutant(
        "the last path is put last",
        WATCH,
        "        if self.peers(position).next().is_none() {\n            return;\n        }\n",
        "",
    ),
    mutant(
        "a slow path never comes back",
        PACE,
        "        self.steady();\n        self.recovered = Some(now);\n",
        "        self.recovered = Some(now);\n",
    ),
    mutant("hedges cost nothing", WATCH, "                self.hedges -= HEDGE_PRICE;\n", ""),
    mutant(
        "both copies of a read are its answer",
        LATE,
        "        let decides = !was_decided && (has_succeeded || is_last);",
        "        let decides = has_succeeded || is_last;",
    ),
    mutant(
        "a late write is taken for a read",
        LATE,
        "let (Some((_, length)), Step::Read) = (work.operation.extent(), work.step) else { return None };",
        "let (Some((_, length)), Step::Read | Step::Write) = (work.operation.extent(), work.step) else { return None };",
    ),
    // Which ways a disk has.
    mutant(
        "without multipath a disk gets a second path",
        HOST_DISKS,
        "            Multipath::Off => false,",
        "            Multipath::Off => unit.reports_access,",
    ),
    mutant(
        "a unit that reports no groups gets a second path where it is to have one",
        HOST_DISKS,
        "            Multipath::On => unit.reports_access,",
        "            Multipath::On => true,",
    ),
    mutant(
        "port groups are changed without the word explicit",
        ACTIVATE,
        "        if self.options.alua == Alua::Implicit {\n            return None;\n        }\n",
        "",
    ),
    mutant(
        "port groups are changed although an optimized path is usable",
        ACTIVATE,
        "        if self.paths.iter().any(may_soon_be) {\n            return None;\n        }\n",
        "        let _ = may_soon_be;\n",
    ),
    mutant(
        "port groups are changed again and again without a pause",
        ACTIVATE,
        "        self.activation.attempts += 1;\n",
        "        self.activation.attempts = 1;\n",
    ),
    mutant(
        "a port group is changed for a path that an operator keeps out",
        ACTIVATE,
        "self.paths.iter().filter(|path| path.hold.is_none()).filter_map(",
        "self.paths.iter().filter_map(",
    ),
    mutant(
        "idle paths are not asked whether they are ready",
        CHECK,
        "            path.probe.want(FollowUp::READY, now);\n",
        "",
    ),
    // What operators say.
    mutant(
        "what an operator failed is forgotten when its session returns",
        HOST_DISKS,
        "        let hold = self.hold_at(place, disk);\n",
        "        let hold = None;\n",
    ),
    mutant(
        "what an operator keeps out is forgotten over a restart",
        HOLD,
        "    let holds = records.into_iter().map(|record| {",
        "    let holds = records.into_iter().take(0).map(|record| {",
    ),
    mutant(
        "a path that is drained is used",
        PATH,
        "            _ if self.hold.is_some() =>",
        "            _ if self.hold == Some(Hold::Failed) =>",
    ),
    mutant(
        "a drain does not see whether another path can read",
        DRAIN,
        "        if checks.is_empty() {\n            return self.stop_and_wait(drain);",
        "        if !force {\n            return self.stop_and_wait(drain);",
    ),
    mutant(
        "a drain is over with commands in flight",
        DRAIN,
        "matches!(drain.stage, Stage::Waiting) && in_flight(paths, &drain.seats) == 0;",
        "matches!(drain.stage, Stage::Waiting) && in_flight(paths, &drain.seats) < 2;",
    ),
    mutant(
        "the last path is failed without force",
        HOLD,
        "        if !force {\n            self.leaves_a_path(&todo)?;\n        }\n",
        "        let _ = force;\n",
    ),
    mutant(
        "a path that is reinstated stays out",
        HOLD,
        "            self.tell_disk(disk, Event::Hold { path: *path, hold: None });\n",
        "",
    ),
    mutant(
        "a word about the fences of one disk waives all",
        VERBS,
        "        self.waive(Some(disk));\n",
        "        self.waive(None);\n",
    ),
    // What exports see.
    mutant(
        "exports are not told of another size",
        PATHS,
        "        self.actions.push_back(Action::Geometry(geometry));\n",
        "",
    ),
];
