//! What a run found, as one Markdown page: for the terminal and for `bench/results/`. Only arithmetic and text; nothing is
//! measured here.

use std::fmt::Write;
use std::time::Duration;

use crate::limits::Limits;
use crate::load::{Measured, Usage};

/// Everything that one run found.
pub struct Report {
    /// Lines on the machine, the commit, the engine and the schedule.
    pub circumstances: Vec<String>,
    /// Cores of the machine; the load generator runs on the same.
    pub cores: usize,
    /// What the machine can do at all.
    pub limits: Limits,
    /// One for each workload.
    pub rows: Vec<Row>,
    /// One for each installation that was loaded.
    pub installations: Vec<InstallationRow>,
    /// Whether the aims are for what was measured.
    pub aims: Aims,
}

/// What was asked of the server.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// `GET /api/status`: HTTP alone.
    Status,
    /// A P-256 key made by the server, and its certificate.
    Issue,
    /// An RSA-2048 key made by the server, and its certificate.
    IssueRsa,
    /// A certificate for a P-256 certification request.
    Sign,
}

/// Whether another load ran beside.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Company {
    /// No other load.
    Alone,
    /// RSA-2048 and P-256 beside each other.
    Mixed,
}

/// How the requests travelled.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Transport {
    /// HTTP/1.1, kept alive.
    Plain,
    /// The same over TLS.
    Tls,
}

/// One workload.
pub struct Row {
    /// What was asked.
    pub kind: Kind,
    /// What ran beside it.
    pub company: Company,
    /// How it travelled.
    pub transport: Transport,
    /// Connections, each with one request under way.
    pub connections: usize,
    /// What came of it.
    pub measured: Measured,
    /// What the processes used; `None` in company, where it cannot be told apart.
    pub usage: Option<Usage>,
}

/// One installation after its load.
pub struct InstallationRow {
    /// What was asked of it.
    pub kind: Kind,
    /// Memory of the server before the first request, in KiB.
    pub idle_kib: u64,
    /// From process start to the first answer, data folder empty.
    pub first_start: Duration,
    /// The same with `certificates` in the inventory: the median of some starts.
    pub start: Duration,
    /// Certificates in the inventory.
    pub certificates: u64,
    /// Octets on disk that came with the certificates.
    pub octets: u64,
}

/// Whether to hold the run against the aims.
#[derive(Clone, Copy, PartialEq)]
pub enum Aims {
    /// They are for SQLite.
    Shown,
    /// Another engine.
    Hidden,
}

impl Report {
    /// The whole page.
    pub fn markdown(&self) -> String {
        let mut page = "# Measurements\n\n".to_owned();
        for line in &self.circumstances {
            page += &format!("- {line}\n");
        }
        page += &self.rates();
        page += &self.sizes();
        page += &self.machine();
        page += &self.company();
        if self.aims == Aims::Shown {
            page += &self.against_aims();
        }
        page
    }

    fn rates(&self) -> String {
        let mut table = Table::new(
            "Rates",
            "The load generator shares the cores. CPU is processor seconds per 1000 answers; memory is the most in the run.",
            &[
                "scenario",
                "over",
                "connections",
                "per second",
                "p50 ms",
                "p90 ms",
                "p99 ms",
                "max ms",
                "server CPU",
                "generator CPU",
                "server MiB",
            ],
        );
        for row in &self.rows {
            let at = |per_mille| format!("{:.2}", row.measured.latencies.milliseconds_at(per_mille));
            let usage = |value: fn(&Usage) -> f64| row.usage.as_ref().map(value);
            let per_thousand = |used: Option<f64>| {
                used.map_or("–".to_owned(), |used| {
                    format!("{:.3}", used * 1000.0 / row.measured.latencies.count() as f64)
                })
            };
            table.row(&[
                row.label().to_owned(),
                row.transport.label().to_owned(),
                row.connections.to_string(),
                format!("{:.0}", row.measured.rate),
                at(500),
                at(900),
                at(990),
                at(1000),
                per_thousand(usage(|usage| usage.server.as_secs_f64())),
                per_thousand(usage(|usage| usage.generator.as_secs_f64())),
                usage(|usage| usage.resident_kib as f64).map_or("–".to_owned(), |kib| format!("{:.0}", kib / 1024.0)),
            ]);
        }
        table.text
    }

    fn sizes(&self) -> String {
        let mut table = Table::new(
            "Sizes and starts",
            "Octets are those of a stopped server's whole data folder (PostgreSQL: of the database), less what stood there before the load.",
            &["scenario", "idle MiB", "first start ms", "later start ms", "certificates", "octets per certificate"],
        );
        for row in &self.installations {
            table.row(&[
                row.kind.label().to_owned(),
                format!("{:.1}", row.idle_kib as f64 / 1024.0),
                milliseconds(row.first_start),
                milliseconds(row.start),
                row.certificates.to_string(),
                row.octets_each().map_or("–".to_owned(), |octets| format!("{octets:.0}")),
            ]);
        }
        table.text
    }

    fn machine(&self) -> String {
        let limits = &self.limits;
        let mut table = Table::new(
            "This machine's limits, measured in the same run",
            &format!(
                "On one core, nothing else running. One durable write takes {:.2} ms: no certificate alone can be quicker.",
                1000.0 / limits.durable_write
            ),
            &["what", "per second"],
        );
        for (what, rate) in [
            ("P-256 signature", limits.p256_sign),
            ("P-256 key", limits.p256_generate),
            ("P-256 verification", limits.p256_verify),
            ("certification request read and verified", limits.request_verify),
            ("leaf certificate built and signed", limits.leaf),
            ("rows of a certificate and its audit in SQLite, 128 at once", limits.rows),
            ("8 kB made durable (fdatasync)", limits.durable_write),
            ("cryptography of one issue: key, signature", limits.issue_cryptography()),
            ("cryptography of one sign: request, signature", limits.sign_cryptography()),
        ] {
            table.row(&[what.to_owned(), format!("{rate:.0}")]);
        }
        table.text + &self.beside_cryptography() + &self.beside_ceilings()
    }

    fn beside_cryptography(&self) -> String {
        let limits = &self.limits;
        let mut table = Table::new(
            "Beside those limits",
            "The share of the rate that the cryptography alone would reach on all cores; what the server spends per certificate for each second of cryptography; certificates per 8 kB write.",
            &["scenario", "over", "connections", "of the cryptography", "CPU / cryptography", "per durable write"],
        );
        for row in self.rows.iter().filter(|row| row.company == Company::Alone) {
            let ceiling = match row.kind {
                Kind::Issue => limits.issue_cryptography(),
                Kind::Sign => limits.sign_cryptography(),
                Kind::Status | Kind::IssueRsa => continue,
            };
            table.row(&[
                row.label().to_owned(),
                row.transport.label().to_owned(),
                row.connections.to_string(),
                format!("{:.0} %", 100.0 * row.measured.rate / (ceiling * self.cores as f64)),
                row.seconds_each().map_or("–".to_owned(), |seconds| format!("{:.1}", seconds * ceiling)),
                format!("{:.1}", row.measured.rate / limits.durable_write),
            ]);
        }
        table.text
    }

    /// Nothing when HTTP alone was not measured.
    fn beside_ceilings(&self) -> String {
        let Some(http) = self.http() else {
            return String::new();
        };
        let mut table = Table::new(
            "Beside the ceiling",
            &format!(
                "The ceiling of one core is an answer to `GET /api/status` ({http:.0} per second), a key or a certification request, a leaf certificate and its rows, one after the other, and nothing else: no authentication, policy, sealed key or chain of audit. Beside it what the server spends per certificate, and the rate over the ceiling of the cores that the load generator left."
            ),
            &[
                "scenario",
                "over",
                "connections",
                "ceiling µs",
                "server µs",
                "ceiling / server",
                "of the ceiling's rate",
            ],
        );
        for row in self.rows.iter().filter(|row| row.company == Company::Alone) {
            let (Some(ceiling), Some(seconds)) = (self.ceiling(row.kind, http), row.seconds_each()) else { continue };
            table.row(&[
                row.label().to_owned(),
                row.transport.label().to_owned(),
                row.connections.to_string(),
                format!("{:.1}", 1e6 / ceiling),
                format!("{:.1}", seconds * 1e6),
                format!("{:.0} %", 100.0 / (seconds * ceiling)),
                format!("{:.0} %", 100.0 * row.measured.rate / (ceiling * self.cores_left_by(row))),
            ]);
        }
        table.text
    }

    /// Answers over HTTP that one core of the server gives: the cheapest of the run, over plain connections.
    fn http(&self) -> Option<f64> {
        let plain = self.rows.iter().filter(|row| row.kind == Kind::Status && row.transport == Transport::Plain);
        plain.filter_map(Row::seconds_each).map(f64::recip).max_by(f64::total_cmp)
    }

    fn ceiling(&self, kind: Kind, http: f64) -> Option<f64> {
        match kind {
            Kind::Issue => Some(self.limits.issue_ceiling(http)),
            Kind::Sign => Some(self.limits.sign_ceiling(http)),
            Kind::Status | Kind::IssueRsa => None,
        }
    }

    /// How many cores the load generator did not use at that rate.
    fn cores_left_by(&self, row: &Row) -> f64 {
        let generator = row.usage.as_ref().map_or(0.0, |usage| usage.generator.as_secs_f64());
        self.cores as f64 - row.measured.rate * generator / row.measured.latencies.count() as f64
    }

    fn company(&self) -> String {
        let Some(ratio) = self.company_ratio() else {
            return String::new();
        };
        format!(
            "\n## RSA-2048 beside P-256\n\nThe p99 of P-256 issuance with RSA-2048 issuance beside it is {ratio:.2} times its own alone.\n"
        )
    }

    /// The p99 of P-256 beside RSA, over the same alone at as many connections.
    fn company_ratio(&self) -> Option<f64> {
        let issue = |company| self.rows.iter().filter(move |row| row.kind == Kind::Issue && row.company == company);
        let beside = issue(Company::Mixed).next()?;
        let alone = issue(Company::Alone)
            .rfind(|row| row.transport == beside.transport && row.connections == beside.connections)?;
        Some(beside.measured.latencies.milliseconds_at(990) / alone.measured.latencies.milliseconds_at(990))
    }

    fn against_aims(&self) -> String {
        let mut table = Table::new("Against the aims", "", &["aim", "measured", ""]);
        let mut judge = |aim: String, measured: f64, unit: &str, reached: bool| {
            let verdict = if reached { "reached" } else { "missed" };
            table.row(&[aim, format!("{measured:.2} {unit}"), verdict.to_owned()]);
        };
        for row in self.rows.iter().filter(|row| row.company == Company::Alone) {
            let rate_min = match row.kind {
                Kind::Issue => 14_000.0,
                Kind::Sign => 12_000.0,
                Kind::Status | Kind::IssueRsa => continue,
            };
            let what = row.subject();
            let at = |per_mille| row.measured.latencies.milliseconds_at(per_mille);
            if row.connections == 64 {
                let rate = row.measured.rate;
                judge(format!("{what}: at least {rate_min:.0} per second"), rate, "per second", rate >= rate_min);
                judge(format!("{what}: p99 below 15 ms"), at(990), "ms", at(990) < 15.0);
                if let (Some(http), Some(seconds)) = (self.http(), row.seconds_each()) {
                    let share = self.ceiling(row.kind, http).map_or(0.0, |ceiling| 100.0 / (seconds * ceiling));
                    judge(format!("{what}: at least 75 % of the ceiling"), share, "%", share >= 75.0);
                }
                if let Some(usage) = &row.usage {
                    let resident = usage.resident_kib as f64 / 1024.0;
                    judge(format!("{what}: memory below 60 MB"), resident, "MiB", resident * 1.048_576 < 60.0);
                }
            }
            if row.connections == 1 {
                judge(format!("{what}: p50 below 0.5 ms"), at(500), "ms", at(500) < 0.5);
            }
        }
        for row in self.installations.iter() {
            let start = row.start.as_secs_f64() * 1000.0;
            judge(format!("{}: start below 50 ms", row.kind.label()), start, "ms", start < 50.0);
            let idle = row.idle_kib as f64 / 1024.0;
            judge(format!("{}: idle below 40 MB", row.kind.label()), idle, "MiB", idle * 1.048_576 < 40.0);
            if let Some(octets) = row.octets_each() {
                judge(format!("{}: at most 1.6 kB on disk", row.kind.label()), octets, "octets", octets <= 1600.0);
            }
        }
        if let Some(ratio) = self.company_ratio() {
            judge("P-256 p99 beside RSA-2048: within 2 times its own".to_owned(), ratio, "times", ratio <= 2.0);
        }
        table.text
    }
}

impl Row {
    /// Processor time of the server for each answer, where it can be told.
    fn seconds_each(&self) -> Option<f64> {
        let usage = self.usage.as_ref()?;
        Some(usage.server.as_secs_f64() / self.measured.latencies.count() as f64)
    }

    fn label(&self) -> &'static str {
        match (self.kind, self.company) {
            (kind, Company::Alone) => kind.label(),
            (Kind::IssueRsa, Company::Mixed) => "issue RSA-2048, beside P-256",
            (_, Company::Mixed) => "issue, beside RSA-2048",
        }
    }

    /// What was asked, how, and by how many at once.
    fn subject(&self) -> String {
        let plural = if self.connections == 1 { "" } else { "s" };
        format!("{}, {}, {} connection{plural}", self.label(), self.transport.label(), self.connections)
    }

    /// One line of progress.
    pub fn summary(&self) -> String {
        let at = |per_mille| self.measured.latencies.milliseconds_at(per_mille);
        format!(
            "{}: {:.0} per second, p50 {:.2} ms, p99 {:.2} ms",
            self.subject(),
            self.measured.rate,
            at(500),
            at(990)
        )
    }

    /// What went wrong, when something did.
    pub fn failure(&self) -> Option<String> {
        match &self.measured.first_error {
            Some(error) => Some(format!("{}: {} errors, the first: {error}", self.subject(), self.measured.errors)),
            None if self.measured.latencies.count() == 0 => Some(format!("{}: not one answer", self.subject())),
            None => None,
        }
    }
}

impl InstallationRow {
    fn octets_each(&self) -> Option<f64> {
        (self.certificates > 0).then(|| self.octets as f64 / self.certificates as f64)
    }
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Issue => "issue",
            Self::IssueRsa => "issue RSA-2048",
            Self::Sign => "sign",
        }
    }
}

impl Transport {
    fn label(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "TLS",
        }
    }
}

/// A section with a Markdown table, numbers to the right.
struct Table {
    text: String,
}

impl Table {
    fn new(title: &str, note: &str, heads: &[&str]) -> Self {
        let mut text = format!("\n## {title}\n\n");
        if !note.is_empty() {
            text += &format!("{note}\n\n");
        }
        let mut table = Self { text };
        table.row(&heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>());
        table.text += "|---|";
        table.text += &"---:|".repeat(heads.len() - 1);
        table.text += "\n";
        table
    }

    fn row(&mut self, cells: &[String]) {
        writeln!(self.text, "| {} |", cells.join(" | ")).expect("a String takes every write");
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latencies;

    fn row(kind: Kind, company: Company, connections: usize, milliseconds: u32) -> Row {
        let latencies = Latencies::new(vec![milliseconds * 1000; 40_000]);
        let measured = Measured { rate: 10_000.0, latencies, answered: 50_000, errors: 0, first_error: None };
        let usage = Usage { server: Duration::from_secs(4), generator: Duration::from_secs(1), resident_kib: 61_440 };
        Row { kind, company, transport: Transport::Plain, connections, measured, usage: Some(usage) }
    }

    fn report(rows: Vec<Row>) -> Report {
        Report {
            circumstances: vec!["one machine".to_owned()],
            cores: 2,
            limits: Limits {
                p256_sign: 40_000.0,
                p256_generate: 40_000.0,
                p256_verify: 20_000.0,
                request_verify: 10_000.0,
                leaf: 40_000.0,
                rows: 40_000.0,
                durable_write: 5_000.0,
            },
            rows,
            installations: vec![InstallationRow {
                kind: Kind::Issue,
                idle_kib: 30_720,
                first_start: Duration::from_millis(200),
                start: Duration::from_millis(120),
                certificates: 1000,
                octets: 1_500_000,
            }],
            aims: Aims::Shown,
        }
    }

    #[test]
    fn the_page_holds_rates_beside_limits_and_aims() {
        let mixed = vec![
            row(Kind::Issue, Company::Alone, 64, 5),
            row(Kind::Issue, Company::Alone, 16, 4),
            row(Kind::Issue, Company::Mixed, 16, 6),
            row(Kind::IssueRsa, Company::Mixed, 4, 300),
            row(Kind::Sign, Company::Alone, 1, 1),
            row(Kind::Status, Company::Alone, 64, 1),
        ];
        let page = report(mixed).markdown();
        for line in [
            "- one machine",
            "| issue | plain | 64 | 10000 | 5.00 | 5.00 | 5.00 | 5.00 | 0.100 | 0.025 | 60 |",
            "| issue | 30.0 | 200.0 | 120.0 | 1000 | 1500 |",
            "| cryptography of one sign: request, signature | 8000 |",
            "On one core, nothing else running. One durable write takes 0.20 ms: no certificate alone can be quicker.",
            "| issue | plain | 64 | 25 % | 2.0 | 2.0 |",
            "The p99 of P-256 issuance with RSA-2048 issuance beside it is 1.50 times its own alone.",
            "| issue | plain | 64 | 175.0 | 100.0 | 175 % | 100 % |",
            "| issue, plain, 64 connections: at least 14000 per second | 10000.00 per second | missed |",
            "| issue, plain, 64 connections: p99 below 15 ms | 5.00 ms | reached |",
            "| issue, plain, 64 connections: at least 75 % of the ceiling | 175.00 % | reached |",
            "| sign, plain, 1 connection: p50 below 0.5 ms | 1.00 ms | missed |",
            "| issue: start below 50 ms | 120.00 ms | missed |",
            "| issue: at most 1.6 kB on disk | 1500.00 octets | reached |",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\nis not on\n{page}");
        }
    }

    #[test]
    fn aims_are_not_shown_for_another_engine_nor_a_ratio_without_company() {
        let mut report = report(vec![row(Kind::Issue, Company::Alone, 64, 5)]);
        report.aims = Aims::Hidden;
        let page = report.markdown();
        assert!(!page.contains("Against the aims") && !page.contains("RSA"), "{page}");
    }

    #[test]
    fn a_row_with_an_error_or_without_an_answer_is_a_failure() {
        let sound = row(Kind::Sign, Company::Alone, 1, 1);
        assert_eq!(sound.failure(), None);
        let mut refused = row(Kind::Sign, Company::Alone, 1, 1);
        refused.measured.errors = 3;
        refused.measured.first_error = Some("400 no".to_owned());
        assert_eq!(refused.failure().unwrap(), "sign, plain, 1 connection: 3 errors, the first: 400 no");
        let mut silent = row(Kind::Sign, Company::Alone, 1, 1);
        silent.measured.latencies = Latencies::new(Vec::new());
        assert!(silent.failure().unwrap().ends_with("not one answer"));
    }
}
