//! Integration tests: the real binary, on real s6, and with the real Hermes where it is installed.
//!
//! Modules: `golden` compares rendered trees with `tests/golden/`, `cli` exit codes and messages,
//! `volume` what bad input on a volume costs, `word` what the real execlineb makes of quoted values,
//! `lifecycle` start, stop and restart, `logs` what gateways have said, `status` what is said of a tree,
//! `doctor` what is wrong with it, `name` what is done by the name hermes, `s6` trees of an ordinary user,
//! `pid1` s6-svscan as PID 1 of a namespace, `hermes` the real Hermes Agent, `argv` what it makes of
//! command lines, `image` real containers of the image. What cannot run somewhere prints
//! `skipped: reason`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::explicit_write,
    reason = "the harness keeps what eprintln prints to itself"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "random bytes are truncated random numbers"
)]

mod support;

mod argv;
mod caller;
mod cli;
mod doctor;
mod golden;
mod hermes;
mod image;
mod lifecycle;
mod logs;
mod name;
mod pid1;
mod s6;
mod status;
mod tidy;
mod volume;
mod word;
