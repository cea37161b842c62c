//! The long forms of the crash and mutation tests, which `make soak` runs. What each saw is printed.

// All of this crate is tests, its helpers included.
#![allow(clippy::unwrap_used)]
// The modules are shared with the short tests, which use more of them.
#![allow(dead_code)]

#[path = "process/api.rs"]
mod api;
#[path = "process/crash.rs"]
mod crash;
#[path = "process/delivery.rs"]
mod delivery;
#[path = "process/faults.rs"]
mod faults;
#[path = "process/history.rs"]
mod history;
#[path = "process/load.rs"]
mod load;
#[path = "process/mutations.rs"]
mod mutations;
#[path = "process/random.rs"]
mod random;
#[path = "process/restores.rs"]
mod restores;
#[path = "process/site.rs"]
mod site;
#[path = "process/three_nodes.rs"]
mod three_nodes;
#[path = "process/unsynced.rs"]
mod unsynced;
#[path = "process/withdrawal.rs"]
mod withdrawal;

use crash::Plan;
use site::Site;
use three_nodes::ThreeNodes;

#[test]
#[ignore = "takes minutes: make soak"]
fn kill_fifty_times_under_load_on_sqlite() {
    crash::run(&Site::sqlite(), &WHOLE);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn kill_fifty_times_under_load_on_postgresql() {
    crash::run(&Site::postgres(), &WHOLE);
}

const WHOLE: Plan = Plan { kills: 50, acknowledged_min: 1000, load_millis_max: 1500, seed: 0x5eed_0001 };

#[test]
#[ignore = "takes minutes: make soak"]
fn backup_twenty_restores_under_load_on_each_engine() {
    for site in [Site::sqlite(), Site::postgres()] {
        let plan = restores::Plan { restores: 20, load_millis_max: 600, seed: 0x5eed_0031 };
        let seen = restores::run(&site, &plan);
        println!("{}: {seen:?}; fsck was clean after each, and no serial number came twice", site.engine());
    }
}

#[test]
#[ignore = "takes minutes: make soak"]
fn mutations_ten_thousand_on_both_engines() {
    for site in [Site::sqlite(), Site::postgres()] {
        let seen = mutations::run(&site, 10_000, 0x5eed_0003);
        println!(
            "{}: {} damaged requests were refused, {} were as good as before",
            site.engine(),
            seen.refused,
            seen.harmless
        );
    }
}

#[test]
#[ignore = "takes minutes: make soak"]
fn revocation_races_ten_thousand_on_both_engines() {
    for site in [Site::sqlite(), Site::postgres()] {
        let seen = withdrawal::races(&site, 10_000, 0x5eed_0012);
        println!("{}: {seen:?}; every acknowledged revocation is in the inventory and in the list", site.engine());
    }
}

#[test]
#[ignore = "takes minutes: make soak"]
fn revocation_two_hundred_kills_before_the_list() {
    for (site, kills) in [(Site::sqlite(), 200), (Site::postgres(), 200)] {
        let slowest = withdrawal::killed_before_the_list(&site, kills, 0x5eed_0011);
        println!(
            "{}: {kills} kills between revocation and list; after each start the list named all within {slowest:?}",
            site.engine()
        );
    }
}

#[test]
#[ignore = "takes minutes: make soak"]
fn syncs_ten_thousand_operations_among_a_thousand_look_alikes() {
    for site in [Site::sqlite(), Site::postgres()] {
        let done = delivery::look_alikes_stay(&site, 10_000, 1_000, 100, 0x5eed_0021);
        println!(
            "{}: {done:?}; every look-alike is as it was, ours are as wanted, and none was ever missing",
            site.engine()
        );
    }
}

#[test]
#[ignore = "takes minutes: make soak"]
fn syncs_fifteen_hundred_operations_by_several_seeds() {
    for (site, seed) in [
        (Site::sqlite(), 0x5eed_0031),
        (Site::postgres(), 0x5eed_0032),
        (Site::sqlite(), 0x5eed_0033),
        (Site::sqlite(), 0x5eed_0034),
    ] {
        let done = delivery::look_alikes_stay(&site, 1_500, 100, 20, seed);
        println!("{}, seed {seed:#x}: {done:?}; every look-alike is as it was, ours are as wanted", site.engine());
    }
}

#[test]
#[ignore = "takes minutes: make soak"]
fn syncs_ten_thousand_certificates_at_twenty_destinations() {
    let (took, grown) = delivery::twenty_destinations(&Site::sqlite(), 10_000);
    println!(
        "beside a dead and a slow one, eighteen destinations had 9,000 certificates within {took:?}; {grown} MiB more memory"
    );
    assert!(took < std::time::Duration::from_secs(60), "{took:?}");
}

#[test]
#[ignore = "takes minutes: make soak"]
fn nodes_ten_thousand_races_on_three() {
    let nodes = ThreeNodes::start(&[]);
    let seen = withdrawal::races_over(nodes.site(), &nodes.apis, 10_000, 0x5eed_0022);
    println!("three nodes: {seen:?}; every acknowledged revocation is in the inventory and in the list");
    three_nodes::what_is_withdrawn_holds_everywhere(&nodes, 500);
    println!("1,000 times what was withdrawn on one node was refused on the two others at once");
    three_nodes::who_is_sent_away_is_gone_everywhere(&nodes, 500);
    println!("500 times who was sent away on one node was refused on the two others at once");
    three_nodes::one_key_is_one_certificate(&nodes, 500);
    println!("500 keys on three nodes at once gave 500 certificates");
    three_nodes::lists_grow(&nodes, 300);
    println!("900 times a list was signed by three nodes at once: numbers grow, and none stands on two lists");
    nodes.end();
}

/// All faults on both engines, as many as fit into a quarter of an hour.
#[test]
#[ignore = "takes minutes: make faults"]
fn all_faults_in_fifteen_minutes() {
    let plan = |faults| faults::Plan { faults, load_millis_max: 600, check_every: 5, seed: 0x5eed_0111 };
    faults::kills(&Site::sqlite(), &plan(60));
    faults::kills(&Site::postgres(), &plan(40));
    a_disk_that_forgets(&plan(40));
    faults::database_stops(&plan(10));
    faults::promotions(&plan(5));
    faults::full_disks(&plan(20));
    faults::full_database_disks(&plan(5));
    faults::cut_off(&plan(3));
    faults::clock_jumps(&Site::sqlite(), &plan(8), &JUMPS);
    faults::clock_jumps(&Site::postgres(), &plan(4), &JUMPS);
}

const JUMPS: [&str; 4] = ["-1d", "+2h", "-10y", "+1d"];

/// Losses of power, and the proof that they are ones: the same disk, ignoring syncs, loses what was acknowledged.
fn a_disk_that_forgets(plan: &faults::Plan) {
    faults::power_losses(plan, unsynced::Syncs::Kept);
    let few = faults::Plan { faults: 1, ..*plan };
    let (seen, found) = faults::power_losses(&few, unsynced::Syncs::Ignored);
    let lost = found.iter().filter(|one| matches!(one, history::Violation::Lost(_))).count();
    assert!(lost > 0, "{seen:?}");
    println!("with syncs ignored, one loss of power lost {lost} certificates that were acknowledged");
}

const fn whole(faults: usize) -> faults::Plan {
    faults::Plan { faults, load_millis_max: 600, check_every: 20, seed: 0x5eed_0121 }
}

/// On ten sites, since after each fault all that clients have seen until then is looked at.
fn five_hundred_kills(site: fn() -> Site) {
    let mut kills = 0;
    for part in 0..10 {
        let plan = whole(50);
        kills += faults::kills(&site(), &faults::Plan { seed: plan.seed + part, ..plan }).faults;
    }
    assert_eq!(kills, 500);
}

#[test]
#[ignore = "takes long: scripts/soak faults"]
fn faults_five_hundred_kills_on_postgresql() {
    five_hundred_kills(Site::postgres);
}

#[test]
#[ignore = "takes long: scripts/soak faults"]
fn faults_five_hundred_kills_on_sqlite() {
    five_hundred_kills(Site::sqlite);
}

#[test]
#[ignore = "takes long: scripts/soak faults"]
fn faults_two_hundred_losses_of_power() {
    a_disk_that_forgets(&whole(200));
}

#[test]
#[ignore = "takes long: scripts/soak faults"]
fn faults_fifty_promotions() {
    faults::promotions(&whole(50));
}

#[test]
#[ignore = "takes long: scripts/soak faults"]
fn faults_fifty_stops_of_postgresql() {
    faults::database_stops(&whole(50));
}

#[test]
#[ignore = "takes long: scripts/soak faults"]
fn faults_fifty_full_disks() {
    faults::full_disks(&whole(50));
}

#[test]
#[ignore = "takes long: scripts/soak faults"]
fn faults_twenty_full_disks_of_postgresql() {
    faults::full_database_disks(&whole(20));
}

#[test]
#[ignore = "takes long: scripts/soak faults"]
fn faults_twenty_nodes_cut_off() {
    faults::cut_off(&whole(20));
}

#[test]
#[ignore = "takes long: scripts/soak faults"]
fn faults_forty_clocks_that_jump() {
    faults::clock_jumps(&Site::sqlite(), &whole(20), &JUMPS);
    faults::clock_jumps(&Site::postgres(), &whole(20), &JUMPS);
}
