//! Links the program, and only that, without what only unwinding needs: a panic ends it at once. The
//! tests are not linked so, since theirs do unwind.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-changed=src/link.ld");
    println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    // What main.rs leaves out of the C library may come in beside it for another name: ours counts.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,muldefs");
    let is = |name: &str, value: &str| var(name).is_ok_and(|found| found == value);
    // The linker that Rust brings for this target understands the script; a debugger wants the tables.
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("PROFILE", "release") {
        let directory = var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{directory}/src/link.ld");
    }
}
