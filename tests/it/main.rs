//! Integration tests: the real binary, on real s6, and with the real Hermes where it is installed.
//!
//! | modules | are about |
//! |---|---|
//! | `tidy` | the order of `src/` |
//! | `cli`, `caller`, `print` | exit codes and messages; what a caller brings along; a stdout that takes nothing |
//! | `calls` | system calls that a kernel or a container does not know |
//! | `trust` | what root runs, and what it refuses |
//! | `docs`, `examples` | tables and examples of the documentation |
//! | `golden`, `word` | rendered slots, compared with `tests/golden/`; quoted values in the real execlineb |
//! | `volume`, `warn` | what bad input on a volume costs; what is said of many profiles |
//! | `multiplex` | one gateway for all profiles, and what happens where nobody can tell |
//! | `lifecycle` | start, stop, restart |
//! | `chaos` | random commands at once, while whatever runs is killed |
//! | `health` | gateways that do not serve, or end again and again |
//! | `power` | disks as they are between two system calls |
//! | `keep` | logs that cannot be written |
//! | `look` | what is said where a look fails |
//! | `status`, `logs`, `doctor` | what is said of a tree, of gateways, and of what is wrong |
//! | `s6`, `pid1` | trees of an ordinary user; s6-svscan as PID 1 of a namespace |
//! | `name`, `argv`, `config`, `hermes` | the name `hermes`; command lines and settings beside the real parsers; the real Hermes Agent |
//! | `image` | real containers of the image |
//!
//! What cannot run somewhere prints `skipped: reason`.

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

mod apart;
mod argv;
mod caller;
mod calls;
mod chaos;
mod cli;
mod config;
mod dashboard;
mod docs;
mod doctor;
mod environment;
mod examples;
mod golden;
mod health;
mod hermes;
mod hung;
mod image;
mod keep;
mod lifecycle;
mod logs;
mod look;
mod multiplex;
mod name;
mod pid1;
mod power;
mod print;
mod random;
mod s6;
mod status;
mod tidy;
mod trust;
mod volume;
mod warn;
mod word;
