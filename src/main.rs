//! The program: everything is in the library, whose crate documentation is the map.

use std::process::ExitCode;

fn main() -> ExitCode {
    hermes_s6::main()
}
