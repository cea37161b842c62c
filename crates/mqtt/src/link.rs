//! The octets of one connection, both ways. An idle connection keeps no buffer: what is read goes through one of the thread
//! and is kept only while a packet is not whole, and what is written is given back when it is gone.

use crate::frame::{self, Frame};
use crate::packet::Violation;
use bytes::{Buf, BytesMut};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at once: a TLS record.
const READ_OCTETS: usize = 16 * 1024;
/// A buffer that is not larger is kept when it is empty.
const KEPT_OCTETS: usize = 512;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_OCTETS].into());
}

/// A stream and what is on its way.
pub struct Link<S> {
    stream: S,
    input: BytesMut,
    /// What is to be written.
    pub output: BytesMut,
    is_flushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, input: BytesMut::new(), output: BytesMut::new(), is_flushed: true }
    }

    /// The next whole packet of what was read.
    pub fn frame(&mut self, octets_max: usize) -> Result<Option<Frame>, Violation> {
        let Some((frame, used)) = frame::first(&self.input, octets_max)? else { return Ok(None) };
        self.input.advance(used);
        if self.input.is_empty() && self.input.capacity() > KEPT_OCTETS {
            self.input = BytesMut::new();
        }
        Ok(Some(frame))
    }

    /// Reads once. Zero octets are the end.
    pub fn poll_read(&mut self, context: &mut TaskContext<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            self.input.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Writes what there is. Ready when all of it has left.
    pub fn poll_write(&mut self, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            self.is_flushed = false;
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
        }
        if self.output.capacity() > KEPT_OCTETS {
            self.output = BytesMut::new();
        }
        if !self.is_flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what there is, and says goodbye to the other side.
    pub async fn close(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_write(context)).await?;
        std::future::poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await?;
        // A client that is still sending when the connection is gone may not get to see the last answer.
        while std::future::poll_fn(|context| self.poll_read(context)).await? > 0 {
            self.input.clear();
        }
        Ok(())
    }
}
