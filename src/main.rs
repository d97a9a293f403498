//! The binary: everything is in the library. The crate documentation in `lib.rs` is the map.

fn main() -> std::process::ExitCode {
    hermes_s6::run()
}
