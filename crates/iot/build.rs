//! Compiles `proto/`: messages and service traits, and the descriptors that reflection and the REST edge read.

use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(false).open_files(&files)?;
    // Encoded by the compiler: in the decoded set the options that are extensions are lost.
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .include_file("proto.rs")
        .compile_fds_with_config(compiler.file_descriptor_set(), with_names())?;
    Ok(())
}

/// With the full name of every message, for the type URLs of what holds any of them; and with maps in the order of their
/// keys, so that equal messages have equal octets.
fn with_names() -> prost_build::Config {
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    config.btree_map(["."]);
    config
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
