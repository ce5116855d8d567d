//! SIGTERM and SIGINT, as a question that can be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Whether somebody wants us to end. A second signal ends the process at once.
#[derive(Debug)]
pub(crate) struct Signals(Arc<AtomicBool>);

impl Signals {
    pub(crate) fn install() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // The first one sets the flag; the handler registered before it sees the flag set and ends us.
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&flag))
                .context("cannot catch signals")?;
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("cannot catch signals")?;
        }
        Ok(Self(flag))
    }

    pub(crate) fn received(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
