//! The program: everything is in the library, whose crate documentation is the map.
//!
//! With a static glibc the way in is ours, and what the C library would bring along for messages of
//! its own is left out: that would be a third of a program that is to be small.

#![cfg_attr(target_env = "gnu", no_main)]

#[cfg(not(target_env = "gnu"))]
fn main() -> std::process::ExitCode {
    // Here a Ctrl-C ends us, too: a slot follows its profile with the next command.
    hermes_s6::main(|_hold| ()).into()
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the names are what the linker looks for")]
mod start {
    use std::ffi::{c_char, c_int, c_uint, c_void};

    /// Starts the program in place of Rust's runtime, which would look for the stack's guard page in
    /// /proc/self/maps, with scanf and all number formats of the C library.
    #[unsafe(no_mangle)]
    extern "C" fn main() -> c_int {
        // As Rust's runtime does: a reader who goes away is an error to handle, not a death. The
        // standard library takes it back in every program that it executes.
        // SAFETY: nothing else runs yet, and the values are those of <signal.h>.
        unsafe { signal(SIGPIPE, SIG_IGN) };
        hermes_s6::main(hold_interrupts).into()
    }

    /// Survives what a terminal sends to all of its foreground, until it is told not to: with a handler that
    /// does nothing, since what is ignored stays so in a program that is executed.
    fn hold_interrupts(hold: bool) {
        extern "C" fn nothing(_signal: c_int) {}
        let nothing = nothing as extern "C" fn(c_int) as usize;
        for number in [SIGINT, SIGQUIT] {
            // SAFETY: the handler touches nothing. What somebody ignores stays ignored.
            unsafe {
                if signal(number, if hold { nothing } else { SIG_DFL }) == SIG_IGN {
                    signal(number, SIG_IGN);
                }
            }
        }
    }

    const SIGINT: c_int = 2;
    const SIGQUIT: c_int = 3;
    const SIGPIPE: c_int = 13;
    const SIG_DFL: usize = 0;
    const SIG_IGN: usize = 1;

    unsafe extern "C" {
        fn signal(number: c_int, handler: usize) -> usize;
    }

    /// Translates nothing: a static program finds no catalogues, and needs no iconv to read them.
    #[unsafe(no_mangle)]
    extern "C" fn __dcgettext(
        _domain: *const c_char,
        message: *const c_char,
        _category: c_int,
    ) -> *const c_char {
        message
    }

    /// Loads nothing: a static program has all that it needs, and only conversions between character sets
    /// would ask. With these would come the loader of shared libraries.
    #[unsafe(no_mangle)]
    extern "C" fn __libc_dlopen_mode(_name: *const c_char, _mode: c_int) -> *const c_void {
        std::ptr::null()
    }

    /// Finds nothing in what was never loaded.
    #[unsafe(no_mangle)]
    extern "C" fn __libc_dlsym(_library: *const c_void, _name: *const c_char) -> *const c_void {
        std::ptr::null()
    }

    /// Closes what was never loaded.
    #[unsafe(no_mangle)]
    extern "C" fn __libc_dlclose(_library: *const c_void) -> c_int {
        0
    }

    /// Ends the program where the C library finds itself broken, without printf for wide characters.
    #[unsafe(no_mangle)]
    extern "C" fn __assert_fail(
        _assertion: *const c_char,
        _file: *const c_char,
        _line: c_uint,
        _function: *const c_char,
    ) -> ! {
        std::process::abort()
    }
}
