//! `chancery prune`.

use crate::live::on_both_engines;

#[test]
fn what_is_kept_for_how_long_is_said_and_shown_and_what_is_past_is_removed() {
    on_both_engines(|live| {
        live.says("prune policy", &["expired certificates", "for ever"]);
        live.says("prune policy --expired-certificates 90 --audit 400", &["90 days", "400 days", "for ever"]);
        live.says("prune policy --audit forever", &["90 days", "for ever"]);
        live.fails("prune policy --audit soon", 2, "a number of days");
        live.fails("prune policy --audit 3", 1, "auditDays");
        live.says("prune --dry-run", &["To be removed", "certificates", "audit records"]);
        let removed = live.json("prune");
        assert_eq!((&removed["isDone"], &removed["removed"]["certificates"]), (&true.into(), &0.into()), "{removed}");
        live.says("prune", &["Removed", "access tokens"]);
    });
}
