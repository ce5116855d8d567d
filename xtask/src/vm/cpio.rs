//! An initramfs: an archive in the "newc" format of cpio, which the kernel unpacks into its first root file system.
//! Written here because it has a device node in it, which only root could make for another archiver to find.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// The file type bits of a mode.
const CHARACTER_DEVICE: u32 = 0o020_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// What the kernel opens as the first process's input and output: major 5, minor 1.
const CONSOLE: (u32, u32) = (5, 1);

/// Every entry begins at a multiple of it, and so does its content.
const ALIGNMENT: usize = 4;

#[derive(Debug)]
pub(super) struct Archive<W> {
    out: W,
    /// The number of the next entry: two entries with one number would be one file.
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// An archive that has nothing but a console.
    pub(super) fn new(out: W) -> Result<Self> {
        let mut archive = Self { out, inode: 1 };
        archive.entry(b"dev", FOLDER | 0o755, (0, 0), &[])?;
        archive.entry(b"dev/console", CHARACTER_DEVICE | 0o600, CONSOLE, &[])?;
        Ok(archive)
    }

    /// Everything below `folder`.
    pub(super) fn add_tree(&mut self, folder: &Path) -> Result<()> {
        self.add_below(folder, folder).with_context(|| format!("packing {}", folder.display()))
    }

    /// One program.
    pub(super) fn add_program(&mut self, name: &str, content: &[u8]) -> Result<()> {
        Ok(self.entry(name.as_bytes(), FILE | 0o755, (0, 0), content)?)
    }

    pub(super) fn finish(mut self) -> Result<W> {
        self.entry(b"TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn add_below(&mut self, root: &Path, folder: &Path) -> Result<()> {
        let mut paths: Vec<_> =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        paths.sort();
        for path in paths {
            let name = path.strip_prefix(root)?.as_os_str().as_bytes();
            let about = fs::symlink_metadata(&path)?;
            let permissions = about.permissions().mode() & 0o7777;
            if about.is_symlink() {
                let to = fs::read_link(&path)?;
                self.entry(name, LINK | 0o777, (0, 0), to.as_os_str().as_bytes())?;
            } else if about.is_dir() {
                self.entry(name, FOLDER | permissions, (0, 0), &[])?;
                self.add_below(root, &path)?;
            } else {
                self.entry(name, FILE | permissions, (0, 0), &fs::read(&path)?)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &[u8], mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        let inode = self.inode;
        self.inode += 1;
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        // inode, mode, uid, gid, links, mtime, size, device, device of a node, length of the name, checksum.
        let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        let mut header = b"070701".to_vec();
        for field in fields {
            write!(header, "{field:08x}")?;
        }
        header.extend_from_slice(name);
        header.push(0);
        self.padded(&header)?;
        self.padded(content)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; ALIGNMENT][..bytes.len().next_multiple_of(ALIGNMENT) - bytes.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_format_says() {
        let mut archive = Archive::new(Vec::new()).unwrap();
        archive.add_program("init", b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        let init = bytes.windows(5).position(|window| window == b"init\0").unwrap();
        let header = std::str::from_utf8(&bytes[init - 110..init]).unwrap();
        let expected = "070701 00000003 000081ed 00000000 00000000 00000001 00000000 00000005 \
                        00000000 00000000 00000000 00000000 00000005 00000000";
        assert_eq!(header, expected.replace(' ', ""));
        assert!(bytes[init..].starts_with(b"init\0\0hello\0\0\x00070701"), "name and content are padded");
    }
}
