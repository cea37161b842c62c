//! Copies the write-ahead log into the database file beside the writer, so that no commit waits for it.
//!
//! SQLite starts a log anew only when all of it was copied, and under load the writer is always a little ahead of whoever
//! copies. So the thread here copies it, again and again what came meanwhile, until little is left, and that little the
//! writer copies between two commits.

use crate::StoreError;
use crate::sqlite_link::Link;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// From this length on, in pages, the log is copied: 8 MiB. Longer logs are copied more cheaply (each page once, however
/// often it was written), but the disk is then busy with them for so long that commits wait.
const PAGES: i64 = 2000;

/// With so few pages left the writer copies the rest: between two commits, which wait for it.
const PAGES_LEFT: i64 = 100;

/// How often the thread copies in a row what came while it copied. A reader that still looks at an older state keeps pages
/// from being copied, however often.
const PASSES: usize = 5;

/// The writer's side.
pub(crate) struct Checkpoints {
    ask: Sender<()>,
    is_copied: Arc<AtomicBool>,
    is_asked: bool,
}

/// The side of the thread that copies.
pub(crate) struct Copier {
    link: Link,
    asked: Receiver<()>,
    is_copied: Arc<AtomicBool>,
}

/// Both sides; the second is to be run on a thread of its own.
pub(crate) fn start(copier: Link) -> (Checkpoints, Copier) {
    let (ask, asked) = channel();
    let is_copied = Arc::new(AtomicBool::new(false));
    let checkpoints = Checkpoints { ask, is_copied: is_copied.clone(), is_asked: false };
    (checkpoints, Copier { link: copier, asked, is_copied })
}

impl Checkpoints {
    /// To be called by the writer after a commit.
    pub(crate) fn committed(&mut self, writer: &mut Link) -> Result<(), StoreError> {
        if !self.is_asked {
            // When the thread is gone the log grows until SQLite copies it by itself.
            self.is_asked = writer.log_pages()? >= PAGES && self.ask.send(()).is_ok();
        } else if self.is_copied.swap(false, Ordering::Acquire) {
            self.is_asked = false;
            writer.copy_log()?;
        }
        Ok(())
    }
}

impl Copier {
    /// Copies whenever it is asked, until the writer is gone.
    pub(crate) fn run(mut self) {
        while self.asked.recv().is_ok() {
            if let Err(error) = self.copy() {
                tracing::warn!(%error, "copying the write-ahead log");
            }
            self.is_copied.store(true, Ordering::Release);
        }
    }

    fn copy(&mut self) -> Result<(), StoreError> {
        for _ in 0..PASSES {
            if self.link.copy_log()? <= PAGES_LEFT {
                break;
            }
        }
        Ok(())
    }
}
