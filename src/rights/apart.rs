//! Dropping root's rights: the one way in which root starts what runs as the user of the gateways.
//!
//! As soon as a process is that user's, the user can trace it, and do whatever it can do. So it lets go of everything
//! of root's before: of descriptors, apart from its streams; of root's terminal, on which it could type commands into
//! root's shell, and read what root types; and of files, in which it could change what is there. Until it has executed
//! its program, the kernel lets nobody but root trace it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, exit};

use rustix::fs::OFlags;
use rustix::process::{Uid, setsid};
use rustix::stdio::stdin;
use rustix::termios::isatty;

use crate::error::{Code, Error, Result};
use crate::report;
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::account::Account;
use crate::system::process::{TERMINAL, proc_text, stat_field};
use crate::system::relay::Streams;
use crate::system::root::Root;
use crate::system::signal::end_by_default;

/// What root starts as another user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A command that reads nothing.
    Command,
    /// A command that may read what is typed.
    Dialogue,
    /// The tree of the gateways, with the descriptor on which it says that it is ready.
    Tree(Option<u64>),
}

/// The account to which root drops its rights, and the programs for that.
#[derive(Debug, Clone, Copy)]
pub struct Dropping<'a> {
    /// The settings of this run.
    pub settings: &'a Settings,
    /// The programs.
    pub tools: &'a Tools,
    /// The account.
    pub account: &'a Account,
}

impl Dropping<'_> {
    /// Prepares a child with the account's rights: the command has to be given its arguments and all three streams.
    pub fn child(&self, words: Vec<OsString>) -> Result<Command> {
        self.command(has_terminal(), None, Vec::new(), words)
    }

    /// Becomes a program with the account's rights; returns only an error.
    ///
    /// Where the program may not have root's terminal or files, this process runs it, passes on what it writes, and
    /// ends as it ends. `prefix` is executed first, still as root, and executes the rest.
    pub fn become_it(
        &self,
        purpose: Purpose,
        prefix: Vec<OsString>,
        words: Vec<OsString>,
        prepare: impl FnOnce(&mut Command),
    ) -> Error {
        let has_terminal = has_terminal();
        let streams = Streams::look(purpose == Purpose::Dialogue);
        let notification = match purpose {
            Purpose::Tree(fd) => fd,
            _ => None,
        };
        let is_tree = matches!(purpose, Purpose::Tree(_));
        // Where it is a service, the tree has the place for the lines of its gateways, whatever that is: also the
        // terminal of a container, whose keys are for the user of the gateways too.
        let is_direct = !has_terminal && (is_tree || streams.are_ours());
        let words = if is_direct {
            words
        } else {
            self.with_us(words)
        };
        let mut command = match self.command(!is_direct, notification, prefix, words) {
            Ok(command) => command,
            Err(error) => return error,
        };
        prepare(&mut command);
        if is_direct {
            streams.limit(&mut command);
            let cause = command.exec();
            return Error::exec(command.get_program(), cause);
        }
        let program = command.get_program().to_owned();
        match streams.run(command, Uid::from_raw(self.account.uid)) {
            Ok(ended) => {
                if let Some(cause) = ended.unwritten {
                    report::fatal(&Error::system("write", "the output", cause));
                    exit(Code::System as i32);
                }
                end_as(ended.status)
            }
            Err(cause) => Error::exec(program, cause),
        }
    }

    /// Has a program end with this process. Only in it, since the kernel forgets this when rights change.
    fn with_us(&self, words: Vec<OsString>) -> Vec<OsString> {
        let itself = self.settings.root.at(&self.tools.hermes_s6);
        let us = format!("--parent={}", std::process::id());
        let with_us = [itself.into_os_string(), "with-parent".into(), us.into()];
        with_us.into_iter().chain(words).collect()
    }

    fn command(
        &self,
        own_session: bool,
        notification: Option<u64>,
        prefix: Vec<OsString>,
        words: Vec<OsString>,
    ) -> Result<Command> {
        let root = &self.settings.root;
        let mut chain = Vec::new();
        for descriptor in inherited(notification)? {
            let fdclose = root.at(self.tools.execline.join("fdclose"));
            chain.extend([fdclose.into_os_string(), descriptor.to_string().into()]);
        }
        chain.extend(prefix);
        let setuidgid = root.at(self.tools.s6.join("s6-setuidgid"));
        chain.extend([setuidgid.into_os_string(), self.account.name.clone().into()]);
        chain.extend(words);
        let mut command = if own_session {
            let mut command = Command::new("/proc/self/exe");
            // By another name, it would take the words for those of Hermes.
            command.arg0("hermes-s6").args(["own-session", "--"]);
            command
        } else {
            Command::new(chain.remove(0))
        };
        command.args(chain);
        // A directory that the account could not enter shows what is in it all the same.
        if working_directory(self.account).is_none() {
            command.current_dir("/");
        }
        Ok(command)
    }
}

/// Gives the working directory if an account could enter it by its path.
pub fn working_directory(account: &Account) -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let may_enter = |directory: &Path| {
        fs::metadata(directory).is_ok_and(|meta| {
            let shift = match (meta.uid() == account.uid, meta.gid() == account.gid) {
                (true, _) => 6,
                (_, true) => 3,
                _ => 0,
            };
            meta.mode() >> shift & 1 == 1
        })
    };
    here.ancestors().all(may_enter).then_some(here)
}

/// Leaves the session, and takes the terminal on stdin as that of the new one, if it is a terminal.
pub fn own_session() -> Result<()> {
    setsid().map_err(|errno| Error::system("leave", "the session", errno))?;
    if isatty(stdin()) {
        rustix::process::ioctl_tiocsctty(stdin())
            .map_err(|errno| Error::system("take", "the terminal", errno))?;
    }
    Ok(())
}

/// Tells whether this process has a controlling terminal; if that cannot be told, it may have one.
fn has_terminal() -> bool {
    stat_field(&Root::new("/"), "self", TERMINAL).is_none_or(|number| number != "0")
}

/// Lists the descriptors that a program would inherit, without the three streams and one that is meant for it.
fn inherited(meant: Option<u64>) -> Result<Vec<u64>> {
    let place = "/proc/self/fd";
    let failed = |cause| Error::system("list", place, cause);
    let mut found = Vec::new();
    for entry in fs::read_dir(place).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if number > 2 && Some(number) != meant && stays_open(number)? {
            found.push(number);
        }
    }
    Ok(found)
}

/// Tells whether a descriptor stays open in a program that is executed.
fn stays_open(number: u64) -> Result<bool> {
    let place = format!("/proc/self/fdinfo/{number}");
    let text =
        proc_text(Path::new(&place)).map_err(|cause| Error::system("read", &place, cause))?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    Ok(flags.is_none_or(|flags| flags & OFlags::CLOEXEC.bits() == 0))
}

/// Ends this process as another one has ended.
fn end_as(status: ExitStatus) -> ! {
    if let Some(signal) = status.signal() {
        end_by_default(signal);
        exit(128 + signal);
    }
    exit(status.code().unwrap_or(111));
}
