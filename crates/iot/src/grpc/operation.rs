//! `yandex.cloud.operation.OperationService` (contract §3.6, §4): operations are done when they are answered, and stay
//! readable, since clients ask for them once more.

use crate::app::{App, Call};
use crate::check::Checks;
use crate::error::Result;
use crate::proto::yandex::cloud::operation::operation_service_server::OperationService;
use crate::proto::yandex::cloud::operation::{CancelOperationRequest, GetOperationRequest, Operation};
use crate::render::Shown;
use tonic::{Request, Response, Status, async_trait};

/// The handlers.
pub(super) struct Operations(pub(super) App);

async fn one(call: Call, id: String) -> Result<Operation> {
    let mut checks = Checks::new();
    checks.required("operation_id", &id, 50);
    checks.finish()?;
    Ok(Shown::of(&call).operation(call.services.registry_operation(&call.caller, &id).await?))
}

#[async_trait]
impl OperationService for Operations {
    async fn get(&self, request: Request<GetOperationRequest>) -> Result<Response<Operation>, Status> {
        self.0.answer(request, |call, asked| one(call, asked.operation_id)).await
    }

    /// What is done cannot be cancelled; it is answered as it is.
    async fn cancel(&self, request: Request<CancelOperationRequest>) -> Result<Response<Operation>, Status> {
        self.0.answer(request, |call, asked| one(call, asked.operation_id)).await
    }
}
