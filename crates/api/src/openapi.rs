//! The OpenAPI 3.1 document of the routes: made from the same tables that check requests, so it cannot say anything else.
//!
//! Bodies are inline, errors are shared components with the exact members of contract §1.2. The page for people is in
//! [`crate::docs`].

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::route::{Access, Endpoint, Returns, parameter_names};
use crate::schema::{Field, Form, Kind, Schema};

/// What the document says about the whole server.
#[derive(Clone, Debug)]
pub struct About {
    /// The name of the API.
    pub title: String,
    /// The version of the server.
    pub version: String,
    /// A few sentences.
    pub description: String,
    /// Where clients reach the server, without `/api`.
    pub public_url: String,
}

/// The errors that every operation may answer with: status, name of the component, what it means.
const ERRORS: [(u16, &str, &str); 6] = [
    (400, "BadRequest", "A rule refuses it; `message` says which"),
    (401, "Unauthorized", "No token, or one that is unknown, revoked or used up"),
    (403, "Forbidden", "The token is malformed or expired, or its owner may not do this"),
    (404, "NotFound", "No such object"),
    (422, "ValidationFailure", "The request does not have the shape; `message` lists every issue"),
    (500, "InternalServerError", "The server failed; its log names the cause under `reqId`"),
];

/// The whole document.
pub(crate) fn document(about: &About, endpoints: &[Arc<Endpoint>]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut tags: Vec<&str> = Vec::new();
    let mut names = HashSet::new();
    for endpoint in endpoints {
        if !tags.contains(&endpoint.tag) {
            tags.push(endpoint.tag);
        }
        for path in &endpoint.paths {
            let item = paths.entry((*path).to_owned()).or_insert_with(|| json!({}));
            item[endpoint.method.as_str().to_ascii_lowercase()] = operation(endpoint, path, &mut names);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": about.title, "version": about.version, "description": about.description },
        "servers": [{ "url": about.public_url.trim_end_matches('/') }],
        "tags": tags.iter().map(|tag| json!({ "name": tag })).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } },
            "schemas": error_schemas(),
        },
    })
}

fn operation(endpoint: &Endpoint, path: &'static str, names: &mut HashSet<String>) -> Value {
    let mut operation = json!({
        "operationId": unique(camel_case(&[endpoint.tag, endpoint.summary]), names),
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "parameters": parameters(endpoint, path),
        "responses": responses(endpoint),
        "security": match endpoint.access {
            Access::Bearer => json!([{ "bearer": [] }]),
            Access::Public => json!([]),
        },
    });
    if !endpoint.description.is_empty() {
        operation["description"] = endpoint.description.into();
    }
    if let Some(body) = &endpoint.body {
        let media = json!({ "schema": json_schema(body), "example": example(body) });
        operation["requestBody"] = json!({
            "required": fields(body).iter().any(|field| field.is_required),
            "content": { "application/json": media, "application/x-www-form-urlencoded": { "schema": json_schema(body) } },
        });
    }
    operation
}

fn parameters(endpoint: &Endpoint, path: &'static str) -> Vec<Value> {
    let parameter = |name: &str, place: &str, is_required: bool, shape: &Schema| {
        let mut parameter = json!({ "name": name, "in": place, "required": is_required, "schema": json_schema(shape) });
        if !shape.description.is_empty() {
            parameter["description"] = shape.description.into();
        }
        parameter
    };
    let in_path = parameter_names(path).zip(fields(&endpoint.path));
    let in_path = in_path.map(|(name, field)| parameter(name, "path", true, &field.schema));
    let in_query = fields(&endpoint.query).iter();
    let in_query = in_query.map(|field| parameter(field.name, "query", field.is_required, &field.schema));
    in_path.chain(in_query).collect()
}

fn responses(endpoint: &Endpoint) -> Value {
    let mut responses = Map::new();
    let content = match &endpoint.returns {
        Returns::Json(shape) => json!({ "application/json": { "schema": json_schema(shape) } }),
        Returns::Bytes(content_type) => json!({ *content_type: {} }),
    };
    responses.insert("200".to_owned(), json!({ "description": "Done", "content": content }));
    for (status, name, meaning) in ERRORS {
        let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
        let content = json!({ "application/json": { "schema": schema } });
        responses.insert(status.to_string(), json!({ "description": meaning, "content": content }));
    }
    Value::Object(responses)
}

fn error_schemas() -> Map<String, Value> {
    let schema = |(status, name, _): (u16, &str, &str)| {
        let mut schema = json!({
            "type": "object",
            "properties": {
                "reqId": { "type": "string" },
                "statusCode": { "type": "number", "enum": [status] },
                "message": { "type": "string" },
                "error": { "type": "string" },
            },
            "required": ["reqId", "statusCode", "message", "error"],
            "additionalProperties": false,
        });
        match status {
            403 => schema["properties"]["details"] = json!({}),
            422 => {
                schema["properties"]["message"] = json!({});
                schema["required"] = json!(["reqId", "statusCode", "error"]);
            }
            _ => {}
        }
        (name.to_owned(), schema)
    };
    ERRORS.into_iter().map(schema).collect()
}

/// The members of an object; nothing for other shapes.
pub(crate) fn fields(schema: &Schema) -> &[Field] {
    match &schema.kind {
        Kind::Object(fields) => fields,
        Kind::Text(_)
        | Kind::OneOf(_)
        | Kind::Number(_)
        | Kind::Boolean(_)
        | Kind::Date
        | Kind::List { .. }
        | Kind::Record(_)
        | Kind::Any => &[],
    }
}

/// A shape as JSON Schema.
fn json_schema(shape: &Schema) -> Value {
    let mut schema = match &shape.kind {
        Kind::Object(fields) => object_schema(fields),
        Kind::Text(text) => {
            let mut schema = json!({ "type": "string" });
            put(&mut schema, "minLength", text.length.min);
            put(&mut schema, "maxLength", text.length.max);
            put(&mut schema, "format", text.form.and_then(format));
            put(&mut schema, "pattern", text.form.and_then(pattern));
            schema
        }
        Kind::OneOf(options) => json!({ "type": "string", "enum": options }),
        Kind::Number(number) => {
            let mut schema = json!({ "type": if number.is_whole { "integer" } else { "number" } });
            put(&mut schema, "minimum", number.bounds.min);
            put(&mut schema, "maximum", number.bounds.max);
            schema
        }
        Kind::Boolean(_) => json!({ "type": "boolean" }),
        Kind::Date => json!({ "type": "string", "format": "date-time" }),
        Kind::List { items, length } => {
            let mut schema = json!({ "type": "array", "items": json_schema(items) });
            put(&mut schema, "minItems", length.min);
            put(&mut schema, "maxItems", length.max);
            schema
        }
        Kind::Record(values) => json!({ "type": "object", "additionalProperties": json_schema(values) }),
        Kind::Any => json!({}),
    };
    if shape.nullable {
        allow_null(&mut schema);
    }
    put(&mut schema, "default", shape.default.clone());
    put(&mut schema, "examples", shape.example.clone().map(|example| json!([example])));
    let description = description(shape);
    put(&mut schema, "description", Some(description).filter(|text| !text.is_empty()));
    schema
}

fn object_schema(fields: &[Field]) -> Value {
    if fields.is_empty() {
        return json!({ "type": "object" });
    }
    let properties: Map<_, _> =
        fields.iter().map(|field| (field.name.to_owned(), json_schema(&field.schema))).collect();
    let required: Vec<_> = fields.iter().filter(|field| field.is_required).map(|field| field.name).collect();
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    put(&mut object, "required", Some(required).filter(|names| !names.is_empty()));
    object
}

/// What a value is, followed by the rules that have no place of their own in JSON Schema.
pub(crate) fn description(shape: &Schema) -> String {
    let checks = match &shape.kind {
        Kind::Text(text) => text.checks.as_slice(),
        _ => &[],
    };
    let mut sentences: Vec<&str> = vec![shape.description];
    sentences.extend(checks.iter().map(|check| check.message));
    sentences.extend(shape.rules.iter().map(|rule| rule.message));
    sentences.retain(|sentence| !sentence.is_empty());
    sentences.join(". ")
}

fn allow_null(schema: &mut Value) {
    if let Some(kind) = schema.get("type").cloned() {
        schema["type"] = json!([kind, "null"]);
    }
    if let Some(options) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        options.push(Value::Null);
    }
}

fn put(schema: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        schema[key] = value.into();
    }
}

fn format(form: Form) -> Option<&'static str> {
    match form {
        Form::Uuid => Some("uuid"),
        Form::Email => Some("email"),
        Form::Slug | Form::ProfileSlug | Form::TemplateField | Form::Country => None,
    }
}

fn pattern(form: Form) -> Option<&'static str> {
    match form {
        Form::Uuid | Form::Email => None,
        Form::Slug => Some("^[a-z0-9]+(-[a-z0-9]+)*$"),
        Form::ProfileSlug => Some("^[a-z0-9-]+$"),
        Form::TemplateField => Some(r"^[A-Za-z0-9 *.@\\-]+$"),
        Form::Country => Some("^[A-Z]{2}$"),
    }
}

/// A value that this shape accepts: its own example or default, or one made up; of an object the required members.
pub(crate) fn example(shape: &Schema) -> Value {
    if let Some(value) = shape.example.as_ref().or(shape.default.as_ref()) {
        return value.clone();
    }
    match &shape.kind {
        Kind::Object(fields) => {
            let required = fields.iter().filter(|field| field.is_required || field.schema.example.is_some());
            required.map(|field| (field.name.to_owned(), example(&field.schema))).collect::<Map<_, _>>().into()
        }
        Kind::Text(text) => match text.form {
            Some(Form::Uuid) => "0198c5f2-7b1e-7c30-9d41-5a6f0e2b8c17".into(),
            Some(Form::Email) => "platform@example.com".into(),
            Some(Form::Slug | Form::ProfileSlug) => "web-server".into(),
            Some(Form::TemplateField) => "www.example.com".into(),
            Some(Form::Country) => "DE".into(),
            None => "text".into(),
        },
        Kind::OneOf(options) => options.first().copied().into(),
        Kind::Number(number) => number.bounds.min.unwrap_or(1).into(),
        Kind::Boolean(_) => true.into(),
        Kind::Date => "2030-01-31T12:00:00.000Z".into(),
        Kind::List { items, .. } => vec![example(items)].into(),
        Kind::Record(values) => json!({ "name": example(values) }),
        Kind::Any => json!({}),
    }
}

fn camel_case(texts: &[&str]) -> String {
    let words = texts.iter().flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric()));
    let mut name = String::new();
    for word in words.filter(|word| !word.is_empty()) {
        let (first, rest) = word.split_at(1);
        match name.is_empty() {
            true => name.push_str(&first.to_ascii_lowercase()),
            false => name.push_str(&first.to_ascii_uppercase()),
        }
        name.push_str(rest);
    }
    name
}

fn unique(name: String, names: &mut HashSet<String>) -> String {
    let mut candidates = (2..).map(|number| format!("{name}{number}"));
    let mut candidate = name.clone();
    while !names.insert(candidate.clone()) {
        candidate = candidates.next().expect("there is always a next number");
    }
    candidate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::*;

    fn endpoints() -> Vec<Endpoint> {
        let thing = || {
            object([
                required("name", slug(1, 32).describe("How it is called")),
                optional("kind", one_of(&["a", "b"]).nullable().default(json!("a"))),
                optional("notAfter", date()),
                optional("tags", list(text()).at_least(1).at_most(3)),
                optional("ttl", text().must("Must be a duration", |_| true)),
            ])
        };
        vec![
            Endpoint::post("/api/things/{thingId}/copies", "Things", "Make a copy")
                .also_at("/api/v2/things/{id}/copies")
                .path([required("thingId", uuid())])
                .query([optional("limit", integer().at_least(1).at_most(100).default(json!(20)).describe("How many"))])
                .body(thing().rule(&[], "ttl and notAfter exclude each other", |_| true))
                .returns(object([required("thing", thing())])),
            Endpoint::get("/api/things/{thingId}/copies", "Things", "Read a copy")
                .returns_bytes("application/pkix-cert"),
        ]
    }

    fn toy_document() -> Value {
        let about = About {
            title: "Toy".into(),
            version: "1.2".into(),
            description: "For tests".into(),
            public_url: "https://toy.example/".into(),
        };
        document(&about, &endpoints().into_iter().map(Arc::new).collect::<Vec<_>>())
    }

    #[test]
    fn the_document_says_what_the_checks_ask() {
        let document = toy_document();
        assert_eq!(document["servers"], json!([{ "url": "https://toy.example" }]));
        let copies = &document["paths"]["/api/things/{thingId}/copies"];
        assert_eq!(
            copies["post"]["parameters"],
            json!([
                { "name": "thingId", "in": "path", "required": true, "schema": { "type": "string", "format": "uuid" } },
                { "name": "limit", "in": "query", "required": false, "description": "How many", "schema":
                    { "type": "integer", "minimum": 1, "maximum": 100, "default": 20, "description": "How many" } },
            ])
        );
        let content = &copies["post"]["requestBody"]["content"];
        assert_eq!(content["application/json"]["example"], json!({ "name": "web-server" }));
        assert_eq!(
            content["application/x-www-form-urlencoded"]["schema"],
            json!({
                "type": "object", "additionalProperties": false, "required": ["name"],
                "description": "ttl and notAfter exclude each other",
                "properties": {
                    "name": { "type": "string", "minLength": 1, "maxLength": 32, "description": "How it is called",
                        "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$" },
                    "kind": { "type": ["string", "null"], "enum": ["a", "b", null], "default": "a" },
                    "notAfter": { "type": "string", "format": "date-time" },
                    "tags": { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": 3 },
                    "ttl": { "type": "string", "description": "Must be a duration" },
                },
            })
        );
        assert!(copies["get"]["responses"]["200"]["content"]["application/pkix-cert"].is_object());
        let alias = &document["paths"]["/api/v2/things/{id}/copies"]["post"];
        assert_eq!(alias["parameters"][0]["name"], "id");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_its_own_name() {
        let document = toy_document();
        let mut names = HashSet::new();
        for item in document["paths"].as_object().expect("an object").values() {
            for operation in item.as_object().expect("an object").values() {
                assert!(names.insert(operation["operationId"].as_str().expect("a name").to_owned()));
                for status in ["400", "401", "403", "404", "422", "500"] {
                    let schema = &operation["responses"][status]["content"]["application/json"]["schema"];
                    let pointer = schema["$ref"].as_str().expect("a reference").trim_start_matches('#').to_owned();
                    let target = document.pointer(&pointer).expect("it leads somewhere");
                    assert_eq!(target["properties"]["statusCode"]["enum"][0].to_string(), status);
                }
            }
        }
        assert!(names.contains("thingsMakeACopy") && names.contains("thingsMakeACopy2"), "{names:?}");
    }

    #[test]
    fn the_example_of_a_shape_is_accepted_by_it() {
        for endpoint in endpoints() {
            for shape in endpoint.body.iter().chain([&endpoint.path]) {
                assert!(shape.check(example(shape)).is_ok(), "{shape:?}");
            }
        }
    }
}
