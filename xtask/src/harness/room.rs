//! A folder of its own for one case; gone when the case ends.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Short, because the path of a unix socket in it has at most 107 bytes.
#[derive(Debug)]
pub(crate) struct Room(PathBuf);

impl Room {
    pub(crate) fn new() -> Result<Self> {
        Self::new_in(&std::env::temp_dir())
    }

    /// The same in memory, where there is such a place: a target whose file is on a disk rests for as long as that does.
    pub(crate) fn in_memory() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::new_in(memory) } else { Self::new() }
    }

    fn new_in(folder: &Path) -> Result<Self> {
        let name = format!("smpath-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = folder.join(name);
        fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }

    /// Its own among all rooms of this machine now.
    pub(crate) fn name(&self) -> String {
        self.0.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A sparse file of zeroes.
    pub(crate) fn zeroes(&self, name: &str, bytes: u64) -> Result<PathBuf> {
        let path = self.path(name);
        File::create(&path)?.set_len(bytes)?;
        Ok(path)
    }

    /// A file in which every 4 KiB block differs from every other, in all of its words.
    pub(crate) fn pattern(&self, name: &str, bytes: u64) -> Result<PathBuf> {
        let path = self.path(name);
        let mut file = std::io::BufWriter::with_capacity(1 << 20, File::create(&path)?);
        for word in 0..bytes / 8 {
            file.write_all(&scrambled(word).to_le_bytes())?;
        }
        file.flush()?;
        Ok(path)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A bijection of 64-bit words without visible order, so that no two positions hold the same word.
fn scrambled(word: u64) -> u64 {
    let mixed = word.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// The first place where two files differ within `bytes`, or `None`.
pub(crate) fn first_difference(left: &Path, right: &Path, bytes: u64) -> Result<Option<u64>> {
    use std::io::Read;
    const STEP: usize = 1 << 20;
    let mut left = File::open(left)?;
    let mut right = File::open(right)?;
    let (mut a, mut b) = (vec![0; STEP], vec![0; STEP]);
    let mut at = 0;
    while at < bytes {
        let step = usize::try_from(bytes - at).unwrap_or(STEP).min(STEP);
        left.read_exact(&mut a[..step]).context("the first file is too short")?;
        right.read_exact(&mut b[..step]).context("the second file is too short")?;
        if let Some(offset) = a[..step].iter().zip(&b[..step]).position(|(a, b)| a != b) {
            return Ok(Some(at + offset as u64));
        }
        at += step as u64;
    }
    Ok(None)
}
