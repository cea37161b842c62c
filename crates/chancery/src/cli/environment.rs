//! The environment variables that the command line reads, read once. Everything after that is a function of them.

use std::{env, path::PathBuf};

/// What the environment says. An empty variable counts as none.
#[derive(Clone, Default)]
pub struct Environment {
    /// `CHANCERY_URL`: the server's address.
    pub url: Option<String>,
    /// `CHANCERY_CLIENT_ID`.
    pub client_id: Option<String>,
    /// `CHANCERY_CLIENT_SECRET`.
    pub client_secret: Option<String>,
    /// `CHANCERY_TOKEN`: an access token, used as it is.
    pub token: Option<String>,
    /// `CHANCERY_MQTT_PASSWORD`: of whoever watches messages.
    pub mqtt_password: Option<String>,
    /// `CHANCERY_PROJECT`: id or slug.
    pub project: Option<String>,
    /// `CHANCERY_CA_FILE`: the certificates to trust, in PEM.
    pub ca_file: Option<PathBuf>,
    /// `CHANCERY_DATA`: the data folder of a server on this machine.
    pub data: Option<PathBuf>,
    /// Where `login` keeps what it is told: `$XDG_CONFIG_HOME/chancery`, else `$HOME/.config/chancery`.
    pub configuration_folder: Option<PathBuf>,
}

impl Environment {
    /// Reads this process's environment.
    pub fn read() -> Self {
        let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            url: text("CHANCERY_URL"),
            client_id: text("CHANCERY_CLIENT_ID"),
            client_secret: text("CHANCERY_CLIENT_SECRET"),
            token: text("CHANCERY_TOKEN"),
            mqtt_password: text("CHANCERY_MQTT_PASSWORD"),
            project: text("CHANCERY_PROJECT"),
            ca_file: path("CHANCERY_CA_FILE"),
            data: path("CHANCERY_DATA"),
            configuration_folder: configuration_folder(path("XDG_CONFIG_HOME"), path("HOME")),
        }
    }
}

/// A relative XDG_CONFIG_HOME is to be ignored (XDG Base Directory Specification).
fn configuration_folder(xdg: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let base = xdg.filter(|path| path.is_absolute()).or_else(|| home.map(|home| home.join(".config")))?;
    Some(base.join("chancery"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn an_absolute_xdg_folder_wins_over_the_home_folder() {
        let check = |xdg: Option<&str>, home: Option<&str>, expected: Option<&str>| {
            let found = configuration_folder(xdg.map(PathBuf::from), home.map(PathBuf::from));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{xdg:?} {home:?}");
        };
        check(Some("/xdg"), Some("/home/a"), Some("/xdg/chancery"));
        check(Some("relative"), Some("/home/a"), Some("/home/a/.config/chancery"));
        check(None, Some("/home/a"), Some("/home/a/.config/chancery"));
        check(None, None, None);
    }
}
