//! PKI syncs against real counterparties, the short forms.

use crate::delivery;
use crate::site::{Site, on_both_engines};

#[test]
fn the_served_certificate_follows_its_renewal_and_a_broken_reload_takes_nothing_away() {
    on_both_engines(delivery::the_served_certificate_follows);
}

#[test]
fn look_alikes_stay_and_ours_are_as_wanted_whatever_fails() {
    for site in [Site::sqlite(), Site::postgres()] {
        let done = delivery::look_alikes_stay(&site, 120, 100, 4, 0x5eed_0021);
        assert!(done.kills >= 3 && done.faults > 5 && done.delivered > 0, "{done:?}");
    }
}

#[test]
fn a_dead_and_a_slow_destination_keep_no_other_waiting() {
    let (_, grown) = delivery::twenty_destinations(&Site::sqlite(), 200);
    assert!(grown < 200, "{grown} MiB");
}
