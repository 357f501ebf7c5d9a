//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names a program that is there already, instead of one that is built.
const GIVEN: &str = "CHANGELING_BINARY";

/// The path of the program, built once with the profile of this test.
///
/// Cargo holds no lock while it runs tests, and does nothing here where the program is up to date.
pub(crate) fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| std::env::var_os(GIVEN).map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    // `<target>/<profile>/deps/it-…`
    let test = std::env::current_exe().expect("the test knows its own path");
    let directory = test.ancestors().nth(2).expect("tests are in target/PROFILE/deps");
    let target = directory.parent().expect("profiles are in target");
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--package",
            "changeling",
            "--profile",
            profile,
        ])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target)
        .status()
        .expect("cargo can be run");
    assert!(status.success(), "the program cannot be built");
    directory.join("changeling")
}
