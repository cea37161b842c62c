//! From the JSON body, the query and the path of a request to its message (contract §2.2, §2.3).
//!
//! Everything that is wrong is collected, each with the path of its field in the names of `proto/`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use domain::{Reason, Refusal, Violation};
use jiff::Timestamp;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, OneofDescriptor, ReflectMessage, Value,
};
use serde_json::{Map, Value as Json};
use std::collections::HashMap;

/// Standard base64 with or without padding; URL-safe letters are translated before.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Puts a message together from the three parts of a request.
pub(crate) struct Reader<'a> {
    message: DynamicMessage,
    findings: Findings<'a>,
}

/// What was found out about a request so far.
#[derive(Default)]
struct Findings<'a> {
    /// The fields that the path gives: what the body says of them is not looked at.
    from_path: Vec<&'a FieldDescriptor>,
    violations: Vec<Violation>,
}

impl<'a> Reader<'a> {
    /// A message with what the path says; the values are still percent-encoded.
    pub(crate) fn new(descriptor: MessageDescriptor, path: &[(&'a FieldDescriptor, &str)]) -> Self {
        let (mut message, mut findings) = (DynamicMessage::new(descriptor), Findings::default());
        for (field, text) in path {
            findings.from_path.push(field);
            match percent_decoded(text) {
                Some(text) => {
                    if let Some(value) = findings.single(&field.kind(), &Json::String(text), field.name()) {
                        message.set_field(field, value);
                    }
                }
                None => findings.wrong(field.name(), "encoding", "is not percent-encoded UTF-8"),
            }
        }
        Self { message, findings }
    }

    /// Adds what the body says. An empty one is an empty object.
    pub(crate) fn body(&mut self, octets: &[u8]) {
        if let Some(object) = self.findings.object(octets) {
            self.findings.members(&mut self.message, &object, "");
        }
    }

    /// Looks whether the body of a method that has none is empty or an object.
    pub(crate) fn no_body(&mut self, octets: &[u8]) {
        self.findings.object(octets);
    }

    /// Adds what the query says. A parameter that is no field is refused.
    pub(crate) fn query(&mut self, query: &str) {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| percent_decoded(&text.replace('+', " "));
            match (decoded(name), decoded(text)) {
                (Some(name), Some(text)) => self.findings.parameter(&mut self.message, &name, &name, text),
                _ => self.findings.wrong(name, "encoding", "is not percent-encoded UTF-8"),
            }
        }
    }

    /// The message, unless something was wrong.
    pub(crate) fn finish(self) -> Result<DynamicMessage, Refusal> {
        if self.findings.violations.is_empty() {
            return Ok(self.message);
        }
        Err(Refusal::violations(Reason::Malformed, self.findings.violations))
    }
}

impl Findings<'_> {
    fn wrong(&mut self, path: &str, rule: &'static str, what: &str) {
        // As many as somebody can read; a body may have a hundred thousand members.
        const VIOLATIONS_MAX: usize = 100;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation::new(path, rule, format!("{path} {what}")));
        }
    }

    fn object(&mut self, octets: &[u8]) -> Option<Map<String, Json>> {
        if octets.trim_ascii().is_empty() {
            return Some(Map::new());
        }
        match serde_json::from_slice(octets) {
            Ok(Json::Object(object)) => Some(object),
            Ok(_) => {
                self.wrong("body", "type", "must be a JSON object");
                None
            }
            Err(error) => {
                self.wrong("body", "json", &format!("is not JSON: {error}"));
                None
            }
        }
    }

    /// Reads the members of an object into a message. Members that are no fields are not looked at.
    fn members(&mut self, message: &mut DynamicMessage, object: &Map<String, Json>, path: &str) {
        let mut seen: Vec<FieldDescriptor> = Vec::new();
        for (name, json) in object {
            let Some(field) = field_of(&message.descriptor(), name) else { continue };
            let is_of_path = path.is_empty() && self.from_path.contains(&&field);
            if json.is_null() || is_of_path {
                continue;
            }
            let path = join(path, field.name());
            if seen.contains(&field) {
                self.wrong(&path, "twice", "is given twice");
                continue;
            }
            if self.is_beside_another(&seen, &field, &path) {
                continue;
            }
            let value = self.value(&field, json, &path);
            seen.push(field.clone());
            if let Some(value) = value {
                message.set_field(&field, value);
            }
        }
    }

    /// Refuses a second member of a oneof.
    fn is_beside_another(&mut self, seen: &[FieldDescriptor], field: &FieldDescriptor, path: &str) -> bool {
        let Some(oneof) = field.containing_oneof() else { return false };
        let Some(other) = seen.iter().find(|seen| seen.containing_oneof().as_ref() == Some(&oneof)) else {
            return false;
        };
        self.wrong(path, "oneof", &format!("and {} exclude each other", other.name()));
        true
    }

    fn value(&mut self, field: &FieldDescriptor, json: &Json, path: &str) -> Option<Value> {
        if field.is_map() {
            return self.map(field, json, path);
        }
        if !field.is_list() {
            return self.single(&field.kind(), json, path);
        }
        let Json::Array(items) = json else {
            self.wrong(path, "type", "must be a list");
            return None;
        };
        let kind = field.kind();
        let values = items.iter().enumerate();
        let values: Vec<_> = values.map(|(at, item)| self.single(&kind, item, &format!("{path}[{at}]"))).collect();
        values.into_iter().collect::<Option<Vec<_>>>().map(Value::List)
    }

    fn map(&mut self, field: &FieldDescriptor, json: &Json, path: &str) -> Option<Value> {
        let (Json::Object(entries), Kind::Message(entry)) = (json, field.kind()) else {
            self.wrong(path, "type", "must be an object");
            return None;
        };
        let kind = entry.map_entry_value_field().kind();
        let mut values = HashMap::new();
        for (key, json) in entries {
            // All maps of proto/ have texts as keys; a test says so.
            if let Some(value) = self.single(&kind, json, &join(path, key)) {
                values.insert(MapKey::String(key.clone()), value);
            }
        }
        Some(Value::Map(values))
    }

    fn single(&mut self, kind: &Kind, json: &Json, path: &str) -> Option<Value> {
        if let Kind::Message(descriptor) = kind {
            return self.nested(descriptor, json, path);
        }
        let (value, wanted) = match kind {
            Kind::Bool => (boolean(json).map(Value::Bool), "must be true or false"),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                (integer(json).map(Value::I32), "must be an integer of 32 bits")
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                (integer(json).map(Value::I64), "must be an integer of 64 bits")
            }
            Kind::Uint32 | Kind::Fixed32 => (integer(json).map(Value::U32), "must be a natural number of 32 bits"),
            Kind::Uint64 | Kind::Fixed64 => (integer(json).map(Value::U64), "must be a natural number of 64 bits"),
            #[expect(clippy::cast_possible_truncation, reason = "the field has no more digits")]
            Kind::Float => (json.as_f64().map(|number| Value::F32(number as f32)), "must be a number"),
            Kind::Double => (json.as_f64().map(Value::F64), "must be a number"),
            Kind::String => (json.as_str().map(|text| Value::String(text.to_owned())), "must be a text"),
            Kind::Bytes => (json.as_str().and_then(octets).map(Value::Bytes), "must be base64"),
            Kind::Enum(kind) => {
                let named = json.as_str().and_then(|name| kind.get_value_by_name(name)).map(|value| value.number());
                (named.or_else(|| integer(json)).map(Value::EnumNumber), "must be one of the names of its values")
            }
            Kind::Message(_) => (None, "must be an object"),
        };
        if value.is_none() {
            self.wrong(path, "type", wanted);
        }
        value
    }

    fn nested(&mut self, descriptor: &MessageDescriptor, json: &Json, path: &str) -> Option<Value> {
        let mut message = DynamicMessage::new(descriptor.clone());
        match (descriptor.full_name(), json) {
            ("google.protobuf.Timestamp", Json::String(text)) if let Ok(time) = text.parse::<Timestamp>() => {
                message.set_field_by_name("seconds", Value::I64(time.as_second()));
                message.set_field_by_name("nanos", Value::I32(time.subsec_nanosecond()));
            }
            ("google.protobuf.Timestamp", _) => {
                self.wrong(path, "type", "must be a time such as 2026-01-31T12:00:00Z");
                return None;
            }
            ("google.protobuf.FieldMask", Json::String(text)) => {
                let paths = text.split(',').map(str::trim).filter(|path| !path.is_empty());
                let paths = paths.map(|path| Value::String(snake_case(path))).collect();
                message.set_field_by_name("paths", Value::List(paths));
            }
            ("google.protobuf.FieldMask", _) => {
                self.wrong(path, "type", "must be a text with the names of fields, separated by commas");
                return None;
            }
            (_, Json::Object(object)) => self.members(&mut message, object, path),
            _ => {
                self.wrong(path, "type", "must be an object");
                return None;
            }
        }
        Some(Value::Message(message))
    }

    /// Sets what one parameter of the query names: `pageSize`, or with a dot a field of a field.
    fn parameter(&mut self, message: &mut DynamicMessage, name: &str, whole: &str, text: String) {
        let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
        let Some(field) = field_of(&message.descriptor(), first) else {
            return self.wrong(whole, "unknown", "is not a parameter of this method");
        };
        if self.from_path.contains(&&field) {
            return;
        }
        if let Some(rest) = rest {
            match message.get_field_mut(&field) {
                Value::Message(inner) => self.parameter(inner, rest, whole, text),
                _ => self.wrong(whole, "unknown", "is not a parameter of this method"),
            }
            return;
        }
        if field.is_map() {
            return self.wrong(whole, "type", "can be given in the body only");
        }
        let oneof = field.containing_oneof();
        if !field.is_list() && (message.has_field(&field) || oneof.is_some_and(|oneof| is_set(message, &oneof))) {
            return self.wrong(whole, "twice", "is given twice, or beside what it excludes");
        }
        let Some(value) = self.single(&field.kind(), &Json::String(text), whole) else { return };
        match (field.is_list(), message.get_field_mut(&field)) {
            (true, Value::List(items)) => items.push(value),
            _ => message.set_field(&field, value),
        }
    }
}

fn is_set(message: &DynamicMessage, oneof: &OneofDescriptor) -> bool {
    oneof.fields().any(|field| message.has_field(&field))
}

/// A field by its name in JSON or in `proto/`.
fn field_of(descriptor: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    descriptor.get_field_by_json_name(name).or_else(|| descriptor.get_field_by_name(name))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn boolean(json: &Json) -> Option<bool> {
    match json {
        Json::Bool(value) => Some(*value),
        Json::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// An integer, as a number or as a text; `1.0` and `1e2` are integers too.
fn integer<N: TryFrom<i128>>(json: &Json) -> Option<N> {
    let number = match json {
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => number.into(),
            (None, Some(number), _) => number.into(),
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and far smaller than 128 bits")]
            (None, None, Some(number)) if number.fract() == 0.0 && number.abs() < 1e20 => number as i128,
            _ => return None,
        },
        Json::String(text) => text.parse().ok()?,
        _ => return None,
    };
    N::try_from(number).ok()
}

fn octets(text: &str) -> Option<Bytes> {
    let standard: Vec<u8> = text
        .bytes()
        .map(|letter| match letter {
            b'-' => b'+',
            b'_' => b'/',
            letter => letter,
        })
        .collect();
    BASE64.decode(standard).ok().map(Bytes::from)
}

/// `topicAliases` is `topic_aliases`; what is so already stays so.
fn snake_case(path: &str) -> String {
    let mut snake = String::with_capacity(path.len() + 4);
    for letter in path.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        match octet {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                octets.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
            }
            octet => octets.push(octet),
        }
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::DESCRIPTORS;
    use crate::rest::write;
    use prost_reflect::DescriptorPool;
    use serde_json::json;

    /// What a request to `yandex.cloud.iot.devices.v1.<name>` is read as, or the fields that are wrong.
    fn read(name: &str, path: &[(&str, &str)], query: &str, body: &str) -> Result<Json, Vec<String>> {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let descriptor = pool.get_message_by_name(&format!("yandex.cloud.iot.devices.v1.{name}")).unwrap();
        let path: Vec<_> =
            path.iter().map(|(name, text)| (descriptor.get_field_by_name(name).unwrap(), *text)).collect();
        let path: Vec<_> = path.iter().map(|(field, text)| (field, *text)).collect();
        let mut reader = Reader::new(descriptor, &path);
        reader.body(body.as_bytes());
        reader.query(query);
        match reader.finish() {
            Ok(message) => Ok(write::message(&message).unwrap()),
            Err(refusal) => Err(refusal.violations.into_iter().map(|violation| violation.field).collect()),
        }
    }

    #[test]
    fn a_body_is_read_by_the_rules_of_proto3_json() {
        let alias = json!({"topicAliases": {"a/": "$devices/1/"}});
        for (name, body, expected) in [
            ("CreateDeviceRequest", json!({"topicAliases": {"a/": "$devices/1/"}}), alias.clone()),
            (
                "CreateDeviceRequest",
                json!({"topic_aliases": {"a/": "$devices/1/"}, "unknown": [1], "name": null}),
                alias,
            ),
            (
                "CreateDeviceRequest",
                json!({"certificates": [{"certificate_data": "a"}, {}]}),
                json!({"certificates": [{"certificateData": "a"}, {}]}),
            ),
            (
                "ListDevicesRequest",
                json!({"pageSize": "7", "deviceView": "FULL"}),
                json!({"pageSize": "7", "deviceView": "FULL"}),
            ),
            (
                "ListDevicesRequest",
                json!({"pageSize": 7.0, "deviceView": 1}),
                json!({"pageSize": "7", "deviceView": "FULL"}),
            ),
            ("ListDevicesRequest", json!({"registryId": "", "folderId": null}), json!({"registryId": ""})),
            (
                "UpdateDeviceRequest",
                json!({"updateMask": "name,topicAliases"}),
                json!({"updateMask": "name,topicAliases"}),
            ),
            (
                "UpdateDeviceRequest",
                json!({"update_mask": "name, topic_aliases,"}),
                json!({"updateMask": "name,topicAliases"}),
            ),
            (
                "CreateRegistryRequest",
                json!({"logOptions": {"minLevel": "WARN", "disabled": true}}),
                json!({"logOptions": {"minLevel": "WARN", "disabled": true}}),
            ),
            (
                "Registry",
                json!({"createdAt": "2026-01-31T12:00:00.5Z"}),
                json!({"createdAt": "2026-01-31T12:00:00.500Z"}),
            ),
        ] {
            assert_eq!(read(name, &[], "", &body.to_string()), Ok(expected), "{body}");
        }
        for body in ["", "  ", "{}", r#"{"unknown":{"deep":[1]}}"#] {
            assert_eq!(read("DisableRegistryRequest", &[], "", body), Ok(json!({})), "{body}");
        }
        for data in ["+/8=", "+/8", "-_8=", "-_8"] {
            assert_eq!(
                read("PublishDeviceDataRequest", &[], "", &json!({"data": data}).to_string()),
                Ok(json!({"data": "+/8="}))
            );
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_with_its_field() {
        for (name, body, fields) in [
            (
                "CreateDeviceRequest",
                json!({"name": 1, "labels": {"a": 1, "b": "b"}, "certificates": [{"certificateData": 1}]}),
                &["certificates[0].certificate_data", "labels.a", "name"][..],
            ),
            (
                "CreateDeviceRequest",
                json!({"certificates": {}, "labels": [], "topicAliases": "a"}),
                &["certificates", "labels", "topic_aliases"],
            ),
            ("CreateDeviceRequest", json!({"certificates": [null]}), &["certificates[0]"]),
            ("CreateDeviceRequest", json!({"topicAliases": {}, "topic_aliases": {}}), &["topic_aliases"]),
            ("CreateDeviceRequest", json!([]), &["body"]),
            ("ListDevicesRequest", json!({"deviceView": "HALF", "pageSize": 1.5}), &["device_view", "page_size"]),
            ("ListDevicesRequest", json!({"pageSize": "x"}), &["page_size"]),
            ("ListDevicesRequest", json!({"pageSize": 1e19}), &["page_size"]),
            ("ListDevicesRequest", json!({"registryId": "a", "folderId": "b"}), &["registry_id"]),
            (
                "CreateRegistryRequest",
                json!({"logOptions": {"logGroupId": "", "folderId": ""}}),
                &["log_options.log_group_id"],
            ),
            ("UpdateDeviceRequest", json!({"updateMask": {"paths": ["name"]}}), &["update_mask"]),
            ("PublishDeviceDataRequest", json!({"data": "%"}), &["data"]),
            ("Registry", json!({"createdAt": "yesterday", "status": true}), &["created_at", "status"]),
        ] {
            let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
            assert_eq!(read(name, &[], "", &body.to_string()), Err(fields), "{body}");
        }
        for body in
            ["{", "x", "\u{feff}{}", &"[".repeat(10_000), &format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200))]
        {
            assert_eq!(read("CreateDeviceRequest", &[], "", body), Err(vec!["body".to_owned()]));
        }
    }

    #[test]
    fn the_path_wins_over_the_body_and_the_query_adds_to_both() {
        let path = [("registry_id", "a%3Ab%2Fc")];
        let body = json!({"registryId": 1, "name": "n"}).to_string();
        let expected = json!({"registryId": "a:b/c", "name": "n"});
        assert_eq!(read("UpdateRegistryRequest", &path, "registryId=x", &body), Ok(expected));
        let query = "updateMask=name%2Clabels&logOptions.minLevel=WARN&log_options.disabled=true";
        let expected = json!({"registryId": "a", "updateMask": "name,labels", "logOptions": {"minLevel": "WARN", "disabled": true}});
        assert_eq!(read("UpdateRegistryRequest", &[("registry_id", "a")], query, ""), Ok(expected));
        let expected = json!({"folderId": "f+ ", "pageSize": "5", "deviceView": "FULL"});
        assert_eq!(read("ListDevicesRequest", &[], "folderId=f%2B+&page_size=5&deviceView=1", ""), Ok(expected));
        for (name, query, field) in [
            ("ListDevicesRequest", "pageSize=x", "pageSize"),
            ("ListDevicesRequest", "unknown=1", "unknown"),
            ("ListDevicesRequest", "pageSize.x=1", "pageSize.x"),
            ("ListDevicesRequest", "pageSize=1&page_size=1", "page_size"),
            ("ListDevicesRequest", "registryId=a&folderId=b", "folderId"),
            ("ListDevicesRequest", "deviceView=HALF", "deviceView"),
            ("ListDevicesRequest", "pageToken=%ff", "pageToken"),
            ("CreateDeviceRequest", "labels=a", "labels"),
            ("CreateDeviceRequest", "labels.a=b", "labels.a"),
        ] {
            assert_eq!(read(name, &[], query, ""), Err(vec![field.to_owned()]), "{query}");
        }
        assert_eq!(read("GetRegistryRequest", &[("registry_id", "%f")], "", ""), Err(vec!["registry_id".to_owned()]));
        assert_eq!(read("GetRegistryRequest", &[("registry_id", "%ff")], "", ""), Err(vec!["registry_id".to_owned()]));
    }

    #[test]
    fn the_keys_of_every_map_are_texts() {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        for entry in pool.all_messages().filter(MessageDescriptor::is_map_entry) {
            assert_eq!(entry.map_entry_key_field().kind(), Kind::String, "{}", entry.full_name());
        }
    }
}
