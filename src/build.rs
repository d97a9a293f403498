//! Links the program, and only that, without an index for unwinding: a panic ends it at once. The tests
//! are not linked so, since theirs do unwind.

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
}
