//! `chancery alert`: what people are to hear of certificates.

use crate::live::on_both_engines;

#[test]
fn an_alert_is_made_shown_changed_tested_and_deleted() {
    on_both_engines(|live| {
        live.write("secret.txt", "hushhush\n");
        live.write("slack.txt", "https://hooks.slack.com/services/T0/B0/hushhush\n");
        live.says(
            "alert create ends-soon --event expiration --before 1y --where common_name$=.example.com --email a@example.com \
             --webhook https://hooks.example.com/pki --signing-secret-file secret.txt",
            &["ends-soon", "expiration", "1y", "email", "webhook", "ends_with"],
        );
        live.says("alert create told --event revocation --slack-url-file slack.txt", &["slack", "hasWebhookUrl"]);
        let listed = live.says("alert list", &["ends-soon", "told", "revocation"]);
        assert!(!listed.contains("hushhush") && !live.says("alert show told", &["told"]).contains("hushhush"));
        live.says("cert issue --profile web-server --common-name www.example.com", &["www.example.com"]);
        live.says("alert certificates ends-soon", &["www.example.com", "web-server"]);
        // There is no mail server, and nobody to reach at the address.
        live.says("alert update ends-soon --email b@example.com --rename soon", &["b@example.com", "soon"]);
        live.fails("alert test soon", 1, "CHANCERY_SMTP_URL");
        live.says("alert history told", &["told nothing yet"]);
        live.says("alert update told --enabled false --daily true", &["no", "yes"]);
        live.says("alert delete told", &["deleted alert told"]);
        live.fails("alert show told", 1, "chancery alert list");
        live.fails("alert create x --event expiration --before 30d", 1, "needs a channel");
        live.fails("alert create x --event expiration --email a@example.com", 1, "alertBefore");
        live.fails("alert create x --event issuance --where serial=1 --email a@example.com", 1, "not a rule");
    });
}
