//! Work on the volume for a root process: done by a child that has dropped root's rights for good.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Code, Error, Result};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::account::Account;

/// How long a volume may take to answer.
const LIMIT: Duration = Duration::from_secs(120);

/// The longest answer that is taken, in bytes: the child runs as a user whom we do not trust.
const ANSWER_LIMIT: usize = 64 << 20;

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
