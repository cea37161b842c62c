//! Threads that give way to those that answer requests.

/// How far such a thread stands back (nice). On a processor that others want as well it gets a tenth of it, so that its work
/// is still done in time on a server that is never idle.
#[cfg(target_os = "linux")]
pub const NICENESS: i32 = 10;

/// Lowers the priority of this thread alone. Elsewhere than on Linux it stays as it is.
pub fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS) {
        tracing::warn!(%error, "work that nobody waits for runs at normal priority");
    }
}
