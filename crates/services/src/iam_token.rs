//! Access tokens for clients of Yandex's API, in the form that they know: `t1.` and two parts of base64url, with an end within
//! twelve hours. A token in that form stands for the same record as the one that it was made of, and every API of this server
//! takes it (device registry contract §2.7).

use crate::context::{Context, failed};
use crate::token;
use async_recursion::async_recursion as compiled_here;
use domain::caller::Caller;
use domain::{Error, IdentityId, Reason, Result, Time};
use std::net::IpAddr;

/// A token, and its end.
pub struct IamToken {
    /// The token.
    pub text: String,
    /// When it ends.
    pub ends_at: Time,
}

/// The longest that a token lives, as at the vendor.
const LIFETIME_SECONDS_MAX: i64 = 12 * 60 * 60;

impl Context {
    /// Exchanges a credential for a token: an access token of this server, or `<client id>:<client secret>`. A token that ends
    /// soon enough is given in another form alone, so exchanging one again does not prolong it.
    #[compiled_here]
    pub async fn iam_token(&self, credential: &str, address: Option<IpAddr>) -> Result<IamToken> {
        let access_token = match credential.split_once(':') {
            Some((client_id, client_secret)) => self.log_in(client_id, client_secret, address).await?.access_token,
            None => {
                // As a bearer token it is judged by everything that holds for one: end, revocation, addresses, uses.
                self.authenticate(Some(&format!("Bearer {credential}")), address).await?;
                // This is a login, so what is remembered of the token is not enough: without a database there is none.
                let verified = self.token_key().await?.verify(credential, self.now())?;
                let record = store::credential::token(&self.db, verified.token).await.map_err(failed)?;
                if record.is_none_or(|record| record.is_revoked) {
                    return Err(Error::unauthenticated("the access token was revoked; log in again"));
                }
                credential.to_owned()
            }
        };
        let now = self.now();
        let key = self.token_key().await?;
        let last = now.plus_seconds(LIFETIME_SECONDS_MAX);
        match key.verify(&access_token, now)?.ends_at() {
            Some(ends_at) if ends_at <= last => Ok(IamToken { text: token::in_iam_form(&access_token), ends_at }),
            Some(_) | None => {
                let shorter = key.ending_at(&access_token, now, last, self.random.hex(8))?;
                Ok(IamToken { text: token::in_iam_form(&shorter), ends_at: Time::from_seconds(last.seconds()) })
            }
        }
    }

    /// Withdraws a token of the caller's own identity, which is answered. One that was withdrawn already stays so.
    #[compiled_here]
    pub async fn revoke_iam_token(&self, caller: &Caller, text: &str) -> Result<IdentityId> {
        let verified = self.token_key().await?.verify(text, self.now()).map_err(|error| match error.reason() {
            Some(Reason::BadToken) => Error::invalid_field(
                "iam_token",
                "token",
                "the token is malformed, has expired or is not of this server",
            ),
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
