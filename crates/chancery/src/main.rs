//! The `chancery` program: reads its arguments, runs the command, ends with its exit code. Nothing else.

use std::process::ExitCode;

use chancery::cli::{self, Next};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // An error means that a provider was installed before, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match cli::run(std::env::args_os(), &cli::Environment::read()) {
        Next::Done(code) => code,
        Next::Local(command) => chancery::local::run(command),
    }
}
