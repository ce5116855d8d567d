//! Why a disk does what it does, in the words of [`crate::status`].

use host::DiskIndex;
use host::explain::{PathExplanation, Wait};
use host::names::Named;
use multipath::PathId;

use super::Shard;
use crate::status::{EventStatus, ExplainStatus, PathReason, WaitReason};

/// Events of the paths that are asked about: what fits a screen.
const EVENTS_SHOWN: usize = 12;

impl Shard {
    /// Of a disk, of paths or of a portal; of the only disk if nothing is named.
    pub(super) fn explain(&self, name: Option<&str>) -> Result<Vec<ExplainStatus>, String> {
        match self.host.named(name).map_err(|error| error.to_string())? {
            Named::Disk(disk) => self.explain_disk(disk, None).map(|status| vec![status]),
            Named::Paths(paths) => self.explain_paths(&paths),
        }
    }

    fn explain_paths(&self, paths: &[PathId]) -> Result<Vec<ExplainStatus>, String> {
        let disks = self.host.disks().map(|view| view.index);
        let mut explained = Vec::new();
        for disk in disks {
            let status = self.explain_disk(disk, Some(paths))?;
            if !status.paths.is_empty() {
                explained.push(status);
            }
        }
        Ok(explained)
    }

    fn explain_disk(&self, disk: DiskIndex, only: Option<&[PathId]>) -> Result<ExplainStatus, String> {
        let name = self.host.disk(disk).map(|view| view.identity.to_string()).unwrap_or_default();
        let explanation = self.host.explain(disk).ok_or_else(|| {
            format!("{name} is served without the multipath layer (--direct): its path takes everything")
        })?;
        let is_meant = |path: PathId| only.is_none_or(|only| only.contains(&path));
        let paths = explanation.paths.iter().filter(|path| is_meant(path.path));
        let waits = explanation.waits.iter().filter(|_| only.is_none());
        Ok(ExplainStatus {
            disk: name,
            policy: explanation.policy.to_string(),
            next: explanation.next.map(|path| path.0),
            paths: paths.map(|path| self.path_reason(path)).collect(),
            waits: waits.map(|wait| self.wait_reason(wait)).collect(),
            events: only.map_or_else(Vec::new, |only| self.events_of(only)),
        })
    }

    /// The last events of some paths, the oldest first.
    fn events_of(&self, paths: &[PathId]) -> Vec<EventStatus> {
        let events = self.host.events(0).filter(|entry| entry.path.is_some_and(|path| paths.contains(&path)));
        let events: Vec<_> = events.collect();
        let shown = events.len().saturating_sub(EVENTS_SHOWN);
        events[shown..].iter().map(|entry| self.event_status(entry)).collect()
    }

    fn path_reason(&self, path: &PathExplanation) -> PathReason {
        let view = self.host.path(path.path);
        let nexus = view.as_ref().and_then(|view| self.host.nexus(view.nexus));
        PathReason {
            path: path.path.0,
            nop_us: nexus.as_ref().and_then(|nexus| nexus.ping).map(clock::Duration::as_micros),
            portal: nexus.map_or_else(String::new, |nexus| nexus.portal.to_string()),
            lun: view.map_or_else(String::new, |view| view.lun.to_string()),
            state: path.state.to_string(),
            code: path.code.to_owned(),
            since_ms: self.now.since(path.since).as_millis(),
            for_ms: path.until.map(|until| until.since(self.now).as_millis()),
            why: path.why.clone(),
            remedy: path.remedy.clone(),
        }
    }

    fn wait_reason(&self, wait: &Wait) -> WaitReason {
        WaitReason {
            code: wait.code.to_owned(),
            count: wait.count,
            since_ms: wait.since.map(|since| self.now.since(since).as_millis()),
            for_ms: wait.until.map(|until| until.since(self.now).as_millis()),
            why: wait.why.clone(),
        }
    }
}
