//! The programs that do the work: s6, execline, Hermes, and this one, each by its absolute path.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result, escaped, shown};
use crate::settings::Settings;
use crate::system::process::spawn;
use crate::system::root::{Root, identity};
use crate::system::trust::changeable_by_others;

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

/// The place of Hermes in its Linux images.
const HERMES_IN_IMAGES: &str = "/opt/hermes/.venv/bin/hermes";

impl Tools {
    /// Finds the programs: in `HERMES_S6_BINDIR` if that is set, else in `/command` and the directories of
    /// `PATH`.
    ///
    /// Root takes no program from a directory that others can change.
    pub fn find(settings: &Settings) -> Result<Self> {
        let root = &settings.root;
        let directories: Vec<PathBuf> = match &settings.bindir {
            Some(directory) => vec![directory.clone()],
            None => std::iter::once(PathBuf::from("/command"))
                .chain(settings.path.clone())
                .collect(),
        };
        let we_are_root = rustix::process::geteuid().is_root();
        let is_safe = |directory: &PathBuf| {
            !we_are_root || matches!(changeable_by_others(&root.at(directory)), Ok(None))
        };
        if let Some(directory) = settings
            .bindir
            .as_ref()
            .filter(|directory| !is_safe(directory))
        {
            let place = shown(directory);
            return Err(Error::new(
                Code::Usage,
                format!("others than root can change what is in {place}"),
            )
            .remedy("name a directory of root's with HERMES_S6_BINDIR"));
        }
        let directory_of = |program: &str| {
            directories.iter().find(|directory| {
                is_executable(&root.at(directory.join(program))) && is_safe(directory)
            })
        };
        let missing = |program: &str| {
            let place = match &settings.bindir {
                Some(directory) => shown(directory),
                None => "/command or PATH".to_owned(),
            };
            Error::new(
                Code::NotFound,
                format!("unable to find {program} in {place}"),
            )
            .remedy("install s6 and execline, or name their directory with HERMES_S6_BINDIR")
        };
        let s6 = directory_of("s6-svscan").ok_or_else(|| missing("s6-svscan"))?;
        // An execline beside s6 comes first: another one in PATH may not fit this s6.
        let beside_s6 = is_executable(&root.at(s6.join("execlineb"))).then_some(s6);
        let execlineb = beside_s6
            .or_else(|| directory_of("execlineb"))
            .ok_or_else(|| missing("execlineb"))?;
        let itself = itself()?;
        Ok(Self {
            s6: s6.clone(),
            execline: execline_directory(root, execlineb)?,
            hermes: hermes(settings, &itself),
            hermes_s6: root.logical(&itself),
        })
    }

    /// Tells whether the Hermes program exists.
    pub fn has_hermes(&self, settings: &Settings) -> bool {
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
    let directory = interpreter.unwrap_or(directory);
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
    Ok(directory.to_owned())
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
    let hermes = hermes(settings, &itself);
    let place = settings.root.at(&hermes);
    if !hermes.is_absolute() {
        let what = format!("unable to find Hermes: neither {HERMES_IN_IMAGES} nor in PATH");
        return Err(Error::new(Code::NotFound, what).remedy(REMEDY));
    }
    if identity(&place).is_some() && identity(&place) == identity(&itself) {
        let what = format!("{} is hermes-s6 itself", shown(&hermes));
        return Err(Error::new(Code::Usage, what).remedy(REMEDY));
    }
    Ok(hermes)
}

/// Finds Hermes as [`real_hermes`] does; just `hermes` if there is none.
fn hermes(settings: &Settings, itself: &Path) -> PathBuf {
    if let Some(hermes) = &settings.hermes {
        return hermes.clone();
    }
    let ours = identity(itself);
    std::iter::once(PathBuf::from(HERMES_IN_IMAGES))
        .chain(
            settings
                .path
                .iter()
                .map(|directory| directory.join("hermes")),
        )
        .find(|hermes| {
            let place = settings.root.at(hermes);
            is_executable(&place) && identity(&place) != ours
        })
        // Not installed yet: with the name alone, every start of a gateway looks in PATH again.
        .unwrap_or_else(|| PathBuf::from("hermes"))
}

/// Tells whether a path leads to a regular file with an execute permission for anybody.
pub fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
