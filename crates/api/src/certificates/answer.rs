//! Issuing once: a request that carries an `Idempotency-Key` gets one certificate and one answer for a day, however often
//! it is sent.

use super::shapes::issued;
use crate::app::App;
use crate::error::Result;
use crate::route::{Input, Reply};
use domain::caller::Caller;
use domain::identity::MetadataEntry;
use domain::issuance::IssuanceRequest;
use domain::{ApplicationId, CertificateId, CollectionId, Error, Reason};
use serde_json::Value;
use services::idempotency::Begun;
use services::issue::{IssueOptions, Issued};
use services::issue_from::Source;

/// What is to be issued, and how its answer looks.
pub(crate) struct Work {
    pub(crate) source: Source,
    pub(crate) request: IssuanceRequest,
    /// Free pairs to keep with the certificate.
    pub(crate) metadata: Vec<MetadataEntry>,
    /// The application that it is asked for through.
    pub(crate) application: Option<ApplicationId>,
    /// The name for people, where it is not the common name.
    pub(crate) friendly_name: Option<String>,
    /// The collection that it is put into.
    pub(crate) collection: Option<CollectionId>,
    pub(crate) remove_roots: bool,
    /// Puts what every answer has into the shape of the endpoint.
    pub(crate) shape: fn(Value, CertificateId) -> Value,
}

impl Work {
    /// Work that asks for nothing beside the certificate.
    pub(crate) fn plain(source: Source, request: IssuanceRequest, shape: fn(Value, CertificateId) -> Value) -> Self {
        Self {
            source,
            request,
            metadata: Vec::new(),
            application: None,
            friendly_name: None,
            collection: None,
            remove_roots: false,
            shape,
        }
    }

    fn options(&self) -> IssueOptions {
        IssueOptions {
            metadata: self.metadata.clone(),
            application: self.application,
            friendly_name: self.friendly_name.clone(),
            collection: self.collection,
            ..IssueOptions::default()
        }
    }

    fn render(&self, outcome: &Issued) -> Value {
        (self.shape)(issued(outcome, self.remove_roots), outcome.id)
    }
}

/// A request that carries an `Idempotency-Key`: its key and its body.
pub(crate) struct Repeatable {
    route: String,
    key: String,
    body: Vec<u8>,
}

impl Repeatable {
    /// Nothing when the request carries no key. To be asked before the body is taken.
    pub(crate) fn of(input: &Input) -> Result<Option<Self>> {
        let mut keys = input.headers.get_all("idempotency-key").iter();
        let key = match (keys.next(), keys.next()) {
            (None, _) => return Ok(None),
            (Some(key), None) => key.to_str().ok(),
            (Some(_), Some(_)) => None,
        };
        let key = key.ok_or_else(|| Error::invalid("Idempotency-Key takes one value of printable ASCII characters"))?;
        let body = input.body_value().to_string().into_bytes();
        Ok(Some(Self { route: input.route().to_owned(), key: key.to_owned(), body }))
    }

    /// The same about something that the path names: to repeat it is to name that again.
    pub(crate) fn about(mut self, what: &str) -> Self {
        if !what.is_empty() {
            self.body.push(0);
            self.body.extend_from_slice(what.as_bytes());
        }
        self
    }
}

/// Does the work once, however often it is asked for under one key.
pub(crate) async fn answer(app: App, caller: Caller, repeatable: Option<Repeatable>, work: Work) -> Result<Reply> {
    let Some(repeatable) = repeatable else {
        let outcome = app.services.issue_from(&caller, work.source, work.request.clone(), work.options()).await?;
        return reply(&work.render(&outcome));
    };
    // A client that goes away must not leave a mark without an answer: the work goes on without it.
    let task = tokio::spawn(async move { answer_once(&app, &caller, repeatable, work).await });
    match task.await {
        Ok(answer) => answer,
        Err(error) => Err(Error::failed_because("a request with an Idempotency-Key", error).into()),
    }
}

async fn answer_once(app: &App, caller: &Caller, repeatable: Repeatable, work: Work) -> Result<Reply> {
    let services = &app.services;
    // A kept answer is given to nobody who could not ask for it now.
    services.must_be_allowed_to_issue(caller, work.source).await?;
    match services.begin(caller, &repeatable.route, &repeatable.key, &repeatable.body).await? {
        Begun::Replay(answer, certificate) => {
            let mut answer: Value = serde_json::from_slice(answer.expose())
                .map_err(|error| Error::failed_because("a kept answer does not read", error))?;
            let gives_key = match certificate {
                Some(id) if has_key(&answer) => services.gives_key_again(caller, work.source, id).await?,
                Some(_) | None => false,
            };
            if !gives_key {
                without_key(&mut answer);
            }
            reply(&answer)
        }
        Begun::Recover(certificate, slot) => {
            let answer = work.render(&services.issued_again(caller, work.source, certificate).await?);
            services.finish(slot, answer.to_string().as_bytes()).await?;
            reply(&answer)
        }
        Begun::Run(slot) => {
            let options = IssueOptions { idempotency: Some(slot.mark()), ..work.options() };
            match services.issue_from(caller, work.source, work.request.clone(), options).await {
                Ok(outcome) => {
                    let answer = work.render(&outcome);
                    services.finish(slot, answer.to_string().as_bytes()).await?;
                    reply(&answer)
                }
                Err(error) => match services.abandon(slot).await {
                    // It was done, and only the answer to the commit was lost.
                    Ok(Some((certificate, slot))) => {
                        let issued = services.issued_again(caller, work.source, certificate).await;
                        let answer = work.render(&issued.map_err(|_| error)?);
                        services.finish(slot, answer.to_string().as_bytes()).await?;
                        reply(&answer)
                    }
                    Ok(None) if error.reason().is_some_and(is_unknown) => Err(not_done().into()),
                    Ok(None) | Err(_) => Err(error.into()),
                },
            }
        }
    }
}

fn is_unknown(reason: Reason) -> bool {
    matches!(reason, Reason::OutcomeUnknown { .. })
}

/// What was not known is, by the mark of the request.
fn not_done() -> Error {
    Error::unavailable("the connection to the database was lost, and this was not done; ask again", 1)
}

fn without_key(answer: &mut Value) {
    for pointer in ["", "/certificate"] {
        if let Some(Value::Object(object)) = answer.pointer_mut(pointer) {
            object.remove("privateKey");
        }
    }
}

fn reply(answer: &Value) -> Result<Reply> {
    let reply = Reply::json(answer)?;
    Ok(if has_key(answer) { reply.no_store() } else { reply })
}

fn has_key(answer: &Value) -> bool {
    answer.get("privateKey").is_some() || answer.pointer("/certificate/privateKey").is_some()
}
