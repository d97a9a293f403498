//! The programs that do the work: s6, execline, Hermes, and this one, each by its absolute path.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result, escaped, shown};
use crate::settings::Settings;
use crate::system::root::{Root, identity};
use crate::system::trust::changeable_by_others;

/// Where the programs lie, as logical paths. All of s6 comes from one directory: a client and a
/// supervisor of two versions misunderstand each other silently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    /// The directory of the s6 programs.
    pub s6: PathBuf,
    /// The directory of the execline programs.
    pub execline: PathBuf,
    /// The real Hermes, never our own program under that name.
    pub hermes: PathBuf,
    /// This program.
    pub hermes_s6: PathBuf,
}

/// Where Linux images of Hermes have it.
const HERMES_IN_IMAGES: &str = "/opt/hermes/.venv/bin/hermes";

impl Tools {
    /// Finds the programs: `HERMES_S6_BINDIR`, else `/command`, else `PATH`.
    pub fn find(settings: &Settings) -> Result<Self> {
        let root = &settings.root;
        let directories: Vec<PathBuf> = match &settings.bindir {
            Some(directory) => vec![directory.clone()],
            None => std::iter::once(PathBuf::from("/command"))
                .chain(settings.path.clone())
                .collect(),
        };
        let root_runs = rustix::process::geteuid().is_root();
        let safe = |directory: &PathBuf| {
            // What others can replace, root does not run.
            !root_runs || matches!(changeable_by_others(&root.at(directory)), Ok(None))
        };
        if let Some(directory) = settings
            .bindir
            .as_ref()
            .filter(|directory| !safe(directory))
        {
            let place = shown(directory);
            return Err(Error::new(
                Code::Usage,
                format!("others than root can change what is in {place}"),
            )
            .remedy("name a directory of root's with HERMES_S6_BINDIR"));
        }
        let holds = |program: &str| {
            directories.iter().find(|directory| {
                is_executable(&root.at(directory.join(program))) && safe(directory)
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
        let s6 = holds("s6-svscan").ok_or_else(|| missing("s6-svscan"))?;
        // Beside s6 first: a second execline elsewhere in PATH is not the one it was made with.
        let beside = is_executable(&root.at(s6.join("execlineb"))).then_some(s6);
        let execlineb = beside
            .or_else(|| holds("execlineb"))
            .ok_or_else(|| missing("execlineb"))?;
        let itself = itself()?;
        Ok(Self {
            s6: s6.clone(),
            execline: execline_directory(root, execlineb)?,
            hermes: hermes(settings, &itself),
            hermes_s6: root.logical(&itself),
        })
    }

    /// Tells whether there is a Hermes to run.
    pub fn has_hermes(&self, settings: &Settings) -> bool {
        is_executable(&settings.root.at(&self.hermes))
    }

    /// Runs an s6 program on a directory; its own message is the cause of a failure.
    pub fn run(
        &self,
        root: &Root,
        program: &str,
        arguments: &[&str],
        directory: &Path,
    ) -> Result<()> {
        let mut command = self.command(root, program);
        command.args(arguments).arg(directory).stdin(Stdio::null());
        let output = command
            .output()
            .map_err(|cause| Error::exec(program, cause))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("no message");
        Err(Error::new(
            Code::System,
            format!("{program} failed: {said}"),
        ))
    }

    /// Prepares a call of an s6 program.
    pub fn command(&self, root: &Root, program: &str) -> Command {
        Command::new(root.at(self.s6.join(program)))
    }
}

/// Finds the directory of the execlineb program that a script's first line can name.
///
/// Debian's /usr/bin/execlineb is a script of its own, whose first line names the program.
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
    // The kernel splits a script's first line at white space and reads 255 bytes of it.
    // And in finish, which takes arguments, ${1} would be one of them.
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

fn itself() -> Result<PathBuf> {
    std::env::current_exe().map_err(|cause| Error::system("find", "/proc/self/exe", cause))
}

/// Finds the real Hermes: `HERMES_S6_HERMES`, else where images have it, else in `PATH`.
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
        // Nothing yet: the name alone is looked up again by each start.
        .unwrap_or_else(|| PathBuf::from("hermes"))
}

/// Tells whether a path leads to a file that somebody may execute.
pub fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
