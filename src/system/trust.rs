//! Which directories and programs root can trust: those that nobody but root can change, on a way that nobody
//! but root can change.
//!
//! Root runs the scripts of a scan directory, and the programs of s6. Whoever could put something else there could
//! run anything as root.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use crate::error::{Code, Error, Result, shown};
use crate::system::beneath::Dir;
use crate::system::walk::{self, Step, Walked};

/// The permission to write for the group and for all others.
const OTHERS_WRITE: u32 = 0o022;

/// In a directory with this bit, such as /tmp, nobody can replace a file of somebody else.
const STICKY: u32 = 0o1000;

/// What is known of a file, or of a link itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    uid: u32,
    mode: u32,
    /// Where it leads if it is a link.
    link: Option<PathBuf>,
}

/// The place that a path leads to, and whether others can change that.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// Only root can change what is there. The path has no links, so that it leads there again.
    Roots(PathBuf),
    /// Others than root can change it.
    Changeable(Changeable),
}

/// A file, a directory or a link that others than root can change.
#[derive(Debug, PartialEq, Eq)]
pub struct Changeable {
    place: PathBuf,
    by: By,
}

/// Who can change something.
#[derive(Debug, PartialEq, Eq)]
enum By {
    Owner(u32),
    /// Those who may write, by the permission bits.
    Writers(u32),
}

impl Changeable {
    /// Makes an error that says why `what` is not done.
    ///
    /// The remedy is `remedy`, unless it is the user namespace that has to change.
    pub fn refuse(&self, what: &str, remedy: &str) -> Error {
        let is_foreign = matches!(self.by, By::Owner(uid) if is_unmapped(uid));
        Error::new(Code::Usage, format!("{what}: {self}")).remedy(if is_foreign {
            "use files that belong to ids of the namespace, or be another user than root in it (unshare --map-current-user)"
        } else {
            remedy
        })
    }
}

impl fmt::Display for Changeable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = shown(&self.place);
        match self.by {
            By::Owner(uid) => write!(f, "{place} belongs to {}", name_of(uid)),
            By::Writers(mode) => {
                let mode = mode & 0o7777;
                write!(
                    f,
                    "{place} can be changed by others than root (mode {mode:04o})"
                )
            }
        }
    }
}

/// Names the owner of a file.
///
/// In a user namespace, one uid stands for all that the namespace does not know: the files may belong to root
/// outside.
pub fn name_of(uid: u32) -> String {
    if is_unmapped(uid) {
        return format!(
            "uid {uid} (nobody), which here stands for ids that this user namespace does not know"
        );
    }
    format!("uid {uid}")
}

fn is_unmapped(uid: u32) -> bool {
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid");
    let overflow = overflow.map_or(Ok(65534), |text| text.trim().parse());
    overflow == Ok(uid)
        && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !knows_all_ids(&map))
}

/// Tells from the text of /proc/PID/uid_map whether a user namespace knows all ids.
fn knows_all_ids(map: &str) -> bool {
    let counts = map.lines().filter_map(|line| {
        let count = line.split_whitespace().nth(2)?;
        count.parse::<u64>().ok()
    });
    counts.sum::<u64>() >= u64::from(u32::MAX)
}

/// Finds out where a path leads, and whether others than root can change that: the place, a directory or a link
/// on the way, or a directory in which such a link is.
///
/// Of a place that does not exist, what exists on the way counts.
pub fn way(place: &Path) -> Result<Way> {
    walk(Path::new("/"), place, &look, true)
}

/// Does the same for a name in a directory that was found to be root's, by the way that was found.
pub fn way_in(roots: &Path, name: &str) -> Result<Way> {
    walk(roots, Path::new(name), &look, true)
}

/// Looks at a file, or at a link itself; `None` if there is neither.
fn look(path: &Path) -> Result<Option<Seen>> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(cause) if is_not_there(&cause) => return Ok(None),
        Err(cause) => return Err(Error::system("stat", path, cause)),
    };
    let target = meta.is_symlink().then(|| fs::read_link(path));
    Ok(Some(Seen {
        uid: meta.uid(),
        mode: meta.mode(),
        link: target
            .transpose()
            .map_err(|cause| Error::system("read", path, cause))?,
    }))
}

/// Tells whether a failed look says that there is nothing; any other failure says nothing about that.
pub fn is_not_there(cause: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(cause.kind(), NotFound | NotADirectory)
}

/// Walks a path from a directory of root's on, and looks at each name in a directory that only root can change: what was
/// seen there stays, so no look comes too early.
///
/// What is missing can be made by others in a directory such as /tmp. That counts if it is `to_stay` missing.
fn walk(
    from: &Path,
    place: &Path,
    look: &dyn Fn(&Path) -> Result<Option<Seen>>,
    to_stay: bool,
) -> Result<Way> {
    let mut last: Option<(PathBuf, Option<Seen>)> = None;
    let mut look = |path: &Path| {
        // A directory has been looked at before, as a name in the one above it.
        if let Some((_, seen)) = last.as_ref().filter(|(place, _)| place == path) {
            return Ok(seen.clone());
        }
        let seen = look(path)?;
        last = Some((path.to_owned(), seen.clone()));
        Ok(seen)
    };
    let walked = walk::walk(from, place, |at, inside, behind| {
        let (above, found) = (look(at)?, look(inside)?);
        let is_last = found.is_none() && to_stay;
        if let Some(by) = above.as_ref().and_then(|above| changer(above, is_last)) {
            let place = at.to_owned();
            return Ok(Step::End(Way::Changeable(Changeable { place, by })));
        }
        let Some(found) = found else {
            let missing = inside.components().chain(behind.components());
            return Ok(Step::End(Way::Roots(missing.collect())));
        };
        let Some(target) = found.link else {
            return Ok(Step::Into);
        };
        // A link in /tmp can be replaced by its owner.
        if found.uid != 0 && above.is_some_and(|above| above.mode & OTHERS_WRITE != 0) {
            let (place, by) = (inside.to_owned(), By::Owner(found.uid));
            return Ok(Step::End(Way::Changeable(Changeable { place, by })));
        }
        Ok(Step::Link(target))
    })?;
    let at = match walked {
        Walked::At(at) => at,
        Walked::End(way) => return Ok(way),
        Walked::Loop => return Err(Error::system("resolve", place, Errno::LOOP)),
    };
    Ok(match look(&at)?.and_then(|seen| changer(&seen, true)) {
        Some(by) => Way::Changeable(Changeable { place: at, by }),
        None => Way::Roots(at),
    })
}

/// Tells who else than root can change a file, or what is in a directory.
///
/// `is_last` says that the directory is the place itself, and not one above it. There, the sticky bit is not
/// enough: it keeps files from being replaced, but a new file is as bad as a replaced one.
fn changer(seen: &Seen, is_last: bool) -> Option<By> {
    let is_sticky = seen.mode & STICKY != 0 && !is_last;
    if seen.uid != 0 {
        Some(By::Owner(seen.uid))
    } else if seen.mode & OTHERS_WRITE != 0 && !is_sticky {
        Some(By::Writers(seen.mode))
    } else {
        None
    }
}

/// Refuses a place for root's scan directory if others than root can change it: root would run the services
/// that they put there.
///
/// What is missing is no danger: this program makes it, or fails if somebody else has made it first.
pub fn only_root_changes(place: &Path) -> Result<()> {
    match walk(Path::new("/"), place, &look, false)? {
        Way::Roots(_) => Ok(()),
        Way::Changeable(changeable) => Err(changeable.refuse(
            "root would run what others put there",
            "use a new directory beneath one of root's, or one that belongs to the user of the gateways",
        )),
    }
}

/// The depth of a service directory: `gateway-x/log/supervise/control`.
const SERVICE_DEPTH: usize = 3;

/// The beginning of the names of FIFOs in `event/`, which exist while a process listens for events. The listener
/// makes them writable for everybody (<https://skarnet.org/software/s6/libs6/ftrigr.html>).
const LISTENER: &[u8] = b"ftrig1:";

/// Refuses a service directory or file that somebody other than root owns or can change: root runs its scripts.
pub fn require_root_owned(dir: &Dir, name: &OsStr) -> Result<()> {
    require_root_owned_from(dir, name, 0)
}

fn require_root_owned_from(dir: &Dir, name: &OsStr, depth: usize) -> Result<()> {
    let path = || dir.path().join(name);
    let stat = match statat(dir, Path::new(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        // s6-supervise replaces its status file by a rename, and slots are removed: a file that is gone is
        // not run.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(Error::system("stat", path(), errno)),
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_roots = only_root_owns_and_changes(name, kind, stat.st_uid, stat.st_gid, stat.st_mode);
    if !is_roots || depth > SERVICE_DEPTH {
        let path = shown(&path());
        return Err(Error::new(
            Code::Usage,
            format!("{path} is not root's alone, and root would run what is in it"),
        )
        .remedy("use a new, empty scan directory"));
    }
    if kind == FileType::Directory {
        let inner = match dir.dir(name) {
            Err(error) if error.is_not_found() => return Ok(()),
            inner => inner?,
        };
        let names = match inner.names() {
            Err(error) if error.is_not_found() => return Ok(()),
            names => names?,
        };
        for name in names {
            require_root_owned_from(&inner, &name, depth + 1)?;
        }
    }
    Ok(())
}

/// Tells whether only root owns and can change a file of a service directory.
fn only_root_owns_and_changes(name: &OsStr, kind: FileType, uid: u32, gid: u32, mode: u32) -> bool {
    // The group of hermes may write to the control FIFO. Writing to the FIFO of a listener wakes the listener, and
    // does nothing else. s6 makes event/ writable for a group, that of root.
    let is_fifo = kind == FileType::Fifo;
    let is_listener = is_fifo && name.as_encoded_bytes().starts_with(LISTENER);
    let group_writes = mode & 0o020 != 0 && gid != 0 && !is_fifo;
    let everybody_writes = mode & 0o002 != 0 && !is_listener;
    uid == 0 && kind != FileType::Symlink && !everybody_writes && !group_writes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(uid: u32, mode: u32) -> Seen {
        let link = None;
        Seen { uid, mode, link }
    }

    #[test]
    fn a_directory_can_be_changed_by_its_owner_and_by_those_who_may_write_in_it() {
        #[rustfmt::skip]
        let rows = [
            (0, 0o755, true, None, "root's own directory"),
            (0, 0o755, false, None, "and one above the place"),
            (10_000, 0o755, false, Some(By::Owner(10_000)), "one of another user"),
            (10_000, 0o500, false, Some(By::Owner(10_000)), "who can give himself the right to write"),
            (10_000, 0o1755, false, Some(By::Owner(10_000)), "whatever the sticky bit says"),
            (0, 0o775, false, Some(By::Writers(0o775)), "one that a group may write in"),
            (0, 0o757, false, Some(By::Writers(0o757)), "or everybody"),
            (0, 0o1777, false, None, "/tmp on the way: what is root's in it stays"),
            (0, 0o1777, true, Some(By::Writers(0o1777)), "/tmp as the place: a new name can come"),
        ];
        for (uid, mode, is_last, expected, sentence) in rows {
            assert_eq!(changer(&seen(uid, mode), is_last), expected, "{sentence}");
        }
    }

    /// A file system: each line has a path, the owner, the mode, and behind an arrow where a link leads.
    const FILES: &str = "
        / 0 755
        /usr 0 755
        /usr/bin 0 755
        /usr/bin/s6-svc 0 755
        /usr/bin/mine 1000 755
        /usr/bin/all 0 757
        /bin 0 777 > usr/bin
        /home 0 755
        /home/ada 1000 755
        /home/ada/bin 0 777 > /usr/bin
        /tmp 0 1777
        /tmp/roots 0 755
        /tmp/bin 0 777 > /usr/bin
        /tmp/theirs 1000 777 > /usr/bin
        /sticky 0 777 > /tmp
        /via 0 777 > /home/ada/bin
        /up 0 777 > usr/../home/../bin
        /strange 1000 777 > /usr/bin
        /round 0 777 > round
        /command 0 755
        /command/s6-svc 0 777 > ../package/s6/command/s6-svc
        /package 0 755
        /package/s6 0 777 > s6-2.13
        /package/s6-2.13 0 755
        /package/s6-2.13/command 0 755
        /package/s6-2.13/command/s6-svc 0 755
        /gone 0 777 > /usr/none/at/all";

    fn imagine(path: &Path) -> Result<Option<Seen>> {
        if path.starts_with("/broken") {
            return Err(Error::system("stat", path, Errno::IO));
        }
        let line = FILES
            .lines()
            .find_map(|line| line.trim().strip_prefix(path.to_str()?)?.strip_prefix(' '));
        Ok(line.map(|line| {
            let mut words = line.split([' ', '>']).filter(|word| !word.is_empty());
            let number = |word: Option<&str>, radix| {
                u32::from_str_radix(word.unwrap_or_default(), radix).unwrap_or(1)
            };
            let (uid, mode) = (number(words.next(), 10), number(words.next(), 8));
            Seen {
                uid,
                mode,
                link: words.next().map(PathBuf::from),
            }
        }))
    }

    #[test]
    fn every_directory_and_every_link_on_the_way_is_roots() {
        #[rustfmt::skip]
        let rows = [
            ("/usr/bin", "/usr/bin", "a directory of root's"),
            ("/bin", "/usr/bin", "by a link of root's, beneath root's"),
            ("/up", "/usr/bin", "by several, and upwards"),
            ("/usr/bin/s6-svc", "/usr/bin/s6-svc", "a program"),
            ("/usr/bin/mine", "/usr/bin/mine belongs to uid 1000", "a program of somebody else in root's directory"),
            ("/usr/bin/all", "/usr/bin/all can be changed by others than root (mode 0757)", "or one that all may write"),
            ("/command/s6-svc", "/package/s6-2.13/command/s6-svc", "as s6-overlay has them"),
            ("/home/ada/bin", "/home/ada belongs to uid 1000", "who can replace the link, although it leads to root's"),
            ("/via", "/home/ada belongs to uid 1000", "a link to such a link"),
            ("/tmp/bin", "/usr/bin", "a link of root's in /tmp: nobody else can replace it"),
            ("/tmp/theirs", "/tmp/theirs belongs to uid 1000", "a link of somebody else's there, who can"),
            ("/strange", "/usr/bin", "one in a directory of root's, which its owner cannot replace"),
            ("/tmp/roots", "/tmp/roots", "a directory of root's in /tmp"),
            ("/tmp", "/tmp can be changed by others than root (mode 1777)", "/tmp itself"),
            ("/sticky", "/tmp can be changed by others than root (mode 1777)", "also by a link"),
            ("/sticky/roots", "/tmp/roots", "by which one of root's can be reached"),
            ("/usr/new/service", "/usr/new/service", "what is not there yet, and root makes"),
            ("/gone/too", "/usr/none/at/all/too", "by a link too"),
            ("/tmp/new", "/tmp can be changed by others than root (mode 1777)", "what others can make"),
            ("/home/ada/new", "/home/ada belongs to uid 1000", "or somebody else first"),
            ("/", "/", "the root"),
            ("/round", "unable to resolve /round: Too many levels of symbolic links", "a link to itself"),
            ("/broken/bin", "unable to stat /broken: Input/output error", "a failed look is no answer"),
        ];
        for (place, expected, sentence) in rows {
            let found = match walk(Path::new("/"), Path::new(place), &imagine, true) {
                Ok(Way::Roots(place)) => shown(&place),
                Ok(Way::Changeable(changeable)) => changeable.to_string(),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected, "{place}: {sentence}");
        }
        let to_be_made = walk(Path::new("/"), Path::new("/tmp/new"), &imagine, false);
        assert_eq!(to_be_made.ok(), Some(Way::Roots("/tmp/new".into())));
        let from_there = |name: &str| walk(Path::new("/command"), Path::new(name), &imagine, true);
        let svc = from_there("s6-svc").ok();
        assert_eq!(
            svc,
            Some(Way::Roots("/package/s6-2.13/command/s6-svc".into()))
        );
    }

    #[test]
    fn a_namespace_knows_all_ids_or_one_stands_for_the_others() {
        let rows = [
            ("         0          0 4294967295\n", true, "the first one"),
            ("         0       1000          1\n", false, "unshare -Ur"),
            (
                "         0       1000          1\n         1     100000      65536\n",
                false,
                "podman",
            ),
            ("", false, "not set up yet"),
        ];
        for (map, expected, sentence) in rows {
            assert_eq!(knows_all_ids(map), expected, "{sentence}");
        }
    }

    #[test]
    fn a_file_of_a_service_is_roots_alone_unless_somebody_else_has_made_it_or_may_write() {
        use FileType::{Directory, Fifo, RegularFile, Symlink};
        #[rustfmt::skip]
        let rows = [
            ("run", RegularFile, 0, 0, 0o755, true, "a script"),
            ("run", RegularFile, 10_000, 0, 0o755, false, "a script of hermes'"),
            ("run", RegularFile, 0, 10_000, 0o754, true, "readable for hermes' group"),
            ("run", RegularFile, 0, 10_000, 0o774, false, "writable for it"),
            ("run", RegularFile, 0, 0, 0o757, false, "writable for everybody"),
            ("run", Symlink, 0, 0, 0o777, false, "a link, wherever it leads"),
            ("event", Directory, 0, 0, 0o3730, true, "as s6 makes it"),
            ("event", Directory, 0, 10_000, 0o3730, false, "for hermes' group"),
            ("control", Fifo, 0, 10_000, 0o620, true, "for hermes' group"),
            ("control", Fifo, 0, 10_000, 0o622, false, "for everybody"),
            ("ftrig1:@4000:x", Fifo, 0, 0, 0o622, true, "a listener of root's, whom everybody may wake"),
            ("ftrig1:@4000:x", Fifo, 10_000, 0, 0o622, false, "somebody else's"),
            ("ftrig1:@4000:x", RegularFile, 0, 0, 0o622, false, "a file of such a name"),
        ];
        for (name, kind, uid, gid, mode, expected, sentence) in rows {
            let is_roots = only_root_owns_and_changes(OsStr::new(name), kind, uid, gid, mode);
            assert_eq!(is_roots, expected, "{name}: {sentence}");
        }
    }
}
