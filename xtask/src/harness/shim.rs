//! `shim/delay.c` in the test's hands: writes that are stuck in a target's back end until they are let go.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::process::{run, wait_until};
use super::room::Room;

const SOURCE: &str = include_str!("../../shim/delay.c");

/// Writes that may be stuck at once; the shim's own number.
pub(crate) const TOKENS: usize = 4;

/// For the compiler, and for a write to come to its end.
const LIMIT: Duration = Duration::from_secs(30);

/// The compiled shim and the folder through which it is told what to hold.
#[derive(Debug)]
pub(crate) struct Gate {
    library: PathBuf,
    folder: PathBuf,
    marker: String,
}

impl Gate {
    /// Writes that begin with `marker` can be held; every write if it is empty.
    pub(crate) fn new(room: &Room, marker: &str) -> Result<Self> {
        let (source, library, folder) = (room.path("delay.c"), room.path("delay.so"), room.path("gate"));
        fs::write(&source, SOURCE)?;
        fs::create_dir(&folder)?;
        let (from, to) = (source.to_string_lossy(), library.to_string_lossy());
        run("cc", ["-shared", "-fPIC", "-O1", "-o", &to, &from, "-ldl"], LIMIT)?.good()?;
        Ok(Self { library, folder, marker: marker.to_owned() })
    }

    /// What the target's process is to be started with.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.display().to_string()),
            ("STICK_GATE", self.folder.display().to_string()),
            ("STICK_MARKER", self.marker.clone()),
        ]
    }

    /// The next `writes` marked writes get stuck.
    pub(crate) fn arm(&self, writes: usize) -> Result<()> {
        ensure!(writes <= TOKENS, "the shim holds at most {TOKENS} writes");
        for token in 0..writes {
            self.remove("landed", token);
            fs::write(self.token("armed", token), "")?;
        }
        Ok(())
    }

    /// How many are stuck now.
    pub(crate) fn stuck(&self) -> usize {
        self.count("stuck")
    }

    pub(crate) fn wait_until_stuck(&self, writes: usize) -> Result<()> {
        wait_until(LIMIT, "write that is stuck in the back end", || (self.stuck() == writes).then_some(()))
    }

    /// Lets all go that are stuck.
    pub(crate) fn release(&self) {
        (0..TOKENS).for_each(|token| self.remove("stuck", token));
    }

    /// Until so many that were stuck have been executed.
    pub(crate) fn wait_until_landed(&self, writes: usize) -> Result<()> {
        wait_until(LIMIT, "write that was let go", || (self.count("landed") == writes).then_some(()))
            .with_context(|| format!("{} landed", self.count("landed")))
    }

    fn token(&self, state: &str, token: usize) -> PathBuf {
        self.folder.join(format!("{state}.{token}"))
    }

    fn count(&self, state: &str) -> usize {
        (0..TOKENS).filter(|token| Path::is_file(&self.token(state, *token))).count()
    }

    fn remove(&self, state: &str, token: usize) {
        // Most of the time there is none.
        let _ = fs::remove_file(self.token(state, token));
    }
}
