//! Running a child that may not have our own streams: it gets others, and what comes there is passed on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat, makedev};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, Uid, kill_process};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::isatty;
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGWINCH};
use signal_hook::flag;
use signal_hook::low_level::pipe;

use crate::system::process::spawn;
use crate::system::signal::not_ignored;
use crate::system::stream::opened_anew;
use crate::system::terminal::{self, Raw};

/// The signals that are passed on to the child.
const PASSED_ON: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// How long what a child has left is read; another process may still have the streams.
const REST_TIME: Duration = Duration::from_secs(1);

/// How much is passed on at a time, in bytes.
const PART: usize = 1 << 14;

/// What a child gets in the place of one of our streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// The stream itself: the end of a pipe or a socket, or a file to read, has no more to it than what it is for.
    Same,
    /// Another terminal: on ours, the child could type, and read what others type.
    Terminal,
    /// A pipe: in a file of ours, the child could change what is there.
    Pipe,
    /// Nothing.
    Null,
}

impl Stream {
    fn like(ours: BorrowedFd) -> Self {
        if isatty(ours) {
            return Self::Terminal;
        }
        let stat = match fstat(ours) {
            Ok(stat) => stat,
            // A stream that is closed gives nothing away.
            Err(Errno::BADF) => return Self::Same,
            // What cannot be looked at may be a file.
            Err(_) => return Self::Pipe,
        };
        let is_read_only =
            || fcntl_getfl(ours).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDONLY);
        let is_null = stat.st_rdev == makedev(1, 3);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo | FileType::Socket => Self::Same,
            FileType::CharacterDevice if is_null => Self::Same,
            _ if is_read_only() => Self::Same,
            _ => Self::Pipe,
        }
    }
}

/// Tells whether two of our streams are one file.
fn is_same(one: BorrowedFd, other: BorrowedFd) -> bool {
    let file = |stream| fstat(stream).map(|stat| (stat.st_dev, stat.st_ino));
    file(one).is_ok() && file(one) == file(other)
}

/// What a child gets as its stdin, stdout and stderr.
#[derive(Debug, Clone, Copy)]
pub struct Streams([Stream; 3]);

impl Streams {
    /// Looks at our own streams. A child that does not `read` gets no stdin.
    pub fn look(reads: bool) -> Self {
        let stdin = if reads {
            Stream::like(stdin())
        } else {
            Stream::Null
        };
        Self([stdin, Stream::like(stdout()), Stream::like(stderr())])
    }

    /// Tells whether a child can have our own streams, so that this process can become it.
    pub fn are_ours(self) -> bool {
        matches!(
            self.0,
            [Stream::Same | Stream::Null, Stream::Same, Stream::Same]
        )
    }

    /// Gives a command the stdin that it gets.
    pub fn limit(self, command: &mut Command) {
        if self.0[0] == Stream::Null {
            command.stdin(Stdio::null());
        }
    }

    /// Runs a child with its streams until it ends. A terminal that it gets belongs to `owner`.
    pub fn run(self, mut command: Command, owner: Uid) -> io::Result<Ended> {
        let signals = Signals::catch()?;
        let ours = [stdin(), stdout(), stderr()];
        let outer = (0..3).find(|stream| self.0[*stream] == Stream::Terminal);
        let outer = outer.map(|stream| ours[stream]);
        let types = self.0[0] == Stream::Terminal;
        let (mut master, slave) = match outer.map(|outer| terminal::like(outer, types, owner)) {
            Some(terminal) => terminal.map(|(master, slave)| (Some(master), Some(slave)))?,
            None => (None, None),
        };
        // Both outputs into one file: only in one pipe, too, their lines keep their order.
        let is_one = self.0[1..] == [Stream::Pipe; 2] && is_same(stdout(), stderr());
        let both = is_one.then(io::pipe).transpose()?;
        let give = |stream: Stream| {
            Ok::<Stdio, io::Error>(match (stream, &slave, &both) {
                (Stream::Same, ..) => Stdio::inherit(),
                (Stream::Terminal, Some(slave), _) => slave.try_clone()?.into(),
                (Stream::Null, ..) => Stdio::null(),
                (_, _, Some((_, writer))) => writer.try_clone()?.into(),
                _ => Stdio::piped(),
            })
        };
        command.stdout(give(self.0[1])?).stderr(give(self.0[2])?);
        command.stdin(match self.0[0] {
            Stream::Pipe => Stdio::piped(),
            stdin => give(stdin)?,
        });
        let mut child = spawn(&mut command)?;
        let both = both.map(|(reader, _)| OwnedFd::from(reader));
        // There is no end to what the child writes for as long as an end of the child's is open here.
        drop((command, slave));

        let mut flows = Vec::new();
        let outputs = [
            (child.stdout.take().map(OwnedFd::from).or(both), stdout()),
            (child.stderr.take().map(OwnedFd::from), stderr()),
        ];
        for (from, to) in outputs {
            flows.extend(from.map(|from| Flow::out(from, to)).transpose()?);
        }
        if let (Some(master), Some(outer)) = (&master, outer) {
            let from = Flow::out(master.try_clone()?, outer)?;
            flows.push(Flow {
                kind: Kind::FromTerminal,
                ..from
            });
        }
        if let Some(to) = child.stdin.take() {
            let from = stdin().try_clone_to_owned()?;
            flows.push(Flow::new(from, to.into(), Kind::Input));
        }

        let pid = Pid::from_child(&child);
        let mut ended: Option<(ExitStatus, Instant)> = None;
        let mut unwritten = None;
        // Until this function ends.
        let mut typed = None;
        loop {
            // A job in the background may come to the foreground later.
            if let (Some(outer), Some(master), true, None) = (outer, &master, types, &typed) {
                typed = Raw::set(outer)?;
                if typed.is_some() {
                    let from = outer.try_clone_to_owned()?;
                    flows.push(Flow::new(from, master.try_clone()?, Kind::Input));
                }
            }
            if ended.is_none() {
                ended = child.try_wait()?.map(|status| (status, Instant::now()));
            }
            if let Some((_, time)) = &ended {
                flows.retain(|flow| flow.kind != Kind::Input);
                let is_late = time.elapsed() > REST_TIME;
                flows.retain(|flow| !is_late || !flow.pending.is_empty());
            }
            let is_waited_for =
                ended.is_none() || flows.iter().any(|flow| !flow.pending.is_empty());
            let is_idle = !pass_on(&mut flows, &signals.woken, is_waited_for, &mut unwritten)?;
            // Nobody has the terminal any more: the child's is hung up.
            if !flows.iter().any(|flow| flow.kind == Kind::FromTerminal) && master.take().is_some()
            {
                flows.retain(|flow| flow.kind != Kind::Input);
            }
            for signal in signals.caught() {
                let _ended_just_now = kill_process(pid, signal);
                match ended {
                    // Nobody wants to see the rest.
                    Some((status, _)) => return Ok(Ended { status, unwritten }),
                    // The child may be unable to end: its user can stop it. By this signal, the caller gets away.
                    None if signal == Signal::QUIT => {
                        let status = ExitStatus::from_raw(signal.as_raw());
                        return Ok(Ended { status, unwritten });
                    }
                    None => {}
                }
            }
            if let (Some(outer), Some(master)) = (outer, &master)
                && signals.is_resized.swap(false, Ordering::SeqCst)
            {
                terminal::resize(master, outer);
            }
            if let Some((status, _)) = ended
                && is_idle
                && !is_waited_for
            {
                return Ok(Ended { status, unwritten });
            }
        }
    }
}

/// How a child has ended.
#[derive(Debug)]
pub struct Ended {
    /// What its parent learns.
    pub status: ExitStatus,
    /// Why not all that it has written could be passed on. A reader that goes away is no reason.
    pub unwritten: Option<io::Error>,
}

/// Passes on what can be passed on now, and waits for that or for a signal if `waits`. Tells whether there was
/// something.
fn pass_on(
    flows: &mut Vec<Flow>,
    woken: &UnixStream,
    waits: bool,
    unwritten: &mut Option<io::Error>,
) -> io::Result<bool> {
    let mut polled = vec![PollFd::new(woken, PollFlags::IN)];
    for flow in flows.iter() {
        polled.push(if flow.pending.is_empty() {
            PollFd::new(&flow.from, PollFlags::IN)
        } else {
            PollFd::new(&flow.to, PollFlags::OUT)
        });
    }
    let none = Timespec::default();
    match poll(&mut polled, (!waits).then_some(&none)) {
        Ok(0) => return Ok(false),
        Err(errno) if errno != Errno::INTR => return Err(errno.into()),
        _ => {}
    }
    let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
    let is_woken = ready.next() == Some(true);
    let ready: Vec<bool> = ready.collect();
    if is_woken {
        let _emptied = (&*woken).read(&mut [0; 64]);
    }
    let mut ready = ready.into_iter();
    flows.retain_mut(|flow| {
        if ready.next() != Some(true) || flow.step().is_ok() {
            return true;
        }
        let lost = flow.lost.take().filter(|_| flow.kind != Kind::Input);
        if unwritten.is_none() {
            *unwritten = lost;
        }
        false
    });
    Ok(true)
}

/// What is passed on from one place to another.
struct Flow {
    from: File,
    to: File,
    /// What was read, and is not written yet.
    pending: Vec<u8>,
    kind: Kind,
    /// Why something that was read could not be written.
    lost: Option<io::Error>,
}

/// What a flow is to the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The child reads it.
    Input,
    /// The child writes it.
    Output,
    /// The child writes it on the terminal that it has.
    FromTerminal,
}

impl Flow {
    fn new(from: OwnedFd, to: OwnedFd, kind: Kind) -> Self {
        Self {
            from: from.into(),
            to: to.into(),
            pending: Vec::new(),
            kind,
            lost: None,
        }
    }

    /// Makes one for what a child writes.
    fn out(from: OwnedFd, to: BorrowedFd) -> io::Result<Self> {
        let flags = fcntl_getfl(&from)?;
        fcntl_setfl(&from, flags | OFlags::NONBLOCK)?;
        // So that a terminal which takes nothing keeps no signal waiting.
        let to = match opened_anew(to, OFlags::NONBLOCK) {
            Some(to) => to.into(),
            None => to.try_clone_to_owned()?,
        };
        Ok(Self::new(from, to, Kind::Output))
    }

    /// Reads once, or writes once; fails at the end.
    fn step(&mut self) -> io::Result<()> {
        let is_later = |cause: &io::Error| {
            matches!(
                cause.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            )
        };
        if self.pending.is_empty() {
            let mut part = vec![0; PART];
            match self.from.read(&mut part) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => part.truncate(length),
                Err(cause) if is_later(&cause) => part.clear(),
                Err(cause) => return Err(cause),
            }
            self.pending = part;
            return Ok(());
        }
        match self.to.write(&self.pending) {
            Ok(length) => drop(self.pending.drain(..length)),
            Err(cause) if is_later(&cause) => {}
            Err(cause) => {
                let is_gone = [Errno::PIPE, Errno::IO].map(|errno| Some(errno.raw_os_error()));
                if !is_gone.contains(&cause.raw_os_error()) {
                    self.lost = Some(cause);
                }
                return Err(io::ErrorKind::Other.into());
            }
        }
        Ok(())
    }
}

/// The signals that this process gets meanwhile.
struct Signals {
    /// Readable when one has come.
    woken: UnixStream,
    caught: Vec<(Signal, Arc<AtomicBool>)>,
    is_resized: Arc<AtomicBool>,
}

impl Signals {
    /// Catches them; one that the caller ignores stays ignored.
    fn catch() -> io::Result<Self> {
        let (woken, waker) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let is_resized = Arc::default();
        let mut caught = Vec::new();
        let heard = not_ignored(&PASSED_ON.map(Signal::as_raw)).map_err(io::Error::other)?;
        for signal in PASSED_ON {
            if !heard.contains(&signal.as_raw()) {
                continue;
            }
            let is_caught = Arc::default();
            flag::register(signal.as_raw(), Arc::clone(&is_caught))?;
            caught.push((signal, is_caught));
        }
        flag::register(SIGWINCH, Arc::clone(&is_resized))?;
        let numbers = caught.iter().map(|(signal, _)| signal.as_raw());
        for signal in numbers.chain([SIGWINCH, SIGCHLD, SIGCONT]) {
            pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(Self {
            woken,
            caught,
            is_resized,
        })
    }

    /// Gives those that have come since the last time.
    fn caught(&self) -> impl Iterator<Item = Signal> {
        let caught = self.caught.iter();
        caught.filter_map(|(signal, is)| is.swap(false, Ordering::SeqCst).then_some(*signal))
    }
}
