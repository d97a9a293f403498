//! With whose rights we work: it follows from who runs us and who owns the scan directory.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Code, Error, Result, shown};
use crate::s6::tool::Tools;
use crate::settings::{SCANDIR, Settings};
use crate::system::account::Account;
use crate::system::trust::only_root_changes;

/// How long a volume may take to answer.
const LIMIT: Duration = Duration::from_secs(120);

/// The longest answer that is taken, in bytes: the child runs as a user whom we do not trust.
const ANSWER_LIMIT: usize = 64 << 20;

/// With whose rights the work is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// Ours: an ordinary user serves its own tree and volume.
    Own,
    /// Root's for the slots, in a scan directory that only root can change; this account's for
    /// everything on the volume. The gateways drop to it.
    Direct(Account),
    /// None yet: the tree and the volume are this account's, and so must all our work be.
    Drop(Account),
}

impl Rights {
    /// Works out whose rights to use.
    pub fn of(settings: &Settings) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let account = Account::find(&settings.root, &settings.user)?;
        if account.uid == 0 {
            return Ok(Self::Own);
        }
        let scandir = settings.root.at(&settings.scandir);
        match fs::symlink_metadata(&scandir) {
            Ok(meta) if meta.uid() == account.uid => Ok(Self::Drop(account)),
            Ok(meta) if meta.uid() == 0 => {
                only_root_changes(&scandir)?;
                Ok(Self::Direct(account))
            }
            Ok(meta) => Err(Error::new(
                Code::Usage,
                format!(
                    "{} belongs to uid {}, neither to root nor to {}",
                    shown(&scandir),
                    meta.uid(),
                    account.name
                ),
            )
            .remedy("name the owner with HERMES_S6_USER, or run as that user")),
            // Our own tree belongs to the account that it serves; /run/service and its like to root.
            Err(_) if settings.scandir == Path::new(SCANDIR) => Ok(Self::Drop(account)),
            Err(_) => Ok(Self::Direct(account)),
        }
    }

    /// Names the user whom the scripts of the slots drop to.
    pub fn drop_to(&self) -> Option<&str> {
        match self {
            Self::Direct(account) => Some(&account.name),
            _ => None,
        }
    }
}

/// Makes the scan directory if it is not there, as its future owner wants it.
pub fn make_scandir(settings: &Settings, rights: &Rights) -> Result<()> {
    let scandir = settings.root.at(&settings.scandir);
    if scandir.exists() {
        return Ok(());
    }
    if *rights != Rights::Own {
        only_root_changes(scandir.parent().unwrap_or(&scandir))?;
    }
    let failed = |cause| {
        Error::system("create", &scandir, cause)
            .remedy("choose a directory of yours with --scandir or HERMES_S6_SCANDIR")
    };
    let mut missing: Vec<&Path> = scandir
        .ancestors()
        .take_while(|place| !place.exists())
        .collect();
    missing.reverse();
    for directory in missing {
        fs::create_dir(directory).map_err(failed)?;
        // Whatever the umask says: everybody has to get through it.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    match rights {
        Rights::Drop(account) => {
            lchown(&scandir, Some(account.uid), Some(account.gid)).map_err(failed)
        }
        Rights::Direct(_) | Rights::Own => Ok(()),
    }
}

/// Replaces this process by the same command with the account's rights, after `prefix` if given.
///
/// Returns only if that fails.
pub fn become_account(
    account: &Account,
    tools: &Tools,
    settings: &Settings,
    prefix: &[&Path],
) -> Error {
    let setuidgid = settings.root.at(tools.s6.join("s6-setuidgid"));
    let words = prefix.iter().map(|word| word.as_os_str().to_owned());
    let ours = std::env::args_os().skip(1);
    let mut words = words
        .chain([setuidgid.into_os_string(), account.name.clone().into()])
        .chain([settings.root.at(&tools.hermes_s6).into_os_string()])
        .chain(ours);
    let program = words.next().unwrap_or_default();
    let cause = Command::new(&program).args(words).exec();
    Error::exec(program, cause)
}

/// Runs a command of ours as the account, gives it `request`, and takes its answer, both as JSON.
pub fn as_account<T: DeserializeOwned>(
    settings: &Settings,
    tools: &Tools,
    account: &Account,
    words: &[&str],
    request: &impl Serialize,
) -> Result<T> {
    let request = serde_json::to_vec(request).unwrap_or_default();
    let answer = ask(settings, tools, account, words, &request)?;
    serde_json::from_slice(&answer)
        .map_err(|_| failed(account, words, "gave an answer that makes no sense"))
}

fn failed(account: &Account, words: &[&str], what: &str) -> Error {
    let command = words.first().copied().unwrap_or_default();
    let what = format!("hermes-s6 {command} as {} {what}", account.name);
    Error::new(Code::System, what)
}

fn ask(
    settings: &Settings,
    tools: &Tools,
    account: &Account,
    words: &[&str],
    request: &[u8],
) -> Result<Vec<u8>> {
    let failed = |what: &str| failed(account, words, what);
    let path = tools.s6.join("s6-setuidgid");
    let pipe = |cause: std::io::Error| Error::system("talk to", &path, cause);
    // A file and not a pipe: whatever the child does, writing it cannot block.
    let mut input = memfd_create("request", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|errno| pipe(errno.into()))?;
    input
        .write_all(request)
        .and_then(|()| input.rewind())
        .map_err(pipe)?;
    let mut child = tools
        .command(&settings.root, "s6-setuidgid")
        .arg(&account.name)
        .arg(settings.root.at(&tools.hermes_s6))
        .args(words)
        .arg("--home")
        .arg(&settings.home)
        .arg("--scandir")
        .arg(&settings.scandir)
        .stdin(input)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|cause| Error::exec(&path, cause))?;
    let answer = child.stdout.take().map(read_all);
    let Some(Ok(Some(answer))) = answer else {
        let _gone = child.kill().and_then(|()| child.wait());
        return Err(failed("does not answer").with_code(Code::TimedOut));
    };
    let status = child.wait().map_err(pipe)?;
    if !status.success() {
        return Err(failed(&format!("failed ({status})")));
    }
    Ok(answer)
}

/// Reads until the other side has closed, `None` if that takes too long or is too much.
fn read_all(mut output: ChildStdout) -> std::io::Result<Option<Vec<u8>>> {
    let end = Instant::now() + LIMIT;
    let mut content = Vec::new();
    let mut buffer = [0; 1 << 14];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
            tv_nsec: left.subsec_nanos().into(),
        };
        let ready = match poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&left)) {
            // The child has ended.
            Err(Errno::INTR) => continue,
            ready => ready?,
        };
        if ready == 0 || content.len() > ANSWER_LIMIT {
            return Ok(None);
        }
        match output.read(&mut buffer)? {
            0 => return Ok(Some(content)),
            length => content.extend_from_slice(&buffer[..length]),
        }
    }
}
