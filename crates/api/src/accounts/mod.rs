//! Who may do what: logging in, machine identities, projects, members and roles (contract §2).

pub mod identities;
pub mod login;
pub mod members;
pub mod projects;
pub mod roles;
pub mod universal_auth;

use domain::Error;
use domain::caller::Caller;

use crate::app::App;
use crate::error::Result;
use crate::route::Route;

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    [
        login::routes(),
        universal_auth::routes(),
        identities::routes(),
        projects::routes(),
        members::routes(),
        roles::routes(),
    ]
    .concat()
}

/// The tag of these endpoints in the documentation that tells about logging in.
const LOGIN: &str = "Login";
/// Of those about machine identities.
const IDENTITIES: &str = "Identities";
/// Of those about projects, their members and roles.
const PROJECTS: &str = "Projects";

/// A request may name the organisation; another one than the caller's is not there (contract §1.4).
fn must_be_own_organization(caller: &Caller, named: Option<&str>) -> Result<()> {
    match named {
        None | Some("") => Ok(()),
        Some(id) if id.eq_ignore_ascii_case(&caller.organization.to_string()) => Ok(()),
        Some(id) => Err(Error::not_found(format!("there is no organisation {id}")).into()),
    }
}
