//! Which file system a path lies on, found without a look at that file system: if its server or daemon has stopped, a
//! look never ends, and the process that looks cannot even be killed.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::system::process::proc_bytes;
use crate::system::trust::is_not_there;
use crate::system::walk::{Step, Walked, walk};

/// The types of file systems that answer without anybody else's help: the kernel alone serves them.
const LOCAL: [&str; 29] = [
    "aufs", "bcachefs", "btrfs", "devtmpfs", "efivarfs", "erofs", "exfat", "ext2", "ext3", "ext4",
    "f2fs", "hfsplus", "iso9660", "jfs", "nilfs2", "ntfs3", "overlay", "proc", "ramfs", "reiserfs",
    "rootfs", "shiftfs", "squashfs", "sysfs", "tmpfs", "ubifs", "vfat", "xfs", "zfs",
];

/// One mount, as a line of /proc/self/mountinfo has it.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    id: u32,
    /// The mount that this one lies on.
    parent: u32,
    point: PathBuf,
    /// The type of the file system, such as `ext4` or `fuse.sshfs`.
    kind: String,
}

impl Mount {
    fn is_local(&self) -> bool {
        LOCAL.contains(&self.kind.as_str())
    }
}

/// Tells whether a look at a place, or at what is mounted in it, may never end.
///
/// Where there is no /proc, nothing is said to hang; where it cannot be told, it may. A place is looked at once in a run.
pub fn may_hang(place: &Path) -> bool {
    static KNOWN: Mutex<Vec<(PathBuf, bool)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, answer)) = known.iter().find(|(known, _)| known == place) {
        return *answer;
    }
    let answer = match proc_bytes(Path::new("/proc/self/mountinfo")) {
        Ok(text) => {
            let whole = std::path::absolute(place).unwrap_or_else(|_| place.to_owned());
            is_on_another(&parse(&text), &whole, &|path| fs::read_link(path).ok())
        }
        Err(cause) if is_not_there(&cause) => false,
        Err(_) => return true,
    };
    known.push((place.to_owned(), answer));
    answer
}

/// Reads the lines of /proc/self/mountinfo, see proc(5).
fn parse(text: &[u8]) -> Vec<Mount> {
    let mount = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let mut field = || fields.next();
        let number = |field: &[u8]| str::from_utf8(field).ok()?.parse().ok();
        let (id, parent) = (number(field()?)?, number(field()?)?);
        let (_device, _inside) = (field()?, field()?);
        let point = unescaped(field()?);
        // Behind the options stand fields whose number is not fixed, up to a dash.
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Mount {
            id,
            parent,
            point,
            kind: String::from_utf8_lossy(kind).into_owned(),
        })
    };
    text.split(|byte| *byte == b'\n')
        .filter_map(mount)
        .collect()
}

/// Reads a path in which white space and backslashes stand as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *first == b'\\');
        let byte =
            digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[3..] } else { behind };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Gives the mount that is seen at a path without links.
fn mount_of<'m>(mounts: &'m [Mount], path: &Path) -> Option<&'m Mount> {
    let is_first = |mount: &&Mount| {
        mount.point == Path::new("/")
            && !mounts
                .iter()
                .any(|other| other.id == mount.parent && other.id != mount.id)
    };
    let mut seen = mounts.iter().find(is_first)?;
    let mut above: Vec<&Path> = path.ancestors().collect();
    above.reverse();
    for place in above {
        // What is mounted later at the same point lies on the earlier mount, and hides it.
        let is_here = |mount: &&Mount, on: &Mount| {
            mount.parent == on.id && mount.id != on.id && mount.point == place
        };
        while let Some(mount) = mounts.iter().find(|mount| is_here(mount, seen)) {
            seen = mount;
        }
    }
    Some(seen)
}

/// Tells whether a place lies on a file system that is not local, or has one mounted in it.
///
/// Walks from "/" on, and asks `link` for the target of each link on the way: only on local file systems.
fn is_on_another(mounts: &[Mount], place: &Path, link: &dyn Fn(&Path) -> Option<PathBuf>) -> bool {
    let is_local = |path: &Path| mount_of(mounts, path).is_none_or(Mount::is_local);
    let walked = walk(Path::new("/"), place, |at, inside, _| {
        Ok(if !is_local(at) {
            Step::End(())
        } else if mounts.iter().any(|mount| mount.point == inside) {
            Step::Into
        } else {
            link(inside).map_or(Step::Into, Step::Link)
        })
    });
    let at = match walked {
        Ok(Walked::At(at)) => at,
        Ok(Walked::End(())) | Err(_) => return true,
        // Nothing can be opened there.
        Ok(Walked::Loop) => return false,
    };
    let is_inside = |mount: &&Mount| mount.point.starts_with(&at) && !mount.is_local();
    !is_local(&at) || mounts.iter().any(|mount| is_inside(&mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"\
20 1 8:1 / / rw,relatime - overlay overlay rw
21 20 0:5 / /proc rw - proc proc rw
22 20 0:30 / /mnt/web rw,nosuid master:3 propagate_from:2 - fuse.sshfs host: rw,user_id=0
23 20 8:2 / /data rw shared:1 - ext4 /dev/sda2 rw
24 23 0:31 / /data/hermes/profiles/far rw - nfs4 host:/far rw
25 20 0:32 / /hidden/deep rw - fuse x rw
26 20 8:3 / /hidden rw - xfs /dev/sda3 rw
27 20 8:4 / /twice rw - ext4 /dev/sda4 rw
28 27 0:33 / /twice rw - virtiofs share rw
29 20 0:34 / /with\\040space rw - cifs //host/share rw
30 23 0:35 / /data/new rw - some-new-type x rw
";

    #[test]
    fn a_place_may_hang_if_somebody_else_than_the_kernel_serves_it() {
        let link = |path: &Path| {
            let target = match path.to_str()? {
                "/home" => "data/hermes",
                "/by-link" => "mnt/web/hermes",
                "/far" => "/home/profiles/far/x",
                "/up" => "/data/../mnt/web",
                "/round" => "round",
                path if path.starts_with("/mnt/web") => panic!("{path} is looked at"),
                _ => return None,
            };
            Some(PathBuf::from(target))
        };
        let mounts = parse(MOUNTS);
        #[rustfmt::skip]
        let rows = [
            ("/opt/data", false, "the container's own file system"),
            ("/mnt/web", true, "the mount itself"),
            ("/mnt/web/hermes/x", true, "and what is on it"),
            ("/mnt", true, "and what has it mounted inside"),
            ("/data/other", false, "a disk"),
            ("/data/hermes", true, "a disk, on which one profile is another's"),
            ("/data/hermes/profiles/coder", false, "the profile beside it"),
            ("/home/profiles/coder", false, "by a link"),
            ("/by-link/x", true, "by a link that leads there"),
            ("/far", true, "by two"),
            ("/up", true, "upwards"),
            ("/hidden/other", false, "a later mount"),
            ("/twice/x", true, "the last one of two at one place counts"),
            ("/with space/x", true, "a path with a space"),
            ("/data/new", true, "a type that is not known"),
            ("/round", false, "a link to itself leads nowhere"),
        ];
        for (place, expected, sentence) in rows {
            let found = is_on_another(&mounts, Path::new(place), &link);
            assert_eq!(found, expected, "{place}: {sentence}");
        }
        let deep = mount_of(&mounts, Path::new("/hidden/deep/x")).map(|mount| mount.id);
        assert_eq!(deep, Some(26), "a mount beneath a later one is not seen");
        assert!(
            !is_on_another(&[], Path::new("/x"), &link),
            "no mount is known"
        );
    }
}
