//! With whose rights we work: it follows from who runs us and who owns the scan directory.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Code, Error, Result, shown};
use crate::s6::tool::Tools;
use crate::settings::{SCANDIR, Settings};
use crate::system::account::Account;

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

/// Refuses a place for a scan directory of root's where somebody else could put services: root runs
/// them.
fn only_root_changes(place: &Path) -> Result<()> {
    match changeable_by_others(place)? {
        None => Ok(()),
        Some(directory) => Err(Error::new(
            Code::Usage,
            format!(
                "{} can be changed by others than root, who would run what they put there",
                shown(&directory)
            ),
        )
        .remedy("use a new directory beneath one of root's, or one that belongs to the user of the gateways")),
    }
}

/// Finds a directory on the way to a place, links resolved, in which others than root could change what
/// is found there. What does not exist yet will be made by us.
pub fn changeable_by_others(place: &Path) -> Result<Option<PathBuf>> {
    let there = place
        .ancestors()
        .find(|directory| directory.exists())
        .unwrap_or(Path::new("/"));
    let there = fs::canonicalize(there).map_err(|cause| Error::system("resolve", there, cause))?;
    for directory in there.ancestors() {
        let meta =
            fs::metadata(directory).map_err(|cause| Error::system("stat", directory, cause))?;
        let shared = meta.mode() & 0o022 != 0;
        // In a sticky directory nobody can replace what is root's.
        let sticky = meta.mode() & 0o1000 != 0 && directory != place;
        if meta.uid() != 0 || (shared && !sticky) {
            return Ok(Some(directory.to_owned()));
        }
    }
    Ok(None)
}
