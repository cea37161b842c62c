//! One, two and three servers on one PostgreSQL: what they issue and sign together, beside what that database commits
//! by itself on this machine. The connections are the same in number and are spread over the servers that are loaded.

use std::time::Duration;

use crate::latency::Latencies;
use crate::load::{self, Answer, Measured, Schedule, Workload};
use crate::place::Place;
use crate::postgres::Database;
use crate::requests::{self, Caller};
use crate::server::{Engine, Installation, Server};
use crate::{Outcome, cores, kernel, processor, saying};

/// How many servers there are.
const NODES: usize = 3;

#[derive(clap::Args)]
pub struct Options {
    /// A PostgreSQL database beside which one is made, as `postgres://user@host:port/name`.
    #[arg(long)]
    database: String,
    /// Measured seconds of each workload.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Seconds of load before the measured ones.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Connections in all.
    #[arg(long, default_value_t = 96)]
    connections: usize,
    #[command(flatten)]
    place: Place,
}

/// What was asked of the servers together.
struct Row {
    what: &'static str,
    nodes: usize,
    rate: f64,
    p50: f64,
    p99: f64,
    server: Duration,
    transactions: f64,
}

/// Measures, prints and writes the report.
pub fn run(options: &Options) -> Outcome<()> {
    let (binary, folder) = (options.place.server()?, options.place.folder()?);
    let database = Database::create(&options.database, &format!("chancery_bench_{}_nodes", std::process::id()))?;
    eprintln!("measuring PostgreSQL alone");
    let alone: Vec<(usize, f64)> = [1, NODES, 8]
        .into_iter()
        .map(|clients| Ok((clients, database.commits_per_second(clients, options.seconds)?)))
        .collect::<Outcome<_>>()?;

    let place = |number: usize| -> Outcome<_> {
        let place = folder.path().join(number.to_string());
        std::fs::create_dir(&place).map_err(saying("a data folder"))?;
        Ok(place)
    };
    let first = Installation::new(&binary, &place(0)?, Engine::PostgresAt(database.url().to_owned()));
    let mut servers = vec![first.start()?];
    let bootstrap = first.bootstrap(&mut servers[0])?;
    for number in 1..NODES {
        let node = first.beside(&place(number)?)?;
        servers.push(node.start()?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(saying("the load"))?;
    let csrs = requests::certification_requests()?;
    let mut rows = Vec::new();
    for what in ["issue", "sign"] {
        for nodes in 1..=NODES {
            let before = database.transactions()?;
            let row = runtime.block_on(async {
                let mut loads = Vec::new();
                for (number, server) in servers.iter().take(nodes).enumerate() {
                    let target = server.plain();
                    let caller = Caller::login(&target, &bootstrap).await?;
                    let requests = match what {
                        "issue" => caller.issue(&target, "EC_prime256v1"),
                        _ => caller.sign(&target, &csrs),
                    };
                    let share = options.connections / nodes + usize::from(number < options.connections % nodes);
                    loads.push((
                        server,
                        target,
                        Workload { requests, connections: share, answer: Answer::Certificate },
                    ));
                }
                together(what, &loads, options).await
            })?;
            // The database tells its counts a moment later.
            std::thread::sleep(Duration::from_millis(1500));
            let (mut row, answered) = row;
            row.transactions = (database.transactions()? - before) as f64 / answered as f64;
            eprintln!("{what}, {nodes} node(s): {:.0} per second", row.rate);
            rows.push(row);
        }
    }
    servers.into_iter().try_for_each(Server::stop)?;
    options.place.report("nodes", &page(options, &alone, &rows))
}

/// Loads the servers at once; says how many answers there were in all, too.
async fn together(
    what: &'static str,
    loads: &[(&Server, crate::http::Target, Workload)],
    options: &Options,
) -> Outcome<(Row, u64)> {
    let schedule =
        Schedule { warm_up: Duration::from_secs(options.warm_up), measured: Duration::from_secs(options.seconds) };
    let running = loads
        .iter()
        .map(|(server, target, workload)| load::run(target, std::slice::from_ref(workload), schedule, server.pid()));
    let outcomes = futures_of(running.collect()).await;
    let (mut rate, mut server, mut answered) = (0.0, Duration::ZERO, 0);
    let mut microseconds = Vec::new();
    for outcome in outcomes {
        let (measured, usage) = outcome?;
        for Measured { rate: of_one, latencies, answered: answers, errors, first_error } in measured {
            if errors > 0 {
                return Err(format!("{errors} requests failed: {}", first_error.unwrap_or_default()));
            }
            rate += of_one;
            answered += answers;
            microseconds.extend(latencies.into_microseconds());
        }
        server += usage.server;
    }
    let latencies = Latencies::new(microseconds);
    let (p50, p99) = (latencies.milliseconds_at(500), latencies.milliseconds_at(990));
    Ok((Row { what, nodes: loads.len(), rate, p50, p99, server, transactions: 0.0 }, answered))
}

/// All of them at once, on this task; the results in their order.
async fn futures_of<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, done) in running.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(done.iter_mut().filter_map(Option::take).collect()),
            false => std::task::Poll::Pending,
        }
    })
    .await
}

fn page(options: &Options, alone: &[(usize, f64)], rows: &[Row]) -> String {
    let mut page = format!(
        "# Several nodes on one PostgreSQL\n\n- {}, commit {}\n- {} cores of {}, {}\n- {} connections in all, {} s \
         measured after {} s of warm-up\n- the load generator, PostgreSQL and all servers share the cores, so more \
         nodes add no processor time here: what is shown is that they do not get into each other's way\n\n",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
        crate::commit(),
        cores(),
        processor(),
        kernel(),
        options.connections,
        options.seconds,
        options.warm_up,
    );
    page += "| scenario | nodes | per second | of one node | p50 ms | p99 ms | servers' CPU per 1000 | transactions \
             each |\n|---|---|---|---|---|---|---|---|\n";
    for row in rows {
        let one = rows.iter().find(|one| one.what == row.what && one.nodes == 1).map_or(row.rate, |one| one.rate);
        let cpu = row.server.as_secs_f64() * 1000.0 / (row.rate * options.seconds as f64);
        page += &format!(
            "| {} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.3} | {:.2} |\n",
            row.what,
            row.nodes,
            row.rate,
            row.rate / one,
            row.p50,
            row.p99,
            cpu,
            row.transactions
        );
    }
    page += "\nTransactions are all that the database ended, reading ones and those of background work included, for \
             each certificate.\n\n## Limits of this database\n\nOne row inserted and committed, by `pgbench`.\n\n\
             | clients | commits per second |\n|---|---|\n";
    for (clients, rate) in alone {
        page += &format!("| {clients} | {rate:.0} |\n");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn futures_that_run_together_end_in_their_order() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (send, receive) = tokio::sync::oneshot::channel();
        let first: std::pin::Pin<Box<dyn Future<Output = u8>>> = Box::pin(async { receive.await.unwrap() });
        let second: std::pin::Pin<Box<dyn Future<Output = u8>>> = Box::pin(async {
            send.send(1).unwrap();
            2
        });
        assert_eq!(runtime.block_on(futures_of(vec![first, second])), [1, 2]);
    }
}
