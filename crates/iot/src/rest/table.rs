//! Which method a verb and a path are for: read once from the `google.api.http` options of every method.

use crate::proto::google::api::HttpRule;
use crate::proto::google::api::http_rule::Pattern;
use prost_reflect::{DescriptorPool, FieldDescriptor, MethodDescriptor};

/// Every route of the REST edge.
pub(crate) struct Table(Vec<Route>);

/// One way to a method.
pub(crate) struct Route {
    verb: String,
    segments: Vec<Segment>,
    /// What follows the last colon, as in `registries:getByName`.
    action: Option<String>,
    pub(crate) method: MethodDescriptor,
    /// Whether the body of a request is its message.
    pub(crate) has_body: bool,
}

enum Segment {
    Literal(String),
    Variable(FieldDescriptor),
}

/// Where a request leads.
pub(crate) enum Found<'a> {
    /// To a method, with the values of the path's variables, not decoded yet.
    Method(&'a Route, Vec<(&'a FieldDescriptor, &'a str)>),
    /// The path is known and does not have this verb.
    OtherVerb,
    /// There is no such path.
    Nothing,
}

impl Table {
    /// The routes of all methods that have an HTTP binding.
    pub(crate) fn new(pool: &DescriptorPool) -> Result<Self, String> {
        let option = pool.get_extension_by_name("google.api.http").ok_or("proto/ does not define google.api.http")?;
        let mut routes = Vec::new();
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let options = method.options();
            if !options.has_extension(&option) {
                continue;
            }
            let rule = options.get_extension(&option);
            let rule: HttpRule = rule
                .as_message()
                .ok_or("google.api.http is no message")?
                .transcode_to()
                .map_err(|error| format!("{}: {error}", method.full_name()))?;
            for rule in [&rule].into_iter().chain(&rule.additional_bindings) {
                routes.push(Route::new(&method, rule)?);
            }
        }
        // `…/{registry_id}:disable` is looked at before `…/{registry_id}`, which would take it for an id.
        routes.sort_by_key(|route| route.action.is_none());
        Ok(Self(routes))
    }

    /// Where this verb and this path, still percent-encoded, lead.
    pub(crate) fn find<'a>(&'a self, verb: &str, path: &'a str) -> Found<'a> {
        let matching = || self.0.iter().filter_map(|route| Some((route, route.variables(path)?)));
        if let Some((route, variables)) = matching().find(|(route, _)| route.verb == verb) {
            return Found::Method(route, variables);
        }
        if matching().next().is_some() { Found::OtherVerb } else { Found::Nothing }
    }

    #[cfg(test)]
    pub(super) fn routes(&self) -> &[Route] {
        &self.0
    }
}

impl Route {
    fn new(method: &MethodDescriptor, rule: &HttpRule) -> Result<Self, String> {
        let name = method.full_name();
        let (verb, path) = match rule.pattern.as_ref().ok_or_else(|| format!("{name} has no path"))? {
            Pattern::Get(path) => ("GET", path),
            Pattern::Put(path) => ("PUT", path),
            Pattern::Post(path) => ("POST", path),
            Pattern::Delete(path) => ("DELETE", path),
            Pattern::Patch(path) => ("PATCH", path),
            Pattern::Custom(custom) => (custom.kind.as_str(), &custom.path),
        };
        let has_body = match rule.body.as_str() {
            "" => false,
            "*" => true,
            other => return Err(format!("{name}: the body cannot be the field {other} alone")),
        };
        let (path, action) = split_action(path);
        let segment = |text: &str| match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            None => Ok(Segment::Literal(text.to_owned())),
            Some(field) => {
                let field = method.input().get_field_by_name(field);
                field.map(Segment::Variable).ok_or_else(|| format!("{name}: {text} is no field of its request"))
            }
        };
        let segments = path.trim_start_matches('/').split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
        let action = action.map(str::to_owned);
        Ok(Self { verb: verb.to_owned(), segments, action, method: method.clone(), has_body })
    }

    /// The values of the variables, when the path has this form. No value is empty.
    fn variables<'a>(&'a self, path: &'a str) -> Option<Vec<(&'a FieldDescriptor, &'a str)>> {
        let path = path.strip_prefix('/')?;
        let path = match (&self.action, split_action(path)) {
            (None, _) => path,
            (Some(wanted), (path, Some(action))) if wanted == action => path,
            (Some(_), _) => return None,
        };
        let mut found = Vec::new();
        let mut parts = path.split('/');
        for segment in &self.segments {
            let part = parts.next()?;
            match segment {
                Segment::Literal(text) if text == part => {}
                Segment::Literal(_) => return None,
                Segment::Variable(_) if part.is_empty() => return None,
                Segment::Variable(field) => found.push((field, part)),
            }
        }
        parts.next().is_none().then_some(found)
    }
}

/// Splits off what follows the last colon of the last segment (contract §2.2).
fn split_action(path: &str) -> (&str, Option<&str>) {
    match path.rsplit_once(':') {
        Some((path, action)) if !action.contains('/') => (path, Some(action)),
        _ => (path, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::DESCRIPTORS;

    fn table() -> Table {
        Table::new(&DescriptorPool::decode(DESCRIPTORS).unwrap()).unwrap()
    }

    /// Contract §3: the methods, and how often each has a path by a verb.
    #[test]
    fn every_method_of_the_contract_with_a_path_has_a_route() {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let table = table();
        let owners = |prefix: &str, of: &str, more: &[&'static str]| {
            let common = [
                "Get GET ",
                "List GET",
                "Create POST",
                "Update PATCH ",
                "Delete DELETE ",
                "ListCertificates GET /certificates",
                "AddCertificate POST /certificates",
                "DeleteCertificate DELETE /certificates/x",
                "ListPasswords GET /passwords",
                "AddPassword POST /passwords",
                "DeletePassword DELETE /passwords/x",
                "ListOperations GET /operations",
            ];
            let mut found = Vec::new();
            for line in common.iter().chain(more) {
                let mut words = line.splitn(3, ' ');
                let (method, verb, rest) = (words.next().unwrap(), words.next().unwrap(), words.next());
                // A third word, even an empty one, is what follows an id.
                let path = rest.map_or(prefix.to_owned(), |rest| match rest.strip_prefix('.') {
                    Some(action) => format!("{prefix}:{action}"),
                    None => format!("{prefix}/x{rest}"),
                });
                found.push((format!("{of}.{method}"), verb.to_owned(), path));
            }
            found
        };
        let devices = "yandex.cloud.iot.devices.v1";
        let mut expected = owners(
            "/iot-devices/v1/registries",
            &format!("{devices}.RegistryService"),
            &[
                "GetByName GET .getByName",
                "ListDeviceTopicAliases GET :listDeviceTopicAliases",
                "Disable POST :disable",
                "Enable POST :enable",
            ],
        );
        expected.extend(owners(
            "/iot-devices/v1/devices",
            &format!("{devices}.DeviceService"),
            &["GetByName GET .getByName"],
        ));
        expected.extend(owners("/iot-broker/v1/brokers", "yandex.cloud.iot.broker.v1.BrokerService", &[]));
        for (method, verb, path) in [
            ("iot.devices.v1.RegistryDataService.Publish", "POST", "/iot-devices/v1/registries/x/publish"),
            ("iot.devices.v1.DeviceDataService.Publish", "POST", "/iot-devices/v1/devices/x/publish"),
            ("iot.broker.v1.BrokerDataService.Publish", "POST", "/iot-broker/v1/brokers/x/publish"),
            ("operation.OperationService.Get", "GET", "/operations/x"),
            ("operation.OperationService.Cancel", "GET", "/operations/x:cancel"),
            ("operation.OperationService.Cancel", "POST", "/operations/x:cancel"),
            ("endpoint.ApiEndpointService.Get", "GET", "/endpoints/x"),
            ("endpoint.ApiEndpointService.List", "GET", "/endpoints"),
            ("iam.v1.IamTokenService.Create", "POST", "/iam/v1/tokens"),
            ("iam.v1.IamTokenService.CreateForServiceAccount", "POST", "/iam/v1/tokens:createForServiceAccount"),
            ("iam.v1.IamTokenService.Revoke", "POST", "/iam/v1/tokens:revoke"),
        ] {
            expected.push((format!("yandex.cloud.{method}"), verb.into(), path.into()));
        }
        for (method, verb, path) in &expected {
            let Found::Method(route, variables) = table.find(verb, path) else { panic!("{verb} {path} leads nowhere") };
            assert_eq!(route.method.full_name(), method, "{verb} {path}");
            assert!(variables.iter().all(|(_, value)| *value == "x"));
        }
        assert_eq!(table.routes().len(), expected.len());
        let without: Vec<String> = pool
            .services()
            .flat_map(|service| service.methods().map(|method| method.full_name().to_owned()).collect::<Vec<_>>())
            .filter(|name| !expected.iter().any(|(method, _, _)| method == name))
            .collect();
        let exports = ["List", "Add", "Delete"].map(|verb| {
            let plural = if verb == "List" { "s" } else { "" };
            format!("{devices}.RegistryService.{verb}DataStreamExport{plural}")
        });
        assert_eq!(without, exports);
    }

    #[test]
    fn what_follows_a_colon_is_an_action_or_part_of_the_last_segment() {
        let table = table();
        let found = |verb: &str, path: &str| match table.find(verb, path) {
            Found::Method(route, variables) => {
                let values: Vec<&str> = variables.iter().map(|(_, value)| *value).collect();
                format!("{} {}", route.method.name(), values.join(" ")).trim_end().to_owned()
            }
            Found::OtherVerb => "other verb".into(),
            Found::Nothing => "nothing".into(),
        };
        let registries = "/iot-devices/v1/registries";
        for (verb, path, expected) in [
            ("GET", "", "List"),
            ("GET", ":getByName", "GetByName"),
            ("GET", "/a", "Get a"),
            ("GET", "/a:listDeviceTopicAliases", "ListDeviceTopicAliases a"),
            ("POST", "/a:disable", "Disable a"),
            ("GET", "/a:byName", "Get a:byName"),
            ("GET", "/a%3AlistDeviceTopicAliases", "Get a%3AlistDeviceTopicAliases"),
            ("DELETE", "/a/certificates/AA:BB:CC", "DeleteCertificate a AA:BB:CC"),
            ("DELETE", "/a/certificates/AA%3ABB", "DeleteCertificate a AA%3ABB"),
            ("PUT", "/a", "other verb"),
            ("DELETE", "", "other verb"),
            ("GET", "/", "nothing"),
            ("GET", "//certificates", "nothing"),
            ("GET", "/a/certificates/", "nothing"),
            ("GET", "/a/nothing", "nothing"),
            ("GET", ":byName", "nothing"),
            ("GET", ":", "nothing"),
        ] {
            assert_eq!(found(verb, &format!("{registries}{path}")), expected, "{verb} {path}");
        }
        assert_eq!(found("GET", "*"), "nothing");
    }
}
