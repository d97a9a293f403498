//! The files on the volume in which operators set something: `.env`, `config.yaml` and `active_profile`.
//!
//! A file that is not there sets nothing. What a file sets that cannot be read is not known.

use crate::error::shown;
use crate::hermes::config::Config;
use crate::hermes::dotenv::EnvFile;
use crate::system::beneath::{Dir, Unusable};
use crate::system::mount::may_hang;
use crate::volume::problem::{Answer, Problem};

/// The file with the variables of a profile.
const ENV_FILE: &str = ".env";

/// The file with the configuration of a profile.
const CONFIG_FILE: &str = "config.yaml";

/// The file with the profile that `hermes profile use` chose.
const ACTIVE_FILE: &str = "active_profile";

/// The reason of a `config.yaml` that Hermes cannot load. Hermes warns, and goes on as if there was none.
pub const MALFORMED: &str = "config-malformed";

/// The largest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// A file of settings, opened by its name in a home.
#[derive(Debug)]
pub struct Setting<'a> {
    home: &'a Dir,
    name: &'static str,
}

impl<'a> Setting<'a> {
    /// Names the environment file of a home.
    pub fn env_file(home: &'a Dir) -> Self {
        Self {
            home,
            name: ENV_FILE,
        }
    }

    /// Names the configuration file of a home.
    pub fn config(home: &'a Dir) -> Self {
        Self {
            home,
            name: CONFIG_FILE,
        }
    }

    /// Names the file with the active profile, in the data root.
    pub fn active(home: &'a Dir) -> Self {
        Self {
            home,
            name: ACTIVE_FILE,
        }
    }

    /// Reads the variables of an environment file.
    pub fn variables(&self) -> Answer<EnvFile> {
        let environment = |name: &str| std::env::var(name).ok();
        let read = |content: Vec<u8>| EnvFile::read(&content, &environment);
        self.content()
            .map(|content| content.map(read).unwrap_or_default())
    }

    /// Reads the configuration.
    pub fn configuration(&self) -> Answer<Config> {
        self.content().and_then(|content| match content {
            None => Answer::Known(Config::default()),
            Some(content) => match Config::read(&content) {
                Ok(config) => Answer::Known(config),
                Err(_) => Answer::Unknown(
                    self.problem(MALFORMED, "is not YAML that Hermes can load: correct it"),
                ),
            },
        })
    }

    /// Gives one of the variables that [`Setting::variables`] has read.
    pub fn variable(&self, variables: &Answer<EnvFile>, name: &str) -> Answer<Option<String>> {
        match variables {
            Answer::Unknown(problem) => Answer::Unknown(problem.clone()),
            Answer::Known(variables) => match variables.get(name) {
                Ok(value) => Answer::Known(value.map(str::to_owned)),
                Err(_) => Answer::Unknown(self.problem(
                    "env-byte-order-mark",
                    "begins with a byte-order mark, and with it versions of Hermes differ in what its first line sets: save it without (UTF-8 without BOM)",
                )),
            },
        }
    }

    /// Reads the whole file as text; `None` if there is none.
    pub fn text(&self) -> Answer<Option<String>> {
        self.content()
            .map(|content| content.map(|content| String::from_utf8_lossy(&content).into_owned()))
    }

    fn content(&self) -> Answer<Option<Vec<u8>>> {
        let read = match self.home.read(self.name, LIMIT) {
            // Mounted secrets often are links, and Hermes follows them. Homes are read with the rights of hermes.
            Err(unusable) if unusable.is_link() => {
                // What may hang is read by a child that can be left behind, if it is the home itself.
                let home = self.home.path();
                if may_hang(&home.join(self.name)) && !may_hang(home) {
                    let what = "is a symbolic link to a file system that may never answer";
                    return Answer::Unknown(self.unusable(unusable.word, what));
                }
                self.home.read_linked(self.name, LIMIT)
            }
            read => read,
        };
        match read {
            Ok(content) => Answer::Known(Some(content)),
            Err(unusable) if unusable.is_missing() => Answer::Known(None),
            Err(Unusable { word, text }) => {
                let what = text.strip_prefix(self.name).unwrap_or(&text);
                Answer::Unknown(self.unusable(word, what.trim_start()))
            }
        }
    }

    fn unusable(&self, word: &str, what: &str) -> Problem {
        let remedy = match word {
            "unreadable" => "make it readable for the user of the gateways",
            "symlink" => "put the file itself there, or mount it there",
            "too-large" => "make it smaller",
            _ => "put a file there, or remove it",
        };
        let kind = self.name.trim_start_matches('.').replace(['.', '_'], "-");
        let kind = kind.trim_end_matches("-yaml");
        self.problem(&format!("{kind}-{word}"), &format!("{what}: {remedy}"))
    }

    fn problem(&self, reason: &str, what: &str) -> Problem {
        Problem::new(
            reason,
            format!("{} {what}", shown(&self.home.path().join(self.name))),
        )
    }
}
