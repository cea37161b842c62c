//! Bodies and queries into JSON values, within bounds, before any shape is asked of them.
//!
//! Bounds: octets of the body, [`DEPTH_MAX`] levels of nesting, [`ITEMS_MAX`] items of a list, no key twice in an object, no
//! U+0000 anywhere (a database text cannot hold it).

use std::fmt;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::{ApiError, Result};

/// Levels of nesting that a body may have.
pub const DEPTH_MAX: usize = 32;
/// Items that a list may have.
pub const ITEMS_MAX: usize = 1000;

/// How the values of a body arrived.
pub(crate) enum Parsed {
    /// Typed.
    Json(Value),
    /// All as texts.
    Form(Value),
}

/// How much of a body that is too long is read on, so that a client that listens only when it has sent all gets its answer
/// and not a broken connection.
const READ_ON: usize = 4 << 20;

/// Reads a whole body of at most `limit` octets.
///
/// # Errors
/// 413 when it is longer, 400 when it does not arrive.
pub(crate) async fn read(headers: &HeaderMap, mut body: Body, limit: usize) -> Result<Bytes> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    // A client that asks before it sends is told at once.
    if declared.is_some_and(|length| length > limit as u64 && headers.contains_key(EXPECT)) {
        return Err(ApiError::too_large(limit));
    }
    let mut whole = BytesMut::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| bad_request("The body did not arrive whole"))?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        match length {
            _ if length <= limit => whole.extend_from_slice(&data),
            _ if length > limit.saturating_add(READ_ON) => break,
            _ => {}
        }
    }
    if length > limit { Err(ApiError::too_large(limit)) } else { Ok(whole.freeze()) }
}

/// The value of a body, by its content type: a form, or else JSON. No body is an empty object.
///
/// # Errors
/// 400 for what is neither, or out of bounds.
pub(crate) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Parsed> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return parse_texts(body).map(Parsed::Form);
    }
    parse_json(body).map(Parsed::Json)
}

/// The value of a JSON text; of white space alone, an empty object.
///
/// # Errors
/// 400 for what is not JSON, or out of bounds.
pub fn parse_json(text: &[u8]) -> Result<Value> {
    if text.trim_ascii().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Bounded { levels_left: DEPTH_MAX }.deserialize(&mut deserializer);
    value
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| bad_request(&format!("The body is not acceptable JSON: {error}")))
}

/// The value of a query or form: an object of texts, a list of texts where a name comes more than once.
///
/// # Errors
/// 400 for what is out of bounds.
pub fn parse_texts(encoded: &[u8]) -> Result<Value> {
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_bytes(encoded).map_err(|_| bad_request("The query or form is not UTF-8"))?;
    if pairs.len() > ITEMS_MAX {
        return Err(bad_request("The query or form has too many values"));
    }
    let mut object = Map::new();
    for (name, value) in pairs {
        if name.contains('\0') || value.contains('\0') {
            return Err(bad_request("U+0000 is not accepted in texts"));
        }
        match object.get_mut(&name) {
            None => {
                object.insert(name, Value::String(value));
            }
            Some(Value::Array(values)) => values.push(Value::String(value)),
            Some(first) => *first = Value::Array(vec![first.take(), Value::String(value)]),
        }
    }
    Ok(Value::Object(object))
}

fn bad_request(message: &str) -> ApiError {
    domain::Error::invalid(message).into()
}

/// Builds a value while the levels last.
#[derive(Clone, Copy)]
struct Bounded {
    levels_left: usize,
}

impl Bounded {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.levels_left.checked_sub(1) {
            Some(levels_left) => Ok(Self { levels_left }),
            None => Err(E::custom(format_args!("more than {DEPTH_MAX} levels of nesting"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Bounded {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        if value.contains('\0') {
            return Err(E::custom("U+0000 is not accepted in texts"));
        }
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            if list.len() == ITEMS_MAX {
                return Err(A::Error::custom(format_args!("a list of more than {ITEMS_MAX} items")));
            }
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if name.contains('\0') {
                return Err(A::Error::custom("U+0000 is not accepted in keys"));
            }
            let value = members.next_value_seed(inner)?;
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the key {name:?} comes twice")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_within_bounds_is_read_as_it_is() {
        for (text, value) in [
            ("", json!({})),
            (" \r\n", json!({})),
            ("null", json!(null)),
            (r#"{"a":[1,-2,2.5,true,null,"\u00e9"],"b":{}}"#, json!({"a": [1, -2, 2.5, true, null, "é"], "b": {}})),
            (&"[".repeat(DEPTH_MAX).add("]", DEPTH_MAX), nested(DEPTH_MAX)),
        ] {
            assert_eq!(parse_json(text.as_bytes()).expect(text), value, "{text}");
        }
    }

    #[test]
    fn json_out_of_bounds_is_a_bad_request() {
        for text in [
            "{".to_owned(),
            "{} {}".to_owned(),
            "{'a':1}".to_owned(),
            "[1e400]".to_owned(),
            r#"{"a":1,"b":{"c":1,"c":2}}"#.to_owned(),
            r#"{"a":"x\u0000y"}"#.to_owned(),
            r#"{"a\u0000":1}"#.to_owned(),
            "\"\\ud800\"".to_owned(),
            "[".repeat(DEPTH_MAX + 1).add("]", DEPTH_MAX + 1),
            "[".repeat(10_000),
            r#"{"a":"#.repeat(10_000),
            format!("[{}0]", "0,".repeat(ITEMS_MAX)),
        ] {
            let error = parse_json(text.as_bytes()).expect_err("it is refused");
            let ApiError::Said(domain::Error::Refused(refusal)) = error else { panic!("{error:?}") };
            assert_eq!(refusal.reason, domain::Reason::Invalid);
        }
        assert!(parse_json(b"\"\xff\"").is_err());
    }

    #[test]
    fn forms_are_objects_of_texts() {
        for (encoded, value) in [
            ("", json!({})),
            ("clientId=a+b&clientSecret=%C3%A9%26", json!({"clientId": "a b", "clientSecret": "é&"})),
            ("id=1&id=2&id=3&x", json!({"id": ["1", "2", "3"], "x": ""})),
        ] {
            assert_eq!(parse_texts(encoded.as_bytes()).expect(encoded), value);
        }
        assert!(parse_texts(b"a=%00").is_err());
        assert!(parse_texts("a&".repeat(ITEMS_MAX + 1).as_bytes()).is_err());
    }

    trait Add {
        fn add(self, text: &str, times: usize) -> String;
    }

    impl Add for String {
        fn add(self, text: &str, times: usize) -> String {
            self + &text.repeat(times)
        }
    }

    fn nested(levels: usize) -> Value {
        (1..levels).fold(json!([]), |inner, _| json!([inner]))
    }
}
