//! Parses the command line, runs the command, and ends with its exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    weir::cli::main(std::env::args_os(), std::env::vars_os())
}
