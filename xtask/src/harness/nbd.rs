//! A small NBD client over a unix socket, for what the tools of others cannot do: many writes in flight of which each
//! completion is seen at its time. Of the protocol (doc/proto.md of the NBD project) it takes the fixed newstyle
//! negotiation, `NBD_OPT_GO` for an export by its name, and simple replies.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const GREETING: &[u8; 16] = b"NBDMAGICIHAVEOPT";
/// Both sides: fixed newstyle, and no zeroes after the export's data.
const FIXED_NEWSTYLE_NO_ZEROES: u16 = 0b11;
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_GO: u32 = 7;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
/// Longer than anything that a server has to say about one export.
const OPTION_REPLY_MAX: u32 = 64 << 10;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;

#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) cookie: u64,
    /// Zero is success; else as the protocol counts errors.
    pub(crate) error: u32,
}

impl Client {
    /// Opens the server's first export. `patience` bounds every single wait for the server.
    pub(crate) fn connect(socket: &Path, patience: Duration) -> Result<Self> {
        Self::open(socket, "", patience)
    }

    /// Opens the export of this name.
    pub(crate) fn open(socket: &Path, name: &str, patience: Duration) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("{}", socket.display()))?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut client = Self { stream };
        client.negotiate(name).context("NBD negotiation")?;
        Ok(client)
    }

    fn negotiate(&mut self, name: &str) -> Result<()> {
        let greeting: [u8; 18] = self.take()?;
        ensure!(greeting.starts_with(GREETING), "not an NBD server: {greeting:x?}");
        self.stream.write_all(&u32::from(FIXED_NEWSTYLE_NO_ZEROES).to_be_bytes())?;
        let mut go = Vec::from(OPTION_MAGIC);
        go.extend(OPTION_GO.to_be_bytes());
        // The length of what follows: the name with its length, and no questions.
        let length = u32::try_from(name.len())?;
        go.extend((length + 6).to_be_bytes());
        go.extend(length.to_be_bytes());
        go.extend(name.as_bytes());
        go.extend([0; 2]);
        self.stream.write_all(&go)?;
        loop {
            let header: [u8; 20] = self.take()?;
            let (magic, kind) = (be64(&header[..8]), be32(&header[12..16]));
            let length = be32(&header[16..]);
            ensure!(magic == OPTION_REPLY_MAGIC && length <= OPTION_REPLY_MAX, "out of step: {header:x?}");
            self.stream.read_exact(&mut vec![0; usize::try_from(length)?])?;
            match kind {
                REPLY_ACK => return Ok(()),
                REPLY_INFO => {}
                _ => bail!("the server refuses the export: reply {kind:#x}"),
            }
        }
    }

    /// Puts a write in flight.
    pub(crate) fn send_write(&mut self, cookie: u64, offset: u64, data: &[u8]) -> Result<()> {
        let mut request = request(WRITE, cookie, offset, u32::try_from(data.len())?).to_vec();
        request.extend(data);
        self.stream.write_all(&request)?;
        Ok(())
    }

    /// Puts a read in flight.
    pub(crate) fn send_read(&mut self, cookie: u64, offset: u64, length: usize) -> Result<()> {
        self.stream.write_all(&request(READ, cookie, offset, u32::try_from(length)?))?;
        Ok(())
    }

    /// The next completion. A read's data follow it: take them with [`Self::receive_data`].
    pub(crate) fn receive(&mut self) -> Result<Reply> {
        let reply: [u8; 16] = self.take()?;
        ensure!(be32(&reply[..4]) == SIMPLE_REPLY_MAGIC, "out of step: {reply:x?}");
        Ok(Reply { cookie: be64(&reply[8..]), error: be32(&reply[4..8]) })
    }

    /// What follows the completion of a read that went well.
    pub(crate) fn receive_data(&mut self, into: &mut [u8]) -> Result<()> {
        self.stream.read_exact(into)?;
        Ok(())
    }

    /// One write, to its end.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.send_write(0, offset, data)?;
        let reply = self.receive()?;
        ensure!(reply.error == 0, "the write at {offset} failed with error {}", reply.error);
        Ok(())
    }

    /// One read, to its end, while nothing else is in flight.
    pub(crate) fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.send_read(0, offset, length)?;
        let reply = self.receive()?;
        ensure!(reply.error == 0, "the read at {offset} failed with error {}", reply.error);
        let mut data = vec![0; length];
        self.receive_data(&mut data)?;
        Ok(data)
    }

    fn take<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH]> {
        let mut bytes = [0; LENGTH];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A server that is gone need not be told.
        let _ = self.stream.write_all(&request(DISCONNECT, 0, 0, 0));
    }
}

fn request(command: u16, cookie: u64, offset: u64, length: u32) -> [u8; 28] {
    let mut request = [0; 28];
    request[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    request[6..8].copy_from_slice(&command.to_be_bytes());
    request[8..16].copy_from_slice(&cookie.to_be_bytes());
    request[16..24].copy_from_slice(&offset.to_be_bytes());
    request[24..].copy_from_slice(&length.to_be_bytes());
    request
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn be64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
