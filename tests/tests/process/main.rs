//! The program as a whole, from outside: what it survives, refuses and hands over. What it needs to be there is built
//! before by the script that runs the tests.

// All of this crate is tests, its helpers included.
#![allow(clippy::unwrap_used)]

mod api;
mod crash;
mod kill;
mod random;
mod site;
