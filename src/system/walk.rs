//! Walks a path name by name, as the kernel does; what is looked at on the way is the caller's matter.

use std::path::{Component, Path, PathBuf};

use crate::error::Result;

/// The number of links after which the kernel gives up too.
const MOST_LINKS: usize = 40;

/// What a name on the way is to the walk.
pub enum Step<T> {
    /// The walk goes on below it.
    Into,
    /// It is a link with this target.
    Link(PathBuf),
    /// The walk ends here.
    End(T),
}

/// How a walk has ended.
pub enum Walked<T> {
    /// With the whole path: here it leads, without links.
    At(PathBuf),
    /// By a step.
    End(T),
    /// There are too many links.
    Loop,
}

/// Walks along `place`, from a directory `from` whose path has no links. `step` is given the directory, the path of the
/// name in it, and what is left of `place` behind that.
pub fn walk<T>(
    from: &Path,
    place: &Path,
    mut step: impl FnMut(&Path, &Path, &Path) -> Result<Step<T>>,
) -> Result<Walked<T>> {
    let mut links = 0;
    let mut at = from.to_owned();
    let mut ahead = place.to_owned();
    loop {
        let mut components = ahead.components();
        let Some(component) = components.next() else {
            return Ok(Walked::At(at));
        };
        let behind = components.as_path().to_owned();
        match component {
            Component::RootDir => at = PathBuf::from("/"),
            Component::ParentDir => {
                at.pop();
            }
            Component::Normal(name) => {
                let inside = at.join(name);
                match step(&at, &inside, &behind)? {
                    Step::Into => at = inside,
                    Step::Link(target) => {
                        links += 1;
                        if links > MOST_LINKS {
                            return Ok(Walked::Loop);
                        }
                        ahead = target.join(behind);
                        continue;
                    }
                    Step::End(end) => return Ok(Walked::End(end)),
                }
            }
            Component::CurDir | Component::Prefix(_) => {}
        }
        ahead = behind;
    }
}
