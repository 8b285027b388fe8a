//! What `make kubernetes` builds and copies.

use std::path::{Path, PathBuf};

use crate::harness::repository;

/// A program of `target/kubernetes/bin`. Panics when it is missing: a test that is skipped silently protects nothing.
pub fn binary(name: &str) -> PathBuf {
    existing(&format!("bin/{name}"))
}

/// The texts of the custom resources' definitions that another project has: `mcs`, `about` or `inventory`.
pub fn definitions(project: &str) -> Vec<String> {
    let folder = existing(&format!("crds/{project}"));
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty: run `make kubernetes`", folder.display());
    files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

fn existing(path: &str) -> PathBuf {
    let file: &Path = &repository().join("target/kubernetes").join(path);
    assert!(file.exists(), "{} is missing: run `make kubernetes`", file.display());
    file.to_owned()
}
