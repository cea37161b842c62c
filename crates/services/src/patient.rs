//! Work that no request waits for, on threads that give way to those that answer requests.

use domain::{Error, Result};
use std::thread;
use store::step_back;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

/// How many such threads there are at once. Who finds none free waits.
static FREE: Semaphore = Semaphore::const_new(2);

/// Does the work on a thread of its own, at low priority.
pub(crate) async fn patiently<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let runtime = Handle::current();
    let place = FREE.acquire().await.map_err(|error| Error::failed_because("a thread apart", error))?;
    let (sender, answer) = oneshot::channel();
    thread::Builder::new()
        .name("patient".to_owned())
        .spawn(move || {
            // It is held until the work is done, also when nobody waits for it any more.
            let _place = place;
            step_back();
            // Who asked may have gone.
            let _ = sender.send(runtime.block_on(work));
        })
        .map_err(|error| Error::failed_because("a thread apart", error))?;
    answer.await.map_err(|_| Error::failed("a thread apart ended before it answered"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_priority_is_that_of_the_thread_alone() {
        async fn own() -> Result<i32> {
            rustix::process::getpriority_process(Some(rustix::thread::gettid()))
                .map_err(|_| Error::failed("no priority"))
        }
        let before = own().await.unwrap();
        assert_eq!(patiently(own()).await.unwrap(), store::NICENESS.max(before));
        assert_eq!(own().await.unwrap(), before);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_gives_the_place_back() {
        for _ in 0..5 {
            assert!(patiently::<()>(async { panic!("on purpose") }).await.is_err());
        }
        assert_eq!(patiently(async { Ok(7) }).await.unwrap(), 7);
    }
}
