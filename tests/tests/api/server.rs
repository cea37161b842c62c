//! A server for one test: the whole of it after its first start, on a socket of its own, over an empty database of either
//! engine and with a clock that the test puts.

use std::time::{SystemTime, UNIX_EPOCH};

use chancery::cli::local::{AddressOrOff, DatabaseArguments, ServeArguments};
use chancery::config::Config;
use domain::caller::{Caller, OrganizationRole};
use domain::identity::{Membership, Organization, RoleAssignment, UniversalAuthSettings};
use domain::role::BuiltInRole;
use domain::{IdentityId, OrganizationId, ProjectId, Time};
use reqwest::Method;
use serde_json::{Value, json};
use services::identities::{NewClientSecret, NewIdentity};
use services::projects::NewProject;
use services::{Clock, Context};
use store::Changes;
use testkit::{TestEngine, both_engines};

/// A running server, as one of its callers sees it.
#[derive(Clone)]
pub struct Server {
    pub url: String,
    /// When the test began, in whole seconds.
    pub start: Time,
    /// Where syncs may write on this machine.
    pub places: std::path::PathBuf,
    /// The key file of its account at Google; there is none before a test writes it.
    pub google_key_file: std::path::PathBuf,
    /// Whom it trusts beside the system's roots; there is none before a test writes it.
    pub outside_ca: std::path::PathBuf,
    pub services: Context,
    pub organization: OrganizationId,
    /// The organisation's first project, which is meant when a request names none.
    pub project: ProjectId,
    /// The certificate authority of the first start that issues.
    pub issuing_ca: String,
    /// Who calls: at first the admin of the organisation and of the project.
    pub caller: Session,
    client: reqwest::Client,
}

/// A logged-in identity.
#[derive(Clone)]
pub struct Session {
    pub identity: IdentityId,
    pub client_id: String,
    pub client_secret: String,
    pub token: String,
}

/// What the server answered with.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Null when it is no JSON.
    pub body: Value,
    /// The body as it came, as far as it is text.
    pub raw: String,
    /// The body as it came.
    pub octets: Vec<u8>,
    pub headers: reqwest::header::HeaderMap,
}

/// A server that a test starts and stops itself, each time over the same database.
pub struct Lives {
    config: Config,
    start: Time,
}

impl Lives {
    /// The same with other settings.
    pub fn configured(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts it: the first time with nobody known yet, later for the admin of the first time.
    pub async fn begin(&self, admin: Option<&Session>) -> (chancery::server::RunningServer, Server) {
        let running = chancery::server::start(&self.config, Clock::manual(self.start)).await.unwrap();
        let secret = running.secret.clone().or(admin.map(|admin| admin.client_secret.clone()));
        let server = Server::of(&running, self, secret.unwrap()).await;
        (running, server)
    }
}

/// Runs a test that starts and stops the server itself, once on each engine.
pub fn for_each_engine_with_lives<F: Future<Output = ()>>(test: impl Fn(Lives) -> F) {
    both_engines(|engine| async {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let start = Time::from_seconds(i64::try_from(now.as_secs()).unwrap());
        test(Lives { config: config(engine, folder.path()), start }).await;
    });
}

/// Runs a test once on each engine.
pub fn for_each_engine<F: Future<Output = ()>>(test: impl Fn(Server) -> F) {
    for_each_engine_with_lives(|lives| async {
        let lives = lives;
        let (running, server) = lives.begin(None).await;
        test(server).await;
        running.stop().await;
    });
}

fn config(engine: TestEngine, folder: &std::path::Path) -> Config {
    let (data, database) = match engine {
        TestEngine::SqlitePath(path) => (path.parent().unwrap().to_owned(), None),
        TestEngine::PostgresUrl(url) => (folder.join("data"), Some(url)),
    };
    let database = DatabaseArguments { data: Some(data), database, ..DatabaseArguments::default() };
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let places = folder.join("places");
    std::fs::create_dir(&places).unwrap();
    let arguments = ServeArguments {
        database,
        listen,
        // The other systems of the tests are on this machine.
        egress_allow: vec!["127.0.0.0/8".into()],
        local_directories: vec![places],
        local_commands: true,
        google_key_file: Some(folder.join("google.json")),
        egress_ca_file: Some(folder.join("outside-ca.pem")),
        mqtt_listen: Some(AddressOrOff::Off),
        mqtt_ws_listen: Some(AddressOrOff::Off),
        ..ServeArguments::default()
    };
    Config::from_arguments(&arguments).unwrap()
}

impl Server {
    async fn of(running: &chancery::server::RunningServer, lives: &Lives, secret: String) -> Self {
        // One provider for the whole process; a second installation is refused and harmless.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let bootstrap = &running.bootstrap;
        let caller = Session {
            identity: bootstrap.identity_id,
            client_id: bootstrap.client_id.clone(),
            client_secret: secret,
            token: String::new(),
        };
        let server = Self {
            url: running.reachable.url.clone(),
            start: lives.start,
            places: lives.config.places.roots[0].clone(),
            google_key_file: lives.config.google_key_file.clone().unwrap(),
            outside_ca: lives.config.egress_ways.ca_file.clone().unwrap(),
            services: running.services.clone(),
            organization: bootstrap.organization_id,
            project: bootstrap.project_id,
            issuing_ca: bootstrap.issuing_ca_id.to_string(),
            caller,
            client: reqwest::Client::new(),
        };
        let admin = &server.caller;
        let caller = server.log_in(admin.identity, &admin.client_id, &admin.client_secret).await;
        Self { caller, ..server }
    }

    /// Puts the clock to some seconds after the beginning of the test.
    pub fn at(&self, seconds: i64) {
        self.services.clock.set(self.start.plus_seconds(seconds));
    }

    /// That time as the server writes it.
    pub fn time(&self, seconds: i64) -> String {
        api::render::timestamp(self.start.plus_seconds(seconds))
    }

    /// An identity that is made below the API, so that tests begin with somebody.
    async fn seed(&self, role: OrganizationRole, in_project: Option<BuiltInRole>) -> Session {
        let node = Caller::node(self.organization);
        let new = NewIdentity { name: role.as_str().into(), role, has_delete_protection: false, metadata: vec![] };
        let identity = self.services.create_identity(&node, new).await.unwrap().id;
        if let Some(role) = in_project {
            let membership = Membership {
                id: self.services.new_id(),
                project: self.project,
                identity,
                identity_name: String::new(),
                roles: vec![RoleAssignment::permanent(role.slug())],
                created_at: self.start,
                updated_at: self.start,
            };
            let changes = Changes::new().statement(store::identity::insert_membership(&membership));
            self.services.db.commit(changes.configuration()).await.unwrap();
        }
        let settings = UniversalAuthSettings::default();
        let auth = self.services.attach_universal_auth(&node, identity, settings).await.unwrap();
        let new = NewClientSecret { description: String::new(), uses_limit: 0, ttl_seconds: 0 };
        let secret = self.services.create_client_secret(&node, identity, new).await.unwrap().secret;
        self.log_in(identity, &auth.client_id, &secret).await
    }

    /// Another identity of the organisation, with a role there and in the project, made and logged in through the API.
    pub async fn identity(&self, organization_role: &str, project_role: Option<&str>) -> Session {
        let body = json!({"name": "another", "organizationId": self.organization, "role": organization_role});
        let id = text(&self.post("/api/v1/identities", body).await.ok()["identity"]["id"]);
        let auth = format!("/api/v1/auth/universal-auth/identities/{id}");
        let client_id = text(&self.post(&auth, json!({})).await.ok()["identityUniversalAuth"]["clientId"]);
        let secret = text(&self.post(&format!("{auth}/client-secrets"), json!({})).await.ok()["clientSecret"]);
        if let Some(role) = project_role {
            let path = format!("/api/v1/projects/{}/memberships/identities/{id}", self.project);
            self.post(&path, json!({"role": role})).await.ok();
        }
        self.log_in(IdentityId::parse(&id).unwrap(), &client_id, &secret).await
    }

    async fn log_in(&self, identity: IdentityId, client_id: &str, client_secret: &str) -> Session {
        let body = json!({"clientId": client_id, "clientSecret": client_secret});
        let token = text(&self.anonymous("/api/v1/auth/universal-auth/login", body).await.ok()["accessToken"]);
        Session { identity, client_id: client_id.into(), client_secret: client_secret.into(), token }
    }

    /// The server as somebody else.
    pub fn by(&self, session: &Session) -> Self {
        Self { caller: session.clone(), ..self.clone() }
    }

    /// A second organisation on the same server, with an admin of its own and a project of its own.
    pub async fn other_organization(&self) -> Self {
        let organization = Organization { id: self.services.new_id(), name: "Other".into(), slug: "other".into() };
        let changes = Changes::new().statement(store::project::insert_organization(&organization, self.start));
        self.services.db.commit(changes).await.unwrap();
        let node = Caller::node(organization.id);
        let new = NewProject {
            name: "PKI".into(),
            slug: Some("default".into()),
            description: None,
            has_delete_protection: false,
        };
        let project = self.services.create_project(&node, new).await.unwrap().id;
        let mut other = Self { organization: organization.id, project, ..self.clone() };
        other.caller = other.seed(OrganizationRole::Admin, Some(BuiltInRole::Admin)).await;
        other
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// A call of gRPC without a token, of a message in its frame. Refusals are in the headers.
    pub async fn grpc(&self, path: &str, body: Vec<u8>) -> Answer {
        let request = self.client.post(format!("{}{path}", self.url)).header("content-type", "application/grpc");
        self.send(request.body(body)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    /// A POST that may be repeated: with an `Idempotency-Key`.
    pub async fn post_once(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).header("idempotency-key", key).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Any request; without a body when that is null.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = self.request(method, path);
        self.send(if body.is_null() { request } else { request.json(body) }).await
    }

    /// A DELETE with a body.
    pub async fn delete_with(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::DELETE, path).json(&body)).await
    }

    /// A GET without a token, of a path or a whole URL: status, content type and octets.
    pub async fn fetch(&self, place: &str) -> (u16, String, Vec<u8>) {
        let url = if place.starts_with('/') { format!("{}{place}", self.url) } else { place.to_owned() };
        let response = self.client.get(url).send().await.unwrap();
        let content_type = response.headers().get("content-type").map_or("", |value| value.to_str().unwrap());
        (response.status().as_u16(), content_type.to_owned(), response.bytes().await.unwrap().to_vec())
    }

    /// A POST without a token.
    pub async fn anonymous(&self, path: &str, body: Value) -> Answer {
        self.send(self.client.post(format!("{}{path}", self.url)).json(&body)).await
    }

    /// A POST of a form without a token.
    pub async fn form(&self, path: &str, body: &[(&str, &str)]) -> Answer {
        self.send(self.client.post(format!("{}{path}", self.url)).form(body)).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.caller.token)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.unwrap();
        let raw = String::from_utf8_lossy(&body).into_owned();
        let octets = body.to_vec();
        Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null), raw, octets }
    }
}

impl Answer {
    /// The body of a 200.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// Asserts the status and the `error` of a refusal.
    #[track_caller]
    pub fn refused(self, status: u16, error: &str) -> Value {
        assert_eq!((self.status, self.body["error"].as_str()), (status, Some(error)), "{}", self.body);
        assert_eq!(self.body["statusCode"], status);
        self.body
    }

    /// Asserts a 422 and gives the paths of its issues, joined with dots.
    #[track_caller]
    pub fn issues(self) -> Vec<String> {
        let body = self.refused(422, "ValidationFailure");
        let path = |issue: &Value| {
            let parts = issue["path"].as_array().unwrap().iter();
            parts.map(|part| part.to_string().replace('"', "")).collect::<Vec<_>>().join(".")
        };
        body["message"].as_array().unwrap().iter().map(path).collect()
    }
}

/// A member that has to be a text.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

/// The names of the members of an object, sorted.
#[track_caller]
pub fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}
