//! How a listener is reached: by programs on this machine, and as the device registry says to its clients.

use crate::config::Config;
use axum::http::Uri;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Where a program on this machine reaches a listener. One on every address is reached on the loopback too.
pub fn reached(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The URL of the first listener.
pub fn first_url(config: &Config, address: SocketAddr) -> String {
    match config.first_is_tls() {
        true => tls_url(address),
        false => format!("http://{}", reached(address)),
    }
}

/// The base of the URLs that certificates carry: what is configured, or the first listener.
pub fn publication_url(config: &Config, address: SocketAddr) -> String {
    let scheme = if config.first_is_tls() { "https" } else { "http" };
    config.publication_url.clone().unwrap_or_else(|| format!("{scheme}://{}", reached(address)))
}

/// The URL of a listener with TLS, by a name that stands in the server's own certificate.
pub fn tls_url(address: SocketAddr) -> String {
    let reached = reached(address);
    match reached.ip().is_loopback() {
        true => format!("https://localhost:{}", reached.port()),
        false => format!("https://{reached}"),
    }
}

/// What the device registry names as the address of all its services to clients that came by this listener, `host:port`:
/// what is configured; or the public URL, when it has the listener's scheme; or the listener itself, for one with TLS by a
/// name of its certificate.
pub fn registry(config: &Config, address: SocketAddr, certified: Option<&[String]>) -> Arc<str> {
    if let Some(endpoint) = &config.iot_endpoint {
        return endpoint.as_str().into();
    }
    let (scheme, default_port) = if certified.is_some() { ("https", 443) } else { ("http", 80) };
    let public = config.public_url.as_deref().and_then(|url| url.parse::<Uri>().ok());
    if let Some(public) = public.filter(|url| url.scheme_str() == Some(scheme))
        && let Some(host) = public.host()
    {
        return format!("{host}:{}", public.port_u16().unwrap_or(default_port)).into();
    }
    let here = reached(address);
    let Some(certified) = certified else { return here.to_string().into() };
    // A name that only this machine knows is the last choice for a listener that others reach too.
    let is_local = |name: &&String| name.as_str() == "localhost";
    let other = || certified.iter().find(|name| !is_local(name) && !name.starts_with("*."));
    let local = || certified.iter().find(is_local);
    let name = if address.ip().is_loopback() { local().or_else(other) } else { other() };
    match name {
        Some(name) => format!("{name}:{}", here.port()).into(),
        None => tls_url(address).trim_start_matches("https://").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::local::{ServeArguments, TlsMode};

    fn config(listen: &str, public_url: Option<&str>, endpoint: Option<&str>) -> Config {
        let arguments = ServeArguments {
            listen: Some(listen.parse().unwrap()),
            tls: Some(TlsMode::Auto),
            public_url: public_url.map(str::to_owned),
            iot_endpoint: endpoint.map(str::to_owned),
            ..ServeArguments::default()
        };
        Config::from_arguments(&arguments).unwrap()
    }

    #[test]
    fn a_listener_on_every_address_is_named_by_one_that_can_be_called() {
        for (listen, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("0.0.0.0:443", "https://localhost:443"),
            ("192.0.2.7:443", "https://192.0.2.7:443"),
        ] {
            assert_eq!(first_url(&config(listen, None, None), listen.parse().unwrap()), url);
        }
    }

    #[test]
    fn the_registry_names_the_listener_by_a_name_that_clients_can_verify() {
        let (own, files) = (&["localhost"][..], &["*.example.com", "ca.example.com", "localhost"][..]);
        let public = Some("https://pki.example.com/x");
        for (listen, certified, public_url, endpoint, expected) in [
            ("127.0.0.1:8080", None, None, None, "127.0.0.1:8080"),
            ("[::1]:8080", None, None, None, "[::1]:8080"),
            ("127.0.0.1:8080", None, public, None, "127.0.0.1:8080"),
            ("127.0.0.1:8080", None, Some("http://pki.example.com"), None, "pki.example.com:80"),
            ("127.0.0.1:8443", Some(own), None, None, "localhost:8443"),
            ("127.0.0.1:8443", Some(files), None, None, "localhost:8443"),
            ("127.0.0.1:8443", Some(&["ca.example.com"][..]), None, None, "ca.example.com:8443"),
            ("0.0.0.0:443", Some(own), None, None, "localhost:443"),
            ("0.0.0.0:443", Some(files), None, None, "ca.example.com:443"),
            ("192.0.2.7:443", Some(own), None, None, "192.0.2.7:443"),
            ("0.0.0.0:443", Some(files), public, None, "pki.example.com:443"),
            ("0.0.0.0:443", Some(files), Some("https://[2001:db8::1]:8443"), None, "[2001:db8::1]:8443"),
            ("0.0.0.0:443", Some(files), public, Some("iot.example.com:7443"), "iot.example.com:7443"),
        ] {
            let certified: Option<Vec<String>> =
                certified.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            let named = registry(&config(listen, public_url, endpoint), listen.parse().unwrap(), certified.as_deref());
            assert_eq!(&*named, expected, "{listen} {certified:?} {public_url:?}");
        }
    }
}
