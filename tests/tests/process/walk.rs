//! Every endpoint of the contract, walked by `scripts/walk`, which a user can run as well.

use std::path::Path;
use std::process::Command;

use crate::site::on_both_engines;

#[test]
fn every_endpoint_of_the_contract_answers_as_it_should() {
    on_both_engines(|site| {
        let server = site.start();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/walk");
        let walked = Command::new(script).arg(site.data()).output().unwrap();
        let (said, wrong) = (String::from_utf8_lossy(&walked.stdout), String::from_utf8_lossy(&walked.stderr));
        assert!(walked.status.success(), "{said}{wrong}");
        let (good, all) = said.trim().split_once(" of ").unwrap();
        assert!(good == all && all.parse::<u32>().unwrap() >= 170, "{said}");
        server.stop();
        site.check_clean();
    });
}
