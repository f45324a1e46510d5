//! Recorded rows: those of the repository, or of the directory that `WEIR_VECTORS` names.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Returns the rows of a file, one JSON object a line. A file that the directory of `WEIR_VECTORS` lacks is taken from
/// the repository.
pub(crate) fn rows(file: &str) -> Vec<Value> {
    let path = path(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn path(file: &str) -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    let theirs = std::env::var_os("WEIR_VECTORS").map(|directory| Path::new(&directory).join(file));
    theirs.filter(|path| path.exists()).unwrap_or(ours)
}
