//! The four kinds of value that both engines keep, and rows made of them.
//!
//! Times are integers of milliseconds, identifiers are blobs of 16 octets, truth is 0 or 1. There are no floats, no
//! dates and no JSON types, because the two engines disagree on them.

use crate::StoreError;
use uuid::Uuid;

/// The largest text or blob that is stored, in octets.
pub const VALUE_LENGTH_MAX: usize = 16 * 1024 * 1024;

/// A value of a column or of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// No value.
    Null,
    /// INTEGER on SQLite, BIGINT on PostgreSQL.
    Int(i64),
    /// TEXT. Never holds U+0000, which PostgreSQL cannot keep.
    Text(String),
    /// BLOB on SQLite, BYTEA on PostgreSQL.
    Blob(Vec<u8>),
}

impl Value {
    /// Whether both engines can keep this value.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let length = match self {
            Self::Null | Self::Int(_) => 0,
            Self::Text(text) => {
                if text.as_bytes().contains(&0) {
                    return Err(StoreError::Engine("a text value holds U+0000".into()));
                }
                text.len()
            }
            Self::Blob(blob) => blob.len(),
        };
        if length > VALUE_LENGTH_MAX {
            return Err(StoreError::Engine(format!("a value of {length} octets, at most {VALUE_LENGTH_MAX} are kept")));
        }
        Ok(())
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Int(_) => "an integer",
            Self::Text(_) => "text",
            Self::Blob(_) => "a blob",
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

/// Numbers of lists and the like, which never come near the end of what a column holds.
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Blob(value.to_vec())
    }
}

impl From<&Vec<u8>> for Value {
    fn from(value: &Vec<u8>) -> Self {
        Self::Blob(value.clone())
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Self::Blob(value.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Self::Blob(value.to_vec())
    }
}

impl From<Uuid> for Value {
    fn from(value: Uuid) -> Self {
        Self::from(value.as_bytes())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row of a query. Columns are read by their position from 0; one of an unexpected type is [`StoreError::Corrupt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(values: Vec<Value>) -> Self {
        Self { values }
    }

    /// The value of a column.
    pub fn value(&self, column: usize) -> Result<&Value, StoreError> {
        self.values.get(column).ok_or_else(|| {
            StoreError::Engine(format!("column {column} of a row of {} was asked for", self.values.len()))
        })
    }

    /// All values in the order of the columns.
    pub fn into_values(self) -> Vec<Value> {
        self.values
    }

    /// An integer.
    pub fn int(&self, column: usize) -> Result<i64, StoreError> {
        self.opt_int(column)?.ok_or_else(|| missing(column))
    }

    /// An integer or NULL.
    pub fn opt_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Int(value) => Ok(Some(*value)),
            other @ (Value::Text(_) | Value::Blob(_)) => Err(wrong(column, "an integer", other)),
        }
    }

    /// Truth, kept as 0 or 1.
    pub fn bool(&self, column: usize) -> Result<bool, StoreError> {
        match self.int(column)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(StoreError::Corrupt(format!("column {column} is {other} where 0 or 1 is expected"))),
        }
    }

    /// Text.
    pub fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.opt_text(column)?.ok_or_else(|| missing(column))
    }

    /// Text, owned.
    pub fn string(&self, column: usize) -> Result<String, StoreError> {
        self.text(column).map(str::to_owned)
    }

    /// Text or NULL.
    pub fn opt_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Text(value) => Ok(Some(value)),
            other @ (Value::Int(_) | Value::Blob(_)) => Err(wrong(column, "text", other)),
        }
    }

    /// Text or NULL, owned.
    pub fn opt_string(&self, column: usize) -> Result<Option<String>, StoreError> {
        Ok(self.opt_text(column)?.map(str::to_owned))
    }

    /// Octets.
    pub fn blob(&self, column: usize) -> Result<&[u8], StoreError> {
        self.opt_blob(column)?.ok_or_else(|| missing(column))
    }

    /// Octets or NULL.
    pub fn opt_blob(&self, column: usize) -> Result<Option<&[u8]>, StoreError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Blob(value) => Ok(Some(value)),
            other @ (Value::Int(_) | Value::Text(_)) => Err(wrong(column, "a blob", other)),
        }
    }

    /// Octets of a fixed number, such as a hash.
    pub fn array<const N: usize>(&self, column: usize) -> Result<[u8; N], StoreError> {
        let blob = self.blob(column)?;
        blob.try_into().map_err(|_| {
            StoreError::Corrupt(format!("column {column} holds {} octets where {N} are expected", blob.len()))
        })
    }

    /// An identifier, kept as 16 octets.
    pub fn uuid(&self, column: usize) -> Result<Uuid, StoreError> {
        self.array::<16>(column).map(Uuid::from_bytes)
    }

    /// An identifier or NULL.
    pub fn opt_uuid(&self, column: usize) -> Result<Option<Uuid>, StoreError> {
        match self.opt_blob(column)? {
            None => Ok(None),
            Some(_) => self.uuid(column).map(Some),
        }
    }
}

fn missing(column: usize) -> StoreError {
    StoreError::Corrupt(format!("column {column} is NULL"))
}

fn wrong(column: usize, expected: &str, found: &Value) -> StoreError {
    StoreError::Corrupt(format!("column {column} is {} where {expected} is expected", found.kind()))
}
