//! The rights that the program works with: they follow from who runs it and who owns the scan directory.
//!
//! Root runs the gateways of an account that it does not trust. It never reads or writes the volume itself.
//! In the tree it becomes that account, see [`apart`]. In the direct layout it runs hermes-s6 again with the rights of
//! the account, see [`ask`].

pub mod apart;
pub mod ask;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use crate::error::{Code, Error, Result, shown};
use crate::rights::apart::{Dropping, Purpose};
use crate::settings::{CHOOSE_SCANDIR, SCANDIR, Settings};
use crate::system::account::Account;
use crate::system::trust::{is_not_there, name_of, only_root_changes};

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
            Err(cause) if !is_not_there(&cause) => {
                Err(Error::system("stat", scandir, cause).remedy(CHOOSE_SCANDIR))
            }
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
    let unseen = |cause| Error::system("stat", &scandir, cause).remedy(CHOOSE_SCANDIR);
    if scandir.try_exists().map_err(unseen)? {
        return Ok(());
    }
    if rustix::process::geteuid().is_root() {
        only_root_changes(scandir.parent().unwrap_or(&scandir))?;
    }
    let failed = |cause| Error::system("create", &scandir, cause).remedy(CHOOSE_SCANDIR);
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

/// Replaces this process by the same command with the rights of the account; returns only an error.
///
/// `prefix` is a command line that is executed first, still as root, and executes the rest.
pub fn become_account(dropping: &Dropping, purpose: Purpose, prefix: &[&Path]) -> Error {
    let prefix = prefix.iter().map(|word| word.as_os_str().to_owned());
    let itself = dropping.settings.root.at(&dropping.tools.hermes_s6);
    let words = [itself.into_os_string()].into_iter();
    let words = words.chain(std::env::args_os().skip(1));
    dropping.become_it(purpose, prefix.collect(), words.collect(), |_| {})
}
