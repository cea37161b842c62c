//! Certificates over REST: issuing and signing (contract §6.1–6.4, 6.10), their records (§6.7, 6.10), as
//! files and from elsewhere (§6.9), and their lists.

mod answer;
mod export;
mod import;
mod inventory;
mod issue;
mod lists;
mod records;
mod renewal;
mod requests;
mod shapes;

use crate::app::App;
use crate::route::Route;

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    let mut routes = issue::routes();
    routes.extend(records::routes());
    routes.extend(renewal::routes());
    routes.extend(lists::routes());
    routes.extend(inventory::routes());
    routes.extend(requests::routes());
    routes.extend(export::routes());
    routes.extend(import::routes());
    routes
}
