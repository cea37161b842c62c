//! How results are printed: JSON for scripts, tables and lists for people.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::cli::failure::Failure;

/// The result of a command in both forms.
pub(crate) struct Output {
    json: Value,
    text: String,
    exit_code: u8,
    is_printed: bool,
}

impl Output {
    /// The API's own answer, and the same for people.
    pub(crate) fn new(json: Value, text: impl Into<String>) -> Self {
        Self { json, text: text.into(), exit_code: 0, is_printed: false }
    }

    /// Of a command that printed all that it had to say while it ran.
    pub(crate) fn printed_before() -> Self {
        Self { is_printed: true, ..Self::new(Value::Null, "") }
    }

    /// The same, of a command of which a part failed.
    pub(crate) fn of_failure(self) -> Self {
        Self { exit_code: 1, ..self }
    }

    #[cfg(test)]
    pub(crate) fn json(&self) -> &Value {
        &self.json
    }

    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Prints one of the two forms to standard output, and gives the exit code. A reader that has gone away is no error.
    pub(crate) fn print(&self, json: bool) -> Result<ExitCode, Failure> {
        if self.is_printed {
            return Ok(ExitCode::from(self.exit_code));
        }
        let text = if json { format!("{:#}", self.json) } else { self.text.clone() };
        let mut standard_output = io::stdout().lock();
        let written = standard_output
            .write_all(text.as_bytes())
            .and_then(|()| if text.ends_with('\n') { Ok(()) } else { standard_output.write_all(b"\n") })
            .and_then(|()| standard_output.flush());
        match written {
            Ok(()) => Ok(ExitCode::from(self.exit_code)),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::from(self.exit_code)),
            Err(error) => Err(Failure::new(format!("cannot write the result: {error}"))),
        }
    }
}

/// A column of a table: its heading, and where its value stands in each row's object, as a JSON pointer.
pub(crate) type Column = (&'static str, &'static str);

/// A table with one line for each object. Says so when there is none.
pub(crate) fn table(columns: &[Column], rows: &[Value], none: &str) -> String {
    if rows.is_empty() {
        return none.to_owned();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(heading, _)| *heading));
    for row in rows {
        table.add_row(columns.iter().map(|(_, pointer)| text_at(row, pointer)));
    }
    // Without borders every line begins with the padding of its first cell.
    let lines: Vec<String> =
        table.trim_fmt().lines().map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned()).collect();
    lines.join("\n")
}

/// One `name  value` line for each pair whose value is not empty, the values in one column.
pub(crate) fn fields<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let shown: Vec<(&str, String)> = pairs.into_iter().filter(|(_, value)| !value.is_empty() && value != "-").collect();
    let width = shown.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = shown.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
    lines.join("\n")
}

/// The value at a JSON pointer as a person reads it: texts and times plain, lists with commas, nothing as `-`.
pub(crate) fn text_at(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).map_or_else(|| "-".to_owned(), in_words)
}

/// A text at a JSON pointer, if there is one.
pub(crate) fn string_at<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// A text that the server's answer must have.
pub(crate) fn needed<'a>(value: &'a Value, pointer: &str) -> Result<&'a str, Failure> {
    string_at(value, pointer)
        .ok_or_else(|| Failure::new(format!("the server's answer lacks {}", pointer.trim_start_matches('/'))))
}

/// The list at a JSON pointer; empty when there is none.
pub(crate) fn list_at(value: &Value, pointer: &str) -> Vec<Value> {
    value.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// A moment as [`text_at`] shows times.
pub(crate) fn moment_in_words(moment: jiff::Timestamp) -> String {
    let text = format!("{moment:.3}");
    time_in_words(&text).unwrap_or(text)
}

/// A text without control characters: a name in a certificate must not move the cursor of whoever lists it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

fn in_words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => time_in_words(text).unwrap_or_else(|| printable(text)),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(in_words).collect::<Vec<_>>().join(", "),
        Value::Object(_) => printable(&value.to_string()),
    }
}

/// `2026-02-01T12:30:00.000Z` as `2026-02-01 12:30 UTC`, with any of the usual numbers of digits; none for any other text.
fn time_in_words(text: &str) -> Option<String> {
    let looks_like_time =
        matches!(text.len(), 20 | 24 | 27 | 30) && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T');
    if !looks_like_time || text.parse::<jiff::Timestamp>().is_err() {
        return None;
    }
    Some(format!("{} {} UTC", text.get(..10)?, text.get(11..16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_read_as_people_write_them() {
        let value = json!({
            "text": "a", "none": null, "empty": "", "time": "2026-02-01T12:30:59.000Z", "list": ["a", "b"], "no": [],
            "short": "2026-02-01T12:30:59Z", "yes": true, "number": 7, "evil": "a\u{1b}[31m\nb", "nested": { "deep": "x" },
        });
        for (pointer, expected) in [
            ("/text", "a"),
            ("/none", "-"),
            ("/missing", "-"),
            ("/empty", "-"),
            ("/time", "2026-02-01 12:30 UTC"),
            ("/short", "2026-02-01 12:30 UTC"),
            ("/list", "a, b"),
            ("/no", "-"),
            ("/yes", "yes"),
            ("/number", "7"),
            ("/evil", "a\u{fffd}[31m\u{fffd}b"),
            ("/nested/deep", "x"),
        ] {
            assert_eq!(text_at(&value, pointer), expected, "{pointer}");
        }
    }

    #[test]
    fn a_moment_reads_as_the_times_of_the_api_do() {
        let moment: jiff::Timestamp = "2026-02-01T12:30:59.5Z".parse().unwrap();
        assert_eq!(moment_in_words(moment), "2026-02-01 12:30 UTC");
    }

    #[test]
    fn a_table_has_a_heading_and_a_line_for_each_row() {
        let rows = [json!({ "name": "root", "id": "1" }), json!({ "name": "issuing-ca" })];
        let text = table(&[("NAME", "/name"), ("ID", "/id")], &rows, "none");
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines, ["NAME        ID", "root        1", "issuing-ca  -"]);
        assert_eq!(table(&[("NAME", "/name")], &[], "There is none."), "There is none.");
    }

    #[test]
    fn fields_leave_out_what_is_empty() {
        let text = fields([("Name", "a".to_owned()), ("Long name", "-".to_owned()), ("Id", "b".to_owned())]);
        assert_eq!(text, "Name  a\nId    b");
    }
}
