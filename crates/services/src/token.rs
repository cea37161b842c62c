//! Access tokens as clients hold them: a signed JSON Web Token (RFC 7519, HS256) that names its record.
//!
//! The signature proves that the token is ours; whether it is still good is read from the record. Clients of Yandex's API
//! want a token to look like `t1.<base64url>.<base64url>`: for them header and payload are wrapped into the first of the two
//! parts, and the signature is the second.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{AccessTokenId, ClientSecretId, Error, IdentityId, Result, Time};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

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
    /// It ends before the token that it was made of, for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shortened: bool,
}

const TOKEN_TYPE: &str = "identityAccessToken";

/// A token whose signature and `exp` hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VerifiedToken {
    pub(crate) token: AccessTokenId,
    pub(crate) identity: IdentityId,
    /// Whether it ends before the token that it was made of: then it is not prolonged.
    pub(crate) is_shortened: bool,
    ends_at: Option<i64>,
}

/// What a token in the form of Yandex's API begins with.
const IAM_PREFIX: &str = "t1.";

/// A token of ours in the form of Yandex's API; one that has it already stays as it is.
pub(crate) fn in_iam_form(token: &str) -> String {
    match token.rsplit_once('.') {
        Some((said, signature)) if !token.starts_with(IAM_PREFIX) => {
            format!("{IAM_PREFIX}{}.{signature}", URL_SAFE_NO_PAD.encode(said))
        }
        _ => token.to_owned(),
    }
}

/// The JSON Web Token that a token of either form is. What is neither stays as it is, and has no signature of ours.
fn as_jwt(token: &str) -> Cow<'_, str> {
    let unwrapped = || {
        let (said, signature) = token.strip_prefix(IAM_PREFIX)?.split_once('.')?;
        let said = String::from_utf8(URL_SAFE_NO_PAD.decode(said).ok()?).ok()?;
        Some(format!("{said}.{signature}"))
    };
    unwrapped().map_or(Cow::Borrowed(token), Cow::Owned)
}

impl VerifiedToken {
    /// When it ends by its own words; nothing for a token without an end.
    pub(crate) fn ends_at(&self) -> Option<Time> {
        self.ends_at.map(Time::from_seconds)
    }

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
        self.encode(&Claims {
            identity_id: token.identity,
            client_secret_id: token.client_secret,
            identity_access_token_id: token.id,
            auth_token_type: TOKEN_TYPE.into(),
            iat: now.seconds(),
            jti: unique,
            exp: (lifetime_seconds > 0).then(|| now.seconds().saturating_add(lifetime_seconds)),
            shortened: false,
        })
    }

    /// A token for the record of this one that ends at another time.
    pub(crate) fn ending_at(&self, text: &str, now: Time, ends_at: Time, unique: String) -> Result<String> {
        let claims = self.claims(text)?;
        self.encode(&Claims {
            iat: now.seconds(),
            jti: unique,
            exp: Some(ends_at.seconds()),
            shortened: true,
            ..claims
        })
    }

    fn encode(&self, claims: &Claims) -> Result<String> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding)
            .map_err(|error| Error::failed_because("signing an access token", error))
    }

    /// Checks the signature and the end of a token.
    pub(crate) fn verify(&self, text: &str, now: Time) -> Result<VerifiedToken> {
        let claims = self.claims(text)?;
        if claims.auth_token_type != TOKEN_TYPE {
            return Err(Error::invalid("this is not the access token of a machine identity"));
        }
        let verified = VerifiedToken {
            token: claims.identity_access_token_id,
            identity: claims.identity_id,
            is_shortened: claims.shortened,
            ends_at: claims.exp,
        };
        verified.must_not_have_ended(now)?;
        Ok(verified)
    }

    /// What a token says whose signature holds.
    fn claims(&self, text: &str) -> Result<Claims> {
        let data = jsonwebtoken::decode::<Claims>(as_jwt(text).as_ref(), &self.decoding, &self.validation);
        data.map(|data| data.claims).map_err(|_| {
            Error::bad_token("the access token is malformed or was not signed by this server; log in again")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::identity::AccessToken;
    use uuid::Uuid;

    #[test]
    fn a_token_is_the_same_in_both_forms() {
        let (key, now) = (TokenKey::new(b"a key of tests"), Time::from_seconds(1_000));
        let record = AccessToken {
            id: Uuid::from_u128(1).into(),
            identity: Uuid::from_u128(2).into(),
            client_secret: Uuid::from_u128(3).into(),
            ttl_seconds: 60,
            ttl_seconds_max: 60,
            period_seconds: 0,
            uses: 0,
            uses_limit: 0,
            is_revoked: false,
            created_at: now,
            renewed_at: now,
        };
        let jwt = key.sign(&record, now, 60, "unique".into()).unwrap();
        let wrapped = in_iam_form(&jwt);
        // Terraform sends a token as it is when it looks like this (device registry contract §2.7).
        assert!(wrapped.starts_with("t1.") && wrapped.matches('.').count() == 2, "{wrapped}");
        assert_eq!(in_iam_form(&wrapped), wrapped);
        for token in [&jwt, &wrapped] {
            let verified = key.verify(token, now).unwrap();
            assert_eq!((verified.token, verified.identity), (record.id, record.identity));
            assert_eq!(verified.ends_at(), Some(Time::from_seconds(1_060)));
            assert!(key.verify(token, Time::from_seconds(1_060)).is_err());
            let shorter = key.ending_at(token, now, Time::from_seconds(1_010), "another".into()).unwrap();
            let verified = key.verify(&in_iam_form(&shorter), now).unwrap();
            assert_eq!((verified.token, verified.ends_at()), (record.id, Some(Time::from_seconds(1_010))));
        }
        let (front, signature) = wrapped.rsplit_once('.').unwrap();
        for bad in ["t1..", "t1.a.b", "t1.", &wrapped[3..], &format!("{front}."), &format!("{front}x.{signature}")] {
            let error = key.verify(bad, now).unwrap_err();
            assert_eq!(error.reason(), Some(domain::Reason::BadToken), "{bad}");
        }
    }
}
