//! The migrations: which there are, which are still to be applied, and how they read on each engine.
//!
//! One folder for both engines. A migration is never edited once it was released: its checksum is kept and compared.
//! Each runs in one transaction, so a process that is killed leaves all of it or nothing.
//!
//! A migration that only adds says on its first line which programs may go on working beside it: `-- serves: 15` are
//! those whose newest migration is 15 or later. That is written beside its name in the database, where an older program
//! finds it; what does not say so is for programs that know it only (docs/upgrades.md).

use crate::{Row, StoreError};
use aws_lc_rs::digest;

/// One step of the schema.
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal;)*) => {
        &[$(Migration { version: $version, name: $name, sql: include_str!(concat!("../migrations/", $name, ".sql")) }),*]
    };
}

/// All migrations, in the order in which they are applied.
pub(crate) const MIGRATIONS: &[Migration] = migrations! {
    0 "0000_engine";
    1 "0001_foundation";
    2 "0002_withdrawal";
    3 "0003_lists";
    4 "0004_syncs";
    5 "0005_registry";
    6 "0006_absences";
    7 "0007_revoked_certificates";
    8 "0008_node_letters";
    9 "0009_ocsp";
    10 "0010_inventory";
    11 "0011_first_families";
    12 "0012_alerts";
    13 "0013_applications";
    14 "0014_retention";
    15 "0015_account_bindings";
};

/// What was applied; understood by both engines as it is here.
pub(crate) const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations \
    (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)";

/// Reads what [`pending`] wants to know.
pub(crate) const SELECT_APPLIED: &str = "SELECT version, checksum, name FROM schema_migrations ORDER BY version";

/// Stands between the name of a migration and the oldest program that it serves.
const SERVES: &str = " serves ";
/// How a migration says it.
const SERVES_LINE: &str = "-- serves: ";

/// The migrations that are still to be applied, or why this program must not touch the database.
pub(crate) fn pending(applied: &[Row]) -> Result<&'static [Migration], StoreError> {
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    for (position, row) in applied.iter().enumerate() {
        let (version, checksum) = (row.int(0)?, row.text(1)?);
        let Some(migration) = MIGRATIONS.get(position) else {
            let serves = row.text(2)?.rsplit_once(SERVES).and_then(|(_, oldest)| oldest.parse::<i64>().ok());
            if serves.is_some_and(|oldest| oldest <= known) {
                continue;
            }
            return Err(StoreError::SchemaTooNew { found: version, known });
        };
        if migration.version != version {
            return Err(StoreError::Refused(format!("the migration {} was left out", migration.name)));
        }
        if migration.checksum() != checksum {
            return Err(StoreError::Refused(format!(
                "the migration {} was applied with another text than this program has",
                migration.name
            )));
        }
    }
    Ok(MIGRATIONS.get(applied.len()..).unwrap_or_default())
}

/// Whether a program that only reads can use the database: the schema must be the one that it knows.
pub(crate) fn check_complete(applied: &[Row]) -> Result<(), StoreError> {
    match pending(applied)?.first() {
        None => Ok(()),
        Some(migration) => Err(StoreError::Refused(format!(
            "the migration {} is not applied yet: start the server once",
            migration.name
        ))),
    }
}

impl Migration {
    /// SHA-256 of the text, in hexadecimal.
    pub(crate) fn checksum(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.sql.as_bytes());
        digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// The name as it is written in the database.
    pub(crate) fn recorded_name(&self) -> String {
        let serves = self.sql.strip_prefix(SERVES_LINE).and_then(|rest| rest.lines().next());
        serves.map_or_else(|| self.name.to_owned(), |oldest| format!("{}{SERVES}{}", self.name, oldest.trim()))
    }

    /// The text for PostgreSQL: other words for the types, and text ordered by its octets as SQLite does.
    pub(crate) fn for_postgres(&self) -> String {
        let mut out = String::with_capacity(self.sql.len() + 256);
        let mut words = words(self.sql).peekable();
        let mut before = Word::Other("");
        while let Some(word) = words.next() {
            let Word::Plain(text) = word else {
                out.push_str(word.text());
                continue;
            };
            match text {
                "INTEGER" if follows(&words, &["PRIMARY", "KEY"]) => {
                    out.push_str("BIGINT GENERATED BY DEFAULT AS IDENTITY");
                }
                "INTEGER" => out.push_str("BIGINT"),
                "BLOB" => out.push_str("BYTEA"),
                "TEXT" if before.text() != "AS" => out.push_str("TEXT COLLATE \"C\""),
                // Table options of SQLite, after the last parenthesis.
                "STRICT" => {}
                "WITHOUT" if follows(&words, &["ROWID"]) => {
                    words.find(|word| word.text() == "ROWID");
                }
                other => out.push_str(other),
            }
            before = word;
        }
        out
    }
}

/// A piece of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word<'a> {
    /// A keyword or a name without quotes.
    Plain(&'a str),
    /// Space, punctuation, a number, a literal, a quoted name or a comment.
    Other(&'a str),
}

impl<'a> Word<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Plain(text) | Self::Other(text) => text,
        }
    }
}

/// Whether the next words are these, with nothing but space between.
fn follows<'a>(words: &(impl Iterator<Item = Word<'a>> + Clone), expected: &[&str]) -> bool {
    let mut next = words.clone().filter(|word| !word.text().trim().is_empty());
    expected.iter().all(|expected| next.next() == Some(Word::Plain(expected)))
}

/// Cuts a text into words; all of them together are the text again.
fn words(sql: &str) -> impl Iterator<Item = Word<'_>> + Clone {
    let mut rest = sql;
    std::iter::from_fn(move || {
        let length = word_length(rest)?;
        let (word, after) = rest.split_at(length);
        rest = after;
        let is_plain = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        Some(if is_plain { Word::Plain(word) } else { Word::Other(word) })
    })
}

/// The length of the first word in octets; nothing at the end of the text.
fn word_length(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    let until = |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    Some(match first {
        '\'' => until("'", 1),
        '"' => until("\"", 1),
        '-' if text.starts_with("--") => until("\n", 2),
        '/' if text.starts_with("/*") => until("*/", 2),
        _ if first.is_ascii_alphanumeric() || first == '_' || first == '$' => {
            text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len())
        }
        _ => first.len_utf8(),
    })
}

/// The text of a statement for SQLite: parameters as `?1`, and no words that lock rows, because there is one writer.
pub(crate) fn for_sqlite(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut words = words(sql);
    while let Some(word) = words.next() {
        match word {
            Word::Other(text) if text.starts_with('$') => {
                out.push('?');
                out.push_str(&text[1..]);
            }
            Word::Plain("FOR") if follows(&words, &["SHARE"]) || follows(&words, &["UPDATE"]) => {
                words.find(|word| matches!(word, Word::Plain(_)));
            }
            Word::Plain(text) | Word::Other(text) => out.push_str(text),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_postgres(sql: &'static str, expected: &str) {
        assert_eq!(Migration { version: 0, name: "", sql }.for_postgres(), expected);
    }

    #[test]
    fn type_words_are_replaced_outside_of_quotes_and_comments() {
        check_postgres(
            "CREATE TABLE t (a INTEGER PRIMARY KEY, b INTEGER NOT NULL, c BLOB, d TEXT NOT NULL) STRICT, WITHOUT  ROWID;",
            "CREATE TABLE t (a BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, b BIGINT NOT NULL, c BYTEA, \
             d TEXT COLLATE \"C\" NOT NULL) , ;",
        );
        check_postgres(
            "-- INTEGER in 'words\nSELECT 'BLOB ''TEXT', \"TEXT\", BLOBS, CAST(a AS TEXT), /* BLOB */ a_TEXT",
            "-- INTEGER in 'words\nSELECT 'BLOB ''TEXT', \"TEXT\", BLOBS, CAST(a AS TEXT), /* BLOB */ a_TEXT",
        );
    }

    #[test]
    fn parameters_become_numbered_and_row_locks_are_dropped_on_sqlite() {
        let check = |sql, expected: &str| assert_eq!(for_sqlite(sql), expected);
        check("SELECT a FROM t WHERE b = $2 AND c = $11 FOR SHARE", "SELECT a FROM t WHERE b = ?2 AND c = ?11 ");
        check("SELECT '$1 FOR SHARE', $1 FOR UPDATE", "SELECT '$1 FOR SHARE', ?1 ");
        check("SELECT a$1 FROM t -- $1\n", "SELECT a$1 FROM t -- $1\n");
    }

    fn applied(migrations: &[Migration]) -> Vec<Row> {
        let row = |one: &Migration| vec![one.version.into(), one.checksum().into(), one.recorded_name().into()];
        migrations.iter().map(|one| Row::new(row(one))).collect()
    }

    #[test]
    fn only_what_is_not_applied_is_pending() {
        assert_eq!(pending(&[]).unwrap().len(), MIGRATIONS.len());
        assert_eq!(pending(&applied(&MIGRATIONS[..1])).unwrap()[0].version, 1);
        assert!(pending(&applied(MIGRATIONS)).unwrap().is_empty());
        check_complete(&applied(MIGRATIONS)).unwrap();
        assert!(matches!(check_complete(&applied(&MIGRATIONS[..1])), Err(StoreError::Refused(_))));
    }

    #[test]
    fn versions_grow_and_carry_their_number_in_the_name() {
        for (position, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version, position as i64);
            assert!(migration.name.starts_with(&format!("{position:04}_")), "{}", migration.name);
        }
    }

    #[test]
    fn a_newer_schema_that_serves_this_program_is_used() {
        let known = MIGRATIONS.len() as i64 - 1;
        let later = |version: i64, serves: Option<i64>| {
            let text = serves.map_or_else(String::new, |oldest| format!("-- serves: {oldest}\n"));
            let sql: &'static str = Box::leak((text + "CREATE TABLE t (a INTEGER);").into_boxed_str());
            Migration { version, name: "later", sql }
        };
        let check = |beyond: &[Migration], is_used: bool| {
            let rows: Vec<Row> = applied(MIGRATIONS).into_iter().chain(applied(beyond)).collect();
            assert_eq!(pending(&rows).is_ok_and(<[Migration]>::is_empty), is_used);
            assert_eq!(check_complete(&rows).is_ok(), is_used);
        };
        check(&[later(known + 1, Some(known))], true);
        check(&[later(known + 1, Some(0)), later(known + 2, Some(known))], true);
        check(&[later(known + 1, Some(known)), later(known + 2, Some(known + 1))], false);
        check(&[later(known + 1, Some(known)), later(known + 2, None)], false);
        for migration in MIGRATIONS {
            let said = migration.recorded_name().rsplit_once(SERVES).map(|(_, oldest)| oldest.parse::<i64>());
            assert!(
                said.is_none_or(|oldest| oldest.is_ok_and(|oldest| oldest < migration.version)),
                "{}",
                migration.name
            );
        }
    }

    #[test]
    fn a_newer_an_edited_and_a_missing_migration_are_refused() {
        let known = MIGRATIONS.len() as i64 - 1;
        let mut newer = applied(MIGRATIONS);
        newer.push(Row::new(vec![9999.into(), "0".into(), "later".into()]));
        assert_eq!(pending(&newer).err(), Some(StoreError::SchemaTooNew { found: 9999, known }));

        let edited = [Row::new(vec![0.into(), "0".into(), "0000_engine".into()])];
        assert!(matches!(pending(&edited), Err(StoreError::Refused(_))));

        let missing = applied(&MIGRATIONS[1..]);
        assert!(matches!(pending(&missing), Err(StoreError::Refused(_))));
    }
}
