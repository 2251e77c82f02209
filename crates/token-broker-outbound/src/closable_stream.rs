//! The connection of an upstream, which can be closed from outside.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use parking_lot::Mutex;

/// Orders the flushes of all connections and the ends of request bodies.
static ORDER: AtomicU64 = AtomicU64::new(0);

/// The connection of an upstream. It can be closed from outside.
#[derive(Debug)]
pub struct ClosableStream<T> {
    inner: T,
    handle: CloseHandle,
}

/// Closes a connection, and knows what was written to it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct CloseHandle(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_closed: AtomicBool,
    is_h2: AtomicBool,
    /// Whether bytes were written since the last flush.
    has_written: AtomicBool,
    /// The place of the last complete flush in [`ORDER`].
    flushed: AtomicU64,
    /// The connection's task, while it waits for the peer.
    wakers: Mutex<[Option<Waker>; 2]>,
}

#[derive(Clone, Copy)]
enum Side {
    Read,
    Write,
}

/// Returns the current place in the order of flushes.
pub(crate) fn now() -> u64 {
    ORDER.load(Ordering::SeqCst)
}

impl CloseHandle {
    /// Closes the connection: nothing more is read or written.
    pub(crate) fn close(&self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
        let wakers = std::mem::take(&mut *self.0.wakers.lock());
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Returns whether everything that the HTTP client had taken at that time is written, or never
    /// will be.
    ///
    /// HTTP/1 flushes only when it holds no bytes, and the next bytes are those of another request.
    /// HTTP/2 also flushes between two frames; then it writes again at once.
    pub(crate) fn is_flushed_since(&self, time: u64) -> bool {
        let is_writing =
            self.0.is_h2.load(Ordering::SeqCst) && self.0.has_written.load(Ordering::SeqCst);
        (!is_writing && self.0.flushed.load(Ordering::SeqCst) > time)
            || self.0.is_closed.load(Ordering::SeqCst)
    }

    /// Notes that the client writes; the first bytes of a connection show its version.
    fn writes(&self, bytes: &[u8]) {
        if bytes.starts_with(b"PRI * HTTP/2.0") {
            self.0.is_h2.store(true, Ordering::SeqCst);
        }
        self.0.has_written.store(true, Ordering::SeqCst);
    }

    /// Notes a complete flush.
    fn flushed(&self) {
        self.0.has_written.store(false, Ordering::SeqCst);
        let place = ORDER.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        self.0.flushed.store(place, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.is_closed.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Notes the task that waits. Checked again afterwards, so that a close in between is seen.
    fn wait<R>(&self, side: Side, cx: &Context<'_>) -> Poll<io::Result<R>> {
        {
            let mut wakers = self.0.wakers.lock();
            let [read, write] = &mut *wakers;
            let place = match side {
                Side::Read => read,
                Side::Write => write,
            };
            match place {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *place = Some(cx.waker().clone()),
            }
        }
        match self.check() {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<T> ClosableStream<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, handle: CloseHandle::default() }
    }
}

impl<T: Read + Unpin> Read for ClosableStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.handle.check()?;
        match Pin::new(&mut self.inner).poll_read(cx, buffer) {
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending => self.handle.wait(Side::Read, cx),
        }
    }
}

impl<T: Write + Unpin> Write for ClosableStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.handle.check()?;
        self.handle.writes(bytes);
        match Pin::new(&mut self.inner).poll_write(cx, bytes) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.handle.wait(Side::Write, cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.handle.check()?;
        self.handle.writes(bytes.first().map_or(&[][..], |first| first));
        match Pin::new(&mut self.inner).poll_write_vectored(cx, bytes) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.handle.wait(Side::Write, cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.handle.check()?;
        match Pin::new(&mut self.inner).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.handle.flushed();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => self.handle.wait(Side::Write, cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The socket is closed when the client drops it.
        if self.handle.check().is_err() {
            return Poll::Ready(Ok(()));
        }
        let shut = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
        Poll::Ready(shut)
    }
}

impl<T: Connection> Connection for ClosableStream<T> {
    fn connected(&self) -> Connected {
        self.inner.connected().extra(self.handle.clone())
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_close_ends_both_directions_of_a_waiting_connection() {
        let (near, mut far) = tokio::io::duplex(8);
        let stream = ClosableStream::new(TokioIo::new(near));
        let handle = stream.handle.clone();
        let (mut read, mut write) = tokio::io::split(TokioIo::new(stream));
        let mut buffer = [0; 8];
        let (reads, writes) = (read.read(&mut buffer), write.write_all(&[1; 64]));
        let close = async {
            // Both wait by now: the duplex holds 8 bytes.
            far.read_exact(&mut [0; 8]).await.unwrap();
            handle.close();
        };
        let (read, written, ()) = tokio::join!(reads, writes, close);
        for ended in [read.map(|_| ()), written] {
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
    }

    #[tokio::test]
    async fn a_flush_counts_from_when_it_is_complete() {
        let (near, _far) = tokio::io::duplex(8);
        let stream = ClosableStream::new(TokioIo::new(near));
        let handle = stream.handle.clone();
        let mut write = TokioIo::new(stream);
        let before = now();
        write.write_all(b"1234").await.unwrap();
        assert!(!handle.is_flushed_since(before));
        write.flush().await.unwrap();
        assert!(handle.is_flushed_since(before));
        let after = now();
        assert!(!handle.is_flushed_since(after));
        handle.close();
        assert!(handle.is_flushed_since(after), "nothing more is written");
    }

    #[tokio::test]
    async fn http_2_is_not_flushed_while_it_writes() {
        for (preface, is_h2) in [("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true), ("POST /", false)] {
            let (near, _far) = tokio::io::duplex(64);
            let stream = ClosableStream::new(TokioIo::new(near));
            let handle = stream.handle.clone();
            let mut write = TokioIo::new(stream);
            let before = now();
            write.write_all(preface.as_bytes()).await.unwrap();
            write.flush().await.unwrap();
            assert!(handle.is_flushed_since(before));
            write.write_all(b"next").await.unwrap();
            assert_eq!(handle.is_flushed_since(before), !is_h2, "{preface}");
        }
    }
}
