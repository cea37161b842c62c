//! A network between a server and PostgreSQL that loses one commit: the statement, or the answer to it.
//!
//! It reads the protocol just enough to find the commit of a transaction that has something in it. TLS it does not see
//! through.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A listener that passes on what it gets. It ends with the process.
#[derive(Debug)]
pub struct DatabaseProxy {
    port: u16,
    shared: Arc<Shared>,
}

/// What becomes of the commit that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The server never sees it.
    Commit,
    /// The server does it, and nobody hears so.
    Answer,
}

#[derive(Debug)]
struct Shared {
    server: String,
    /// The text in a transaction whose commit is lost next.
    next: Mutex<Option<(Vec<u8>, Loss)>>,
    lost: AtomicUsize,
    /// Whether nobody is connected once a commit was lost.
    closes: AtomicBool,
    is_closed: AtomicBool,
    round_trips: AtomicUsize,
}

impl DatabaseProxy {
    /// Passes on to `host:port`.
    pub fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::new(Shared {
            server,
            next: Mutex::new(None),
            lost: AtomicUsize::new(0),
            closes: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            round_trips: AtomicUsize::new(0),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = accepting.clone();
                std::thread::spawn(move || shared.serve(client));
            }
        });
        Self { port, shared }
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Loses the commit of the next transaction that has this text in it, and ends its connection.
    pub fn lose(&self, text: &str, loss: Loss) {
        self.shared.closes.store(false, Ordering::SeqCst);
        *self.shared.next() = Some((text.as_bytes().to_vec(), loss));
    }

    /// The same, and passes nothing on any more, until it is opened.
    pub fn lose_and_close(&self, text: &str, loss: Loss) {
        self.lose(text, loss);
        self.shared.closes.store(true, Ordering::SeqCst);
    }

    /// Passes on again.
    pub fn open(&self) {
        self.shared.is_closed.store(false, Ordering::SeqCst);
    }

    /// How many commits were lost.
    pub fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// How often the server began to answer after it was sent something: what a distant database makes slow.
    pub fn round_trips(&self) -> usize {
        self.shared.round_trips.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn next(&self) -> std::sync::MutexGuard<'_, Option<(Vec<u8>, Loss)>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, client: TcpStream) {
        if self.is_closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect(&self.server) else { return };
        // The answer to a lost commit is read and kept back.
        let (muted, asked) = (AtomicBool::new(false), AtomicBool::new(false));
        drop((client.set_nodelay(true), server.set_nodelay(true)));
        std::thread::scope(|scope| {
            scope.spawn(|| self.to_client(&server, &client, &muted, &asked));
            self.to_server(&client, &server, &muted, &asked);
            close(&client, &server);
        });
    }

    fn to_server(&self, mut client: &TcpStream, mut server: &TcpStream, muted: &AtomicBool, asked: &AtomicBool) {
        let mut octets = vec![0; 1 << 16];
        // What was sent since the last commit: its text may lie across two reads.
        let mut transaction: Vec<u8> = Vec::new();
        loop {
            let read = match client.read(&mut octets) {
                Ok(0) | Err(_) => return,
                Ok(read) => &octets[..read],
            };
            transaction.extend_from_slice(read);
            asked.store(true, Ordering::SeqCst);
            if has(&transaction, b"COMMIT\0") {
                let loss = {
                    let mut next = self.next();
                    let is_it = next.as_ref().is_some_and(|(text, _)| has(&transaction, text));
                    if is_it { next.take() } else { None }
                };
                transaction.clear();
                if let Some((_, loss)) = loss {
                    muted.store(true, Ordering::SeqCst);
                    if loss == Loss::Answer {
                        drop(server.write_all(read));
                        // It is done when the other thread has heard so.
                        while muted.load(Ordering::SeqCst) {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                    self.is_closed.store(self.closes.load(Ordering::SeqCst), Ordering::SeqCst);
                    self.lost.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
            if self.is_closed.load(Ordering::SeqCst) || server.write_all(read).is_err() {
                return;
            }
        }
    }

    fn to_client(&self, mut server: &TcpStream, mut client: &TcpStream, muted: &AtomicBool, asked: &AtomicBool) {
        let mut octets = vec![0; 1 << 16];
        while let Ok(read @ 1..) = server.read(&mut octets) {
            if muted.load(Ordering::SeqCst) {
                muted.store(false, Ordering::SeqCst);
                continue;
            }
            if asked.swap(false, Ordering::SeqCst) {
                self.round_trips.fetch_add(1, Ordering::SeqCst);
            }
            if self.is_closed.load(Ordering::SeqCst) || client.write_all(&octets[..read]).is_err() {
                break;
            }
        }
        muted.store(false, Ordering::SeqCst);
        close(client, server);
    }
}

/// Ends both sides. One that has ended already needs nothing.
fn close(one: &TcpStream, other: &TcpStream) {
    drop((one.shutdown(Shutdown::Both), other.shutdown(Shutdown::Both)));
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
