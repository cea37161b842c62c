//! A cable between a node and its database that can be cut: what was connected hangs, as on a network that lost its
//! way.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A listener that passes on what it gets. It ends with the process.
#[derive(Debug)]
pub struct Cable {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_cut: Mutex<bool>,
    mended: Condvar,
}

impl Cable {
    /// Passes on to `host:port`.
    pub fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let state = Arc::new(State::default());
        let accepting = state.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let (state, server) = (accepting.clone(), server.clone());
                std::thread::spawn(move || state.join(&near, &server));
            }
        });
        Self { port, state }
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Nothing goes through any more, and nobody is told so.
    pub fn cut(&self) {
        *self.state.is_cut.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// What was held back goes through.
    pub fn mend(&self) {
        *self.state.is_cut.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.state.mended.notify_all();
    }
}

impl State {
    fn wait(&self) {
        let is_cut = self.is_cut.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.mended.wait_while(is_cut, |is_cut| *is_cut));
    }

    fn join(&self, near: &TcpStream, server: &str) {
        self.wait();
        let Ok(far) = TcpStream::connect(server) else { return };
        drop((near.set_nodelay(true), far.set_nodelay(true)));
        std::thread::scope(|scope| {
            scope.spawn(|| self.pass(&far, near));
            self.pass(near, &far);
        });
    }

    fn pass(&self, mut from: &TcpStream, mut to: &TcpStream) {
        let mut octets = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from.read(&mut octets) {
            self.wait();
            if to.write_all(&octets[..read]).is_err() {
                break;
            }
        }
        self.wait();
        // One that has ended already needs nothing.
        drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
    }
}
