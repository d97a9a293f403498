//! The programs that Hermes and its agent keep for themselves, on the volume.

use std::env::{join_paths, split_paths};
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Where they lie, in the data root: `hermes profile create coder` makes `coder` there, which runs `hermes -p coder`.
const PROGRAMS: &str = ".local/bin";

/// Gives a `PATH` whose last directory is that of the programs in a data root; `None` if it needs no change.
///
/// Only for processes that have root's rights no longer: whoever writes the volume says what lies there.
pub fn path_with_programs(path: &OsStr, data_root: &Path) -> Option<OsString> {
    let programs = data_root.join(PROGRAMS);
    let mut places: Vec<_> = split_paths(path).collect();
    if places.contains(&programs) {
        return None;
    }
    places.push(programs);
    // A data root with a colon in its name cannot be in PATH.
    join_paths(places).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(before: &str, data_root: &str) -> Option<OsString> {
        path_with_programs(OsStr::new(before), Path::new(data_root))
    }

    #[test]
    fn programs_on_the_volume_come_last() {
        let after = OsString::from("/usr/bin:/bin:/opt/data/.local/bin");
        assert_eq!(path("/usr/bin:/bin", "/opt/data"), Some(after));
    }

    #[test]
    fn a_path_that_has_them_or_cannot_have_them_stays() {
        assert_eq!(path("/opt/data/.local/bin:/bin", "/opt/data"), None);
        assert_eq!(path("/bin", "/opt/my:data"), None);
    }
}
