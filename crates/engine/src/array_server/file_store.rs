//! A logical unit in a sparse file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use array::{Extent, Mapping, Store, StoreError};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

/// See [`Store`].
#[derive(Debug)]
pub(super) struct FileStore {
    file: File,
    size: u64,
}

impl FileStore {
    /// Opens the file, or makes it; its size becomes `size`.
    pub(super) fn open(path: &Path, size: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(size)?;
        Ok(Self { file, size })
    }

    fn check(&self, offset: u64, length: u64) -> Result<(), StoreError> {
        match offset.checked_add(length) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(StoreError::OutOfRange),
        }
    }
}

impl Store for FileStore {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.check(offset, into.len() as u64)?;
        self.file.read_exact_at(into, offset).map_err(|error| store_error(&error))
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.check(offset, bytes.len() as u64)?;
        self.file.write_all_at(bytes, offset).map_err(|error| store_error(&error))
    }

    fn punch(&mut self, offset: u64, length: u64) -> Result<(), StoreError> {
        self.check(offset, length)?;
        if length == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, flags, offset, length) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => self.write_zeros(offset, length),
            Err(_) => Err(StoreError::Medium),
        }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|error| store_error(&error))
    }

    fn extent(&mut self, offset: u64) -> Extent {
        if offset >= self.size {
            return Extent { mapping: Mapping::Deallocated, length: 0 };
        }
        let data = seek(&self.file, SeekFrom::Data(offset)).unwrap_or(self.size);
        if data > offset {
            return Extent { mapping: Mapping::Deallocated, length: data.min(self.size) - offset };
        }
        let hole = seek(&self.file, SeekFrom::Hole(offset)).unwrap_or(self.size);
        Extent { mapping: Mapping::Mapped, length: hole.min(self.size).saturating_sub(offset) }
    }

    fn resize(&mut self, size: u64) -> Result<(), StoreError> {
        self.file.set_len(size).map_err(|error| store_error(&error))?;
        self.size = size;
        Ok(())
    }
}

impl FileStore {
    /// For file systems that cannot punch holes.
    fn write_zeros(&mut self, mut offset: u64, mut length: u64) -> Result<(), StoreError> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while length > 0 {
            let piece = usize::try_from(length).map_or(ZEROS.len(), |length| length.min(ZEROS.len()));
            self.write_at(offset, &ZEROS[..piece])?;
            offset += piece as u64;
            length -= piece as u64;
        }
        Ok(())
    }
}

fn store_error(error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace,
        _ => StoreError::Medium,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (FileStore, std::path::PathBuf) {
        let path = std::env::temp_dir().join(format!(
            "smpath-store-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        (FileStore::open(&path, 1 << 20).unwrap(), path)
    }

    #[test]
    fn what_was_punched_reads_as_zeros_and_what_was_written_stays() {
        let (mut store, path) = store();
        store.write_at(8192, &[7; 8192]).unwrap();
        store.punch(8192, 4096).unwrap();
        let mut bytes = [1; 8192];
        store.read_at(8192, &mut bytes).unwrap();
        assert_eq!((bytes[0], bytes[4095], bytes[4096], bytes[8191]), (0, 0, 7, 7));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_range_beyond_the_end_is_refused() {
        let (mut store, path) = store();
        assert_eq!(store.write_at((1 << 20) - 1, &[0; 2]), Err(StoreError::OutOfRange));
        assert_eq!(store.read_at(u64::MAX, &mut [0; 2]), Err(StoreError::OutOfRange));
        std::fs::remove_file(path).unwrap();
    }
}
