//! Loud, counted skips: a test that cannot have its server says so, and continuous integration compares the count.

use std::io::Write;

use crate::error::{SupportError, Unavailable};

/// The variable that names the file to which every skip appends one line.
pub const SKIP_LOG: &str = "CHANGELING_SKIP_LOG";

/// Records that `test` is skipped: a line on standard error, and one in the file named by [`SKIP_LOG`].
///
/// A file that cannot be written is reported on standard error only: the count then differs and fails the build.
pub fn count(test: &str, reason: &str) {
    let reason = reason.replace('\n', " ");
    let line = format!("SKIPPED {test}: {reason}\n");
    // Written past the test runner's capture, so that a green run with skips does not look like a green run.
    let _ = std::io::stderr().write_all(line.as_bytes());
    let Some(path) = std::env::var_os(SKIP_LOG) else {
        return;
    };
    let written = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        let _ = writeln!(
            std::io::stderr(),
            "cannot count the skip in {}: {error}",
            path.to_string_lossy()
        );
    }
}

/// `Some(value)`, or `None` after a counted skip when no server can be had; any other error is handed back.
pub fn unless_available<T>(test: &str, result: Result<T, SupportError>) -> Result<Option<T>, SupportError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(SupportError::Unavailable(unavailable)) => {
            count(test, &Unavailable::to_string(&unavailable));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The started server (or topology); where none can be had, counts a skip and returns from the test with `Ok(())`
/// converted by `Into`; other errors are returned with `?`.
///
/// ```no_run
/// # use changeling_support::{ServerSpec, SupportError, server_or_skip};
/// async fn rows_survive() -> Result<(), SupportError> {
///     let server = server_or_skip!(ServerSpec::mysql());
///     let _ = server.url();
///     Ok(())
/// }
/// ```
#[macro_export]
macro_rules! server_or_skip {
    ($spec:expr) => {{
        fn here() {}
        let test = ::std::any::type_name_of_val(&here).trim_end_matches("::here");
        let test = test.trim_end_matches("::{{closure}}");
        match $crate::skip::unless_available(test, $spec.start().await)? {
            Some(server) => server,
            None => return Ok(()),
        }
    }};
}
