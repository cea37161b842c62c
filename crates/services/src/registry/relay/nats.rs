//! Letters by a NATS server: one subject that every node of the database writes and reads.
//!
//! NATS keeps nothing, so what it had when it stopped is lost, and so is what is written before all nodes are there again. Whoever
//! was away therefore says again which sessions it opened, and asks the others for theirs: of a client id one session stays.

use super::{again, stopped};
use crate::context::{Context, failed};
use bytes::Bytes;
use domain::Result;
use outbound::nats::{FromNats, NatsReader, NatsServer, NatsWriter};
use tokio::sync::watch;

/// How many letters are taken at once, and how many octets.
const BATCH: usize = 100;
const BATCH_OCTETS: usize = 1 << 20;
/// How long a connection may have been gone before that was noticed.
const UNNOTICED_MILLIS: i64 = 30_000;

impl Context {
    /// Carries letters by NATS until `stop` says so.
    pub(super) async fn relay_by_nats(&self, server: &NatsServer, mut stop: watch::Receiver<bool>) {
        let (writer, reader) = loop {
            match self.join_nats(server).await {
                Ok(joined) => break joined,
                Err(error) => tracing::warn!(%error, "messages do not cross to other nodes"),
            }
            if !again(&mut stop).await {
                return;
            }
        };
        futures_util::future::join(self.send_letters(writer, stop.clone()), self.receive_letters(reader, server, stop))
            .await;
    }

    /// The nodes of one database have a subject of their own.
    async fn join_nats(&self, server: &NatsServer) -> Result<(NatsWriter, NatsReader)> {
        let organization = store::project::first_organization(&self.db).await.map_err(failed)?;
        let organization =
            organization.ok_or_else(|| domain::Error::failed("there is no organisation in the database"))?;
        let subject = format!("chancery.nodes.{}", organization.id);
        let name = format!("chancery {}", self.state.registry.relay.node);
        let joined = server.join(&name, &subject).await;
        joined.map_err(|error| domain::Error::failed_because("NATS", error))
    }

    async fn send_letters(&self, writer: NatsWriter, mut stop: watch::Receiver<bool>) {
        let relay = &self.state.registry.relay;
        loop {
            let letters = relay.take(BATCH, BATCH_OCTETS);
            if letters.is_empty() && !relay.has_more(&mut stop).await {
                return writer.flush().await;
            }
            for letter in letters {
                let sent = tokio::select! {
                    sent = writer.write(letter.write(&relay.node)) => sent,
                    // Without a connection it may wait for ever.
                    () = stopped(&mut stop) => return,
                };
                if let Err(error) = sent {
                    tracing::warn!(%error, "NATS does not take a letter to the other nodes");
                }
            }
        }
    }

    async fn receive_letters(&self, mut reader: NatsReader, server: &NatsServer, mut stop: watch::Receiver<bool>) {
        let (mut in_touch, mut is_told) = (self.now(), false);
        loop {
            let news = tokio::select! {
                news = reader.next() => news,
                () = stopped(&mut stop) => return,
            };
            match news {
                // A copy, since what waits for a slow reader would keep the whole buffer that it was read with.
                FromNats::Letter(octets) => self.read_letter(&Bytes::copy_from_slice(&octets)),
                FromNats::Connected => {
                    tracing::info!(%server, "NATS carries messages between the nodes");
                    is_told = false;
                    self.catch_up(in_touch.plus_millis(-UNNOTICED_MILLIS));
                }
                FromNats::Lost => {
                    tracing::warn!(%server, "NATS is gone: messages wait, or are lost, until it is there again");
                    in_touch = self.now();
                }
                FromNats::Dropped => {
                    tracing::warn!("messages of other nodes came faster than they were read, and some are lost")
                }
                FromNats::Trouble(what) if is_told => tracing::debug!(%server, what, "NATS"),
                FromNats::Trouble(what) => {
                    is_told = true;
                    tracing::warn!(%server, what, "NATS does not do as it should");
                }
            }
        }
    }
}
