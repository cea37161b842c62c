//! The server about itself: whether it is up.

use crate::app::App;
use crate::error::Result;
use crate::render::timestamp;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{boolean, date, object, required, text};
use serde_json::json;

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    vec![
        Endpoint::get("/api/status", "Server", "Whether the server is up")
            .urgent()
            .describe("Answers without a token; what load balancers and readiness probes ask.")
            .returns(object([
                required("date", date()),
                required("message", text()),
                required("version", text()),
                required("emailConfigured", boolean()),
                required("inviteOnlySignup", boolean()),
                required("redisConfigured", boolean()),
                required("secretScanningConfigured", boolean()),
            ]))
            .public(status),
    ]
}

async fn status(app: App, _: Input) -> Result<Reply> {
    Reply::json(&json!({
        "date": timestamp(app.services.now()),
        "message": "Ok",
        "version": env!("CARGO_PKG_VERSION"),
        "emailConfigured": false,
        "inviteOnlySignup": true,
        "redisConfigured": false,
        "secretScanningConfigured": false,
    }))
}
