//! `smpath run`: serve disks until told to stop.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Result, bail};
use engine::status::{Notice, NoticeKind, Severity};
use engine::{Message, ShardHandle};

use crate::cli::Run;
use crate::config;
use crate::control::Control;
use crate::signals::Signals;

/// How often the main thread looks for a signal while nothing happens.
const LOOK: Duration = Duration::from_millis(100);
/// Causes that are kept back: more than a host has portals.
const CAUSES_MAX: usize = 64;
/// Those that one line can tell.
const CAUSES_TOLD: usize = 3;

pub(crate) fn run(arguments: &Run) -> Result<()> {
    let signals = Signals::install()?;
    let settings = config::settings(arguments)?;
    for warning in &settings.warnings {
        eprintln!("smpath: warning: {warning}");
    }
    let (shard, notices) = ShardHandle::start(settings.shard)?;
    let shard = Arc::new(shard);
    let control_path = settings.control.unwrap_or_else(config::default_control);
    let control = match Control::serve(control_path.clone(), Arc::clone(&shard)) {
        Ok(control) => control,
        Err(error) => {
            shard.stop();
            drain(&notices);
            return Err(error);
        }
    };
    eprintln!("smpath: control socket {}", control_path.display());
    let outcome = follow(&notices, &signals, &shard, settings.chap_file.as_deref());
    drop(control);
    eprintln!("smpath: ending: flushing and logging out");
    shard.stop();
    let clean = drain(&notices);
    outcome?;
    if !clean {
        bail!("not everything could be flushed and logged out in time");
    }
    Ok(())
}

/// Prints what happens until a signal comes, or until it is clear that there is nothing to serve.
fn follow(
    notices: &Receiver<Notice>,
    signals: &Signals,
    shard: &ShardHandle,
    chap_file: Option<&Path>,
) -> Result<()> {
    // What portals answer is kept back until it is clear whether it is why there is nothing to serve.
    let mut causes = Some(Causes::default());
    while !signals.received() {
        if let Some(file) = chap_file.filter(|_| shard.were_credentials_refused()) {
            renew_credentials(shard, file);
        }
        let notice = match notices.recv_timeout(LOOK) {
            Ok(notice) => notice,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return ended(causes),
        };
        match &mut causes {
            Some(causes) if notice.severity == Severity::Error && notice.kind == NoticeKind::PortalFailed => {
                causes.add(notice.text.clone());
            }
            _ => print(&notice),
        }
        match notice.kind {
            NoticeKind::Settled { disks: 0 } => bail!(causes.unwrap_or_default().to_line()),
            NoticeKind::Settled { disks } => {
                causes.take().unwrap_or_default().print();
                for export in shard.exports() {
                    println!("serving {disks} disk(s) at {export}");
                }
            }
            NoticeKind::Ended { .. } => return ended(causes),
            _ => {}
        }
    }
    causes.unwrap_or_default().print();
    Ok(())
}

fn ended(causes: Option<Causes>) -> Result<()> {
    causes.unwrap_or_default().print();
    bail!("the shard has ended unexpectedly")
}

/// Why there is nothing to serve, or may be.
#[derive(Debug, Default)]
struct Causes {
    /// The first ones.
    told: Vec<String>,
    more: usize,
}

impl Causes {
    fn add(&mut self, cause: String) {
        if self.told.contains(&cause) {
            return;
        }
        if self.told.len() < CAUSES_MAX { self.told.push(cause) } else { self.more += 1 }
    }

    fn to_line(&self) -> String {
        let told = match self.told[..] {
            [] => String::from("see the lines above for what each portal answered"),
            _ => self.told[..self.told.len().min(CAUSES_TOLD)].join("; and "),
        };
        let more = match self.told.len().saturating_sub(CAUSES_TOLD) + self.more {
            0 => String::new(),
            more => format!("; and {more} more: SMPATH_LOG=info tells them"),
        };
        format!("no disk was found: {told}{more}")
    }

    /// There is something to serve all the same.
    fn print(&self) {
        for cause in &self.told {
            eprintln!("smpath: error: {cause}");
        }
        if self.more > 0 {
            eprintln!("smpath: error: and {} more", self.more);
        }
    }
}

/// Somebody may have put other credentials into the file.
fn renew_credentials(shard: &ShardHandle, file: &Path) {
    match config::chap_file(file) {
        // A shard that has ended needs none; a busy one is asked again after the next refusal.
        Ok(chap) => drop(shard.send(Message::Credentials(Some(chap)))),
        Err(error) => eprintln!("smpath: warning: the CHAP file is not read again: {error:#}"),
    }
}

/// Prints what is left to say; whether the shard ended in order.
fn drain(notices: &Receiver<Notice>) -> bool {
    let mut clean = false;
    while let Ok(notice) = notices.recv() {
        if let NoticeKind::Ended { clean: ended_clean } = notice.kind {
            clean = ended_clean;
        } else {
            print(&notice);
        }
    }
    clean
}

fn print(notice: &Notice) {
    match notice.severity {
        Severity::Info => eprintln!("smpath: {notice}"),
        Severity::Warning => eprintln!("smpath: warning: {notice}"),
        Severity::Error => eprintln!("smpath: error: {notice}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_tells_the_first_causes_once_each_and_counts_the_rest() {
        let mut causes = Causes::default();
        assert_eq!(causes.to_line(), "no disk was found: see the lines above for what each portal answered");
        for cause in ["a", "b", "a", "c", "d", "e"] {
            causes.add(cause.to_owned());
        }
        let expected = "no disk was found: a; and b; and c; and 2 more: SMPATH_LOG=info tells them";
        assert_eq!(causes.to_line(), expected);
    }
}
