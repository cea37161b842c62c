//! The documentation that the server serves about itself: the OpenAPI document, and the same as a page for people.
//!
//! The page is plain HTML. It has no script and loads nothing from elsewhere, and its content
//! security policy says so.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use serde_json::Value;

use crate::openapi::{self, About};
use crate::route::{Access, Endpoint, Returns, Route, parameter_names};
use crate::schema::{Bounds, Field, Kind, Schema};

const STYLE: &str = include_str!("docs.css");
const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Both forms of the documentation. Each is written when it is first asked for: most servers are never asked, and hold
/// neither.
#[derive(Clone)]
pub struct Documentation(Arc<Inner>);

struct Inner {
    about: About,
    endpoints: Vec<Arc<Endpoint>>,
    json: OnceLock<Bytes>,
    html: OnceLock<Bytes>,
}

impl Documentation {
    /// Of these routes, in their order, and of what is served beside them.
    pub fn new<S>(about: About, routes: &[Route<S>], beside: Vec<Endpoint>) -> Self {
        let endpoints = routes.iter().map(|route| route.endpoint.clone());
        let endpoints = endpoints.chain(beside.into_iter().map(Arc::new)).collect();
        Self(Arc::new(Inner { about, endpoints, json: OnceLock::new(), html: OnceLock::new() }))
    }

    /// The OpenAPI document.
    pub fn json(&self) -> Bytes {
        let Inner { about, endpoints, json, .. } = &*self.0;
        json.get_or_init(|| openapi::document(about, endpoints).to_string().into()).clone()
    }

    fn html(&self) -> Bytes {
        let Inner { about, endpoints, html, .. } = &*self.0;
        html.get_or_init(|| page(about, endpoints).into()).clone()
    }

    /// `GET /api/docs`, `/api/docs/json` and `/api/docs/style.css`.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let same = self.clone();
        Router::new()
            .route("/api/docs", get(move || served("text/html; charset=utf-8", self.html())))
            .route("/api/docs/json", get(move || served("application/json; charset=utf-8", same.json())))
            .route(
                "/api/docs/style.css",
                get(|| served("text/css; charset=utf-8", Bytes::from_static(STYLE.as_bytes()))),
            )
    }
}

async fn served(content_type: &'static str, body: Bytes) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (CACHE_CONTROL, HeaderValue::from_static("max-age=300")),
    ];
    (headers, body)
}

fn page(about: &About, endpoints: &[Arc<Endpoint>]) -> String {
    let mut tags: Vec<&str> = Vec::new();
    for endpoint in endpoints {
        if !tags.contains(&endpoint.tag) {
            tags.push(endpoint.tag);
        }
    }
    let of = |tag: &str| endpoints.iter().enumerate().filter(move |(_, it)| it.tag == tag).collect::<Vec<_>>();
    let mut contents = String::new();
    let mut sections = String::new();
    for tag in tags {
        put(&mut contents, format_args!("<h2>{}</h2><ul>", escape(tag)));
        put(&mut sections, format_args!("<section><h2>{}</h2>", escape(tag)));
        for (number, endpoint) in of(tag) {
            let summary = escape(endpoint.summary);
            put(&mut contents, format_args!("<li><a href=\"#operation-{number}\">{summary}</a></li>"));
            put_operation(&mut sections, about, number, endpoint);
        }
        contents.push_str("</ul>");
        sections.push_str("</section>");
    }
    let (title, version, description) = (escape(&about.title), escape(&about.version), escape(&about.description));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <link rel=\"stylesheet\" href=\"/api/docs/style.css\"></head><body>\
         <nav aria-label=\"Operations\"><p class=\"title\"><a href=\"#top\">{title}</a> <small>{version}</small></p>{contents}</nav>\
         <main id=\"top\"><header><h1>{title}</h1><p>{description}</p>{INTRODUCTION}</header>{sections}</main></body></html>"
    )
}

const INTRODUCTION: &str = "<p>Send <code>Authorization: Bearer …</code> where a lock is shown; a token comes from \
    <code>POST /api/v1/auth/universal-auth/login</code>. Bodies are JSON or forms. Every success is <code>200</code>. \
    Every error is <code>{ reqId, statusCode, message, error }</code>: <code>400</code> a rule refuses it, <code>401</code> and \
    <code>403</code> the token or the rights do not suffice, <code>404</code> there is no such object, <code>422</code> the \
    request does not have the shape and <code>message</code> lists every issue. The same as \
    <a href=\"/api/docs/json\">OpenAPI 3.1</a>.</p>";

fn put_operation(html: &mut String, about: &About, number: usize, endpoint: &Endpoint) {
    put(
        html,
        format_args!(
            "<article id=\"operation-{number}\"><h3><a href=\"#operation-{number}\">{}</a>",
            escape(endpoint.summary)
        ),
    );
    match endpoint.access {
        Access::Bearer => html.push_str(" <span class=\"lock\" title=\"needs a bearer token\">🔒</span></h3>"),
        Access::Public => html.push_str("</h3>"),
    }
    for path in &endpoint.paths {
        let method = endpoint.method.as_str();
        put(
            html,
            format_args!("<p class=\"path\"><b class=\"{method}\">{method}</b> <code>{}</code></p>", marked_path(path)),
        );
    }
    if !endpoint.description.is_empty() {
        put(html, format_args!("<p>{}</p>", escape(endpoint.description)));
    }
    put_table(html, "Path", &endpoint.path);
    put_table(html, "Query", &endpoint.query);
    if let Some(body) = &endpoint.body {
        put_table(html, "Body", body);
        put_note(html, body);
    }
    match &endpoint.returns {
        Returns::Json(shape) if openapi::fields(shape).is_empty() => {}
        Returns::Json(shape) => put_table(html, "Reply", shape),
        Returns::Bytes(kind) => put(html, format_args!("<p>The reply is <code>{}</code>.</p>", escape(kind))),
    }
    put(
        html,
        format_args!(
            "<details><summary>Example</summary><pre>{}</pre></details></article>",
            escape(&curl(about, endpoint))
        ),
    );
}

/// The rules of a whole body, under its table.
fn put_note(html: &mut String, body: &Schema) {
    let note = openapi::description(body);
    if !note.is_empty() {
        put(html, format_args!("<p>{}.</p>", escape(&note)));
    }
}

fn put_table(html: &mut String, caption: &str, shape: &Schema) {
    if openapi::fields(shape).is_empty() {
        return;
    }
    put(html, format_args!("<table><caption>{caption}</caption><tbody>"));
    put_rows(html, "", shape);
    html.push_str("</tbody></table>");
}

/// One row for each member, members of members below theirs with the whole path as name.
fn put_rows(html: &mut String, prefix: &str, shape: &Schema) {
    for Field { name, schema, is_required } in openapi::fields(shape) {
        let presence = if *is_required { "<strong>required</strong>" } else { "optional" };
        let (kind, description) = (escape(&kind_in_words(schema)), escape(&openapi::description(schema)));
        put(
            html,
            format_args!("<tr><th scope=\"row\"><code>{prefix}{}</code></th><td>{kind}<br>{presence}", escape(name)),
        );
        if let Some(default) = &schema.default {
            put(html, format_args!(", otherwise <code>{}</code>", escape(&default.to_string())));
        }
        put(html, format_args!("</td><td>{description}</td></tr>"));
        match &schema.kind {
            Kind::List { items, .. } => put_rows(html, &format!("{prefix}{name}[]."), items),
            _ => put_rows(html, &format!("{prefix}{name}."), schema),
        }
    }
}

fn kind_in_words(shape: &Schema) -> String {
    let kind = match &shape.kind {
        Kind::Object(_) | Kind::Record(_) => "object".to_owned(),
        Kind::Text(text) => match text.form {
            Some(form) => format!("{}{}", form.title(), bounds_in_words(text.length, " characters")),
            None => format!("text{}", bounds_in_words(text.length, " characters")),
        },
        Kind::OneOf(options) => options.join(" | "),
        Kind::Number(number) => {
            let kind = if number.is_whole { "whole number" } else { "number" };
            format!("{kind}{}", bounds_in_words(number.bounds, ""))
        }
        Kind::Boolean(_) => "true | false".to_owned(),
        Kind::Date => "date and time".to_owned(),
        Kind::List { items, length } => {
            format!("list of {}{}", kind_in_words(items), bounds_in_words(*length, " items"))
        }
        Kind::Any => "any JSON".to_owned(),
    };
    if shape.nullable { format!("{kind} | null") } else { kind }
}

fn bounds_in_words(bounds: Bounds, unit: &str) -> String {
    match (bounds.min, bounds.max) {
        (None, None) => String::new(),
        (Some(1), None) if !unit.is_empty() => ", not empty".to_owned(),
        (Some(min), None) => format!(", at least {min}{unit}"),
        (None, Some(max)) => format!(", at most {max}{unit}"),
        (Some(min), Some(max)) => format!(", {min} to {max}{unit}"),
    }
}

/// The request as a command that can be pasted into a shell.
fn curl(about: &About, endpoint: &Endpoint) -> String {
    let mut path = endpoint.paths.first().copied().unwrap_or_default().to_owned();
    for field in openapi::fields(&endpoint.path) {
        path = path.replace(&format!("{{{}}}", field.name), &plain(&openapi::example(&field.schema)));
    }
    let required = openapi::fields(&endpoint.query).iter().filter(|field| field.is_required);
    let query: Vec<_> =
        required.map(|field| format!("{}={}", field.name, plain(&openapi::example(&field.schema)))).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    let url = format!("{}{path}{mark}{}", about.public_url.trim_end_matches('/'), query.join("&"));
    let mut command = format!("curl -X {} '{url}'", endpoint.method);
    if endpoint.access == Access::Bearer {
        command.push_str(" \\\n  -H \"Authorization: Bearer $TOKEN\"");
    }
    if let Some(body) = &endpoint.body {
        let body = serde_json::to_string_pretty(&openapi::example(body)).unwrap_or_default();
        put(
            &mut command,
            format_args!(" \\\n  -H 'Content-Type: application/json' \\\n  -d '{}'", body.replace('\'', "'\\''")),
        );
    }
    command
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn marked_path(path: &'static str) -> String {
    parameter_names(path)
        .fold(escape(path), |path, name| path.replacen(&format!("{{{name}}}"), &format!("<var>{{{name}}}</var>"), 1))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String does not fail");
}
