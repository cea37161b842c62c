//! The program as a whole, from outside: what it survives, refuses and hands over. What it needs to be there is built
//! before by the script that runs the tests.

// All of this crate is tests, its helpers included.
#![allow(clippy::unwrap_used)]

mod admission;
mod api;
mod away;
mod backup;
mod clock;
mod crash;
mod damaged;
mod delivery;
mod doctor;
mod edges;
mod fault_runs;
mod faults;
mod first_run;
mod fsck;
mod history;
mod iot;
mod keys_rotation;
mod kill;
mod load;
mod lost_commit;
mod mutations;
mod nodes;
mod ocsp;
mod operation;
mod package;
mod random;
mod registry;
mod restores;
mod revocation;
mod secrets;
mod site;
mod syncs;
mod three_nodes;
mod tls;
mod transfer;
mod unsynced;
mod upgrade;
mod walk;
mod withdrawal;
