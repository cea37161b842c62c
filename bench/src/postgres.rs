//! A PostgreSQL database for one installation, made and dropped by `psql`: the harness asks only three things of it, and
//! each needs nothing more than the program that comes with the server.

use std::process::Command;

use crate::{Outcome, saying};

/// A database of our own; dropped with the value.
pub struct Database {
    maintenance_url: String,
    url: String,
    name: String,
}

impl Database {
    /// Makes a database beside the one that `maintenance_url` names; that one's user must be allowed to.
    pub fn create(maintenance_url: &str, name: &str) -> Outcome<Self> {
        let url = with_database(maintenance_url, name).ok_or("not a postgres:// URL with a database in its path")?;
        psql(maintenance_url, &format!("CREATE DATABASE {name}"))?;
        Ok(Self { maintenance_url: maintenance_url.to_owned(), url, name: name.to_owned() })
    }

    /// Where the server finds it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many transactions it has ended.
    pub fn transactions(&self) -> Outcome<u64> {
        let sql = format!("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{}'", self.name);
        psql(&self.maintenance_url, &sql)?.trim().parse().map_err(saying("pg_stat_database"))
    }

    /// How many rows so many clients insert and commit in it by themselves, one in each transaction, by `pgbench`.
    pub fn commits_per_second(&self, clients: usize, seconds: u64) -> Outcome<f64> {
        psql(&self.url, "CREATE TABLE IF NOT EXISTS bench_commits (octets BYTEA NOT NULL)")?;
        let script = tempfile::NamedTempFile::new().map_err(saying("a script"))?;
        let insert = "INSERT INTO bench_commits VALUES (decode(repeat('ab', 600), 'hex'));\n";
        std::fs::write(script.path(), insert).map_err(saying("a script"))?;
        let (clients, seconds) = (clients.to_string(), seconds.to_string());
        let output = Command::new("pgbench")
            .args([
                "--no-vacuum",
                "--protocol=prepared",
                "--jobs=1",
                "--client",
                &clients,
                "--time",
                &seconds,
                "--file",
            ])
            .arg(script.path())
            .arg(&self.url)
            .output()
            .map_err(saying("pgbench"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        rate.ok_or_else(|| format!("pgbench: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Octets of its tables and indexes, the write-ahead log left out: that is the whole cluster's.
    pub fn octets_on_disk(&self) -> Outcome<u64> {
        let name = &self.name;
        let octets = psql(&self.maintenance_url, &format!("SELECT pg_database_size('{name}')"))?;
        octets.trim().parse().map_err(saying("pg_database_size"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(error) = psql(&self.maintenance_url, &format!("DROP DATABASE {} WITH (FORCE)", self.name)) {
            eprintln!("{error}");
        }
    }
}

fn psql(url: &str, statement: &str) -> Outcome<String> {
    let output = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", statement, url])
        .output()
        .map_err(saying("psql"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("psql, {statement}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// The same URL with another database in its path.
fn with_database(url: &str, name: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (server, path) = rest.split_once('/')?;
    let parameters = path.split_once('?').map(|(_, parameters)| format!("?{parameters}")).unwrap_or_default();
    Some(format!("{scheme}://{server}/{name}{parameters}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_of_a_url_is_replaced() {
        let check = |url, expected: Option<&str>| {
            assert_eq!(with_database(url, "new").as_deref(), expected, "{url}");
        };
        check("postgres://u:p@127.0.0.1:5432/old", Some("postgres://u:p@127.0.0.1:5432/new"));
        check("postgresql://h/old?sslmode=disable", Some("postgresql://h/new?sslmode=disable"));
        check("postgres:///old?host=/run/postgresql", Some("postgres:///new?host=/run/postgresql"));
        check("postgres://h", None);
        check("h/old", None);
    }
}
