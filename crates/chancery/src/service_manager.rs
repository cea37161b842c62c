//! Tells the service manager that started this process what it is about (sd_notify(3)): that it answers, or that it
//! ends. Where nobody asked to be told, nothing is sent.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the service manager listens, as it says itself.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// It answers here.
    Ready {
        /// The address of the first listener.
        url: &'a str,
    },
    /// It finishes what it has accepted, and ends.
    Stopping,
}

/// Says it to whoever wants to know.
pub fn tell(state: State<'_>) {
    let Some(address) = std::env::var_os(NOTIFY_SOCKET).filter(|address| !address.is_empty()) else { return };
    if let Err(error) = send(&address, &words(state)) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

fn words(state: State<'_>) -> String {
    match state {
        State::Ready { url } => format!("READY=1\nSTATUS=answers at {url}"),
        State::Stopping => "STOPPING=1\nSTATUS=finishes what was accepted".to_owned(),
    }
}

/// One datagram, whole. It is small, so that a reader that is behind does not keep us.
fn send(address: &OsStr, words: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(words.as_bytes(), &parse(address)?).map(drop)
}

/// A path, or with `@` before it a name that is not in the file system, which Linux alone has.
fn parse(address: &OsStr) -> io::Result<SocketAddr> {
    match address.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        _ => SocketAddr::from_pathname(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_by_a_path_and_by_a_name_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("@chancery-{}", uuid::Uuid::new_v4());
        for address in [path.as_os_str(), OsStr::new(&name)] {
            let reader = UnixDatagram::bind_addr(&parse(address).unwrap()).unwrap();
            send(address, &words(State::Ready { url: "http://127.0.0.1:8080" })).unwrap();
            let mut octets = [0; 100];
            let length = reader.recv(&mut octets).unwrap();
            assert_eq!(&octets[..length], b"READY=1\nSTATUS=answers at http://127.0.0.1:8080");
        }
        assert!(send(folder.path().join("nobody").as_os_str(), "x").is_err());
    }
}
