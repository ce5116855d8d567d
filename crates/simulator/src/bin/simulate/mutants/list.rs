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
    /// Seen with this profile of faults only; with that of the gate if none.
    pub(super) profile: Option<&'static str>,
}

impl Mutant {
    /// The source with the defect; none if its place is not found once.
    pub(super) fn apply(&self, source: &str) -> Option<String> {
        let is_once = source.matches(self.from).count() == 1;
        is_once.then(|| source.replacen(self.from, self.to, 1))
    }
}

const fn mutant(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { name, file, from, to, profile: None }
}

const CLAIMS: &str = "crates/scsi-multipath/src/disk/claims.rs";
const FENCE: &str = "crates/scsi-multipath/src/disk/fence.rs";
const COMPLETE: &str = "crates/scsi-multipath/src/disk/complete.rs";
const DISK: &str = "crates/scsi-multipath/src/disk/mod.rs";
const PATH: &str = "crates/scsi-multipath/src/disk/path.rs";
const PATHS: &str = "crates/scsi-multipath/src/disk/paths.rs";
const PLAN: &str = "crates/scsi-multipath/src/disk/plan.rs";
const ROWS: &str = "crates/scsi-multipath/src/disposition/rows.rs";
const HEAD: &str = "crates/multipath/src/head.rs";

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
    mutant("a predecessor is thought to have flushed", FENCE, "        self.cache.acknowledged += 1;\n", ""),
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
        "durable writes are not",
        PLAN,
        "    is_durable(&work.operation) && !forced && features.write_cache == WriteCache::Back",
        "    is_durable(&work.operation) && !forced && features.blocks == 0",
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
];
