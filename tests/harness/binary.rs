//! The binary under test: of this checkout, in this profile.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The checkout's top folder.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// `portolan`, built when first asked for: `cargo test -p portolan-tests` alone would not build it, or test an old one.
/// All binaries, as `cargo test --workspace` does: with other features, the dependencies would be built once more.
pub fn portolan() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| binaries().join("portolan"))
}

/// `portolan-agent`, built with it.
pub fn agent_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| binaries().join("portolan-agent"))
}

/// The folder that they are in.
fn binaries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // target/<profile>/deps/<this test>
        let this = std::env::current_exe().unwrap();
        let folder = this.parent().and_then(Path::parent).unwrap();
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "--workspace", "--bins"]).current_dir(repository());
        build.arg("--target-dir").arg(folder.parent().unwrap());
        // What cargo tells the test of its own package would have crates that ask for it built anew, each time.
        let told = std::env::vars_os().map(|(name, _)| name);
        for name in told.filter(|name| name.to_string_lossy().starts_with("CARGO_PKG_")) {
            build.env_remove(name);
        }
        build
            .env_remove("CARGO_MANIFEST_DIR")
            .env_remove("CARGO_MANIFEST_PATH")
            .env_remove("CARGO_PRIMARY_PACKAGE");
        if folder.ends_with("release") {
            build.arg("--release");
        }
        let status = build.status().expect("cargo runs");
        assert!(status.success(), "portolan can't be built: {status}");
        folder.to_owned()
    })
}
