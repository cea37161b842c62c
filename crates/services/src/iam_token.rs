//! Access tokens for clients of Yandex's API, in the form that they know: `t1.` and two parts of base64url. A token in that
//! form is the same token in other words, and every API of this server takes it (device registry contract §2.7).

use crate::context::Context;
use crate::token;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::{Error, IdentityId, Reason, Result, Time};
use std::net::IpAddr;

/// A token, and when to ask for another one.
pub struct IamToken {
    /// The token.
    pub text: String,
    /// When it ends; for one without an end, a time at which asking again makes sense.
    pub ask_again_at: Time,
}

/// After how long the holder of a token without an end asks again: the longest that the vendor's tokens live.
const ENDLESS_SECONDS: i64 = 12 * 60 * 60;

impl Context {
    /// Exchanges a credential for a token: an access token of this server, or `<client id>:<client secret>`.
    #[compiled_here]
    pub async fn iam_token(&self, credential: &str, address: Option<IpAddr>) -> Result<IamToken> {
        let access_token = match credential.split_once(':') {
            Some((client_id, client_secret)) => self.log_in(client_id, client_secret, address).await?.access_token,
            None => {
                // As a bearer token it is judged by everything that holds for one: end, revocation, addresses, uses.
                self.authenticate(Some(&format!("Bearer {credential}")), address).await?;
                credential.to_owned()
            }
        };
        let now = self.now();
        let verified = self.token_key().await?.verify(&access_token, now)?;
        let ask_again_at = verified.ends_at().unwrap_or_else(|| now.plus_seconds(ENDLESS_SECONDS));
        Ok(IamToken { text: token::in_iam_form(&access_token), ask_again_at })
    }

    /// Withdraws a token of the caller's own identity, which is answered. One that was withdrawn already stays so.
    #[compiled_here]
    pub async fn revoke_iam_token(&self, caller: &Caller, text: &str) -> Result<IdentityId> {
        let verified = self.token_key().await?.verify(text, self.now()).map_err(|error| match error.reason() {
            Some(Reason::BadToken) => Error::invalid("the token is malformed, has expired or is not of this server"),
            _ => error,
        })?;
        if caller.identity() != Some(verified.identity) {
            return Err(Error::permission_denied("the token belongs to another identity"));
        }
        match self.revoke_token(text).await {
            Err(error) if error.reason() == Some(Reason::Unauthenticated) => Ok(verified.identity),
            revoked => revoked.map(|()| verified.identity),
        }
    }
}
