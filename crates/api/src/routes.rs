//! Every route of the server's REST API in one list.

use crate::app::App;
use crate::route::Route;
use crate::{accounts, authorities, certificates, policies, profiles, server};

/// Every route.
pub fn routes() -> Vec<Route<App>> {
    [
        accounts::routes(),
        authorities::routes(),
        certificates::routes(),
        policies::routes(),
        profiles::routes(),
        server::routes(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::router;

    #[test]
    fn no_two_routes_are_the_same() {
        // The router panics when two routes have the same method and path.
        let _ = router(routes());
    }
}
