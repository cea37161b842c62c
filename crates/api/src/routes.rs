//! Every route of the server's REST API in one list.

use crate::app::App;
use crate::route::Route;
use crate::{accounts, authorities, certificates, policies, profiles, server, work};

/// Every route.
pub fn routes() -> Vec<Route<App>> {
    [
        accounts::routes(),
        authorities::routes(),
        certificates::routes(),
        policies::routes(),
        profiles::routes(),
        server::routes(),
        work::routes(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{parameter_names, router};
    use crate::schema::Kind;

    #[test]
    fn no_two_routes_are_the_same() {
        // The router panics when two routes have the same method and path.
        let _ = router(routes());
    }

    #[test]
    fn path_parameters_are_declared_in_the_order_of_the_path() {
        for route in routes() {
            let Kind::Object(fields) = &route.endpoint.path.kind else { panic!("a path is an object") };
            let declared: Vec<&str> = fields.iter().map(|field| field.name).collect();
            for (at, path) in route.endpoint.paths.iter().enumerate() {
                let named: Vec<&str> = parameter_names(path).collect();
                // An alias takes its parameters by position and may call them otherwise.
                assert!(named == declared || (at > 0 && named.len() == declared.len()), "{path}: {declared:?}");
            }
        }
    }
}
