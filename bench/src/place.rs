//! Where a bench runs: the server's binary, the folder of its data, and where the report goes.

use std::path::{Path, PathBuf};

use crate::{Outcome, saying};

#[derive(clap::Args)]
pub struct Place {
    /// The server's binary; by default `chancery` beside this one.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Where the data folders are made, on the file system to measure; by default beside the server's binary.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Where the report goes.
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
}

impl Place {
    /// The server's binary.
    pub fn server(&self) -> Outcome<PathBuf> {
        let own = std::env::current_exe().map_err(saying("this program"))?;
        let server = self.server.clone().unwrap_or_else(|| own.with_file_name("chancery"));
        if !server.is_file() {
            return Err(format!("{} is not there; `make bench` builds it", server.display()));
        }
        Ok(server)
    }

    /// A folder for data, which goes when the bench ends.
    pub fn folder(&self) -> Outcome<tempfile::TempDir> {
        let server = self.server()?;
        let parent = self.folder.as_deref().or(server.parent()).unwrap_or(Path::new("."));
        tempfile::Builder::new().prefix("bench-").tempdir_in(parent).map_err(saying("a data folder"))
    }

    /// Prints a page, and writes it to the results under the time and a name.
    pub fn report(&self, name: &str, page: &str) -> Outcome<()> {
        print!("{page}");
        std::fs::create_dir_all(&self.results).map_err(saying("the results"))?;
        let at = jiff::Timestamp::now().strftime("%Y-%m-%d-%H%M");
        let file = self.results.join(format!("{at}-{name}.md"));
        std::fs::write(&file, page).map_err(saying("the results"))?;
        eprintln!("\nwritten to {}", file.display());
        Ok(())
    }
}
