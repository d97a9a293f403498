//! The rights that the program works with: they follow from who runs it and who owns the scan directory.
//!
//! Root runs the gateways of an account that it does not trust. It never reads or writes the volume itself.
//! In the tree it becomes that account. In the direct layout it runs hermes-s6 again with the rights of the account,
//! and the two exchange JSON.

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
use crate::system::process::spawn;
use crate::system::trust::{is_not_there, name_of, only_root_changes};

/// How long the child may take to answer: a volume may be slow.
const LIMIT: Duration = Duration::from_secs(120);

/// The longest answer that is read, in bytes: the child runs as a user whom root does not trust.
const ANSWER_LIMIT: usize = 64 << 20;

/// The rights that the work is done with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// All work is done with our own rights: we own the tree and the volume.
    Own,
    /// Work on the slots is done as root, in a scan directory that only root can change. Work on the volume is
    /// done as this account, and the gateways run as it.
    Direct(Account),
    /// No work is done before this process has become this account, which owns the tree and the volume.
    Drop(Account),
}

impl Rights {
    /// Decides which rights to work with.
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
                    "{} belongs to {}, neither to root nor to {}",
                    shown(&scandir),
                    name_of(meta.uid()),
                    account.name
                ),
            )
            .remedy("name the owner with HERMES_S6_USER, or run as that user")),
            Err(cause) if !is_not_there(&cause) => Err(Error::system("stat", scandir, cause)),
            // A new tree at our own place belongs to the account; one at another place, such as /run/service,
            // belongs to root.
            Err(_) if settings.scandir == Path::new(SCANDIR) => Ok(Self::Drop(account)),
            Err(_) => Ok(Self::Direct(account)),
        }
    }

    /// Tells whether root runs the services of the scan directory: then nobody else may be able to change them.
    pub fn are_roots(&self) -> bool {
        match self {
            Self::Direct(_) => true,
            Self::Own => rustix::process::geteuid().is_root(),
            Self::Drop(_) => false,
        }
    }

    /// Gives the user to whom the scripts of the slots drop their rights; `None` if they keep theirs.
    pub fn drop_to(&self) -> Option<&str> {
        match self {
            Self::Direct(account) => Some(&account.name),
            _ => None,
        }
    }
}

/// Makes the scan directory if it does not exist, and gives it to its owner.
pub fn make_scandir(settings: &Settings, rights: &Rights) -> Result<()> {
    let scandir = settings.root.at(&settings.scandir);
    let exists = scandir.try_exists();
    if exists.map_err(|cause| Error::system("stat", &scandir, cause))? {
        return Ok(());
    }
    if rustix::process::geteuid().is_root() {
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
        // The umask may have removed bits, but every user has to be able to enter it.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    match rights {
        Rights::Drop(account) => {
            lchown(&scandir, Some(account.uid), Some(account.gid)).map_err(failed)
        }
        Rights::Direct(_) | Rights::Own => Ok(()),
    }
}

/// Replaces this process by the same command with the rights of the account.
///
/// `prefix` is a command line that is executed first, still as root, and executes the rest. Returns only if
/// the execution fails.
pub fn become_account(
    account: &Account,
    tools: &Tools,
    settings: &Settings,
    prefix: &[&Path],
) -> Error {
    let setuidgid = settings.root.at(tools.s6.join("s6-setuidgid"));
    let words = prefix.iter().map(|word| word.as_os_str().to_owned());
    let our_arguments = std::env::args_os().skip(1);
    let mut words = words
        .chain([setuidgid.into_os_string(), account.name.clone().into()])
        .chain([settings.root.at(&tools.hermes_s6).into_os_string()])
        .chain(our_arguments);
    let program = words.next().unwrap_or_default();
    let cause = Command::new(&program).args(words).exec();
    Error::exec(program, cause)
}

/// Runs a hermes-s6 command as the account, sends it `request`, and gives its answer; both travel as JSON.
///
/// `words` are the command and its arguments.
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
        .map_err(|_| failed(account, words, "gave an answer that cannot be understood"))
}

fn failed(account: &Account, words: &[&str], what: &str) -> Error {
    let command = words.first().copied().unwrap_or_default();
    let what = format!("hermes-s6 {command} as {} {what}", account.name);
    Error::new(Code::System, what)
}

/// Runs the command, and gives what it writes on stdout.
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
    // A file in memory and not a pipe: writing to a pipe would block if the child did not read.
    let mut input = memfd_create("request", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|errno| pipe(errno.into()))?;
    input
        .write_all(request)
        .and_then(|()| input.rewind())
        .map_err(pipe)?;
    let mut command = tools.command(&settings.root, "s6-setuidgid");
    command
        .arg(&account.name)
        .arg(settings.root.at(&tools.hermes_s6))
        .args(words)
        .arg("--home")
        .arg(&settings.home)
        .arg("--scandir")
        .arg(&settings.scandir)
        .stdin(input)
        .stdout(Stdio::piped());
    let mut child = spawn(&mut command).map_err(|cause| Error::exec(&path, cause))?;
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

/// Reads until the child closes its end; `None` if that takes longer than [`LIMIT`], or the answer is longer
/// than [`ANSWER_LIMIT`].
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
            // A signal: SIGCHLD comes when the child has ended.
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
