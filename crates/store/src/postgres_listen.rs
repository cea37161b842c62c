//! The connection that listens to what the nodes of the database tell each other. It is made again whenever it ends.

use crate::StoreError;
use crate::announcement::{Announcement, Heard, LISTEN};
use crate::db::Shared;
use crate::postgres_link::{Connector, Link};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;

/// How long after the end of a connection, or a failure, it is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Hands on what is told until nobody wants to hear it.
pub(crate) async fn listen(connector: Arc<Connector>, heard: Sender<Heard>, shared: Arc<Shared>) {
    while !heard.is_closed() {
        match connect(&connector, &heard, &shared).await {
            Ok((link, task)) => {
                // When nobody reads, what was told is found by looking.
                drop(heard.try_send(Heard::Listening));
                tokio::select! {
                    _ = task => {}
                    () = heard.closed() => {}
                }
                drop(link);
            }
            // Whoever looks into the tables meanwhile tells of the trouble.
            Err(error) => tracing::debug!(%error, "the other nodes are not listened to"),
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = heard.closed() => {}
        }
    }
}

async fn connect(
    connector: &Connector,
    heard: &Sender<Heard>,
    shared: &Arc<Shared>,
) -> Result<(Link, JoinHandle<()>), StoreError> {
    let (heard, shared) = (heard.clone(), shared.clone());
    let told = move |text: &str| match Announcement::parse(text) {
        Some(Announcement::Configuration { epoch }) => shared.saw_epoch(epoch),
        Some(announcement) => drop(heard.try_send(Heard::Told(announcement))),
        None => tracing::debug!(text, "another node tells what is not understood here"),
    };
    let (link, task) = connector.connect_to_listen(told).await?;
    link.control(LISTEN).await?;
    Ok((link, task))
}
