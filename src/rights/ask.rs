//! Asking a child: what is done on the volume by another process, and the two exchange JSON.
//!
//! There are two reasons. Root does not work on the volume itself. And where a server or a daemon serves the volume, it
//! may never answer: who waits for it then cannot be ended, not even by a signal. So a child waits, and is left behind
//! when it shows no sign of life for too long. A thread would keep its process from ending.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, retry_on_intr};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Code, Error, Result, shown};
use crate::report;
use crate::rights::Rights;
use crate::rights::apart::Dropping;
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::account::Account;
use crate::system::mount::may_hang;
use crate::system::process::spawn;
use crate::system::signal::notice_children;

/// How long a child may take to answer where only the kernel is waited for: a disk may be slow.
const LIMIT: Duration = Duration::from_secs(120);

/// How long a server or a daemon may let a child wait without a sign of life.
const SILENCE: Duration = Duration::from_secs(5);

/// A volume without a sign of life is waited for during this part of a command's time: a third.
const SHARE: u32 = 3;

/// The pause between two looks whether a child that has answered has ended.
const PAUSE: Duration = Duration::from_micros(200);

/// The longest pause between two looks whether a child has ended that shows something.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// The longest answer that is read, in bytes: the child may run as a user whom root does not trust.
const ANSWER_LIMIT: usize = 64 << 20;

/// The time that this command has.
static TIMEOUT: OnceLock<Duration> = OnceLock::new();

/// Set when the volume has not answered: it is not asked again in this run.
static SILENT: OnceLock<()> = OnceLock::new();

/// Says how long this command may take: the volume is then waited for during a part of that at most.
pub fn hurry(timeout: Option<Duration>) {
    if let Some(timeout) = timeout {
        let _first_counts = TIMEOUT.set(timeout);
    }
}

/// Tells whether the volume has not answered in this run.
pub fn is_silent() -> bool {
    SILENT.get().is_some()
}

/// Has a child do what must not be done by this process; `None` if this process may do it itself.
///
/// `words` are the command and its arguments, and `request` is what the child reads.
pub fn by_child<T: DeserializeOwned>(
    settings: &Settings,
    rights: &Rights,
    tools: Option<&Tools>,
    words: &[&str],
    request: &impl Serialize,
) -> Option<Result<T>> {
    let may_hang = may_hang(&settings.root.at(&settings.home));
    let account = match rights {
        Rights::Direct(account) => Some(account),
        _ if may_hang => None,
        _ => return None,
    };
    let question = Question {
        settings,
        home: &settings.home,
        account,
        words,
        may_hang,
    };
    Some(question.ask(tools, request))
}

/// Makes sure that a data root answers before this process itself looks at it.
pub fn reach(settings: &Settings, home: &Path) -> Result<()> {
    if !may_hang(&settings.root.at(home)) {
        return Ok(());
    }
    let question = Question {
        settings,
        home,
        account: None,
        words: &["reach"],
        may_hang: true,
    };
    question.ask(None, &())
}

/// Has a child show what it reads on a volume that may never answer, for as long as it answers; `None` if this process
/// may read there itself.
pub fn show_by_child(settings: &Settings, words: &[&str]) -> Option<Result<Code>> {
    may_hang(&settings.root.at(&settings.home)).then(|| {
        let mut command = ourselves();
        command.args(words);
        command.args([OsStr::new("--home"), settings.home.as_os_str()]);
        command.stdin(Stdio::null());
        notice_children()?;
        let mut child =
            spawn(&mut command).map_err(|cause| Error::exec(command.get_program(), cause))?;
        let failed = |cause| Error::system("wait for", "a child", cause);
        let mut pause = PAUSE;
        loop {
            let asked = Instant::now();
            while asked.elapsed() < SILENCE {
                match child.try_wait().map_err(failed)? {
                    Some(status) if status.success() => return Ok(Code::Done),
                    // It has said why.
                    Some(status) if status.code().is_some() => return Ok(code_of(status)),
                    Some(status) => {
                        let what = format!("hermes-s6 read-logs failed ({status})");
                        return Err(Error::new(Code::System, what));
                    }
                    None => sleep(pause),
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            if let Err(error) = reach(settings, &settings.home) {
                let _gone = child.kill();
                return Err(error);
            }
        }
    })
}

/// What a child is asked, and how.
struct Question<'a> {
    settings: &'a Settings,
    home: &'a Path,
    /// The account that the child becomes; `None` if it keeps our rights.
    account: Option<&'a Account>,
    words: &'a [&'a str],
    /// Whether the volume may never answer.
    may_hang: bool,
}

impl Question<'_> {
    fn ask<T: DeserializeOwned>(
        &self,
        tools: Option<&Tools>,
        request: &impl Serialize,
    ) -> Result<T> {
        if self.may_hang && is_silent() {
            return Err(self.unanswered());
        }
        let request = serde_json::to_vec(request).unwrap_or_default();
        let command = match (self.account, tools) {
            (Some(account), Some(tools)) => self.as_account(account, tools)?,
            (Some(account), None) => self.as_account(account, &Tools::find(self.settings)?)?,
            (None, _) => ourselves(),
        };
        let answer = self.run(command, &request)?;
        serde_json::from_slice(&answer)
            .map_err(|_| self.failed("gave an answer that cannot be understood"))
    }

    fn as_account(&self, account: &Account, tools: &Tools) -> Result<Command> {
        let dropping = Dropping {
            settings: self.settings,
            tools,
            account,
        };
        let itself = self.settings.root.at(&tools.hermes_s6);
        dropping.child(vec![itself.into_os_string()])
    }

    fn failed(&self, what: &str) -> Error {
        let command = self.words.first().copied().unwrap_or_default();
        let account = self.account.map(|account| [" as ", &account.name].concat());
        let account = account.unwrap_or_default();
        Error::new(Code::System, format!("hermes-s6 {command}{account} {what}"))
    }

    fn unanswered(&self) -> Error {
        let what = format!("{} does not answer", shown(self.home));
        Error::new(Code::System, what)
            .remedy("look at the server or the daemon of its file system, or mount it anew")
    }

    /// Runs the command, and gives what it writes on stdout.
    fn run(&self, mut command: Command, request: &[u8]) -> Result<Vec<u8>> {
        let pipe = |cause: io::Error| Error::system("talk to", "a child", cause);
        // A file in memory and not a pipe: writing to a pipe would block if the child did not read.
        let mut input = memfd_create("request", MemfdFlags::CLOEXEC)
            .map(File::from)
            .map_err(|errno| pipe(errno.into()))?;
        input
            .write_all(request)
            .and_then(|()| input.rewind())
            .map_err(pipe)?;
        command
            .args(self.words)
            .arg("--home")
            .arg(self.home)
            .arg("--scandir")
            .arg(&self.settings.scandir)
            .stdin(input)
            .stdout(Stdio::piped())
            // Not our own: who reads that to its end would wait for a child that is left behind.
            .stderr(Stdio::piped());
        // A caller may ignore SIGCHLD: nobody would learn how the child has ended.
        notice_children()?;
        let mut child =
            spawn(&mut command).map_err(|cause| Error::exec(command.get_program(), cause))?;
        let patience = self.patience();
        let mut said = Said::default();
        let has_answered = said.hear(&mut child, patience).map_err(pipe)?;
        let status = if has_answered {
            end_of(&mut child, patience).map_err(pipe)?
        } else {
            None
        };
        // The words by which a child fails are ours, unless it is another user's.
        let last_words = said.relay(self.account.is_none());
        match status {
            Some(status) if status.success() => Ok(said.answer),
            Some(status) => Err(match last_words {
                Some(text) => Error::new(code_of(status), text),
                None => self.failed(&format!("failed ({status})")),
            }),
            None => {
                // It is not waited for: it may be unable to end.
                let _gone = child.kill();
                if !self.may_hang {
                    return Err(self.failed("does not answer").with_code(Code::TimedOut));
                }
                let _known = SILENT.set(());
                Err(self.unanswered())
            }
        }
    }

    /// Gives how long the child may show no sign of life.
    fn patience(&self) -> Duration {
        match TIMEOUT.get() {
            _ if !self.may_hang => LIMIT,
            Some(timeout) => SILENCE.min(*timeout / SHARE),
            None => SILENCE,
        }
    }
}

/// Prepares a call of this very program.
fn ourselves() -> Command {
    let mut command = Command::new("/proc/self/exe");
    // By another name, it would take the words for those of Hermes.
    command.arg0("hermes-s6");
    command
}

/// Waits until a child that has answered has ended; `None` if it does not: closing a file may hang too.
fn end_of(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= end {
            return Ok(status);
        }
        sleep(PAUSE);
    }
}

/// Gives the exit code of a child that has failed, if it is one of ours.
fn code_of(status: ExitStatus) -> Code {
    let codes = [Code::No, Code::TimedOut, Code::Usage, Code::Unsupervised];
    let is_it = |code: &Code| status.code() == Some(*code as i32);
    codes.into_iter().find(is_it).unwrap_or(Code::System)
}

/// What a child has written.
#[derive(Default)]
struct Said {
    answer: Vec<u8>,
    messages: Vec<u8>,
}

impl Said {
    /// Reads until the child closes its stdout. `false` if it shows no sign of life for `patience`, has no answer after
    /// [`LIMIT`], or says too much.
    fn hear(&mut self, child: &mut Child, patience: Duration) -> io::Result<bool> {
        let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take())
        else {
            return Ok(false);
        };
        let end = Instant::now() + LIMIT;
        let mut is_open = true;
        let mut buffer = [0; 1 << 14];
        loop {
            let limit = patience.min(end.saturating_duration_since(Instant::now()));
            let mut polled = [
                PollFd::new(&stdout, PollFlags::IN),
                PollFd::new(&stderr, PollFlags::IN),
            ];
            let polled = &mut polled[..if is_open { 2 } else { 1 }];
            let ready = match poll(polled, Some(&timespec(limit))) {
                // A signal: SIGCHLD comes when the child has ended.
                Err(Errno::INTR) => continue,
                ready => ready?,
            };
            let has_answer = !polled[0].revents().is_empty();
            if ready == 0 || self.answer.len() + self.messages.len() > ANSWER_LIMIT {
                return Ok(false);
            }
            if has_answer {
                match stdout.read(&mut buffer)? {
                    0 => break,
                    length => self.answer.extend_from_slice(&buffer[..length]),
                }
            } else {
                is_open = self.hear_message(&mut stderr)?;
            }
        }
        let none = timespec(Duration::ZERO);
        let is_ready = |stderr: &ChildStderr| {
            retry_on_intr(|| poll(&mut [PollFd::new(stderr, PollFlags::IN)], Some(&none)))
        };
        while is_open && is_ready(&stderr)? > 0 {
            is_open = self.hear_message(&mut stderr)?;
        }
        Ok(true)
    }

    /// Reads a part of what a child says to people; `false` at the end.
    fn hear_message(&mut self, stderr: &mut ChildStderr) -> io::Result<bool> {
        let mut buffer = [0; 1 << 12];
        let length = stderr.read(&mut buffer)?;
        self.messages.extend_from_slice(&buffer[..length]);
        Ok(length > 0)
    }

    /// Passes on what the child said to people. With `keep`, gives its last words instead.
    fn relay(&self, keep: bool) -> Option<String> {
        let mut last_words = None;
        for line in String::from_utf8_lossy(&self.messages).lines() {
            match line.strip_prefix("hermes-s6: fatal: ").filter(|_| keep) {
                Some(text) => last_words = Some(text.to_owned()),
                None => report::relay(line),
            }
        }
        last_words
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(0),
        tv_nsec: time.subsec_nanos().into(),
    }
}
