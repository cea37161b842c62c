//! Sends what alerts tell, by one channel at a time, and shows that a channel works.

use crate::audit::{self, Object};
use crate::context::{Context, failed};
use async_recursion::async_recursion as compiled_here;
use domain::alert::{
    Alert, ChannelKind, ChannelSettings, Delivery, DeliveryStatus, EventKind, Message, Subject, TRIES_MAX,
    ToldCertificate,
};
use domain::caller::Caller;
use domain::permission::{Action, ObjectFields};
use domain::secret::SecretText;
use domain::{AlertChannelId, AlertDeliveryId, AlertId, Error, ProjectId, Result};
use futures_util::future::join_all;
use outbound::DeliveryError;
use serde_json::json;
use store::Changes;

/// What became of a test on one channel.
pub struct TestedChannel {
    /// The channel.
    pub id: AlertChannelId,
    /// Its kind.
    pub kind: ChannelKind,
    /// Why it did not take the message; none when it did.
    pub error: Option<String>,
}

impl Context {
    /// Sends a message, unless its alert or its channel was switched off or is gone. What is refused stays unsent; what may
    /// pass is a failure of the job, which tries again.
    #[compiled_here]
    pub async fn deliver_alert(&self, id: AlertDeliveryId) -> Result<()> {
        let Some((mut delivery, run, organization)) =
            store::alert::run::delivery(&self.db, id).await.map_err(failed)?
        else {
            return Ok(());
        };
        match delivery.status {
            DeliveryStatus::Pending => {}
            // A person lets it be tried again.
            DeliveryStatus::Failed => {}
            DeliveryStatus::Sent | DeliveryStatus::Dropped => return Ok(()),
        }
        let alert = store::alert::by_id(&self.db, organization, run.alert).await.map_err(failed)?;
        let Some((alert, _)) = alert else { return Ok(()) };
        let channels = store::alert::channels(&self.db, alert.id).await.map_err(failed)?;
        let is_on = channels.iter().any(|channel| channel.id == delivery.channel && channel.is_enabled);
        if !alert.is_enabled || !is_on {
            delivery.status = DeliveryStatus::Dropped;
            delivery.error = Some("the alert or the channel was switched off before this was sent".to_owned());
            return self.settle_delivery(&alert, delivery).await;
        }
        let settings = self.channel_settings(alert.project, delivery.channel).await?;
        let message = Message {
            id,
            at: run.created_at,
            is_test: false,
            subject: run.subject,
            view_url: self.view_url(alert.id),
            alert: alert.clone(),
        };
        delivery.attempts += 1;
        match self.send_alert(&settings, &message).await {
            Ok(()) => {
                delivery.status = DeliveryStatus::Sent;
                delivery.error = None;
                self.settle_delivery(&alert, delivery).await
            }
            Err(error) if error.may_pass() => {
                let is_last = delivery.attempts >= TRIES_MAX;
                delivery.status = if is_last { DeliveryStatus::Failed } else { DeliveryStatus::Pending };
                delivery.error = Some(error.to_string());
                let kind = delivery.kind;
                self.settle_delivery(&alert, delivery).await?;
                Err(Error::failed_because(format!("the alert {} by {}", alert.name, kind.as_str()), error))
            }
            Err(error) => {
                delivery.status = DeliveryStatus::Failed;
                delivery.error = Some(error.to_string());
                self.settle_delivery(&alert, delivery).await
            }
        }
    }

    async fn settle_delivery(&self, alert: &Alert, delivery: Delivery) -> Result<()> {
        let delivery = Delivery { updated_at: self.now(), ..delivery };
        let mut changes = Changes::new().statement(store::alert::run::settle(&delivery));
        if delivery.status == DeliveryStatus::Failed {
            tracing::warn!(alert.id = %alert.id, alert.name, channel = delivery.kind.as_str(), error = delivery.error.as_deref(), "an alert was not taken");
            let detail = json!({ "name": alert.name, "channel": delivery.channel, "kind": delivery.kind.as_str(), "error": delivery.error });
            let object = Object::new("alert", alert.id);
            let caller = Caller::node(alert.organization);
            let at = delivery.updated_at;
            changes =
                changes.audit(audit::record(&caller, Some(alert.project), "alert-not-delivered", object, &detail, at));
        }
        self.commit(changes).await
    }

    /// Sends a test by every channel of an alert that is on.
    #[compiled_here]
    pub async fn test_alert(&self, caller: &Caller, id: AlertId) -> Result<Vec<TestedChannel>> {
        let (alert, _) = self.alert_for(caller, id, Action::EditAlert).await?;
        let channels = store::alert::channels(&self.db, id).await.map_err(failed)?;
        let mut settings = Vec::new();
        for channel in channels.iter().filter(|channel| channel.is_enabled) {
            settings.push((channel, self.channel_settings(alert.project, channel.id).await?));
        }
        let message = self.test_message(alert.clone());
        let sent = join_all(settings.iter().map(|(_, settings)| self.send_alert(settings, &message))).await;
        let tested: Vec<TestedChannel> = settings
            .iter()
            .zip(sent)
            .map(|((channel, _), sent)| TestedChannel {
                id: channel.id,
                kind: channel.kind,
                error: sent.err().map(|error| error.to_string()),
            })
            .collect();
        let detail = json!({
            "name": alert.name,
            "channels": tested.len(),
            "failed": tested.iter().filter(|one| one.error.is_some()).count(),
        });
        let object = Object::new("alert", id);
        let record = audit::record(caller, Some(alert.project), "alert-tested", object, &detail, self.now());
        self.commit(Changes::new().audit(record)).await?;
        Ok(tested)
    }

    /// Sends a test to an address, and says why it was not taken; nothing when it was.
    #[compiled_here]
    pub async fn test_webhook(
        &self,
        caller: &Caller,
        project: Option<ProjectId>,
        url: String,
        signing_secret: Option<SecretText>,
    ) -> Result<Option<String>> {
        let project = self.project_for(caller, project).await?;
        caller.may(project, Action::CreateAlert, &ObjectFields::unknown())?;
        if let Err(refused) = self.must_be_outside(&url) {
            return Ok(Some(refused.to_string()));
        }
        let now = self.now();
        let alert = Alert {
            id: self.new_id(),
            organization: caller.organization,
            project,
            name: "test".to_owned(),
            description: None,
            event: EventKind::Expiration,
            before: Some("30d".to_owned()),
            filters: Vec::new(),
            is_enabled: true,
            is_daily: false,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let object = Object::new("project", project);
        let record = audit::record(caller, Some(project), "webhook-tested", object, &json!({}), now);
        self.commit(Changes::new().audit(record)).await?;
        let settings = ChannelSettings::Webhook { url, signing_secret };
        let sent = self.send_alert(&settings, &self.test_message(alert)).await;
        Ok(sent.err().map(|error| error.to_string()))
    }

    /// A message with a certificate that there is not.
    fn test_message(&self, alert: Alert) -> Message {
        const SERIAL: &str = "00000000000000000000000000000000000000ff";
        const DAYS: i64 = 30;
        let now = self.now();
        let certificate = ToldCertificate {
            id: self.random.id(now),
            serial_number: SERIAL.to_owned(),
            common_name: "test.example.com".to_owned(),
            alt_names: vec!["test.example.com".to_owned()],
            profile_name: None,
            not_before: now,
            not_after: now.plus_seconds(DAYS * 24 * 60 * 60),
            status: "active".to_owned(),
            revoked_at: None,
            revocation_reason: None,
        };
        Message {
            id: self.new_id(),
            at: now,
            is_test: true,
            subject: Subject { certificates: vec![certificate], failures: Vec::new() },
            view_url: self.view_url(alert.id),
            alert,
        }
    }

    async fn send_alert(
        &self,
        settings: &ChannelSettings,
        message: &Message,
    ) -> std::result::Result<(), DeliveryError> {
        outbound::alert::send(&self.outward.http, self.outward.mailer.as_ref(), settings, message).await
    }

    fn view_url(&self, alert: AlertId) -> String {
        format!("{}/api/v1/cert-manager/alerts/{alert}/certificates", self.addresses.public_url)
    }
}
