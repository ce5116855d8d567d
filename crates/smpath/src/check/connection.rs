//! A connection to an NBD server, over whichever kind of socket.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};
use engine::config::ExportAddress;
use engine::nbd::client::{Client, Options, Receiver, Replies, Sender};
use engine::nbd::protocol::transmission_flags::{SEND_FLUSH, SEND_FUA, SEND_WRITE_ZEROES};

use super::PATIENCE;

#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Both halves, and what the server said of the disk.
pub(super) struct Connection {
    pub sender: Sender<Stream>,
    pub receiver: Receiver<Stream>,
    /// Bytes.
    pub size: u64,
}

pub(super) fn open(server: &ExportAddress, export: &str) -> Result<Connection> {
    let stream = Stream::connect(server).with_context(|| format!("cannot connect to {server}"))?;
    let other = stream.try_clone()?;
    let options = Options { export: export.to_owned(), replies: Replies::Structured };
    let client = Client::connect(stream, &options)?;
    let (size, flags) = (client.export().size, client.export().flags);
    let needed = SEND_FLUSH | SEND_FUA | SEND_WRITE_ZEROES;
    ensure!(flags & needed == needed, "the check needs a disk that takes flush, FUA and write zeroes");
    let (sender, receiver) = client.split(other);
    Ok(Connection { sender, receiver, size })
}

/// Whether our patience has ended, and not the connection.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Stream {
    fn connect(server: &ExportAddress) -> io::Result<Self> {
        match server {
            ExportAddress::NbdUnix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Self::Unix(stream))
            }
            ExportAddress::NbdTcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
        })
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(into),
            Self::Tcp(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write_vectored(slices),
            Self::Tcp(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Sockets keep nothing back.
        Ok(())
    }
}
