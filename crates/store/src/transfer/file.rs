//! The file of an export: a line that says what it is, a header, the rows of each table, their counts, and SHA-256 over
//! all of it.
//!
//! ```text
//! "chancery export 1\n"
//! length (4 octets, big-endian)  header in JSON
//! "T" number of the table (4)    the rows that follow are of this table
//! "R" values                     each: 0 | 1 integer (8) | 2 length (4) text | 3 length (4) octets
//! "E" length (4)                 counts in JSON
//! SHA-256 of everything before (32)
//! ```

use super::{Header, Summary, hex};
use crate::error::StoreError;
use crate::{VALUE_LENGTH_MAX, Value};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use x509::digest::Sha256;

const MAGIC: &[u8] = b"chancery export 1\n";

/// The longest document in a file.
const DOCUMENT_LENGTH_MAX: usize = 1 << 20;

/// One piece of a file.
pub(super) enum Frame {
    /// The rows that follow are of this table of the header.
    Table(usize),
    /// A row.
    Row(Vec<Value>),
}

/// Writes a file.
pub(super) struct Writer<W> {
    to: W,
    all: Sha256,
    contents: Sha256,
    rows: BTreeMap<String, u64>,
    piece: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(to: W, header: &Header) -> Result<Self, StoreError> {
        let (all, contents) = (Sha256::default(), Sha256::default());
        let mut writer = Self { to, all, contents, rows: BTreeMap::new(), piece: Vec::new() };
        writer.piece.extend_from_slice(MAGIC);
        document(&mut writer.piece, header);
        writer.put()?;
        Ok(writer)
    }

    pub(super) fn table(&mut self, index: usize) -> Result<(), StoreError> {
        self.piece.push(b'T');
        length(&mut self.piece, index);
        self.contents.update(&self.piece);
        self.put()
    }

    pub(super) fn row(&mut self, values: &[Value]) -> Result<(), StoreError> {
        self.piece.push(b'R');
        for value in values {
            match value {
                Value::Null => self.piece.push(0),
                Value::Int(integer) => {
                    self.piece.push(1);
                    self.piece.extend_from_slice(&integer.to_be_bytes());
                }
                Value::Text(text) => octets(&mut self.piece, 2, text.as_bytes()),
                Value::Blob(blob) => octets(&mut self.piece, 3, blob),
            }
        }
        self.contents.update(&self.piece);
        self.put()
    }

    /// Notes how many rows a table has.
    pub(super) fn counted(&mut self, table: &str, rows: u64) {
        self.rows.insert(table.to_owned(), rows);
    }

    pub(super) fn finish(mut self) -> Result<Summary, StoreError> {
        let summary = Summary { rows: std::mem::take(&mut self.rows), contents: hex(&self.contents.clone().finish()) };
        self.piece.push(b'E');
        document(&mut self.piece, &summary);
        self.put()?;
        let digest = self.all.finish();
        self.to.write_all(&digest).and_then(|()| self.to.flush()).map_err(|error| written(&error))?;
        Ok(summary)
    }

    fn put(&mut self) -> Result<(), StoreError> {
        self.all.update(&self.piece);
        self.to.write_all(&self.piece).map_err(|error| written(&error))?;
        self.piece.clear();
        Ok(())
    }
}

fn written(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("writing the export: {error}"))
}

fn length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("values and documents are shorter than 16 MiB");
    out.extend_from_slice(&length.to_be_bytes());
}

fn octets(out: &mut Vec<u8>, kind: u8, octets: &[u8]) {
    out.push(kind);
    length(out, octets.len());
    out.extend_from_slice(octets);
}

fn document(out: &mut Vec<u8>, document: &impl serde::Serialize) {
    let text = serde_json::to_vec(document).expect("our documents have text keys and finite numbers");
    length(out, text.len());
    out.extend_from_slice(&text);
}

/// Reads a file. Nothing of it is believed: whatever is not as it was written is damage.
pub(super) struct Reader<R> {
    from: R,
    all: Sha256,
    contents: Sha256,
    header: Header,
    /// The table whose rows are read, and how many it has so far.
    table: Option<(usize, u64)>,
    rows: BTreeMap<String, u64>,
    summary: Option<Summary>,
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(from: R) -> Result<Self, StoreError> {
        let mut begun = Octets { from, all: Sha256::default() };
        let mut magic = [0; MAGIC.len()];
        let is_ours = begun.exactly(&mut magic).is_ok() && magic == MAGIC;
        if !is_ours {
            return Err(StoreError::Corrupt("the file is not an export of this program".into()));
        }
        let header: Header = begun.document()?;
        let Octets { from, all } = begun;
        let (contents, rows) = (Sha256::default(), BTreeMap::new());
        Ok(Self { from, all, contents, header, table: None, rows, summary: None })
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// The next piece; nothing at the end, when the file was whole.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, StoreError> {
        if self.summary.is_some() {
            return Ok(None);
        }
        let mut read = Octets { from: &mut self.from, all: std::mem::take(&mut self.all) };
        let frame = match read.octet()? {
            b'T' => {
                let index = read.length(self.header.tables.len().saturating_sub(1))?;
                let expected = self.table.map_or(0, |(index, _)| index + 1);
                if index != expected || index >= self.header.tables.len() {
                    return Err(damaged());
                }
                self.contents.update(b"T");
                self.contents.update(&u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes());
                self.table = Some((index, 0));
                self.rows.insert(self.header.tables[index].name.clone(), 0);
                Some(Frame::Table(index))
            }
            b'R' => {
                let Some((index, rows)) = &mut self.table else { return Err(damaged()) };
                *rows += 1;
                let table = &self.header.tables[*index];
                let count = self.rows.entry(table.name.clone()).or_default();
                *count = *rows;
                self.contents.update(b"R");
                let values: Result<Vec<Value>, StoreError> =
                    table.columns.iter().map(|_| read.value(&mut self.contents)).collect();
                Some(Frame::Row(values?))
            }
            b'E' => {
                let summary: Summary = read.document()?;
                let digest = read.all.clone().finish();
                let mut kept = [0; 32];
                read.exactly(&mut kept)?;
                let is_last = self.table.map_or(0, |(index, _)| index + 1) == self.header.tables.len();
                let contents = hex(&self.contents.clone().finish());
                let is_whole = kept == digest && is_last && summary.rows == self.rows && summary.contents == contents;
                if !is_whole || read.has_more()? {
                    return Err(damaged());
                }
                self.summary = Some(summary);
                None
            }
            _ => return Err(damaged()),
        };
        self.all = read.all;
        Ok(frame)
    }

    /// What was in it, after the end was read.
    pub(super) fn finish(self) -> Result<(Header, Summary), StoreError> {
        let summary =
            self.summary.ok_or_else(|| StoreError::Engine("an export that was not read to its end".into()))?;
        Ok((self.header, summary))
    }
}

fn damaged() -> StoreError {
    StoreError::Corrupt("the export is not as it was written".into())
}

/// Octets that are counted into the digest as they are read.
struct Octets<R> {
    from: R,
    all: Sha256,
}

impl<R: Read> Octets<R> {
    fn exactly(&mut self, octets: &mut [u8]) -> Result<(), StoreError> {
        self.from.read_exact(octets).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => StoreError::Corrupt("the export is cut off".into()),
            _ => StoreError::Unavailable(format!("reading the export: {error}")),
        })?;
        self.all.update(octets);
        Ok(())
    }

    fn octet(&mut self) -> Result<u8, StoreError> {
        let mut octet = [0];
        self.exactly(&mut octet)?;
        Ok(octet[0])
    }

    fn length(&mut self, max: usize) -> Result<usize, StoreError> {
        let mut octets = [0; 4];
        self.exactly(&mut octets)?;
        let length = u32::from_be_bytes(octets) as usize;
        if length > max { Err(damaged()) } else { Ok(length) }
    }

    fn octets(&mut self, max: usize) -> Result<Vec<u8>, StoreError> {
        let mut octets = vec![0; self.length(max)?];
        self.exactly(&mut octets)?;
        Ok(octets)
    }

    fn document<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        serde_json::from_slice(&self.octets(DOCUMENT_LENGTH_MAX)?).map_err(|_| damaged())
    }

    fn value(&mut self, contents: &mut Sha256) -> Result<Value, StoreError> {
        let kind = self.octet()?;
        contents.update(&[kind]);
        match kind {
            0 => Ok(Value::Null),
            1 => {
                let mut octets = [0; 8];
                self.exactly(&mut octets)?;
                contents.update(&octets);
                Ok(Value::Int(i64::from_be_bytes(octets)))
            }
            2 | 3 => {
                let octets = self.octets(VALUE_LENGTH_MAX)?;
                contents.update(&u32::try_from(octets.len()).unwrap_or(u32::MAX).to_be_bytes());
                contents.update(&octets);
                match kind {
                    2 => String::from_utf8(octets).map(Value::Text).map_err(|_| damaged()),
                    _ => Ok(Value::Blob(octets)),
                }
            }
            _ => Err(damaged()),
        }
    }

    fn has_more(&mut self) -> Result<bool, StoreError> {
        let mut octet = [0];
        let read = self.from.read(&mut octet);
        read.map(|count| count > 0).map_err(|error| StoreError::Unavailable(format!("reading the export: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::{Column, Kind, Table};

    fn written() -> Vec<u8> {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        let table = |name: &str, columns| Table { name: name.into(), columns, key: vec!["a".into()] };
        let header = Header {
            program: "1".into(),
            schema_version: 3,
            schema: "x".into(),
            engine: "sqlite".into(),
            made_at: "now".into(),
            tables: vec![
                table("one", vec![column("a", Kind::Integer), column("b", Kind::Text)]),
                table("two", vec![column("a", Kind::Blob)]),
            ],
        };
        let mut out = Vec::new();
        let mut writer = Writer::begin(&mut out, &header).unwrap();
        writer.table(0).unwrap();
        writer.row(&[Value::Int(-5), Value::from("text ü")]).unwrap();
        writer.row(&[Value::Int(i64::MAX), Value::Null]).unwrap();
        writer.counted("one", 2);
        writer.table(1).unwrap();
        writer.row(&[Value::Blob(vec![0, 255])]).unwrap();
        writer.counted("two", 1);
        writer.finish().unwrap();
        out
    }

    fn read(octets: &[u8]) -> Result<(Vec<Vec<Value>>, Summary), StoreError> {
        let mut reader = Reader::begin(octets)?;
        let mut rows = Vec::new();
        while let Some(frame) = reader.next()? {
            if let Frame::Row(values) = frame {
                rows.push(values);
            }
        }
        reader.finish().map(|(_, summary)| (rows, summary))
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let (rows, summary) = read(&written()).unwrap();
        let expected = [
            vec![Value::Int(-5), Value::from("text ü")],
            vec![Value::Int(i64::MAX), Value::Null],
            vec![Value::Blob(vec![0, 255])],
        ];
        assert_eq!(rows, expected);
        assert_eq!(summary.total(), 3);
    }

    #[test]
    fn a_file_that_is_cut_or_changed_anywhere_is_refused() {
        let whole = written();
        for end in 0..whole.len() {
            assert!(matches!(read(&whole[..end]), Err(StoreError::Corrupt(_))), "cut at {end}");
        }
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            assert!(read(&changed).is_err(), "changed at {place}");
        }
        assert!(read(&[&whole[..], &[0]].concat()).is_err(), "longer");
    }
}
