//! `kill -9` under load (invariants I1 to I3, I9), the short form.

use crate::crash::{self, Plan};
use crate::site::Site;

const SHORT: Plan = Plan { kills: 5, acknowledged_min: 40, load_millis_max: 600, seed: 0x5eed_0001 };

#[test]
fn what_a_client_received_is_kept_whole_and_once_however_often_sqlite_servers_are_killed() {
    crash::run(&Site::sqlite(), &SHORT);
}

#[test]
fn what_a_client_received_is_kept_whole_and_once_however_often_postgresql_servers_are_killed() {
    crash::run(&Site::postgres(), &SHORT);
}
