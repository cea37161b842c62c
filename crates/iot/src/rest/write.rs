//! From messages to JSON by the rules of proto3 (contract §2.3): lowerCamelCase, int64 as text, defaults left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use serde_json::{Map, Value as Json, json};

/// A message as JSON. Fails when an `Any` holds what `proto/` does not describe, or what is none of its type's messages.
pub(crate) fn message(message: &DynamicMessage) -> Result<Json, String> {
    let descriptor = message.descriptor();
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => return timestamp(message),
        "google.protobuf.FieldMask" => return Ok(field_mask(message)),
        "google.protobuf.Any" => return packed(message),
        _ => {}
    }
    let mut object = Map::new();
    for field in descriptor.fields() {
        if message.has_field(&field) || is_always_shown(&field) {
            object.insert(field.json_name().to_owned(), field_value(&field, &message.get_field(&field))?);
        }
    }
    Ok(Json::Object(object))
}

/// What an `Any` of this type and these octets is in JSON.
pub(crate) fn any(pool: &DescriptorPool, type_url: &str, value: &[u8]) -> Result<Json, String> {
    let name = type_url.rsplit('/').next().unwrap_or_default();
    let descriptor = pool.get_message_by_name(name).ok_or_else(|| format!("{type_url} is not described by proto/"))?;
    let content = DynamicMessage::decode(descriptor, value).map_err(|error| format!("{type_url}: {error}"))?;
    let mut json = match message(&content)? {
        // The messages with a JSON form of their own go one level deeper; so does Empty (contract §4).
        Json::Object(object) if !name.starts_with("google.protobuf.") => object,
        own => Map::from_iter([("value".to_owned(), own)]),
    };
    json.insert("@type".into(), type_url.into());
    Ok(Json::Object(json))
}

/// Clients look whether an operation is done, and some take an absent value for neither (contract §2.3).
fn is_always_shown(field: &FieldDescriptor) -> bool {
    field.full_name() == "yandex.cloud.operation.Operation.done"
}

fn field_value(field: &FieldDescriptor, value: &Value) -> Result<Json, String> {
    match value {
        Value::List(items) => items.iter().map(|item| single(&field.kind(), item)).collect(),
        Value::Map(entries) => {
            let Kind::Message(entry) = field.kind() else { return Err(format!("{field:?} is no map")) };
            let kind = entry.map_entry_value_field().kind();
            let pairs = entries.iter().map(|(key, value)| Ok((key_text(key), single(&kind, value)?)));
            pairs.collect::<Result<Map<_, _>, String>>().map(Json::Object)
        }
        value => single(&field.kind(), value),
    }
}

fn single(kind: &Kind, value: &Value) -> Result<Json, String> {
    Ok(match value {
        Value::Bool(value) => json!(value),
        Value::I32(value) => json!(value),
        Value::U32(value) => json!(value),
        Value::I64(value) => json!(value.to_string()),
        Value::U64(value) => json!(value.to_string()),
        Value::F32(value) => json!(value),
        Value::F64(value) => json!(value),
        Value::String(value) => json!(value),
        Value::Bytes(value) => json!(STANDARD.encode(value)),
        Value::EnumNumber(number) => match kind.as_enum().and_then(|kind| kind.get_value(*number)) {
            Some(value) => json!(value.name()),
            None => json!(number),
        },
        Value::Message(value) => message(value)?,
        Value::List(_) | Value::Map(_) => return Err("a list of lists is no field of a message".into()),
    })
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn timestamp(message: &DynamicMessage) -> Result<Json, String> {
    let seconds = message.get_field_by_name("seconds").and_then(|value| value.as_i64()).unwrap_or_default();
    let nanos = message.get_field_by_name("nanos").and_then(|value| value.as_i32()).unwrap_or_default();
    let time = Timestamp::new(seconds, nanos).map_err(|error| format!("a time: {error}"))?;
    let digits = match nanos {
        0 => 0,
        nanos if nanos % 1_000_000 == 0 => 3,
        nanos if nanos % 1_000 == 0 => 6,
        _ => 9,
    };
    Ok(json!(format!("{time:.digits$}")))
}

fn field_mask(message: &DynamicMessage) -> Json {
    let paths = message.get_field_by_name("paths");
    let paths = paths.as_ref().and_then(|paths| paths.as_list()).unwrap_or_default();
    let paths: Vec<String> = paths.iter().filter_map(Value::as_str).map(camel_case).collect();
    json!(paths.join(","))
}

fn camel_case(path: &str) -> String {
    let mut camel = String::with_capacity(path.len());
    let mut is_next_upper = false;
    for letter in path.chars() {
        match letter {
            '_' => is_next_upper = true,
            letter if is_next_upper => {
                camel.extend(letter.to_uppercase());
                is_next_upper = false;
            }
            letter => camel.push(letter),
        }
    }
    camel
}

fn packed(message: &DynamicMessage) -> Result<Json, String> {
    let type_url = message.get_field_by_name("type_url");
    let value = message.get_field_by_name("value");
    let type_url = type_url.as_ref().and_then(|url| url.as_str()).unwrap_or_default();
    let value = value.as_ref().and_then(|value| value.as_bytes()).cloned().unwrap_or_default();
    any(message.descriptor().parent_pool(), type_url, &value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::DESCRIPTORS;
    use crate::proto::yandex::cloud::iot::devices::v1::ListRegistriesRequest;
    use crate::proto::yandex::cloud::iot::devices::v1::{
        DeleteRegistryMetadata, ListRegistryOperationsResponse, LogOptions, PublishDeviceDataRequest, Registry,
        UpdateRegistryRequest, log_options::Destination, registry::Status,
    };
    use crate::proto::yandex::cloud::logging::v1::log_level::Level;
    use crate::proto::yandex::cloud::operation::{Operation, operation::Result as Outcome};
    use prost::Message;
    use prost_types::{Any, FieldMask, Timestamp as ProtoTimestamp};

    #[track_caller]
    fn check(name: &str, octets: Vec<u8>, expected: Json) {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let descriptor = pool.get_message_by_name(name).unwrap();
        let decoded = DynamicMessage::decode(descriptor, octets.as_slice()).unwrap();
        assert_eq!(message(&decoded).unwrap(), expected);
    }

    fn time(seconds: i64, nanos: i32) -> Option<ProtoTimestamp> {
        Some(ProtoTimestamp { seconds, nanos })
    }

    #[test]
    fn fields_are_in_camel_case_and_defaults_are_left_out() {
        let devices = |name: &str| format!("yandex.cloud.iot.devices.v1.{name}");
        let registry = Registry {
            id: "are1".into(),
            folder_id: "b1g".into(),
            created_at: time(1_700_000_000, 216_000_000),
            labels: [("a".to_owned(), String::new())].into(),
            status: Status::Disabled.into(),
            log_options: Some(LogOptions {
                disabled: false,
                min_level: Level::Warn.into(),
                destination: Some(Destination::FolderId(String::new())),
            }),
            ..Registry::default()
        };
        let expected = json!({
            "id": "are1", "folderId": "b1g", "createdAt": "2023-11-14T22:13:20.216Z", "labels": {"a": ""},
            "status": "DISABLED", "logOptions": {"minLevel": "WARN", "folderId": ""},
        });
        check(&devices("Registry"), registry.encode_to_vec(), expected);
        check(&devices("Registry"), Vec::new(), json!({}));
        let unknown = Registry { status: 77, ..Registry::default() };
        check(&devices("Registry"), unknown.encode_to_vec(), json!({"status": 77}));
        let asked = ListRegistriesRequest { page_size: 100, ..ListRegistriesRequest::default() };
        check(&devices("ListRegistriesRequest"), asked.encode_to_vec(), json!({"pageSize": "100"}));
        let data = PublishDeviceDataRequest { data: vec![0xfb, 0xff], ..PublishDeviceDataRequest::default() };
        check(&devices("PublishDeviceDataRequest"), data.encode_to_vec(), json!({"data": "+/8="}));
        let mask = Some(FieldMask { paths: vec!["name".into(), "topic_aliases".into()] });
        let update = UpdateRegistryRequest { update_mask: mask, ..UpdateRegistryRequest::default() };
        check(&devices("UpdateRegistryRequest"), update.encode_to_vec(), json!({"updateMask": "name,topicAliases"}));
    }

    #[test]
    fn an_operation_says_whether_it_is_done_and_what_it_holds() {
        let metadata = DeleteRegistryMetadata { registry_id: "are1".into() };
        let any = |name: &str, value| Any { type_url: format!("type.googleapis.com/{name}"), value };
        let operation = Operation {
            id: "are2".into(),
            modified_at: time(-1, 1),
            done: true,
            metadata: Some(any("yandex.cloud.iot.devices.v1.DeleteRegistryMetadata", metadata.encode_to_vec())),
            result: Some(Outcome::Response(any("google.protobuf.Empty", Vec::new()))),
            ..Operation::default()
        };
        let running = Operation { created_at: time(0, 1_000), ..Operation::default() };
        let list = ListRegistryOperationsResponse { operations: vec![operation, running], ..Default::default() };
        let expected = json!({"operations": [
            {
                "id": "are2", "modifiedAt": "1969-12-31T23:59:59.000000001Z", "done": true,
                "metadata": {
                    "@type": "type.googleapis.com/yandex.cloud.iot.devices.v1.DeleteRegistryMetadata", "registryId": "are1",
                },
                "response": {"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}},
            },
            {"createdAt": "1970-01-01T00:00:00.000001Z", "done": false},
        ]});
        check("yandex.cloud.iot.devices.v1.ListRegistryOperationsResponse", list.encode_to_vec(), expected);
    }

    #[test]
    fn an_any_of_an_unknown_type_is_refused() {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        assert!(any(&pool, "type.googleapis.com/no.such.Message", &[]).is_err());
        assert!(any(&pool, "type.googleapis.com/yandex.cloud.operation.Operation", &[0xff]).is_err());
    }
}
