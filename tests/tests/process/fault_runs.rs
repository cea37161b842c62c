//! The short forms of the fault runs; `make faults` runs longer ones.

use crate::faults::{self, Plan};
use crate::history::Violation;
use crate::site::Site;
use crate::unsynced::Syncs;

const SHORT: Plan = Plan { faults: 2, load_millis_max: 400, check_every: 1, seed: 0x5eed_0101 };

#[test]
fn kills_lose_nothing_on_sqlite() {
    let seen = faults::kills(&Site::sqlite(), &SHORT);
    assert!(seen.issued > 0 && seen.signed > 0 && seen.faults == 2, "{seen:?}");
}

#[test]
fn kills_lose_nothing_on_postgresql() {
    let seen = faults::kills(&Site::postgres(), &SHORT);
    assert!(seen.issued > 0 && seen.signed > 0 && seen.faults == 2, "{seen:?}");
}

#[test]
fn losses_of_power_lose_nothing_that_was_acknowledged() {
    let (seen, _) = faults::power_losses(&Plan { faults: 3, ..SHORT }, Syncs::Kept);
    assert!(seen.issued > 0 && seen.faults == 3, "{seen:?}");
}

#[test]
fn a_disk_that_ignores_syncs_is_found_out() {
    let (seen, found) = faults::power_losses(&Plan { faults: 1, load_millis_max: 300, ..SHORT }, Syncs::Ignored);
    assert!(found.iter().any(|one| matches!(one, Violation::Lost(_))), "{seen:?} {found:?}");
}

#[test]
fn a_database_that_stops_or_crashes_loses_nothing() {
    faults::database_stops(&SHORT);
}

#[test]
fn a_promoted_standby_has_everything_that_was_acknowledged() {
    faults::promotions(&Plan { faults: 1, ..SHORT });
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    faults::full_disks(&SHORT);
}

#[test]
fn a_full_disk_of_postgresql_refuses_and_goes_on_when_there_is_room() {
    faults::full_database_disks(&Plan { faults: 1, ..SHORT });
}

#[test]
fn a_node_that_is_cut_off_says_good_of_nothing_that_another_revoked() {
    faults::cut_off(&Plan { faults: 1, ..SHORT });
}

#[test]
fn a_clock_that_jumps_stops_issuance_and_loses_nothing_on_sqlite() {
    faults::clock_jumps(&Site::sqlite(), &SHORT, &["-1d", "+2h"]);
}

#[test]
fn a_clock_that_jumps_stops_issuance_and_loses_nothing_on_postgresql() {
    faults::clock_jumps(&Site::postgres(), &SHORT, &["-1d", "+2h"]);
}
