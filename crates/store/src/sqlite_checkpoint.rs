//! Copies the write-ahead log into the database file beside the writer, so that no commit waits for it.
//!
//! SQLite starts a log anew only when all of it was copied, and under load the writer is always a little ahead of whoever
//! copies. So the thread here copies in steps what came since, and makes each step durable: a disk that takes everything at
//! once keeps commits waiting. When the log is long enough it goes on until little is left, and that little the writer
//! copies between two commits. SQLite itself would make the file durable only then, all of it, and in the writer.

use crate::StoreError;
use crate::sqlite_link::Link;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// From this length on, in pages, the log is begun anew: 24 MiB. It is far below the length from which SQLite copies by
/// itself, inside a commit.
const PAGES: i64 = 6000;

/// How many pages are copied in a step: 2 MiB. Longer steps are cheaper, since a page is copied once however often it was
/// written, but the disk is then busy with them for so long that commits wait.
const STEP: i64 = 500;

/// With so few pages left the writer copies the rest: between two commits, which wait for it.
const PAGES_LEFT: i64 = 100;

/// How often the thread copies in a row what came while it copied. A reader that still looks at an older state keeps pages
/// from being copied, however often.
const PASSES: usize = 5;

/// What the thread is to copy.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// What there is now.
    Step,
    /// Nearly all, so that the log can begin anew.
    Rest,
}

/// The writer's side.
pub(crate) struct Checkpoints {
    ask: Sender<Part>,
    is_copied: Arc<AtomicBool>,
    asked: Option<Part>,
    /// How long the log was, in pages, when the thread was last asked.
    seen: i64,
}

/// The side of the thread that copies.
pub(crate) struct Copier {
    link: Link,
    file: Arc<File>,
    asked: Receiver<Part>,
    is_copied: Arc<AtomicBool>,
}

/// Both sides; the second is to be run on a thread of its own. The file is that of the database, and whoever gives it must
/// keep it open as long as there is a connection: to close any file of a database gives up the locks of all of this
/// process.
pub(crate) fn start(copier: Link, file: Arc<File>) -> (Checkpoints, Copier) {
    let (ask, asked) = channel();
    let is_copied = Arc::new(AtomicBool::new(false));
    let checkpoints = Checkpoints { ask, is_copied: is_copied.clone(), asked: None, seen: 0 };
    (checkpoints, Copier { link: copier, file, asked, is_copied })
}

impl Checkpoints {
    /// To be called by the writer after a commit.
    pub(crate) fn committed(&mut self, writer: &mut Link) -> Result<(), StoreError> {
        let Some(asked) = self.asked else { return self.ask_when_due(writer) };
        if !self.is_copied.swap(false, Ordering::Acquire) {
            return Ok(());
        }
        self.asked = None;
        if asked == Part::Rest {
            self.seen = 0;
            writer.copy_log()?;
        }
        Ok(())
    }

    fn ask_when_due(&mut self, writer: &mut Link) -> Result<(), StoreError> {
        let pages = writer.log_pages()?.written;
        // SQLite began it anew by itself.
        if pages < self.seen {
            self.seen = 0;
        }
        let part = if pages >= PAGES { Part::Rest } else { Part::Step };
        // When the thread is gone the log grows until SQLite copies it by itself.
        if pages - self.seen >= STEP && self.ask.send(part).is_ok() {
            (self.asked, self.seen) = (Some(part), pages);
        }
        Ok(())
    }
}

impl Copier {
    /// Copies whenever it is asked, until the writer is gone.
    pub(crate) fn run(mut self) {
        while let Ok(part) = self.asked.recv() {
            if let Err(error) = self.copy(part) {
                tracing::warn!(%error, "copying the write-ahead log");
            }
            self.is_copied.store(true, Ordering::Release);
        }
    }

    fn copy(&mut self, part: Part) -> Result<(), StoreError> {
        let passes = if part == Part::Rest { PASSES } else { 1 };
        for _ in 0..passes {
            self.link.copy_log()?;
            self.file.sync_data().map_err(|error| StoreError::Unavailable(format!("the database file: {error}")))?;
            if self.link.log_pages()?.left <= PAGES_LEFT {
                break;
            }
        }
        Ok(())
    }
}
