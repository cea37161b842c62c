//! A web server that takes files by PUT, as those do that revocation lists are put to.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::put;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The server; it ends when it is dropped.
pub struct PutFolder {
    url: String,
    state: Arc<Mutex<Files>>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Files {
    files: BTreeMap<String, Vec<u8>>,
    refusals_left: usize,
    refused: usize,
}

impl PutFolder {
    /// Starts it on a port of its own. The first requests, so many of them, it answers with 500.
    pub async fn start(refusals: usize) -> Self {
        let state = Arc::new(Mutex::new(Files { refusals_left: refusals, ..Files::default() }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port of the loopback is free");
        let address = listener.local_addr().expect("a listener has an address");
        let service = Router::new().route("/lists/{name}", put(take)).with_state(Arc::clone(&state));
        let server = tokio::spawn(async move {
            axum::serve(listener, service).await.expect("it serves until it is dropped");
        });
        Self { url: format!("http://{address}/lists"), state, server }
    }

    /// The address of the folder.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it has of that name.
    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).files.get(name).cloned()
    }

    /// How many requests it refused.
    pub fn refused(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).refused
    }
}

impl Drop for PutFolder {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(state): State<Arc<Mutex<Files>>>, Path(name): Path<String>, body: Bytes) -> StatusCode {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if state.refusals_left > 0 {
        state.refusals_left -= 1;
        state.refused += 1;
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    state.files.insert(name, body.to_vec());
    StatusCode::CREATED
}
