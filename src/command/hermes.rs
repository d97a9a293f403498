//! Command lines of Hermes: does what concerns the gateways, and leaves everything else to the real Hermes.
//!
//! The images call this program by the name `hermes`. As root, it drops its rights first.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::FileType;
use std::io::ErrorKind;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cli::{Common, Selection, Waiting};
use crate::command::context::{Context, refuse_inside};
use crate::command::follow::has_no_home;
use crate::command::handover::{AS_ROOT, CONTAINER_COMMAND, Call, account, is_set};
use crate::command::operate::{self, operate_as};
use crate::command::outcome::Form;
use crate::error::{Code, Error, Result, shown};
use crate::hermes::line::{Action, Change, Line, profile_name, read};
use crate::hermes::name::ProfileName;
use crate::report;
use crate::rights::Rights;
use crate::rights::ask::reach;
use crate::s6::tool::is_executable;
use crate::settings::{Settings, is_supervised_child};
use crate::system::beneath::Dir;
use crate::system::process::spawn;
use crate::system::signal;
use crate::tree::detect::detect;
use crate::tree::lifecycle::request::Verb;
use crate::tree::scandir::ScanDir;
use crate::view::logs::{self, Whose};
use crate::view::row::{Report, Row};
use crate::view::table;
use crate::volume::problem::Answer;
use crate::volume::setting::Setting;
use crate::volume::survey::{names_in_time, not_chosen};

/// The variable by which commands do not wait for the gateways, as the commands of Hermes itself.
const NO_WAIT: &str = "HERMES_S6_NO_WAIT";

/// Runs a command line of Hermes. Returns only if this program has done it, or if no program could be executed.
pub fn run(words: &[OsString]) -> Result<u8> {
    let settings = Settings::gather(&Common::default());
    let is_sound = settings.is_ok();
    // With a wrong HERMES_HOME, the real Hermes is run with any data root: it reports the error itself.
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
    let Some(line) = line else {
        return Err(call.become_real());
    };
    if !call.is_supervised(&line.action)? {
        return Err(call.become_real());
    }
    let Some(account) = &call.account else {
        return match call.take_over(&line)? {
            Some(code) => Ok(code),
            None => Err(call.become_real()),
        };
    };
    // Root does nothing but drop its rights.
    Err(match line.action {
        Action::Profile(_) if is_set(AS_ROOT) => call.become_real(),
        _ => call.become_hermes(account),
    })
}

/// Tells whether this program does such a command line, if s6 supervises. It does not run gateways in the
/// foreground.
fn is_ours(settings: &Settings, action: &Action) -> bool {
    match *action {
        Action::Run { supervised } => {
            supervised && !settings.no_supervise && !is_supervised_child()
        }
        _ => true,
    }
}

impl Call<'_> {
    /// Tells whether s6 supervises the gateways. For a stop, supervisors that outlived their s6-svscan are
    /// enough.
    fn is_supervised(&self, action: &Action) -> Result<bool> {
        if detect(&self.settings)?.is_s6() {
            return Ok(true);
        }
        if !matches!(action, Action::Stop { .. }) {
            return Ok(false);
        }
        let Some(scandir) = ScanDir::open_if_there(&self.settings)? else {
            return Ok(false);
        };
        let owner = scandir.owner()?;
        Ok(match owner {
            Some(owner) => owner.serves(&self.settings)? && scandir.has_supervisor()?,
            None => false,
        })
    }

    /// Does what a command line asks for, and gives the exit code; `None` if the real Hermes has to do it.
    fn take_over(&self, line: &Line) -> Result<Option<u8>> {
        if let Action::Profile(change) = &line.action {
            return self.change_profile(change);
        }
        // If the profile does not exist, the real Hermes reports that.
        let profile = match self.profile(line) {
            Ok(Some(profile)) => profile,
            Ok(None) => return Ok(None),
            Err(error) => return Self::refuse(line, error).map(|code| Some(code as u8)),
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

    /// Ends a command line that means an unknown profile: which one was chosen cannot be read.
    fn refuse(line: &Line, error: Error) -> Result<Code> {
        let is_run = matches!(line.action, Action::Run { .. });
        if !is_run || std::env::var_os(CONTAINER_COMMAND).is_none() {
            return Err(error);
        }
        // A container must not end because of a file on its volume: inside it, the operator can repair that.
        report::fatal(&error);
        sleep()
    }

    /// Finds the profile that a command line means, as Hermes does; `None` if Hermes would refuse the line.
    ///
    /// Fails if the chosen profile cannot be read. There Hermes would take `default`.
    fn profile(&self, line: &Line) -> Result<Option<ProfileName>> {
        let settings = &self.settings;
        let if_there = |name: ProfileName| {
            let is_there = self.has_slot(&name)? || self.is_home(&name)?;
            Ok(Some(name).filter(|_| is_there))
        };
        if let Some(name) = &line.profile {
            return if_there(name.clone());
        }
        if settings.home_profile.is_some() {
            return Ok(settings.home_profile.clone());
        }
        // A home beneath `profiles` whose name is not a profile's.
        let parent = settings.home.parent().and_then(Path::file_name);
        if parent == Some(OsStr::new("profiles")) {
            return Ok(None);
        }
        if let Err(error) = reach(settings, &settings.home) {
            // To list all, none is meant.
            return match line.action {
                Action::List => Ok(Some(ProfileName::default_profile())),
                _ => Err(Error::new(error.code(), error.to_string())
                    .remedy("or name the profile with -p")),
            };
        }
        let active = match Dir::open(&settings.root.at(&settings.home)) {
            _ if is_supervised_child() => Answer::Known(None),
            Ok(home) => Setting::active(&home).text(),
            Err(error) if error.is_not_found() => Answer::Known(None),
            Err(error) => return Err(error),
        };
        let is_for_all = matches!(
            line.action,
            Action::Start { all: true }
                | Action::Stop { all: true }
                | Action::Restart { all: true }
        );
        match active {
            Answer::Unknown(_) if is_for_all => Ok(Some(ProfileName::default_profile())),
            Answer::Unknown(problem) => Err(not_chosen(&problem)),
            Answer::Known(active) => match active.as_deref().map_or("", str::trim) {
                "" => Ok(Some(ProfileName::default_profile())),
                name => profile_name(name).map_or(Ok(None), if_there),
            },
        }
    }

    /// Tells whether a profile has a home.
    fn is_home(&self, name: &ProfileName) -> Result<bool> {
        reach(&self.settings, &self.settings.home)?;
        let home = self.settings.root.at(self.settings.home_of(name));
        let kind = look(&home)?;
        Ok(kind.is_some_and(|kind| kind.is_dir()))
    }

    fn has_slot(&self, name: &ProfileName) -> Result<bool> {
        let scandir = ScanDir::open_if_there(&self.settings)?;
        scandir.map_or(Ok(false), |scandir| scandir.has_slot(name))
    }

    /// Tells whether a profile has or can have a gateway, and prints an error if not.
    fn has_gateway(&self, name: &ProfileName) -> Result<bool> {
        let soul = self.settings.home_of(name).join("SOUL.md");
        let has_gateway = name.is_default() || self.has_slot(name)? || {
            reach(&self.settings, &self.settings.home)?;
            look(&self.settings.root.at(soul))?.is_some()
        };
        if !has_gateway {
            let home = self.settings.home_of(name);
            if self.is_home(name)? {
                report::note(&format!(
                    "{} is no profile: it has no SOUL.md",
                    shown(&home)
                ));
            }
            report::failure_line(&format!(
                "no such gateway '{name}': register it with `hermes profile create {name}` first, or pass an existing profile name via `-p <name>`"
            ));
        }
        Ok(has_gateway)
    }

    /// Starts, stops or restarts the gateway of a profile, or all gateways.
    fn operate(&self, verb: Verb, profile: ProfileName, all: bool) -> Result<Code> {
        if let Err(error) = refuse_inside(verb) {
            return Ok(refused(&error));
        }
        if !all && !self.has_gateway(&profile)? {
            return Ok(Code::No);
        }
        let selection = Selection {
            profile: if all { Vec::new() } else { vec![profile] },
            all,
        };
        let form = if all { Form::Sum } else { Form::Lines };
        operate_as(form, &Common::default(), verb, &selection, waiting(), false)
    }

    /// Starts the supervised gateway in place of one in the foreground. Then sleeps for ever, as the caller
    /// expects of `gateway run`.
    fn run_supervised(&self, profile: ProfileName) -> Result<Code> {
        // The container's stdout is for the lines of the gateways: what this command prints goes to stderr.
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())
            .map_err(|cause| Error::system("duplicate", "stderr", cause))?;
        if !self.has_gateway(&profile)? {
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
        // A container must not end because a gateway is down: inside it, the operator can repair that.
        match started {
            Ok(Code::Done | Code::TimedOut) => {}
            Ok(code) if !is_command => return Ok(code),
            Ok(_) => {}
            Err(error) if is_command && error.code() != Code::Usage => report::fatal(&error),
            Err(error) => return Err(error),
        }
        report::print(NOTICE);
        sleep()
    }

    /// Lets the real Hermes change a profile, and then changes its slot, by the profiles that exist afterwards.
    fn change_profile(&self, change: &Change) -> Result<Option<u8>> {
        if let Change::Removed(name) | Change::Renamed(name, _) = change
            && *name == self.settings.own_profile()
            && let Err(error) = refuse_inside(Verb::Remove)
        {
            return Ok(Some(refused(&error) as u8));
        }
        let Ok(before) = names_in_time(&self.settings) else {
            // Without the profiles of before, the change cannot be seen: the real Hermes does it alone.
            return Ok(None);
        };
        let ran = match change {
            Change::Renamed(old, _) => self.is_wanted_up(old)?,
            _ => false,
        };
        // A signal that ends this process shall also end the real Hermes, which it waits for.
        let prefix = ["/usr/bin/setpriv", "--pdeathsig", "TERM"];
        let has_prefix = is_executable(&self.settings.root.at(prefix[0]))?;
        let mut real = self.real(if has_prefix { &prefix } else { &[] })?;
        signal::notice_children()?;
        let ended = signal::without_interrupts(|| spawn(&mut real)?.wait())?;
        let status = ended.map_err(|cause| Error::exec(real.get_program(), cause))?;
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        let slot_code = self.follow(change, &before, ran).unwrap_or_else(|error| {
            report::warning(&error.to_string());
            error.code()
        });
        Ok(Some(match u8::try_from(code) {
            Ok(0) => slot_code as u8,
            Ok(code) => code,
            Err(_) => Code::No as u8,
        }))
    }

    /// Adds, removes or renames the slot of a profile that the real Hermes has changed.
    ///
    /// `before` are the profiles before the change; `ran` says that s6 wanted the gateway of a renamed profile
    /// up.
    fn follow(&self, change: &Change, before: &BTreeSet<ProfileName>, ran: bool) -> Result<Code> {
        let common = Common::default();
        let select = |profile| Selection {
            profile,
            all: false,
        };
        let is_gone = |name: &ProfileName| has_no_home(&self.settings, name);
        match change {
            Change::Renamed(old, new)
                if is_gone(old) && self.is_home(new)? && self.has_slot(old)? =>
            {
                operate::rename(&common, old, new, ran)
            }
            Change::Removed(old) if is_gone(old) => {
                if self.has_slot(old)? {
                    return operate::unregister(&common, &select(vec![old.clone()]));
                }
                // A later profile with this name is another one, and shall get a slot.
                ScanDir::open(&self.settings)?.forget_unregistered(old);
                Ok(Code::Done)
            }
            Change::Added => {
                let after = names_in_time(&self.settings)?;
                let mut new = Vec::new();
                for name in after.difference(before) {
                    if !self.has_slot(name)? {
                        new.push(name.clone());
                    }
                }
                if new.is_empty() {
                    return Ok(Code::Done);
                }
                operate::register(&common, &select(new))
            }
            _ => Ok(Code::Done),
        }
    }

    /// Tells whether s6 wants a gateway up.
    fn is_wanted_up(&self, name: &ProfileName) -> Result<bool> {
        let status = match ScanDir::open_if_there(&self.settings)? {
            Some(scandir) => scandir.status(&self.settings.root, name)?,
            None => None,
        };
        Ok(status.is_some_and(|status| status.wanted_up))
    }
}

/// The text that `gateway run` prints if s6 supervises the gateway.
const NOTICE: &str = "
This gateway is supervised by s6 in this container, with those of all other profiles: it is restarted when it
fails, and comes back with the container as you left it.
  hermes-s6 status              what runs, and what should
  hermes-s6 stop                stops it for good, another one with -p NAME
  gateway run --no-supervise    as the container's command: runs it as that command, unsupervised
";

/// Gives the type of the file at a path, after links; `None` if there is none.
fn look(path: &Path) -> Result<Option<FileType>> {
    match path.metadata() {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(cause) => Err(Error::system("look at", path, cause)),
    }
}

/// Sleeps for ever.
fn sleep() -> ! {
    let mut sleep = Command::new("/bin/sleep");
    let _missing = sleep.arg("infinity").env_remove(CONTAINER_COMMAND).exec();
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Prints, in the words of Hermes, that a command is refused inside a gateway.
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

/// Prints the status of a gateway: first a line in the words of Hermes, for scripts, then the table and the
/// details.
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
    let is_read = status.volume.is_none();
    let may_read = is_read && !matches!(context.rights, Rights::Direct(_));
    let log = may_read
        .then(|| logs::last_lines(&context.settings, Whose::Gateways, profile, logs::EXCERPT));
    report::print(&table::details(&status.manager, &row, log));
    let mut title = "\nOther profiles:\n";
    for other in &others {
        report::print(title);
        report::line(&line_of(other, false));
        title = "";
    }
    Ok(if is_read {
        Code::of(!row.is_wrong())
    } else {
        Code::System
    })
}

/// Prints the gateways in the form of Hermes.
fn list(current: &ProfileName) -> Result<Code> {
    let Report { profiles, .. } = Context::enter(&Common::default())?.report()?;
    report::line("Gateways:");
    for row in &profiles {
        report::line(&line_of(row, row.profile == *current));
    }
    Ok(Code::Done)
}

/// Writes a gateway as Hermes lists it.
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
