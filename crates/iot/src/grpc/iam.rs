//! `yandex.cloud.iam.v1.IamTokenService`: tokens in the form that clients of this API know (contract §2.7, §3.8).

use crate::app::App;
use crate::check::Checks;
use crate::error::{Error, Result};
use crate::proto::yandex::cloud::iam::v1::create_iam_token_request::Identity;
use crate::proto::yandex::cloud::iam::v1::iam_token_service_server::IamTokenService;
use crate::proto::yandex::cloud::iam::v1::{
    CreateIamTokenForServiceAccountRequest, CreateIamTokenRequest, CreateIamTokenResponse, RevokeIamTokenRequest,
    RevokeIamTokenResponse,
};
use crate::render::timestamp;
use tonic::{Request, Response, Status, async_trait};

/// The handlers.
pub(super) struct IamTokens(pub(super) App);

const OAUTH_TOKEN: &str = "yandex_passport_oauth_token";

#[async_trait]
impl IamTokenService for IamTokens {
    async fn create(
        &self,
        request: Request<CreateIamTokenRequest>,
    ) -> Result<Response<CreateIamTokenResponse>, Status> {
        let handle = |visit: crate::app::Visit, asked: CreateIamTokenRequest| async move {
            let mut checks = Checks::new();
            let credential = match asked.identity {
                Some(Identity::Jwt(_)) => return Err(Error::Unsupported("exchanging a signed JWT is not supported")),
                Some(Identity::YandexPassportOauthToken(text)) => text,
                None => String::new(),
            };
            checks.required(OAUTH_TOKEN, &credential, 4000);
            checks.finish()?;
            let token = visit.services.iam_token(&credential, visit.address).await?;
            Ok(CreateIamTokenResponse { iam_token: token.text, expires_at: Some(timestamp(token.ends_at)) })
        };
        self.0.answer_anybody(request, handle).await
    }

    async fn create_for_service_account(
        &self,
        request: Request<CreateIamTokenForServiceAccountRequest>,
    ) -> Result<Response<CreateIamTokenResponse>, Status> {
        let refused = |_, _| async { Err(Error::Unsupported("a token for another identity cannot be had")) };
        self.0.answer(request, refused).await
    }

    async fn revoke(
        &self,
        request: Request<RevokeIamTokenRequest>,
    ) -> Result<Response<RevokeIamTokenResponse>, Status> {
        let handle = |call: crate::app::Call, asked: RevokeIamTokenRequest| async move {
            let mut checks = Checks::new();
            checks.required("iam_token", &asked.iam_token, 4096);
            checks.finish()?;
            let subject = call.services.revoke_iam_token(&call.caller, &asked.iam_token).await?;
            Ok(RevokeIamTokenResponse { subject_id: subject.to_string() })
        };
        self.0.answer(request, handle).await
    }
}
