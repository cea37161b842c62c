//! The short form of the mutation test; the long one is in `make soak`.

use crate::{mutations, site};

#[test]
fn five_hundred_damaged_requests_are_refused_and_leave_nothing() {
    site::on_both_engines(|site| {
        let seen = mutations::run(site, 500, 0x5eed_0002);
        assert!(seen.refused > 300, "{seen:?}");
    });
}
