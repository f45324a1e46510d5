//! Parses the command line, runs the command, and ends with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir::cli::main(std::env::args_os(), std::env::vars_os())
}
