//! The part of HTTP/1.1 that the load generator and the upstream need, so that they cost little
//! compared with what is measured.

use std::io;

use memchr::memmem;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

/// Reads messages, one after the other, from one connection. Nothing is pipelined.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    decoded: Vec<u8>,
}

/// A message, as it was received.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// First line and headers, with the empty line.
    pub(crate) head: &'a [u8],
    /// Body without transfer coding.
    pub(crate) body: &'a [u8],
}

impl Message<'_> {
    pub(crate) fn is_200(&self) -> bool {
        self.head.starts_with(b"HTTP/1.1 200")
    }
}

impl Reader {
    /// Returns the next message; `None` if the peer has closed the connection before it.
    pub(crate) async fn next<'a>(
        &'a mut self,
        socket: &mut TcpStream,
    ) -> io::Result<Option<Message<'a>>> {
        self.buffer.clear();
        self.decoded.clear();
        let head = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if socket.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        };
        let framing = Framing::of(self.buffer.get(..head).unwrap_or_default())?;
        match framing {
            Framing::Length(length) => {
                self.buffer.reserve((head + length).saturating_sub(self.buffer.len()));
                while self.buffer.len() < head + length {
                    fill(socket, &mut self.buffer).await?;
                }
                let (head, rest) = self.buffer.split_at(head);
                let body = rest.get(..length).unwrap_or_default();
                Ok(Some(Message { head, body }))
            }
            Framing::Chunked => {
                self.decode_chunks(socket, head).await?;
                Ok(Some(Message {
                    head: self.buffer.get(..head).unwrap_or_default(),
                    body: &self.decoded,
                }))
            }
        }
    }

    async fn decode_chunks(&mut self, socket: &mut TcpStream, mut at: usize) -> io::Result<()> {
        loop {
            let line = loop {
                let rest = self.buffer.get(at..).unwrap_or_default();
                if let Some(end) = memmem::find(rest, b"\r\n") {
                    break end;
                }
                fill(socket, &mut self.buffer).await?;
            };
            let size =
                self.buffer.get(at..at + line).and_then(|size| std::str::from_utf8(size).ok());
            let size = size
                .and_then(|size| usize::from_str_radix(size, 16).ok())
                .ok_or(io::ErrorKind::InvalidData)?;
            at += line + 2;
            while self.buffer.len() < at + size + 2 {
                fill(socket, &mut self.buffer).await?;
            }
            self.decoded.extend_from_slice(self.buffer.get(at..at + size).unwrap_or_default());
            at += size + 2;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

async fn fill(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    match socket.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

impl Framing {
    fn of(head: &[u8]) -> io::Result<Self> {
        for line in head.split(|byte| *byte == b'\n') {
            let line = line.trim_ascii_end();
            if let Some(length) = value_of(line, b"content-length:") {
                let length =
                    std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
                return length.map(Self::Length).ok_or(io::ErrorKind::InvalidData.into());
            }
            if value_of(line, b"transfer-encoding:").is_some() {
                return Ok(Self::Chunked);
            }
        }
        Ok(Self::Length(0))
    }
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, value) = line.split_at_checked(name.len())?;
    found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}
