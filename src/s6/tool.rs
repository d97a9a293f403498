//! The programs that do the work: s6, execline, Hermes, and this one, each by its absolute path.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result, escaped, shown};
use crate::settings::Settings;
use crate::system::process::spawn;
use crate::system::root::{Root, identity};
use crate::system::trust::{Way, is_not_there, way, way_in};

/// The places of the programs, as logical paths.
///
/// All of s6 comes from one directory: a client and a supervisor of different versions misunderstand each other
/// silently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    /// The directory of the s6 programs.
    pub s6: PathBuf,
    /// The directory of the execline programs.
    pub execline: PathBuf,
    /// The real Hermes, never this program under the name `hermes`.
    pub hermes: PathBuf,
    /// This program.
    pub hermes_s6: PathBuf,
}

/// The s6 programs that slots and hermes-s6 run, and those that hermes-s6 tells people to run.
pub const S6: [&str; 13] = [
    "s6-envdir",
    "s6-log",
    "s6-notifyoncheck",
    "s6-permafailon",
    "s6-setlock",
    "s6-setuidgid",
    "s6-softlimit",
    "s6-supervise",
    "s6-svc",
    "s6-svdt-clear",
    "s6-svscan",
    "s6-svscanctl",
    "s6-svwait",
];

/// The execline programs that slots and hermes-s6 run.
pub const EXECLINE: [&str; 9] = [
    "case",
    "cd",
    "execlineb",
    "exit",
    "export",
    "fdclose",
    "fdmove",
    "foreground",
    "loopwhilex",
];

/// The place of Hermes in its Linux images.
const HERMES_IN_IMAGES: &str = "/opt/hermes/.venv/bin/hermes";

impl Tools {
    /// Finds the programs: in `HERMES_S6_BINDIR` if that is set, else in `/command` and the directories of
    /// `PATH`.
    ///
    /// Root takes no program that others can replace, see [`Search::callable`].
    pub fn find(settings: &Settings) -> Result<Self> {
        let search = Search::new(settings);
        let s6 = search.directory_of("s6-svscan", &S6)?;
        // An execline beside s6 comes first: another one in PATH may not fit this s6.
        let execlineb = match search.usable(&s6, "execlineb", &EXECLINE)? {
            Some(beside_s6) => beside_s6,
            None => search.directory_of("execlineb", &EXECLINE)?,
        };
        let execline = execline_directory(&settings.root, &execlineb)?;
        let execline = nameable(search.callable(&execline, &EXECLINE)?)?;
        let itself = itself()?;
        let hermes = match hermes(settings, &itself) {
            Ok(Some(hermes)) => hermes,
            // Not installed yet, or not for us: with the name alone, every start of a gateway looks in PATH again.
            Ok(None) => PathBuf::from("hermes"),
            Err(error) if is_passed_over(&error) => PathBuf::from("hermes"),
            Err(error) => return Err(error),
        };
        Ok(Self {
            s6,
            execline,
            hermes,
            hermes_s6: settings.root.logical(&itself),
        })
    }

    /// Tells whether the Hermes program exists.
    pub fn has_hermes(&self, settings: &Settings) -> Result<bool> {
        is_executable(&settings.root.at(&self.hermes))
    }

    /// Runs an s6 program on a directory. If it fails, the error has the first line of its message.
    pub fn run(
        &self,
        root: &Root,
        program: &str,
        arguments: &[&str],
        directory: &Path,
    ) -> Result<()> {
        let mut command = self.command(root, program);
        command.args(arguments).arg(directory).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = spawn(&mut command)
            .and_then(Child::wait_with_output)
            .map_err(|cause| Error::exec(program, cause))?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let message = stderr.lines().next().unwrap_or("no message");
        Err(Error::new(
            Code::System,
            format!("{program} failed: {message}"),
        ))
    }

    /// Prepares a call of an s6 program.
    pub fn command(&self, root: &Root, program: &str) -> Command {
        Command::new(root.at(self.s6.join(program)))
    }
}

/// The look for the programs of s6 and execline.
struct Search<'a> {
    settings: &'a Settings,
    directories: Vec<PathBuf>,
    we_are_root: bool,
}

impl<'a> Search<'a> {
    fn new(settings: &'a Settings) -> Self {
        let directories = match &settings.bindir {
            Some(directory) => vec![directory.clone()],
            None => std::iter::once(PathBuf::from("/command"))
                .chain(settings.path.clone())
                .collect(),
        };
        Self {
            settings,
            directories,
            we_are_root: geteuid().is_root(),
        }
    }

    /// Gives the first directory with a program that this process may use. `all` are the programs that are used
    /// with it.
    ///
    /// If there is none, the error says why the first directory that has the program, or may have it, was passed
    /// over.
    fn directory_of(&self, program: &str, all: &[&str]) -> Result<PathBuf> {
        let mut passed_over = None;
        for directory in &self.directories {
            match self.usable(directory, program, all) {
                Ok(Some(directory)) => return Ok(directory),
                Ok(None) => {}
                Err(error) if is_passed_over(&error) => {
                    passed_over.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(passed_over.unwrap_or_else(|| {
            let place = match &self.settings.bindir {
                Some(directory) => shown(directory),
                None => "/command or PATH".to_owned(),
            };
            let what = format!("unable to find {program} in {place}");
            Error::new(Code::NotFound, what)
                .remedy("install s6 and execline, or name their directory with HERMES_S6_BINDIR")
        }))
    }

    /// Gives the directory as its programs are to be called if it has the program; `None` if it has not.
    fn usable(&self, directory: &Path, program: &str, all: &[&str]) -> Result<Option<PathBuf>> {
        if !is_executable(&self.settings.root.at(directory.join(program)))? {
            return Ok(None);
        }
        self.callable(directory, all).map(Some)
    }

    /// Gives the directory as its programs are to be called.
    ///
    /// Root calls none that others can replace: only root may be able to change the directory, `all` the programs
    /// in it, and the way to them. Root calls them by the way that was looked at, which has no links.
    fn callable(&self, directory: &Path, all: &[&str]) -> Result<PathBuf> {
        if !self.we_are_root {
            return Ok(directory.to_owned());
        }
        let root = &self.settings.root;
        let remedy = "name a directory of root's with HERMES_S6_BINDIR";
        let place = root.at(directory);
        let place = roots(&place, way(&place)?, remedy)?;
        for program in all {
            roots(&place.join(program), way_in(&place, program)?, remedy)?;
        }
        Ok(if root.is_moved() {
            directory.to_owned()
        } else {
            place
        })
    }
}

/// Refuses a program for root that others can replace.
pub fn roots_program(place: &Path) -> Result<()> {
    let remedy = "give it to root alone, with the directories above it";
    roots(place, way(place)?, remedy).map(drop)
}

/// Gives the way to a place if only root can change it; else, an error that says why root runs nothing there.
fn roots(place: &Path, way: Way, remedy: &str) -> Result<PathBuf> {
    match way {
        Way::Roots(way) => Ok(way),
        Way::Changeable(changeable) => {
            let what = format!(
                "others could replace {}, so root does not use it",
                shown(place)
            );
            Err(changeable.refuse(&what, remedy))
        }
    }
}

/// Tells whether a search goes on, as that of a shell does: in a directory that this process may not use.
fn is_passed_over(error: &Error) -> bool {
    error.code() == Code::Usage || error.kind() == Some(ErrorKind::PermissionDenied)
}

/// Gives the directory of the real execlineb, which the first line of a script must name.
///
/// Debian's /usr/bin/execlineb is itself a script: its first line names the real program.
fn execline_directory(root: &Root, directory: &Path) -> Result<PathBuf> {
    let execlineb = root.at(directory.join("execlineb"));
    let mut head = [0; 256];
    let length = fs::File::open(&execlineb)
        .and_then(|mut file| std::io::Read::read(&mut file, &mut head))
        .map_err(|cause| Error::system("read", &execlineb, cause))?;
    let line = String::from_utf8_lossy(&head[..length]);
    let interpreter = line
        .strip_prefix("#!")
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|program| Path::new(program).parent());
    Ok(interpreter.unwrap_or(directory).to_owned())
}

/// Refuses a directory that scripts cannot name.
fn nameable(directory: PathBuf) -> Result<PathBuf> {
    // The kernel reads only 255 bytes of a script's first line, and splits them at white space. And in finish,
    // which takes arguments, execlineb would replace a ${1} in the path.
    let bytes = directory.as_os_str().as_encoded_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_./:=@%+,-".contains(byte);
    if bytes.len() > 200 || !bytes.iter().all(plain) {
        return Err(Error::new(
            Code::Usage,
            format!("scripts cannot name execlineb in '{}'", escaped(bytes)),
        )
        .remedy("use a shorter path of plain characters for HERMES_S6_BINDIR"));
    }
    Ok(directory)
}

/// Gives the path of this program.
fn itself() -> Result<PathBuf> {
    std::env::current_exe().map_err(|cause| Error::system("find", "/proc/self/exe", cause))
}

/// Finds the real Hermes: `HERMES_S6_HERMES`, else the one of an image, else in `PATH`; and refuses this program
/// under that name.
pub fn real_hermes(settings: &Settings) -> Result<PathBuf> {
    const REMEDY: &str = "name the real Hermes with HERMES_S6_HERMES";
    let itself = itself()?;
    let Some(hermes) = hermes(settings, &itself).map_err(|error| error.remedy(REMEDY))? else {
        let what = format!("unable to find Hermes: neither {HERMES_IN_IMAGES} nor in PATH");
        return Err(Error::new(Code::NotFound, what).remedy(REMEDY));
    };
    let place = settings.root.at(&hermes);
    if identity(&place).is_some() && identity(&place) == identity(&itself) {
        let what = format!("{} is hermes-s6 itself", shown(&hermes));
        return Err(Error::new(Code::Usage, what).remedy(REMEDY));
    }
    Ok(hermes)
}

/// Finds Hermes as [`real_hermes`] does; `None` if there is none.
fn hermes(settings: &Settings, itself: &Path) -> Result<Option<PathBuf>> {
    if let Some(hermes) = &settings.hermes {
        return Ok(Some(hermes.clone()));
    }
    let ours = identity(itself);
    let in_path = settings.path.iter();
    let in_path = in_path.map(|directory| directory.join("hermes"));
    let mut passed_over = None;
    for hermes in std::iter::once(PathBuf::from(HERMES_IN_IMAGES)).chain(in_path) {
        let place = settings.root.at(&hermes);
        match is_executable(&place) {
            Ok(true) if identity(&place) != ours => return Ok(Some(hermes)),
            Err(error) if is_passed_over(&error) => {
                passed_over.get_or_insert(error);
            }
            looked => {
                looked?;
            }
        }
    }
    passed_over.map_or(Ok(None), Err)
}

/// Tells whether a path leads to a regular file with an execute permission for anybody.
pub fn is_executable(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(meta) => Ok(meta.is_file() && meta.permissions().mode() & 0o111 != 0),
        Err(cause) if is_not_there(&cause) => Ok(false),
        Err(cause) => Err(Error::system("look at", path, cause)),
    }
}
