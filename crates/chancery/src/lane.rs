//! The threads on which requests are worked at that are not urgent. Those that revoke, or ask what is revoked, stay on the
//! threads of the listeners, which the system prefers: none of them waits in one row with thousands of others.

use std::thread::available_parallelism;
use tokio::runtime::{Builder, Handle, Runtime};

/// How far these threads stand back: far enough to make way at once, and not so far that they starve.
const NICE: i32 = 5;

/// The threads. They end when this is dropped.
pub(crate) struct Lane(Option<Runtime>);

impl Lane {
    /// Starts one for each processor.
    pub(crate) fn start() -> Result<Self, String> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(available_parallelism().map_or(1, usize::from))
            .thread_name("ordinary")
            .on_thread_start(step_back)
            .enable_all()
            .build();
        Ok(Self(Some(runtime.map_err(|error| format!("no threads for requests: {error}"))?)))
    }

    /// Where to put work.
    pub(crate) fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // What runs there was answered, or is not waited for any more.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn step_back() {
    // On Linux the id of a thread names that thread alone. Elsewhere they stand beside the others.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::warn!(%error, "ordinary requests run at the priority of urgent ones");
    }
}
