//! `chancery project`: projects, each with its own CAs, policies, profiles and certificates.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::{
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    output::{Column, Output, fields, list_at, needed, string_at, table, text_at},
};

/// The type of projects that hold certificates (contract §2.6).
const KIND: &str = "cert-manager";

const COLUMNS: &[Column] =
    &[("SLUG", "/slug"), ("NAME", "/name"), ("TYPE", "/type"), ("CREATED", "/createdAt"), ("ID", "/id")];

/// Make, list, show and delete projects.
#[derive(clap::Args)]
pub(crate) struct ProjectArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(subcommand)]
    pub(crate) command: ProjectCommand,
}

#[derive(Subcommand)]
pub(crate) enum ProjectCommand {
    /// Make a project.
    ///
    /// Whoever makes a project is its admin. A new project holds no CA, policy or profile yet.
    #[command(after_help = "Example:\n  chancery project create Payments --slug payments")]
    Create {
        /// Its name, for people.
        name: String,
        /// Its short name: 5 to 64 of a-z, 0-9 and -. Made from the name when left out.
        #[arg(long)]
        slug: Option<String>,
        /// What it is for.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// List the projects that you are a member of.
    #[command(after_help = "Example:\n  chancery project list")]
    List,
    /// Show a project.
    #[command(after_help = "Example:\n  chancery project show payments")]
    Show {
        /// Its slug or id.
        #[arg(value_name = "SLUG|ID")]
        name: String,
    },
    /// Delete a project.
    ///
    /// Its CAs issue no more. What was revoked stays revoked, and its revocation lists stay up until their last
    /// certificate has expired.
    #[command(after_help = "Example:\n  chancery project delete payments")]
    Delete {
        /// Its slug or id.
        #[arg(value_name = "SLUG|ID")]
        name: String,
    },
}

pub(crate) async fn run(client: &Client, command: ProjectCommand) -> Result<Output, Failure> {
    match command {
        ProjectCommand::Create { name, slug, description } => {
            let mut body = json!({ "projectName": name, "type": KIND });
            if let Some(slug) = slug {
                body["slug"] = slug.into();
            }
            if let Some(description) = description {
                body["projectDescription"] = description.into();
            }
            let answer = client.post(&["v2", "workspace"], &body).await?;
            let text =
                format!("made the project {}\n{}", text_at(&answer, "/project/slug"), describe(&answer["project"]));
            Ok(Output::new(answer, text))
        }
        ProjectCommand::List => {
            let answer = client.get(&["v1", "projects"], &[]).await?;
            let text = table(COLUMNS, &list_at(&answer, "/projects"), "You are a member of no project.");
            Ok(Output::new(answer, text))
        }
        ProjectCommand::Show { name } => {
            let project = find(client, &name).await?;
            let text = describe(&project);
            Ok(Output::new(project, text))
        }
        ProjectCommand::Delete { name } => {
            let project = find(client, &name).await?;
            let slug = needed(&project, "/slug")?;
            let answer = client.delete(&["v2", "workspace", slug]).await?;
            Ok(Output::new(answer, format!("deleted the project {slug}")))
        }
    }
}

/// A project by its slug or id.
pub(crate) async fn find(client: &Client, name: &str) -> Result<Value, Failure> {
    if is_id(name) {
        let mut answer = client.get(&["v1", "workspace", name], &[]).await?;
        return Ok(answer["workspace"].take());
    }
    client.get(&["v1", "projects", "slug", name], &[]).await
}

/// The id of a project that is named by slug or id.
pub(crate) async fn id_of(client: &Client, name: &str) -> Result<String, Failure> {
    if is_id(name) {
        return Ok(name.to_owned());
    }
    Ok(needed(&find(client, name).await?, "/id")?.to_owned())
}

/// The id of the project that is meant, for requests that must name one.
pub(crate) async fn meant(client: &Client) -> Result<String, Failure> {
    if let Some(id) = client.project_id().await? {
        return Ok(id);
    }
    let answer = client.get(&["v1", "projects"], &[]).await?;
    let projects = list_at(&answer, "/projects");
    // The default project of the organisation is its oldest (contract §2.6).
    let fitting = projects.iter().filter(|project| string_at(project, "/type") == Some(KIND));
    match fitting.min_by_key(|project| string_at(project, "/createdAt")) {
        Some(project) => Ok(needed(project, "/id")?.to_owned()),
        None => Err(Failure::new("you are a member of no project for certificates")
            .hint("make one with: chancery project create NAME")),
    }
}

/// Whether the text is an id and not a name.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

fn describe(project: &Value) -> String {
    fields([
        ("slug", text_at(project, "/slug")),
        ("name", text_at(project, "/name")),
        ("description", text_at(project, "/description")),
        ("type", text_at(project, "/type")),
        ("created", text_at(project, "/createdAt")),
        ("id", text_at(project, "/id")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_told_from_a_name() {
        assert!(is_id("7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11"));
        for name in ["payments", "7c1f0b525d3e4f0a9d520f6a3c0f9f11", "", "7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f1g"] {
            assert!(!is_id(name), "{name}");
        }
    }
}
