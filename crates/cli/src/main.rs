//! The `changeling` binary. All of it is in the library, where it can be tested.

use std::process::ExitCode;

fn main() -> ExitCode {
    changeling_cli::run(std::env::args_os())
}
