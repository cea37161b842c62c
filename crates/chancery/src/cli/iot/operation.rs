//! `chancery iot operation`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Api, OwnerArguments};
use crate::cli::{
    failure::Failure,
    output::{Column, Output, fields, table, text_at},
};

const COLUMNS: &[Column] =
    &[("WHAT", "/description"), ("DONE", "/done"), ("WHEN", "/createdAt"), ("BY", "/createdBy"), ("ID", "/id")];

#[derive(Subcommand)]
pub(crate) enum OperationCommand {
    /// Show an operation.
    #[command(after_help = "Example:\n  chancery iot operation show are0123456789abcdefg")]
    Show {
        /// Its id.
        id: String,
    },
    /// List the operations on a registry, a device or a broker, newest first. They are kept for 14 days.
    #[command(after_help = "Example:\n  chancery iot operation list --registry plant --limit 20")]
    List {
        #[command(flatten)]
        owner: OwnerArguments,
        /// How many at most.
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: usize,
    },
}

pub(super) async fn run(api: &Api<'_>, command: OperationCommand) -> Result<Output, Failure> {
    match command {
        OperationCommand::Show { id } => {
            let operation = api.get(&["operations", &id], &[]).await?;
            let text = describe(&operation);
            Ok(Output::new(operation, text))
        }
        OperationCommand::List { owner, limit } => {
            let found = api.owner(&owner).await?;
            let all = api.list(&found.place(&["operations"])?, &[], "/operations", Some(limit)).await?;
            let text = table(COLUMNS, &all, "There is no operation.");
            Ok(Output::new(json!({ "operations": all }), text))
        }
    }
}

fn describe(operation: &Value) -> String {
    let without_type = |pointer| {
        let mut of = operation.pointer(pointer).cloned().unwrap_or_default();
        of.as_object_mut().map(|object| object.remove("@type"));
        text_at(&of, "")
    };
    fields([
        ("what", text_at(operation, "/description")),
        ("done", text_at(operation, "/done")),
        ("about", without_type("/metadata")),
        ("result", without_type("/response")),
        ("error", text_at(operation, "/error/message")),
        ("by", text_at(operation, "/createdBy")),
        ("when", text_at(operation, "/createdAt")),
        ("id", text_at(operation, "/id")),
    ])
}
