//! Access tokens as clients hold them: a signed JSON Web Token (RFC 7519, HS256) that names its record.
//!
//! The signature proves that the token is ours; whether it is still good is read from the record.

use domain::{AccessTokenId, ClientSecretId, Error, IdentityId, Result, Time};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// What signs and verifies access tokens: a random key that all nodes share.
pub(crate) struct TokenKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

/// What a token says (contract §2.1).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    identity_id: IdentityId,
    client_secret_id: ClientSecretId,
    identity_access_token_id: AccessTokenId,
    auth_token_type: String,
    iat: i64,
    /// Makes each token another one, also within a second.
    #[serde(default)]
    jti: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
}

const TOKEN_TYPE: &str = "identityAccessToken";

/// A token whose signature and `exp` hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VerifiedToken {
    pub(crate) token: AccessTokenId,
    pub(crate) identity: IdentityId,
    ends_at: Option<i64>,
}

impl VerifiedToken {
    /// Refuses a token whose `exp` is past.
    pub(crate) fn must_not_have_ended(&self, now: Time) -> Result<()> {
        if self.ends_at.is_some_and(|end| end <= now.seconds()) {
            return Err(Error::bad_token("the access token has expired; log in again"));
        }
        Ok(())
    }
}

impl TokenKey {
    pub(crate) fn new(secret: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Our own clock decides about `exp`, below; and a token without an end has none.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        Self { encoding: EncodingKey::from_secret(secret), decoding: DecodingKey::from_secret(secret), validation }
    }

    /// A token for this record that lives `lifetime_seconds`; 0 is without end.
    pub(crate) fn sign(
        &self,
        token: &domain::identity::AccessToken,
        now: Time,
        lifetime_seconds: i64,
        unique: String,
    ) -> Result<String> {
        let claims = Claims {
            identity_id: token.identity,
            client_secret_id: token.client_secret,
            identity_access_token_id: token.id,
            auth_token_type: TOKEN_TYPE.into(),
            iat: now.seconds(),
            jti: unique,
            exp: (lifetime_seconds > 0).then(|| now.seconds().saturating_add(lifetime_seconds)),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|error| Error::failed_because("signing an access token", error))
    }

    /// Checks the signature and the end of a token.
    pub(crate) fn verify(&self, text: &str, now: Time) -> Result<VerifiedToken> {
        let data = jsonwebtoken::decode::<Claims>(text, &self.decoding, &self.validation).map_err(|_| {
            Error::bad_token("the access token is malformed or was not signed by this server; log in again")
        })?;
        let claims = data.claims;
        if claims.auth_token_type != TOKEN_TYPE {
            return Err(Error::invalid("this is not the access token of a machine identity"));
        }
        let verified =
            VerifiedToken { token: claims.identity_access_token_id, identity: claims.identity_id, ends_at: claims.exp };
        verified.must_not_have_ended(now)?;
        Ok(verified)
    }
}
