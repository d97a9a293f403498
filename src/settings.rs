//! The settings of a run, resolved once from what was typed and from the environment.
//!
//! An option counts first, then a variable in the environment of this process, then the same variable in the
//! environment that the container was started with.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::Common;
use crate::error::{Result, escaped};
use crate::hermes::config::truth;
use crate::hermes::dashboard::{Dashboard, HIDDEN, HOST, PORT};
use crate::hermes::name::ProfileName;
use crate::system::mount::may_hang;
use crate::system::root::{ROOT_VARIABLE, Root, absolute};
use crate::system::trust::{Way, way};

/// The scan directory of the tree that hermes-s6 itself starts, unless another is named.
pub const SCANDIR: &str = "/run/hermes-s6/service";

/// The remedy where the scan directory is at a place that cannot be used.
pub const CHOOSE_SCANDIR: &str = "choose a directory of yours with --scandir or HERMES_S6_SCANDIR";

/// The directory with the environment that the container was started with, in s6-overlay and images like it.
pub const CONTAINER_ENVIRONMENT: &str = "/run/s6/container_environment";

/// The data root in images.
const HOME_IN_IMAGES: &str = "/opt/data";

/// How long a gateway may take to save and end before it is killed, unless HERMES_S6_STOP_TIMEOUT is set.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(25);

/// The ports that named profiles are given, unless HERMES_S6_PORTS is set: those of the original image.
pub const PORTS: RangeInclusive<u16> = 9200..=9799;

/// The first port that a profile can be given. Those before it are for root.
pub const FIRST_PORT: u16 = 1024;

/// What a run takes from its options and from the environment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory that stands for "/".
    pub root: Root,
    /// The data root: the home of profile `default`.
    pub home: PathBuf,
    /// The profile whose home was named as the data root; `None` if the data root itself was named.
    pub home_profile: Option<ProfileName>,
    /// The scan directory of the slots.
    pub scandir: PathBuf,
    /// The user whose gateways a root process runs.
    pub user: String,
    /// The directory of the s6 and execline programs, if it is set.
    pub bindir: Option<PathBuf>,
    /// The Hermes program, if it is set.
    pub hermes: Option<PathBuf>,
    /// The directories of `PATH`.
    pub path: Vec<PathBuf>,
    /// How long a gateway may take to stop.
    pub stop_timeout: Duration,
    /// Whether wanted gateways are started, always or never; `None` leaves that to the container's command.
    pub autostart: Option<bool>,
    /// Whether the gateway of a default profile without a state file is wanted.
    pub bootstrap: bool,
    /// Whether a gateway that does not respond is restarted.
    pub watchdog: bool,
    /// Where the dashboard is to listen; `None` if none is asked for.
    pub dashboard: Option<Dashboard>,
    /// What is to be said of where it listens.
    pub dashboard_note: Option<&'static str>,
    /// Whether every `gateway run` counts as one with `--no-supervise`.
    pub no_supervise: bool,
    /// Whether one gateway serves all profiles, if the environment sets that.
    pub multiplex: Option<bool>,
    /// The default profile's port, if the environment sets it.
    pub api_server_port: Option<u16>,
    /// The directory with the environment that the container was started with; `None` if root must not use it.
    pub container_environment: Option<PathBuf>,
    /// The ports that named profiles are given from now on.
    pub ports: RangeInclusive<u16>,
    /// A sentence for each variable whose value was not understood; it counts as not set.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Reads the settings from the options and the environment.
    pub fn gather(common: &Common) -> Result<Self> {
        let environment = Environment::new();
        let named = environment.path("HERMES_HOME", common.home.as_deref(), "--home")?;
        let home = named.unwrap_or_else(|| environment.usual_home());
        let (home, home_profile) = split_home(home);
        let scandir =
            match environment.path("HERMES_S6_SCANDIR", common.scandir.as_deref(), "--scandir")? {
                Some(scandir) => scandir,
                None => environment
                    .path("S6_PROFILE_GATEWAY_SCANDIR", None, "")?
                    .unwrap_or_else(|| PathBuf::from(SCANDIR)),
            };
        let mut warnings = environment.warnings.clone();
        let mut ignore = |name: &str, value: &str, wanted: &str| {
            warnings.push(format!(
                "{name}='{}' is ignored: it takes {wanted}",
                escaped(value.as_bytes())
            ));
        };
        let stop_timeout = environment
            .text("HERMES_S6_STOP_TIMEOUT")
            .and_then(|value| {
                let seconds = value
                    .parse()
                    .ok()
                    .filter(|seconds| (1..=86_400).contains(seconds));
                if seconds.is_none() {
                    ignore("HERMES_S6_STOP_TIMEOUT", &value, "1 to 86400 seconds");
                }
                seconds.map(Duration::from_secs)
            });
        let autostart =
            environment
                .text("HERMES_S6_AUTOSTART")
                .and_then(|value| match value.as_str() {
                    "always" => Some(true),
                    "never" => Some(false),
                    _ => {
                        ignore("HERMES_S6_AUTOSTART", &value, "always or never");
                        None
                    }
                });
        // These take one value only.
        let mut is_set_to = |name: &str, wanted: &str| {
            environment.text(name).is_some_and(|value| {
                if value != wanted {
                    ignore(name, &value, wanted);
                }
                value == wanted
            })
        };
        let watchdog = is_set_to("HERMES_S6_WATCHDOG", "restart");
        let bootstrap = is_set_to("HERMES_GATEWAY_BOOTSTRAP_STATE", "running");
        let ports = environment.text("HERMES_S6_PORTS").and_then(|value| {
            let ports = ports(&value);
            if ports.is_none() {
                let wanted = "a range of ports such as 9200-9799, within 1024-65535";
                ignore("HERMES_S6_PORTS", &value, wanted);
            }
            ports
        });
        let dashboard = dashboard(&environment, &mut ignore);
        Ok(Self {
            home,
            home_profile,
            scandir,
            dashboard,
            dashboard_note: dashboard_seems_hidden(&environment).then_some(HIDDEN),
            ports: ports.unwrap_or(PORTS),
            user: environment
                .text("HERMES_S6_USER")
                .unwrap_or_else(|| "hermes".to_owned()),
            bindir: environment.path("HERMES_S6_BINDIR", None, "")?,
            hermes: environment.path("HERMES_S6_HERMES", None, "")?,
            path: environment
                .value("PATH")
                .map(|path| {
                    std::env::split_paths(&path)
                        .filter(|entry| entry.is_absolute())
                        .collect()
                })
                .unwrap_or_default(),
            stop_timeout: stop_timeout.unwrap_or(STOP_TIMEOUT),
            autostart,
            bootstrap,
            watchdog,
            no_supervise: environment
                .text("HERMES_GATEWAY_NO_SUPERVISE")
                .is_some_and(|value| truth(&value) == Some(true)),
            multiplex: environment
                .text("GATEWAY_MULTIPLEX_PROFILES")
                .and_then(|value| truth(&value)),
            api_server_port: environment
                .text("API_SERVER_PORT")
                .and_then(|port| port.parse().ok()),
            container_environment: environment
                .container
                .map(|_| PathBuf::from(CONTAINER_ENVIRONMENT)),
            root: environment.root,
            warnings,
        })
    }

    /// Gives the profile whose home HERMES_HOME names: in the environment of a gateway, its own profile.
    pub fn own_profile(&self) -> ProfileName {
        let named = self.home_profile.clone();
        named.unwrap_or_else(ProfileName::default_profile)
    }

    /// Gives a profile's home, as a logical path.
    pub fn home_of(&self, profile: &ProfileName) -> PathBuf {
        if profile.is_default() {
            self.home.clone()
        } else {
            self.home.join("profiles").join(profile.as_str())
        }
    }

    /// Gives the directory of a profile's gateway log, as a logical path.
    pub fn log_of(&self, profile: &ProfileName) -> PathBuf {
        self.home.join("logs/gateways").join(profile.as_str())
    }
}

/// Reads whether a dashboard is asked for, and where it is to listen.
///
/// `ignore` gets each variable that is not understood: its name, its value, and what it takes.
fn dashboard(
    environment: &Environment,
    mut ignore: impl FnMut(&str, &str, &str),
) -> Option<Dashboard> {
    let value = environment.text("HERMES_DASHBOARD")?;
    let Some(is_wanted) = truth(&value) else {
        ignore("HERMES_DASHBOARD", &value, "1, true or yes");
        return None;
    };
    if let Some(value) = environment.text("HERMES_DASHBOARD_INSECURE") {
        let wanted = "nothing, since Hermes asks for a login wherever others reach it";
        ignore("HERMES_DASHBOARD_INSECURE", &value, wanted);
    }
    let mut port = || {
        let value = environment.text("HERMES_DASHBOARD_PORT")?;
        let port = value.parse().ok().filter(|port| *port > 0);
        if port.is_none() {
            ignore("HERMES_DASHBOARD_PORT", &value, "a port, 1 to 65535");
        }
        port
    };
    is_wanted.then(|| Dashboard {
        port: port().unwrap_or(PORT),
        host: environment
            .text("HERMES_DASHBOARD_HOST")
            .unwrap_or_else(|| HOST.to_owned()),
    })
}

/// Tells whether the dashboard has a login but no address, as where nobody has to name 0.0.0.0.
fn dashboard_seems_hidden(environment: &Environment) -> bool {
    let is_set = |name: &str| environment.text(name).is_some();
    let has_login = is_set("HERMES_DASHBOARD_BASIC_AUTH_USERNAME")
        || is_set("HERMES_DASHBOARD_OAUTH_CLIENT_ID");
    has_login && !is_set("HERMES_DASHBOARD_HOST")
}

/// Reads a range of ports, such as `9200-9799`.
fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let ports = first.trim().parse().ok()?..=last.trim().parse().ok()?;
    (!ports.is_empty() && *ports.start() >= FIRST_PORT).then_some(ports)
}

/// Tells whether a supervised gateway has called this program: the gateway's run script sets a variable.
pub fn is_supervised_child() -> bool {
    std::env::var_os("HERMES_S6_SUPERVISED_CHILD").is_some_and(|value| !value.is_empty())
}

/// Splits the home of a profile into the data root and the profile's name; any other path is the data root.
///
/// In its own processes, Hermes sets HERMES_HOME to the home of the profile.
fn split_home(home: PathBuf) -> (PathBuf, Option<ProfileName>) {
    let profiles = home
        .parent()
        .filter(|parent| parent.file_name().is_some_and(|name| name == "profiles"));
    let name = home
        .file_name()
        .and_then(|name| name.to_str()?.parse().ok());
    match (profiles.and_then(Path::parent), name) {
        (Some(root), Some(profile)) => (root.to_owned(), Some(profile)),
        _ => (home, None),
    }
}

/// The environment of this process, and the container's environment for what is not set here.
struct Environment {
    root: Root,
    /// The container's environment; `None` if it does not count: root does not read it if others can change it.
    container: Option<PathBuf>,
    /// Whether it is there now.
    is_there: bool,
    /// Why it does not count, if it is there.
    warnings: Vec<String>,
}

impl Environment {
    fn new() -> Self {
        let directory = std::env::var_os(ROOT_VARIABLE).filter(|value| !value.is_empty());
        let root = Root::new(directory.unwrap_or_else(|| "/".into()));
        let container = root.at(CONTAINER_ENVIRONMENT);
        let mut warnings = Vec::new();
        let is_there = container.try_exists().unwrap_or(true);
        let mut ignore = |reason: &dyn std::fmt::Display| {
            if is_there {
                warnings.push(format!(
                    "root ignores {CONTAINER_ENVIRONMENT}, since {reason}: let only root change it"
                ));
            }
            None
        };
        let container = if rustix::process::geteuid().is_root() {
            match way(&container) {
                Ok(Way::Roots(container)) => Some(container),
                Ok(Way::Changeable(changeable)) => ignore(&changeable),
                Err(error) => ignore(&error),
            }
        } else {
            Some(container)
        };
        Self {
            root,
            container,
            is_there,
            warnings,
        }
    }

    fn value(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .or_else(|| {
                let container = self.container.as_ref().filter(|_| self.is_there);
                let file = container?.join(name);
                let mut value = std::fs::read(file).ok()?;
                // A newline ends the value: s6-dumpenv writes it so, and s6-envdir -f reads it so.
                value.pop_if(|byte| *byte == b'\n');
                (!value.is_empty()).then(|| OsString::from_vec(value))
            })
    }

    fn text(&self, name: &str) -> Option<String> {
        self.value(name)
            .map(|value| value.to_string_lossy().trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    fn path(&self, name: &str, given: Option<&Path>, option: &str) -> Result<Option<PathBuf>> {
        match given {
            Some(path) => absolute(option, path).map(Some),
            None => self
                .value(name)
                .map(|value| absolute(name, Path::new(&value)))
                .transpose(),
        }
    }

    /// Tells whether the data root of images exists. One that may hang is not looked at: something is mounted there.
    fn is_image(&self) -> bool {
        let home = self.root.at(HOME_IN_IMAGES);
        may_hang(&home) || home.is_dir()
    }

    /// Gives the data root if none is named: that of images if it exists, else `~/.hermes`, as Hermes does.
    fn usual_home(&self) -> PathBuf {
        let personal = std::env::var_os("HOME").map(|home| Path::new(&home).join(".hermes"));
        match personal {
            Some(personal) if personal.is_absolute() && !self.is_image() => personal,
            _ => PathBuf::from(HOME_IN_IMAGES),
        }
    }
}

#[cfg(test)]
impl Settings {
    /// The settings of a plain image in which nothing is set.
    pub fn example() -> Self {
        Self {
            root: Root::new("/"),
            home: PathBuf::from(HOME_IN_IMAGES),
            home_profile: None,
            scandir: PathBuf::from(SCANDIR),
            user: "hermes".to_owned(),
            bindir: None,
            hermes: None,
            path: Vec::new(),
            stop_timeout: STOP_TIMEOUT,
            autostart: None,
            bootstrap: false,
            watchdog: false,
            dashboard: None,
            dashboard_note: None,
            no_supervise: false,
            multiplex: None,
            api_server_port: None,
            container_environment: Some(PathBuf::from(CONTAINER_ENVIRONMENT)),
            ports: PORTS,
            warnings: Vec::new(),
        }
    }

    /// The same with HERMES_S6_AUTOSTART=never.
    pub fn never() -> Self {
        Self {
            autostart: Some(false),
            ..Self::example()
        }
    }

    /// The same with HERMES_S6_AUTOSTART=always.
    pub fn always() -> Self {
        Self {
            autostart: Some(true),
            ..Self::example()
        }
    }

    /// The same, in which the gateway of `default` serves all profiles.
    pub fn multiplex() -> Self {
        Self {
            multiplex: Some(true),
            ..Self::example()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profiles_home_names_its_data_root_and_itself() {
        let (home, profile) = split_home("/opt/data/profiles/coder".into());
        assert_eq!(
            (home, profile.map(String::from)),
            ("/opt/data".into(), Some("coder".to_owned()))
        );
        assert_eq!(split_home("/opt/data".into()), ("/opt/data".into(), None));
        assert_eq!(
            split_home("/profiles/Foo".into()),
            ("/profiles/Foo".into(), None)
        );
    }

    #[test]
    fn a_range_of_ports_has_two_ends_and_none_of_roots_ports() {
        for (text, expected) in [
            ("9200-9799", Some(9200..=9799)),
            ("1024-65535", Some(1024..=65535)),
            ("9200 - 9200", Some(9200..=9200)),
            ("9799-9200", None),
            ("1023-9799", None),
            ("0-9799", None),
            ("9200-65536", None),
            ("9200", None),
            ("9200-", None),
            ("-9799", None),
            ("9200-9299-9399", None),
            ("9200:9799", None),
            ("many", None),
        ] {
            assert_eq!(ports(text), expected, "{text}");
        }
    }
}
