//! A command line of Hermes, handed over: to the real Hermes, or to this program without root's rights.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::command::chain::command;
use crate::command::environment::complete;
use crate::error::{Error, Result};
use crate::hermes::config::truth;
use crate::hermes::program::path_with_programs;
use crate::report;
use crate::rights::apart::{Dropping, Purpose, working_directory};
use crate::rights::ask::reach;
use crate::s6::tool::{Tools, real_hermes};
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
        let account = self.account.as_ref().filter(|_| !is_set(AS_ROOT));
        let remedy = "name the real Hermes with HERMES_S6_HERMES";
        match (self.real_words(&[]), account) {
            // What it gets from its environment is for that user to read.
            (Ok(_), Some(account)) => self.become_hermes(account),
            (Ok(words), None) => {
                let mut command = self.own(&words);
                let cause = command.exec();
                Error::exec(command.get_program(), cause).remedy(remedy)
            }
            (Err(error), _) => error,
        }
    }

    /// Prepares the command of the real Hermes, behind the words of `prefix`, with the rights that this process has.
    pub fn real(&self, prefix: &[&str]) -> Result<Command> {
        Ok(self.own(&self.real_words(prefix)?))
    }

    fn real_words(&self, prefix: &[&str]) -> Result<Vec<OsString>> {
        let hermes = real_hermes(&self.settings)?;
        let mut words: Vec<OsString> = prefix.iter().map(OsString::from).collect();
        words.push(self.settings.root.at(hermes).into_os_string());
        words.extend_from_slice(self.words);
        Ok(words)
    }

    /// Starts this program anew with the same command line, as the user of the gateways; returns only an error.
    pub fn become_hermes(&self, account: &Account) -> Error {
        match Tools::find(&self.settings) {
            Ok(tools) => {
                let program = self.settings.root.at(tools.hermes_s6).into_os_string();
                let words = [&[program, "hermes".into()], self.words].concat();
                self.become_it(account, words)
            }
            Err(error) => error,
        }
    }

    /// Becomes a program with the rights of the account; returns only an error.
    fn become_it(&self, account: &Account, mut words: Vec<OsString>) -> Error {
        let settings = &self.settings;
        let tools = match Tools::find(settings) {
            Ok(tools) => tools,
            Err(error) => return error,
        };
        // docker exec starts in "/", where the user has no files: the data root is a better working directory.
        let home = settings.root.at(&settings.home);
        let mut place = working_directory(account);
        if place.as_deref().is_none_or(|place| place == Path::new("/"))
            && reach(settings, &settings.home).is_ok()
            && home.is_dir()
        {
            let cd = settings.root.at(tools.execline.join("cd"));
            words.splice(0..0, [cd.into_os_string(), home.clone().into_os_string()]);
            place = Some(home);
        }
        let dropping = Dropping {
            settings,
            tools: &tools,
            account,
        };
        dropping.become_it(Purpose::Dialogue, Vec::new(), words, |command| {
            command.env_remove(CONTAINER_COMMAND);
            command.env("HOME", &settings.home);
            command.envs(place.map(|place| ("PWD", place)));
            command.envs([("USER", &account.name), ("LOGNAME", &account.name)]);
            // Until the rights are dropped, each program is named by its path.
            self.add_programs(command);
        })
    }

    /// Prepares a command that is no longer the container's, with the rights that this process has.
    fn own(&self, words: &[OsString]) -> Command {
        let mut command = command(words);
        command.env_remove(CONTAINER_COMMAND);
        if !rustix::process::geteuid().is_root() {
            if let Err(error) = complete(&mut command, false) {
                report::warning(&error.to_string());
            }
            self.add_programs(&mut command);
        }
        command
    }

    /// Lets a command find Hermes' own programs, which root must not find.
    fn add_programs(&self, command: &mut Command) {
        if let Some(path) = std::env::var_os("PATH")
            && let Some(path) = path_with_programs(&path, &self.settings.home)
        {
            command.env("PATH", path);
        }
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
