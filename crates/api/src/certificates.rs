//! Certificates over REST: issuing and signing (contract §6.1–6.4, 6.8, 6.10), their records (§6.7, 6.10), as
//! files and from elsewhere (§6.9), and their lists.

pub(crate) mod answer;
pub(crate) mod direct;
mod export;
mod import;
mod inventory;
pub(crate) mod issue;
mod lists;
mod records;
mod renewal;
mod requests;
pub(crate) mod shapes;

use crate::app::App;
use crate::route::Route;

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    let mut routes = issue::routes();
    routes.extend(direct::routes());
    routes.extend(records::routes());
    routes.extend(renewal::routes());
    routes.extend(lists::routes());
    routes.extend(inventory::routes());
    routes.extend(requests::routes());
    routes.extend(export::routes());
    routes.extend(import::routes());
    routes
}
