//! The folder in which a process remembers which nexuses may have writes in flight, and what operators keep out.
//!
//! One process at a time has it. What it holds is either the state before a change or the one after it, whenever the
//! power fails: a new file is written beside the old one, made durable, and takes its name.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use host::state::{FILE_LENGTH_MAX, State, StateError};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// What is remembered.
const STATE_FILE: &str = "state";
/// The next state, until it is durable. One that a crash left behind means nothing, and is written over.
const NEXT_FILE: &str = "state.next";
/// Locked by the process that has the folder, whose number is in it. It is never removed: a lock on a file without a
/// name would keep nobody out.
const LOCK_FILE: &str = "lock";
/// Only its owner may read what is in the folder, and above all write it.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Digits of a process number, and some.
const PROCESS_LENGTH_MAX: u64 = 20;

/// A folder that this process has to itself. See the module's documentation.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    /// The folder, to make what happens to names in it durable.
    folder: File,
    lock: File,
}

/// Why a state could not be remembered or recalled.
#[derive(Debug, thiserror::Error)]
pub enum StateFolderError {
    #[error(
        "the state folder {} is in use by another smpath{}: stop that one, or give this one its own folder with --state",
        path.display(),
        process.map_or_else(String::new, |process| format!(" (process {process})"))
    )]
    InUse { path: PathBuf, process: Option<u32> },
    #[error("cannot use {} as the state folder: {source}; name another one with --state", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot read the state in {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write the state to {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "the state in {} cannot be used: {source}. So it is not known on which sessions an earlier smpath left \
         writes, and nothing is started. Once no old write can be left (that smpath has ended, and its sessions at \
         the targets are gone: they were dropped there, or the targets were restarted), move this file away and \
         start again; what operators kept out is forgotten with it",
        path.display()
    )]
    Damaged { path: PathBuf, source: StateError },
    #[error("this state cannot be remembered: {0}")]
    Refused(StateError),
}

impl StateFolder {
    /// Makes the folder if there is none, and takes it for this process.
    ///
    /// # Errors
    /// If another process has it, or the system refuses.
    pub fn open(path: &Path) -> Result<Self, StateFolderError> {
        let refused = |source| StateFolderError::Folder { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path).map_err(refused)?;
        let folder = File::open(path).map_err(refused)?;
        let lock = file_options().read(true).open(path.join(LOCK_FILE)).map_err(refused)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(StateFolderError::InUse { path: path.to_owned(), process: holder(&lock) });
            }
            Err(error) => return Err(refused(error.into())),
        }
        let this = Self { path: path.to_owned(), folder, lock };
        this.sign().map_err(refused)?;
        Ok(this)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What an earlier process remembered; nothing if there was none.
    ///
    /// # Errors
    /// If what is there is not a state that this version wrote. Then nexuses of an earlier process may be unknown,
    /// and nothing may be written through any.
    pub fn load(&self) -> Result<State, StateFolderError> {
        let path = self.path.join(STATE_FILE);
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(source) => return Err(StateFolderError::Read { path, source }),
        };
        State::decode(&bytes).map_err(|source| StateFolderError::Damaged { path, source })
    }

    /// Remembers `state` in place of what was remembered. When this returns, a power failure does not undo it.
    ///
    /// It waits for the disk, twice.
    ///
    /// # Errors
    /// If the state is beyond a limit or cannot be written. The state before is then still remembered, unless the
    /// system could not say whether the new one had taken its place.
    pub fn save(&self, state: &State) -> Result<(), StateFolderError> {
        state.check().map_err(StateFolderError::Refused)?;
        self.write_next(&state.encode())
            .and_then(|()| self.publish_next())
            .map_err(|source| StateFolderError::Write { path: self.path.join(STATE_FILE), source })
    }

    fn write_next(&self, bytes: &[u8]) -> io::Result<()> {
        let mut next = file_options().truncate(true).open(self.path.join(NEXT_FILE))?;
        next.write_all(bytes)?;
        next.sync_all()
    }

    fn publish_next(&self) -> io::Result<()> {
        std::fs::rename(self.path.join(NEXT_FILE), self.path.join(STATE_FILE))?;
        self.folder.sync_all()
    }

    /// Says in the lock file whose it is.
    fn sign(&self) -> io::Result<()> {
        self.lock.set_len(0)?;
        (&self.lock).write_all(format!("{}\n", std::process::id()).as_bytes())
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        // A number that stays behind would blame a process that has ended; the lock goes with the file.
        let _ = self.lock.set_len(0);
    }
}

/// To write, and to make if there is none. What is in the file stays.
fn file_options() -> std::fs::OpenOptions {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(FILE_MODE);
    options
}

/// The process whose number is in a lock file; none in the moment before it is written.
fn holder(lock: &File) -> Option<u32> {
    let mut text = String::new();
    lock.take(PROCESS_LENGTH_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// A whole file, or so much of it that it is seen to be too long.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        // Whoever opens a pipe waits for its other end.
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_LENGTH_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};

    use host::state::NexusRecord;

    use super::*;

    /// A name for a folder that is not there yet, and goes with the test.
    struct Room(PathBuf);

    impl Room {
        fn new() -> Self {
            static ROOMS: AtomicU32 = AtomicU32::new(0);
            let number = ROOMS.fetch_add(1, Ordering::Relaxed);
            Self(std::env::temp_dir().join(format!("smpath-state-{}-{number}", std::process::id())))
        }

        fn folder(&self) -> StateFolder {
            StateFolder::open(&self.0).unwrap()
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Room {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn state(number: u8) -> State {
        let nexus = NexusRecord {
            initiator: String::from("iqn.2026-11.org.smpath:host"),
            isid: [0x80, 0, 0, 0, 0, number],
            target: String::from("iqn.2001-04.com.example:disk"),
            portal: SocketAddr::from(([192, 0, 2, 1], 3260)),
            group: Some(1),
            units: Vec::new(),
            abandoned: false,
        };
        State { nexuses: vec![nexus], ..State::default() }
    }

    #[test]
    fn a_new_folder_remembers_nothing_and_is_its_owners_alone() {
        let room = Room::new();
        let folder = room.folder();
        assert_eq!(folder.load().unwrap(), State::default());
        folder.save(&state(1)).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&room.0), mode(&room.file("state"))), (0o700, 0o600));
    }

    #[test]
    fn what_was_saved_last_is_what_the_next_process_finds() {
        let room = Room::new();
        let folder = room.folder();
        folder.save(&state(1)).unwrap();
        folder.save(&state(2)).unwrap();
        drop(folder);
        assert_eq!(room.folder().load().unwrap(), state(2));
    }

    #[test]
    fn a_second_user_is_refused_and_told_who_the_first_is() {
        let room = Room::new();
        let first = room.folder();
        let error = StateFolder::open(&room.0).unwrap_err().to_string();
        let process = format!("process {}", std::process::id());
        assert!(error.contains(&process) && error.contains("--state"), "{error}");
        drop(first);
        room.folder();
    }

    #[test]
    fn a_lock_file_of_a_process_that_was_killed_keeps_nobody_out() {
        let room = Room::new();
        drop(room.folder());
        std::fs::write(room.file("lock"), "4194304\n").unwrap();
        let _folder = room.folder();
        let text = std::fs::read_to_string(room.file("lock")).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_crash_before_the_new_state_has_its_name_leaves_the_old_one() {
        let room = Room::new();
        let folder = room.folder();
        folder.save(&state(1)).unwrap();
        // Half of it is written, then all of it; then the power fails.
        for length in [20, state(2).encode().len()] {
            folder.write_next(&state(2).encode()[..length]).unwrap();
            assert_eq!(folder.load().unwrap(), state(1));
        }
        drop(folder);
        let folder = room.folder();
        assert_eq!(folder.load().unwrap(), state(1));
        folder.save(&State::default()).unwrap();
        assert_eq!(folder.load().unwrap(), State::default());
        assert!(!room.file("state.next").exists());
    }

    #[test]
    fn a_truncated_or_empty_file_is_refused_with_what_to_do() {
        let room = Room::new();
        let folder = room.folder();
        folder.save(&state(1)).unwrap();
        let whole = std::fs::read(room.file("state")).unwrap();
        for length in [0, 5, whole.len() - 1] {
            std::fs::write(room.file("state"), &whole[..length]).unwrap();
            let error = folder.load().unwrap_err().to_string();
            for words in ["cut short", "not known on which sessions", "move this file away"] {
                assert!(error.contains(words), "{error}");
            }
        }
    }

    #[test]
    fn a_file_of_another_version_is_refused_and_kept() {
        let room = Room::new();
        let folder = room.folder();
        std::fs::write(room.file("state"), "smpath-state 7 of another time\n").unwrap();
        let error = folder.load().unwrap_err().to_string();
        assert!(error.contains("format 7"), "{error}");
        assert!(room.file("state").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let room = Room::new();
        std::fs::write(&room.0, "a file").unwrap();
        let error = StateFolder::open(&room.0.join("inner")).unwrap_err().to_string();
        assert!(error.contains("inner") && error.contains("--state"), "{error}");
        std::fs::remove_file(&room.0).unwrap();
    }

    #[test]
    fn a_state_that_could_not_be_read_again_is_not_written() {
        let room = Room::new();
        let folder = room.folder();
        folder.save(&state(1)).unwrap();
        let mut wrong = state(2);
        wrong.nexuses[0].target = "x".repeat(host::state::NAME_LENGTH_MAX + 1);
        assert!(matches!(folder.save(&wrong), Err(StateFolderError::Refused(_))));
        assert_eq!(folder.load().unwrap(), state(1));
    }
}
