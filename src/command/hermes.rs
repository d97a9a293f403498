//! The name `hermes`: what concerns the gateways is done here, everything else by the real program.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cli::{Common, Selection, Waiting};
use crate::command::context::{Context, refuse_inside};
use crate::command::operate::{self, operate_as};
use crate::command::outcome::Form;
use crate::error::{Code, Error, Result, shown};
use crate::hermes::config::truth;
use crate::hermes::line::{Action, Change, Line, profile_name, read};
use crate::hermes::name::ProfileName;
use crate::report;
use crate::rights::Rights;
use crate::s6::supervision::supervised;
use crate::s6::tool::{Tools, is_executable, real_hermes};
use crate::settings::{Settings, is_supervised_child};
use crate::system::account::Account;
use crate::system::beneath::Dir;
use crate::system::signal;
use crate::tree::detect::detect;
use crate::tree::lifecycle::request::Verb;
use crate::tree::scandir::ScanDir;
use crate::view::logs;
use crate::view::row::{Report, Row};
use crate::view::table;
use crate::volume::survey::{names, read_text};

/// Set for the container's command: a gateway whose operator has stopped it stays down when the container
/// is started again.
const CONTAINER_COMMAND: &str = "HERMES_S6_CONTAINER_COMMAND";

/// Has `docker exec` keep root's rights.
const AS_ROOT: &str = "HERMES_DOCKER_EXEC_AS_ROOT";

/// Has the commands return as soon as s6 is told, as those of Hermes do.
const NO_WAIT: &str = "HERMES_S6_NO_WAIT";

/// Runs a command line of Hermes. Comes back only if it was done here, or if nothing could be executed.
pub fn run(words: &[OsString]) -> Result<u8> {
    let settings = Settings::gather(&Common::default());
    let is_sound = settings.is_ok();
    // What is wrong with HERMES_HOME is for Hermes to say.
    let settings = settings.or_else(|_| {
        Settings::gather(&Common {
            home: Some("/".into()),
            ..Common::default()
        })
    })?;
    let text: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
    let line = text.filter(|_| is_sound).and_then(|words| read(&words));
    let line = line.filter(|line| is_ours(&settings, &line.action));
    let call = Call {
        account: account(&settings)?,
        settings,
        words,
    };
    let Some(line) = line.filter(|line| call.is_supervised(&line.action)) else {
        return Err(call.become_real());
    };
    if call.account.is_none() {
        return match call.take_over(&line)? {
            Some(code) => Ok(code),
            None => Err(call.become_real()),
        };
    }
    // As root only what is needed to leave it.
    Err(match line.action {
        Action::Profile(_) if is_set(AS_ROOT) => call.become_real(),
        _ => call.become_hermes(),
    })
}

/// Tells whether something can be ours to do, whoever supervises: a gateway that somebody wants to run in
/// the foreground is not.
fn is_ours(settings: &Settings, action: &Action) -> bool {
    match *action {
        Action::Run { supervised } => {
            supervised && !settings.no_supervise && !is_supervised_child()
        }
        _ => true,
    }
}

/// Finds the user whom root serves, if we are root and that is somebody else.
fn account(settings: &Settings) -> Result<Option<Account>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    match Account::find(&settings.root, &settings.user) {
        Ok(account) => Ok(Some(account).filter(|account| account.uid != 0)),
        Err(_) if is_set(AS_ROOT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_set(variable: &str) -> bool {
    let value = std::env::var_os(variable).unwrap_or_default();
    truth(&value.to_string_lossy()) == Some(true)
}

/// A call by the name of Hermes.
struct Call<'a> {
    settings: Settings,
    /// Whose rights everything has to have, if we are root.
    account: Option<Account>,
    words: &'a [OsString],
}

impl Call<'_> {
    /// Becomes the real program, with the same arguments, environment and descriptors; as the user whom root
    /// serves, since gateways could not read what root leaves on the volume.
    fn become_real(&self) -> Error {
        match self.real(&[]) {
            Ok(mut command) => {
                let cause = command.exec();
                Error::exec(command.get_program(), cause)
                    .remedy("name the real Hermes with HERMES_S6_HERMES")
            }
            Err(error) => error,
        }
    }

    fn real(&self, prefix: &[&str]) -> Result<Command> {
        let hermes = real_hermes(&self.settings)?;
        let mut words: Vec<OsString> = prefix.iter().map(OsString::from).collect();
        words.push(self.settings.root.at(hermes).into_os_string());
        words.extend_from_slice(self.words);
        self.command(words, !is_set(AS_ROOT))
    }

    /// Starts this command line anew with the rights of the user whom root serves.
    fn become_hermes(&self) -> Error {
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

    /// Prepares to execute something, if `drop` says so without root's rights.
    fn command(&self, mut words: Vec<OsString>, drop: bool) -> Result<Command> {
        let account = self.account.as_ref().filter(|_| drop);
        if let Some(account) = account {
            words.splice(0..0, self.way_down(account)?);
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_remove(CONTAINER_COMMAND);
        if let Some(account) = account {
            command.env("HOME", &self.settings.home);
            command.envs([("USER", &account.name), ("LOGNAME", &account.name)]);
        }
        Ok(command)
    }

    /// Gives the words that go in front of what is to be run without root's rights.
    fn way_down(&self, account: &Account) -> Result<Vec<OsString>> {
        let tools = Tools::find(&self.settings)?;
        let at = |place: PathBuf| self.settings.root.at(place).into_os_string();
        let setuidgid = at(tools.s6.join("s6-setuidgid"));
        let name = OsString::from(&account.name);
        let program = |path: &str| {
            let place = self.settings.root.at(path);
            is_executable(&place).then(|| place.into_os_string())
        };
        let is_terminal = std::io::stdin().is_terminal()
            && std::io::stdout().is_terminal()
            && std::io::stderr().is_terminal();
        let has_terminal = || OpenOptions::new().read(true).open("/dev/tty").is_ok();
        // On root's terminal, that user could type commands for root's shell. So there is one of its own; or
        // none, where what is printed goes elsewhere.
        let mut words = match (program("/usr/sbin/runuser"), program("/usr/bin/setsid")) {
            (Some(runuser), _) if is_terminal => {
                let [pty, user, end] = ["--pty", "--user", "--"].map(OsString::from);
                vec![runuser, pty, user, name, end]
            }
            (_, Some(setsid)) if has_terminal() => {
                vec![setsid, "--wait".into(), setuidgid, name]
            }
            _ => vec![setuidgid, name],
        };
        // Where docker exec starts, nothing of that user's is.
        let home = self.settings.root.at(&self.settings.home);
        if home.is_dir() && std::env::current_dir().is_ok_and(|place| place == Path::new("/")) {
            words.extend([at(tools.execline.join("cd")), home.into_os_string()]);
        }
        Ok(words)
    }

    /// Tells whether s6 supervises here, or, for a stop, whether supervisors have outlived their s6-svscan.
    fn is_supervised(&self, action: &Action) -> bool {
        if detect(&self.settings).is_s6() {
            return true;
        }
        let outlived = |scandir: ScanDir| {
            let owner = scandir.owner()?;
            let slots = scandir.profiles().ok()?;
            let is_one = |name: &ProfileName| Some(supervised(&scandir.slot(name).ok()?)?.0);
            owner
                .serves(&self.settings)
                .then(|| slots.iter().any(|name| is_one(name).is_some()))
        };
        matches!(action, Action::Stop { .. })
            && ScanDir::open(&self.settings).ok().and_then(outlived) == Some(true)
    }

    /// Does what a command line asks for, or tells by `None` that the real program has to.
    fn take_over(&self, line: &Line) -> Result<Option<u8>> {
        if let Action::Profile(change) = &line.action {
            return self.change_profile(change);
        }
        // Where the profile is not there, Hermes says so.
        let Some(profile) = self.profile(line) else {
            return Ok(None);
        };
        signal::restore()?;
        let code = match line.action {
            Action::Run { .. } => self.run_supervised(profile)?,
            Action::Start { all } => self.operate(Verb::Start, profile, all)?,
            Action::Stop { all } => self.operate(Verb::Stop, profile, all)?,
            Action::Restart { all } => self.operate(Verb::Restart, profile, all)?,
            Action::Status => show_status(&profile)?,
            Action::List => list(&profile)?,
            Action::Install | Action::Uninstall => {
                operate::explain_slots(line.action == Action::Install);
                Code::Done
            }
            Action::Profile(_) => return Ok(None),
        };
        Ok(Some(code as u8))
    }

    /// Finds the profile that is meant, as Hermes does; none, if it would refuse it.
    fn profile(&self, line: &Line) -> Option<ProfileName> {
        let settings = &self.settings;
        let is_there = |name: &ProfileName| {
            let home = settings.root.at(settings.home_of(name));
            home.is_dir() || self.has_slot(name)
        };
        if let Some(name) = &line.profile {
            return Some(name.clone()).filter(is_there);
        }
        if settings.home_profile.is_some() {
            return settings.home_profile.clone();
        }
        let beside = settings.home.parent().and_then(Path::file_name);
        if beside == Some(OsStr::new("profiles")) {
            return None;
        }
        let home = Dir::open(&settings.root.at(&settings.home)).ok();
        let active = home.filter(|_| !is_supervised_child());
        let active = active.and_then(|home| read_text(&home, "active_profile"));
        match active.as_deref().map_or("", str::trim) {
            "" => Some(ProfileName::default_profile()),
            name => profile_name(name).filter(is_there),
        }
    }

    fn has_slot(&self, name: &ProfileName) -> bool {
        ScanDir::open(&self.settings).is_ok_and(|scandir| scandir.is_ours(name.slot()))
    }

    /// Tells whether there is anything to start or stop for a profile, and says so if there is not.
    fn has_gateway(&self, name: &ProfileName) -> bool {
        let soul = self.settings.home_of(name).join("SOUL.md");
        let has = name.is_default() || self.has_slot(name) || self.settings.root.at(soul).exists();
        if !has {
            let home = self.settings.home_of(name);
            if self.settings.root.at(&home).is_dir() {
                report::note(&format!(
                    "{} is no profile: it has no SOUL.md",
                    shown(&home)
                ));
            }
            report::failure_line(&format!(
                "no such gateway '{name}': register it with `hermes profile create {name}` first, or pass an existing profile name via `-p <name>`"
            ));
        }
        has
    }

    fn operate(&self, verb: Verb, profile: ProfileName, all: bool) -> Result<Code> {
        if let Err(error) = refuse_inside(verb) {
            return Ok(refused(&error));
        }
        if !all && !self.has_gateway(&profile) {
            return Ok(Code::No);
        }
        let selection = Selection {
            profile: if all { Vec::new() } else { vec![profile] },
            all,
        };
        let form = if all { Form::Sum } else { Form::Lines };
        operate_as(form, &Common::default(), verb, &selection, waiting(), false)
    }

    /// Has a gateway supervised that was to run in the foreground, and stays in its place.
    fn run_supervised(&self, profile: ProfileName) -> Result<Code> {
        // What the container's command prints is its own.
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())
            .map_err(|cause| Error::system("duplicate", "stderr", cause))?;
        if !self.has_gateway(&profile) {
            return Ok(Code::No);
        }
        let is_command = std::env::var_os(CONTAINER_COMMAND).is_some();
        let selection = Selection {
            profile: vec![profile],
            all: false,
        };
        let started = operate_as(
            Form::Lines,
            &Common::default(),
            Verb::Start,
            &selection,
            waiting(),
            is_command,
        );
        // A container lives on with a gateway that is down: its operator can do something about it there.
        match started {
            Ok(Code::Done | Code::TimedOut) => {}
            Ok(code) if !is_command => return Ok(code),
            Ok(_) => {}
            Err(error) if is_command && error.code() != Code::Usage => report::fatal(&error),
            Err(error) => return Err(error),
        }
        report::print(NOTICE);
        let mut sleep = Command::new("/bin/sleep");
        let _missing = sleep.arg("infinity").env_remove(CONTAINER_COMMAND).exec();
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }

    /// Has the real program change a profile, and then lets its slot follow: by what is there afterwards.
    fn change_profile(&self, change: &Change) -> Result<Option<u8>> {
        if let Change::Removed(name) | Change::Renamed(name, _) = change
            && *name == self.settings.own_profile()
            && let Err(error) = refuse_inside(Verb::Remove)
        {
            return Ok(Some(refused(&error) as u8));
        }
        let Ok(before) = names(&self.settings) else {
            // Where nobody can tell what was there, nothing can follow.
            return Ok(None);
        };
        let ran = matches!(change, Change::Renamed(old, _) if self.is_wanted_up(old));
        // A signal that ends this process is meant for the program that it waits for.
        let prefix = ["/usr/bin/setpriv", "--pdeathsig", "TERM"];
        let has_prefix = is_executable(&self.settings.root.at(prefix[0]));
        let mut real = self.real(if has_prefix { &prefix } else { &[] })?;
        signal::notice_children()?;
        let ended = signal::without_interrupts(|| real.status())?;
        let status = ended.map_err(|cause| Error::exec(real.get_program(), cause))?;
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        let followed = self.follow(change, &before, ran).unwrap_or_else(|error| {
            report::warning(&error.to_string());
            error.code()
        });
        Ok(Some(match u8::try_from(code) {
            Ok(0) => followed as u8,
            Ok(code) => code,
            Err(_) => Code::No as u8,
        }))
    }

    /// Lets slots follow a change of profiles, of which `before` were there; `ran` says that the gateway of one
    /// that is renamed was to be up.
    fn follow(&self, change: &Change, before: &BTreeSet<ProfileName>, ran: bool) -> Result<Code> {
        let common = Common::default();
        let select = |profile| Selection {
            profile,
            all: false,
        };
        let home = |name: &ProfileName| self.settings.root.at(self.settings.home_of(name));
        match change {
            Change::Renamed(old, new)
                if !home(old).exists() && home(new).is_dir() && self.has_slot(old) =>
            {
                operate::rename(&common, old, new, ran)
            }
            Change::Removed(old) if !home(old).exists() => {
                if self.has_slot(old) {
                    return operate::unregister(&common, &select(vec![old.clone()]));
                }
                // One of this name that comes back is another.
                ScanDir::open(&self.settings)?.forget_unregistered(old);
                Ok(Code::Done)
            }
            Change::Added => {
                let after = names(&self.settings)?;
                let new = after.difference(before).filter(|name| !self.has_slot(name));
                let new: Vec<ProfileName> = new.cloned().collect();
                if new.is_empty() {
                    return Ok(Code::Done);
                }
                operate::register(&common, &select(new))
            }
            _ => Ok(Code::Done),
        }
    }

    /// Tells whether s6 has been told to have a gateway up.
    fn is_wanted_up(&self, name: &ProfileName) -> bool {
        let slot = ScanDir::open(&self.settings).and_then(|scandir| scandir.slot(name));
        let status = slot.ok().and_then(|slot| supervised(&slot));
        status.is_some_and(|(status, _)| status.wanted_up)
    }
}

/// What `gateway run` says where it does not run the gateway itself.
const NOTICE: &str = "
This gateway is supervised by s6 in this container, with those of all other profiles: it is restarted when it
fails, and comes back with the container as you left it.
  hermes-s6 status              what runs, and what should
  hermes-s6 stop                stops it for good, another one with -p NAME
  gateway run --no-supervise    as the container's command: runs it as that command, unsupervised
";

/// Says in the words of Hermes that something is refused from inside a gateway.
fn refused(error: &Error) -> Code {
    report::failure_line(&error.to_string().replacen("refusing", "Refusing", 1));
    error.code()
}

fn waiting() -> Waiting {
    Waiting {
        no_wait: is_set(NO_WAIT),
        ..Waiting::default()
    }
}

/// Shows the gateway of a profile: first in the words of Hermes, for scripts, then what s6 knows.
fn show_status(profile: &ProfileName) -> Result<Code> {
    let context = Context::enter(&Common::default())?;
    let mut status = context.report()?;
    let is_meant = |row: &&Row| row.profile == *profile;
    let Some(row) = status.profiles.iter().find(is_meant).cloned() else {
        report::failure_line(&format!("no such gateway '{profile}'"));
        return Ok(Code::No);
    };
    match row.pid {
        Some(pid) => report::outcome(true, &format!("Gateway is running (PID: {pid})")),
        None => report::failure_line("Gateway is not running"),
    }
    let others: Vec<Row> = status
        .profiles
        .extract_if(.., |row| row.profile != *profile)
        .collect();
    report::print(&table::table(&status, report::colour()));
    let readable = !matches!(context.rights, Rights::Direct(_));
    let log = readable.then(|| logs::last_lines(&context.settings, profile, logs::EXCERPT));
    report::print(&table::details(&status.manager, &row, log));
    let mut title = "\nOther profiles:\n";
    for other in &others {
        report::print(title);
        report::line(&line_of(other, false));
        title = "";
    }
    Ok(Code::of(!row.is_missing()))
}

/// Lists the gateways in the form of Hermes.
fn list(current: &ProfileName) -> Result<Code> {
    let Report { profiles, .. } = Context::enter(&Common::default())?.report()?;
    report::line("Gateways:");
    for row in &profiles {
        report::line(&line_of(row, row.profile == *current));
    }
    Ok(Code::Done)
}

fn line_of(row: &Row, is_current: bool) -> String {
    let mark = if row.pid.is_some() {
        '\u{2713}'
    } else {
        '\u{2717}'
    };
    let current = if is_current { " (current)" } else { "" };
    let name = format!("{}{current}", row.profile);
    let what = match row.pid {
        Some(pid) => format!("PID {pid}"),
        None => "not running".to_owned(),
    };
    format!(
        "  {mark} {name:<24} \u{2014} {what} ({})",
        row.state.words()
    )
}
