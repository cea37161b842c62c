//! How many requests are under way at once. Those that revoke, and those that ask what was revoked, have room of their own.
//! A refusal is held back for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Uri};
use axum::response::Response;

use crate::route::{Endpoint, Route};

/// How long a refusal is held back. Callers that ask again at once would otherwise keep the server busy with refusals, and
/// the urgent requests waiting behind them.
const HOLD_BACK: Duration = Duration::from_millis(500);

/// How many refusals are held back at once; the rest is given at once.
const HELD_BACK_MAX: usize = 16_384;

/// The room for requests.
#[derive(Debug)]
pub struct Admission {
    ordinary: Room,
    urgent: Room,
    held_back: Room,
    urgent_paths: Vec<(Method, &'static str)>,
    turned_away: fn(&Uri) -> Option<Response>,
}

/// So many at once.
#[derive(Debug)]
pub struct Room {
    most: usize,
    taken: AtomicUsize,
    refused: AtomicU64,
}

/// A place in one of the rooms, until this is dropped.
pub(crate) struct Entry {
    admission: Arc<Admission>,
    kind: Kind,
}

/// Which of the rooms.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Ordinary,
    Urgent,
    HeldBack,
}

impl Admission {
    /// Room for so many requests of either kind; which are urgent is added with [`Admission::urgent`].
    pub fn new(most: usize) -> Self {
        let room = |most| Room { most, taken: AtomicUsize::new(0), refused: AtomicU64::new(0) };
        let (ordinary, urgent, held_back) = (room(most), room(most), room(HELD_BACK_MAX));
        Self { ordinary, urgent, held_back, urgent_paths: Vec::new(), turned_away: |_| None }
    }

    /// Gives those of the endpoints room of their own that are marked so.
    pub fn urgent<S>(mut self, routes: &[Route<S>], beside: &[Endpoint]) -> Self {
        let endpoints = routes.iter().map(|route| &*route.endpoint).chain(beside).filter(|endpoint| endpoint.is_urgent);
        for endpoint in endpoints {
            self.urgent_paths.extend(endpoint.paths.iter().map(|path| (endpoint.method.clone(), *path)));
        }
        self
    }

    /// Answers in another way than by 429 where that protocol has one.
    pub fn turning_away_by(self, turned_away: fn(&Uri) -> Option<Response>) -> Self {
        Self { turned_away, ..self }
    }

    /// Room for the requests that are not urgent.
    pub fn ordinary_room(&self) -> &Room {
        &self.ordinary
    }

    /// Room for those that are.
    pub fn urgent_room(&self) -> &Room {
        &self.urgent
    }

    /// Lets a request in, if there is room.
    pub(crate) fn enter(self: &Arc<Self>, request: &Request<Body>) -> Option<Entry> {
        let path = request.uri().path();
        let is_urgent = self.urgent_paths.iter().any(|(method, pattern)| {
            (method == request.method() || (method == Method::GET && request.method() == Method::HEAD))
                && fits(pattern, path)
        });
        self.place(if is_urgent { Kind::Urgent } else { Kind::Ordinary })
    }

    /// Waits before a refusal is given.
    pub(crate) async fn hold_back(self: &Arc<Self>) {
        if let Some(_place) = self.place(Kind::HeldBack) {
            tokio::time::sleep(HOLD_BACK).await;
        }
    }

    fn place(self: &Arc<Self>, kind: Kind) -> Option<Entry> {
        self.room(kind).enter().then(|| Entry { admission: self.clone(), kind })
    }

    fn room(&self, kind: Kind) -> &Room {
        match kind {
            Kind::Ordinary => &self.ordinary,
            Kind::Urgent => &self.urgent,
            Kind::HeldBack => &self.held_back,
        }
    }

    pub(crate) fn turn_away(&self, uri: &Uri) -> Option<Response> {
        (self.turned_away)(uri)
    }
}

impl Entry {
    pub(crate) fn is_urgent(&self) -> bool {
        self.kind == Kind::Urgent
    }
}

impl Room {
    /// How many places are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many were refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn enter(&self) -> bool {
        let has_room = self.taken.fetch_add(1, Ordering::Relaxed) < self.most;
        if !has_room {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.admission.room(self.kind).taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a path is of a pattern with parameters in braces. One at the end takes the rest, slashes included, as the
/// requests of OCSP have them.
fn fits(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/').peekable(), path.split('/'));
    while let Some(part) = wanted.next() {
        let Some(segment) = given.next() else { return false };
        let is_parameter = part.starts_with('{');
        if is_parameter && wanted.peek().is_none() {
            return !segment.is_empty();
        }
        if !is_parameter && part != segment {
            return false;
        }
    }
    given.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::time::Instant;

    #[test]
    fn a_path_fits_its_pattern() {
        for (pattern, path, expected) in [
            ("/a/{id}/revoke", "/a/7/revoke", true),
            ("/a/{id}/revoke", "/a/7/renew", false),
            ("/a/{id}/revoke", "/a/7/revoke/now", false),
            ("/a/{id}/revoke", "/a/7", false),
            ("/a/{request}", "/a/MEU/w%2B/x==", true),
            ("/a/{request}", "/a/", false),
            ("/a", "/a", true),
            ("/a", "/b", false),
            ("/a", "/", false),
        ] {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn urgent_requests_have_room_of_their_own_and_a_place_is_given_back() {
        let revoke = Endpoint::post("/c/{id}/revoke", "Tests", "Revoke").urgent();
        let list = Endpoint::get("/c/{id}/list", "Tests", "List").urgent();
        let admission = Arc::new(Admission::new(2).urgent::<()>(&[], &[revoke, list]));
        let enter = |method: &str, path: &str| {
            admission.enter(&Request::builder().method(method).uri(path).body(Body::empty()).unwrap())
        };
        let issuing: Vec<_> = (0..2).map(|_| enter("POST", "/c/issue").unwrap()).collect();
        assert!(enter("POST", "/c/issue").is_none());
        assert!(enter("GET", "/c/7/revoke").is_none(), "another method is another endpoint");
        let urgent = [enter("POST", "/c/7/revoke").unwrap(), enter("HEAD", "/c/7/list").unwrap()];
        assert!(enter("POST", "/c/8/revoke").is_none());
        let counts = |room: &Room| (room.taken(), room.refused());
        assert_eq!((counts(&admission.ordinary), counts(&admission.urgent)), ((2, 2), (2, 1)));
        drop((issuing, urgent));
        assert_eq!((counts(&admission.ordinary), counts(&admission.urgent)), ((0, 2), (0, 1)));
        assert!(enter("POST", "/c/issue").is_some());
    }

    #[tokio::test]
    async fn refusals_are_held_back_and_those_that_find_no_room_are_given_at_once() {
        let admission = Arc::new(Admission::new(1));
        let began = Instant::now();
        admission.hold_back().await;
        assert!(began.elapsed() >= HOLD_BACK);
        assert_eq!(admission.held_back.taken(), 0);
        let mut waiting: Vec<_> = (0..HELD_BACK_MAX).map(|_| Box::pin(admission.hold_back())).collect();
        for held in &mut waiting {
            assert!(held.now_or_never().is_none());
        }
        assert!(admission.hold_back().now_or_never().is_some());
        // Those who hang up give their place back.
        waiting.pop();
        assert!(admission.hold_back().now_or_never().is_none());
        drop(waiting);
        assert_eq!(admission.held_back.taken(), 0);
    }
}
