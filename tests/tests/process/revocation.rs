//! Revocation and its lists against a real server, the short forms.

use std::time::Duration;

use crate::site::{Site, on_both_engines};
use crate::withdrawal;

#[test]
fn openssl_gnutls_and_pkilint_read_the_lists() {
    on_both_engines(withdrawal::others_read_the_lists);
}

#[test]
fn new_lists_are_put_to_a_web_server_and_into_a_bucket() {
    on_both_engines(withdrawal::new_lists_are_put_elsewhere);
}

#[test]
fn a_list_names_what_was_acknowledged_before_a_kill() {
    on_both_engines(|site| assert!(withdrawal::killed_before_the_list(site, 4, 0x5eed_0011) > Duration::ZERO));
}

#[test]
fn a_revocation_is_never_lost_to_a_renewal_or_a_deletion() {
    for site in [Site::sqlite(), Site::postgres()] {
        let seen = withdrawal::races(&site, 160, 0x5eed_0012);
        assert!(seen.revoked > 0 && seen.renewed > 0 && seen.deleted > 0, "{seen:?}");
    }
}
