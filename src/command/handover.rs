//! A command line of Hermes, handed over: to the real Hermes, or to this program without root's rights.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::hermes::config::truth;
use crate::rights::ask::reach;
use crate::s6::tool::{Tools, is_executable, real_hermes, roots_program};
use crate::settings::Settings;
use crate::system::account::Account;

/// The variable that the image sets for the container's command. With it, `gateway run` leaves a gateway down
/// that its operator has stopped, when the container is started again.
pub const CONTAINER_COMMAND: &str = "HERMES_S6_CONTAINER_COMMAND";

/// The variable by which a command of `docker exec` keeps root's rights.
pub const AS_ROOT: &str = "HERMES_DOCKER_EXEC_AS_ROOT";

/// A call of this program in the place of Hermes.
pub struct Call<'a> {
    /// What was asked for.
    pub settings: Settings,
    /// The account to drop root's rights to; `None` if this process is not root.
    pub account: Option<Account>,
    /// The command line, without the program's name.
    pub words: &'a [OsString],
}

impl Call<'_> {
    /// Becomes the real Hermes, with the same arguments, environment and descriptors; returns only an error.
    ///
    /// Root becomes the user of the gateways first: they could not read the files that root leaves on the volume.
    pub fn become_real(&self) -> Error {
        match self.real(&[]) {
            Ok(mut command) => {
                let cause = command.exec();
                Error::exec(command.get_program(), cause)
                    .remedy("name the real Hermes with HERMES_S6_HERMES")
            }
            Err(error) => error,
        }
    }

    /// Prepares the command of the real Hermes, behind the words of `prefix`.
    pub fn real(&self, prefix: &[&str]) -> Result<Command> {
        let hermes = real_hermes(&self.settings)?;
        let mut words: Vec<OsString> = prefix.iter().map(OsString::from).collect();
        words.push(self.settings.root.at(hermes).into_os_string());
        words.extend_from_slice(self.words);
        self.command(words, !is_set(AS_ROOT))
    }

    /// Starts this program anew with the same command line, as the user of the gateways; returns only an error.
    pub fn become_hermes(&self) -> Error {
        let again = |tools: Tools| {
            let program = self.settings.root.at(tools.hermes_s6).into_os_string();
            let words = [&[program, "hermes".into()], self.words].concat();
            self.command(words, true)
        };
        match Tools::find(&self.settings).and_then(again) {
            Ok(mut command) => {
                let cause = command.exec();
                Error::exec(command.get_program(), cause)
            }
            Err(error) => error,
        }
    }

    /// Prepares a command; with `drop`, it runs without root's rights.
    fn command(&self, mut words: Vec<OsString>, drop: bool) -> Result<Command> {
        let account = self.account.as_ref().filter(|_| drop);
        if let Some(account) = account {
            words.splice(0..0, self.drop_prefix(account)?);
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_remove(CONTAINER_COMMAND);
        if let Some(account) = account {
            command.env("HOME", &self.settings.home);
            command.envs([("USER", &account.name), ("LOGNAME", &account.name)]);
        }
        Ok(command)
    }

    /// Gives the words in front of a command that make it run with the rights of the account.
    fn drop_prefix(&self, account: &Account) -> Result<Vec<OsString>> {
        let tools = Tools::find(&self.settings)?;
        let at = |place: PathBuf| self.settings.root.at(place).into_os_string();
        let setuidgid = at(tools.s6.join("s6-setuidgid"));
        let name = OsString::from(&account.name);
        let program = |path: &str| {
            let place = self.settings.root.at(path);
            let is_there = is_executable(&place)?;
            if is_there {
                roots_program(&place)?;
            }
            Ok(is_there.then(|| place.into_os_string()))
        };
        let is_terminal = std::io::stdin().is_terminal()
            && std::io::stdout().is_terminal()
            && std::io::stderr().is_terminal();
        // Any other error is no answer.
        let has_terminal = || {
            let tty = OpenOptions::new().read(true).open("/dev/tty");
            tty.map_or_else(
                |cause| cause.raw_os_error() != Some(Errno::NXIO.raw_os_error()),
                |_| true,
            )
        };
        // On root's terminal, the user could type commands into root's shell. So the command gets a terminal of
        // its own (runuser --pty), or no terminal if its input or output goes elsewhere (setsid).
        let mut words = match (program("/usr/sbin/runuser")?, program("/usr/bin/setsid")?) {
            (Some(runuser), _) if is_terminal => {
                let [pty, user, end] = ["--pty", "--user", "--"].map(OsString::from);
                vec![runuser, pty, user, name, end]
            }
            (_, Some(setsid)) if has_terminal() => {
                vec![setsid, "--wait".into(), setuidgid, name]
            }
            _ => vec![setuidgid, name],
        };
        // docker exec starts in "/", where the user has no files: the data root is a better working directory.
        let home = self.settings.root.at(&self.settings.home);
        if std::env::current_dir().is_ok_and(|place| place == Path::new("/"))
            && reach(&self.settings, &self.settings.home).is_ok()
            && home.is_dir()
        {
            words.extend([at(tools.execline.join("cd")), home.into_os_string()]);
        }
        Ok(words)
    }
}

/// Finds the user whose gateways root runs; `None` if this process is not root, or that user is root.
pub fn account(settings: &Settings) -> Result<Option<Account>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    match Account::find(&settings.root, &settings.user) {
        Ok(account) => Ok(Some(account).filter(|account| account.uid != 0)),
        Err(_) if is_set(AS_ROOT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells whether an environment variable has a value that Hermes takes for true.
pub fn is_set(variable: &str) -> bool {
    let value = std::env::var_os(variable).unwrap_or_default();
    truth(&value.to_string_lossy()) == Some(true)
}
