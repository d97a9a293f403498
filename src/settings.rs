//! What was asked for: options, then the environment, then the container's environment, as meanings.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::Common;
use crate::error::{Result, escaped};
use crate::hermes::config::truth;
use crate::hermes::name::ProfileName;
use crate::system::root::{ROOT_VARIABLE, Root, absolute};
use crate::system::trust::changeable_by_others;

/// Where our own tree's scan directory is, unless another is named.
pub const SCANDIR: &str = "/run/hermes-s6/service";

/// Where s6-overlay and images like it keep the environment that the container was started with.
pub const CONTAINER_ENVIRONMENT: &str = "/run/s6/container_environment";

/// The data root of images.
const HOME_IN_IMAGES: &str = "/opt/data";

/// How long a gateway may take to save and end before it is killed, unless said otherwise.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(25);

/// Everything that a run depends on besides the volume and the scan directory.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What stands for "/".
    pub root: Root,
    /// The data root: the home of profile `default`.
    pub home: PathBuf,
    /// The profile whose home HERMES_HOME is, if it is not the data root itself.
    pub home_profile: Option<ProfileName>,
    /// The scan directory of the slots.
    pub scandir: PathBuf,
    /// The user whom a root process serves.
    pub user: String,
    /// The one directory of s6 and execline programs, if one is named.
    pub bindir: Option<PathBuf>,
    /// The Hermes program, if one is named.
    pub hermes: Option<PathBuf>,
    /// The directories of `PATH`.
    pub path: Vec<PathBuf>,
    /// How long a gateway may take to stop.
    pub stop_timeout: Duration,
    /// Whether to start what is wanted, against what the container's command says.
    pub autostart: Option<bool>,
    /// Whether a default profile without a state file counts as wanted.
    pub bootstrap: bool,
    /// Whether the operator starts gateways outside supervision.
    pub no_supervise: bool,
    /// What the environment says about one gateway for all profiles.
    pub multiplex: Option<bool>,
    /// The default profile's port, if the environment sets one.
    pub api_server_port: Option<u16>,
    /// Values that were not understood and count as not set, each as a sentence.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Works out what the options and the environment mean.
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
        let mut warnings = Vec::new();
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
        let bootstrap = environment
            .text("HERMES_GATEWAY_BOOTSTRAP_STATE")
            .is_some_and(|value| {
                let running = value == "running";
                if !running {
                    ignore("HERMES_GATEWAY_BOOTSTRAP_STATE", &value, "running");
                }
                running
            });
        Ok(Self {
            home,
            home_profile,
            scandir,
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
            no_supervise: environment
                .text("HERMES_GATEWAY_NO_SUPERVISE")
                .is_some_and(|value| truth(&value) == Some(true)),
            multiplex: environment
                .text("GATEWAY_MULTIPLEX_PROFILES")
                .and_then(|value| truth(&value)),
            api_server_port: environment
                .text("API_SERVER_PORT")
                .and_then(|port| port.parse().ok()),
            root: environment.root,
            warnings,
        })
    }

    /// Names the profile of HERMES_HOME: in a gateway, its own.
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

/// Tells whether we were called from within a gateway that is supervised, by what its run script sets.
pub fn is_supervised_child() -> bool {
    std::env::var_os("HERMES_S6_SUPERVISED_CHILD").is_some_and(|value| !value.is_empty())
}

/// A data root may be named by one of its profiles' homes, as Hermes does for its own processes.
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

/// The environment of this process, and behind it the container's.
struct Environment {
    root: Root,
    /// Whether the container's environment counts: not for root where somebody else can write it.
    has_container: bool,
}

impl Environment {
    fn new() -> Self {
        let directory = std::env::var_os(ROOT_VARIABLE).filter(|value| !value.is_empty());
        let root = Root::new(directory.unwrap_or_else(|| "/".into()));
        let container = root.at(CONTAINER_ENVIRONMENT);
        let has_container = !rustix::process::geteuid().is_root()
            || matches!(changeable_by_others(&container), Ok(None));
        Self {
            root,
            has_container,
        }
    }

    fn value(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .or_else(|| {
                let file = Path::new(CONTAINER_ENVIRONMENT).join(name);
                let file = Some(file).filter(|_| self.has_container)?;
                let mut value = std::fs::read(self.root.at(file)).ok()?;
                // As s6-dumpenv writes it, and s6-envdir -f reads it: a newline ends the value.
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

    /// An image's data root where there is one, else what Hermes uses for a person.
    fn usual_home(&self) -> PathBuf {
        let personal = std::env::var_os("HOME").map(|home| Path::new(&home).join(".hermes"));
        match personal {
            Some(personal) if personal.is_absolute() && !self.root.at(HOME_IN_IMAGES).is_dir() => {
                personal
            }
            _ => PathBuf::from(HOME_IN_IMAGES),
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
}
