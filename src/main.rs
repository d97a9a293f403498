//! The program: everything is in the library, whose crate documentation is the map.

fn main() -> std::process::ExitCode {
    hermes_s6::run()
}
