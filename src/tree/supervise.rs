//! Starting the tree: converges the slots, then becomes the s6-svscan above them.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::OFlags;

use crate::error::{Code, Error, Result};
use crate::report;
use crate::rights::apart::{Dropping, Purpose};
use crate::rights::{Rights, become_account, make_scandir};
use crate::s6::capacity::{LimitOption, descriptors, lower_descriptors, room_by_descriptors};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::process::{Holder, clone3_refused};
use crate::system::signal;
use crate::system::stream::opened_anew;
use crate::tree::reconcile::{self, Session};
use crate::tree::scandir::LOCK_WAIT;

/// The least number of slots that the tree has room for.
const ROOM_MIN: usize = 500;

/// Starts the tree. Returns only if that fails.
pub fn supervise(
    settings: &Settings,
    rights: &Rights,
    tools: &Tools,
    notification_fd: Option<u64>,
) -> Result<()> {
    if let Rights::Drop(account) = rights {
        make_scandir(settings, rights)?;
        // Now: the account may not be allowed to open them.
        own_stdout();
        own_stderr();
        // Root reads the environment that the container was started with; the account may not be allowed to.
        let envdir = settings.root.at(tools.s6.join("s6-envdir"));
        let environment = settings.container_environment.as_ref();
        let environment = environment.map(|directory| settings.root.at(directory));
        let mut prefix = Vec::new();
        if let Some(environment) = &environment {
            prefix.extend([&*envdir, Path::new("-ILf"), Path::new("--"), environment]);
        } else {
            // The account finds nothing wrong with it.
            let warnings = settings.warnings.iter();
            warnings.for_each(|warning| report::warning(warning));
        }
        let dropping = Dropping {
            settings,
            tools,
            account,
        };
        return Err(become_account(
            &dropping,
            Purpose::Tree(notification_fd),
            &prefix,
        ));
    }
    if let Some(refused) = clone3_refused() {
        report::warning(&refused.to_string());
    }
    let before = descriptors();
    let mut session = Session::begin(settings, rights, tools.clone(), LOCK_WAIT)?;
    if let Some(watcher) = session.scandir().watcher()? {
        let watcher = match watcher {
            Holder::Process(pid) => format!("s6-svscan (pid {pid})"),
            Holder::Elsewhere => "an s6-svscan in another container".to_owned(),
        };
        return Err(Error::new(
            Code::Usage,
            format!(
                "{} is already watched by {watcher}",
                settings.scandir.display()
            ),
        )
        .remedy(
            "hermes-s6 status shows what it supervises, hermes-s6 reconcile brings it up to date",
        ));
    }
    session.take_over()?;
    let outcome = session.converge(true, None)?;
    for change in &outcome.plan.changes {
        report::note(&change.to_string());
    }
    if let Some(adopted) = outcome.plan.adopted() {
        report::note(&adopted);
    }
    reconcile::warn(&outcome);
    let slots = session.scandir().profiles()?.len();
    let room = (slots * 2)
        .max(ROOM_MIN)
        .min(room_by_descriptors().max(slots));
    lower_descriptors(before, room);
    let scandir: PathBuf = session.scandir().dir().path().to_owned();
    let mut svscan = tools.command(&settings.root, "s6-svscan");
    svscan.args(LimitOption::of_installed(settings, tools)?.arguments(room + session.others()));
    if let Some(fd) = notification_fd {
        svscan.arg(format!("-d{fd}"));
    }
    own_stdout();
    own_stderr();
    signal::restore_hangup()?;
    // Without a stdin: gateways shall not read from the terminal or pipe of this process.
    let cause = svscan.arg("--").arg(scandir).stdin(Stdio::null()).exec();
    Err(Error::exec(svscan.get_program(), cause))
}

/// Opens stdout anew.
///
/// The loggers make their stdout non-blocking, and with it every descriptor of the same open file, also that of
/// the process that gave us its stdout. A newly opened stdout keeps this away from others.
fn own_stdout() {
    if let Some(stdout) = opened_anew(rustix::stdio::stdout(), OFlags::empty()) {
        let _unchanged_if_not = rustix::stdio::dup2_stdout(&stdout);
    }
}

/// Opens stderr anew, for the programs of the tree, and non-blocking.
///
/// On a terminal, or with both streams in one pipe, stderr is full when nobody reads stdout. A program that waits
/// there to say something could neither look after the logs nor end the tree. What cannot be said is left out.
fn own_stderr() {
    if let Some(stderr) = opened_anew(rustix::stdio::stderr(), OFlags::NONBLOCK) {
        let _unchanged_if_not = rustix::stdio::dup2_stderr(&stderr);
    }
}
