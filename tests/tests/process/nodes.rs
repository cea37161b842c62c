//! Several nodes on one PostgreSQL, the short forms.

use crate::site::Site;
use crate::three_nodes::{self, ThreeNodes};
use crate::withdrawal;

#[test]
fn what_is_withdrawn_on_one_node_holds_on_every_node_at_once() {
    let nodes = ThreeNodes::start(&[]);
    three_nodes::what_is_withdrawn_holds_everywhere(&nodes, 6);
    three_nodes::who_is_sent_away_is_gone_everywhere(&nodes, 6);
    nodes.end();
}

#[test]
fn three_nodes_keep_one_truth_with_a_clock_that_is_90_seconds_ahead() {
    let place = Site::sqlite();
    let folder = place.path("place");
    std::fs::create_dir(&folder).unwrap();
    let nodes = ThreeNodes::start(&["--local-commands", "--local-directories", folder.to_str().unwrap()]);
    three_nodes::one_key_is_one_certificate(&nodes, 10);
    three_nodes::lists_grow(&nodes, 8);
    three_nodes::one_sync_runs_at_a_time(&nodes, &folder, 4);
    let seen = withdrawal::races_over(nodes.site(), &nodes.apis, 96, 0x5eed_0021);
    assert!(seen.revoked > 0 && seen.renewed > 0 && seen.deleted > 0, "{seen:?}");
    nodes.end();
}
