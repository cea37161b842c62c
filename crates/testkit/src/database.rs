//! A fresh database for one test, on either engine.
//!
//! It says only where the database is, because nothing here may know the store.

use crate::postgres;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestEngine {
    /// The file of a SQLite database that is not there yet.
    SqlitePath(PathBuf),
    /// The URL of an empty PostgreSQL database.
    PostgresUrl(String),
}

impl TestEngine {
    /// The engine's name, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SqlitePath(_) => "sqlite",
            Self::PostgresUrl(_) => "postgresql",
        }
    }
}

/// A fresh database; gone when this is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    engine: TestEngine,
    folder: tempfile::TempDir,
}

impl TestDatabase {
    /// A SQLite file in a folder of its own.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { engine: TestEngine::SqlitePath(folder.path().join("data").join("test.db")), folder }
    }

    /// A database of its own on the PostgreSQL of this machine's tests, which is started if it does not run.
    ///
    /// # Panics
    /// If PostgreSQL is not installed; the message names the package.
    pub fn postgres() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { engine: TestEngine::PostgresUrl(postgres::create_database()), folder }
    }

    /// Where it is.
    pub fn engine(&self) -> &TestEngine {
        &self.engine
    }

    /// A folder of the test's own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        match &self.engine {
            TestEngine::SqlitePath(_) => {}
            TestEngine::PostgresUrl(url) => postgres::drop_database(url),
        }
    }
}

/// Runs a test once on each engine; a panic names the engine.
pub fn both_engines<F: Future<Output = ()>>(test: impl Fn(TestEngine) -> F) {
    for database in [TestDatabase::sqlite as fn() -> TestDatabase, TestDatabase::postgres] {
        let database = database();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let ran = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(database.engine().clone()))));
        if let Err(panic) = ran {
            eprintln!("the test failed on {}", database.engine().name());
            resume_unwind(panic);
        }
    }
}
