//! The `chancery` program: reads its arguments, runs the command, ends with its exit code. Nothing else.

use std::process::ExitCode;

use chancery::cli::{self, Next};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_to_small_pages();
    // An error means that a provider was installed before, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match cli::run(std::env::args_os(), &cli::Environment::read()) {
        Next::Done(code) => code,
        Next::Local(command) => chancery::local::run(command),
    }
}

/// Half of what an idle server holds was the unused rest of huge pages, and they made nothing quicker
/// (docs/decisions/0005-speed.md).
fn keep_to_small_pages() {
    // Where it cannot be chosen, more memory is held.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
