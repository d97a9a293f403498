//! What each writer does with what lies in its place.

use std::error::Error;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::*;
use crate::system::beneath::scratch::{Entry, Scratch, directory, file, link};

type Tested = std::result::Result<(), Box<dyn Error>>;

/// What a writer did.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    /// What it was asked to.
    Wrote,
    /// Nothing, which it says.
    Refused,
    /// Nothing, which is an error.
    Failed,
}
use Did::{Failed, Refused, Wrote};

impl Did {
    fn of(result: &Result<bool>) -> Self {
        match result {
            Ok(true) => Wrote,
            Ok(false) => Refused,
            Err(_) => Failed,
        }
    }
}

/// What lies in the directory, what is to come of it, what lies there afterwards, and what the row is about.
type Row = (Vec<Entry>, Did, Vec<Entry>, &'static str);

/// Lets a writer write `x` into a directory with each row's content, and compares all that is there then.
fn write_into<const N: usize>(
    test: &str,
    write: impl Fn(&Dir) -> Result<bool>,
    rows: [Row; N],
) -> Tested {
    for (before, did, after, sentence) in rows {
        let scratch = Scratch::new(test)?;
        scratch.make(&before)?;
        let result = write(&scratch.dir()?);
        assert_eq!(Did::of(&result), did, "{sentence}: {result:?}");
        assert_eq!(scratch.entries()?, after, "{sentence}");
    }
    Ok(())
}

fn old() -> Entry {
    file("x", "old", 0o640)
}

/// What must not be written to by way of a link to it.
fn other() -> Entry {
    file("other", "other", 0o640)
}

#[test]
fn a_file_has_a_name_of_its_own_until_it_is_whole() {
    for (name, shown, sentence) in [
        ("run", "run", "hidden, so that s6 passes it over"),
        (".env", "env", "a hidden one has no second dot"),
        ("a.b", "a.b", "a dot inside stays"),
    ] {
        let temporary = aside(name);
        assert!(temporary.starts_with(&format!(".{shown}.")), "{sentence}");
        assert_eq!(written_aside(&temporary), Some(shown), "{sentence}");
        assert_ne!(aside(name), temporary, "another writer has another name");
    }
    for (name, sentence) in [
        ("run.hermes-s6-0123456789abcdef", "not hidden"),
        (".run.hermes-s6-0123456789abcde", "a digit less"),
        (".run.hermes-s6-0123456789abcdef0", "a digit more"),
        (".run.hermes-s6-0123456789abcdeF", "no digit of ours"),
        (".run.new", "of somebody else"),
        (".hermes-s6-new-gateway-coder", "a slot that is built"),
        (".hermes-s6.lock", "a lock"),
    ] {
        assert_eq!(written_aside(name), None, "{name}: {sentence}");
    }
}

#[test]
fn create_writes_a_new_file_in_place() -> Tested {
    let row = |before: Vec<Entry>, sentence| (before.clone(), Failed, before, sentence);
    write_into(
        "create",
        |dir| dir.create("x", b"new", 0o777).map(|()| true),
        [
            (
                vec![],
                Wrote,
                vec![file("x", "new", 0o777)],
                "with its mode, whatever the umask says",
            ),
            row(vec![old()], "not over another file"),
            row(vec![other(), link("x", "other")], "nor through a link"),
            row(vec![link("x", "none")], "also where that leads nowhere"),
            row(vec![directory("x", 0o755)], "nor over a directory"),
        ],
    )
}

#[test]
fn create_new_names_a_file_only_when_it_is_whole() -> Tested {
    let row = |before: Vec<Entry>, sentence| (before.clone(), Refused, before, sentence);
    let new = || file("x", "new", 0o644);
    write_into(
        "create-new",
        |dir| dir.create_new("x", b"new"),
        [
            (vec![], Wrote, vec![new()], "there is none"),
            row(vec![old()], "another file stays"),
            row(vec![link("x", "none")], "so does a link"),
            row(vec![directory("x", 0o755)], "and a directory"),
        ],
    )
}

/// Tests a way to put a new file with this mode in the place of whatever has its name.
fn a_new_file_takes_the_place(
    label: &str,
    write: impl Fn(&Dir) -> Result<()>,
    mode: u32,
) -> Tested {
    let new = || file("x", "new", mode);
    write_into(
        label,
        |dir| write(dir).map(|()| true),
        [
            (vec![], Wrote, vec![new()], "there is none"),
            (vec![old()], Wrote, vec![new()], "the mode is new, too"),
            (
                vec![other(), link("x", "other")],
                Wrote,
                vec![other(), new()],
                "a link goes, and what it leads to stays",
            ),
            (
                vec![directory("x", 0o755)],
                Failed,
                vec![directory("x", 0o755)],
                "a directory is not removed, and nothing else is left",
            ),
        ],
    )
}

#[test]
fn replace_puts_a_new_file_in_the_place_of_the_old_one() -> Tested {
    a_new_file_takes_the_place("replace", |dir| dir.replace("x", b"new"), 0o644)
}

#[test]
fn replace_passing_does_the_same_with_a_mode() -> Tested {
    let write = |dir: &Dir| dir.replace_passing("x", b"new", 0o755);
    a_new_file_takes_the_place("replace-passing", write, 0o755)
}

#[test]
fn rewrite_keeps_the_mode_of_a_file() -> Tested {
    write_into(
        "rewrite",
        |dir| dir.rewrite("x", b"new", dir.version("x")?, None),
        [
            (
                vec![],
                Wrote,
                vec![file("x", "new", 0o600)],
                "a new one is its owner's alone",
            ),
            (vec![old()], Wrote, vec![file("x", "new", 0o640)], "its own"),
            (
                vec![file("x", "old", 0o4777)],
                Wrote,
                vec![file("x", "new", 0o777)],
                "but not the right to run as its owner",
            ),
            (
                vec![other(), link("x", "other")],
                Wrote,
                vec![other(), file("x", "new", 0o600)],
                "a link has none, and what it leads to does not count",
            ),
        ],
    )
}

#[test]
fn rewrite_leaves_a_file_alone_that_is_not_the_one_that_was_read() -> Tested {
    let write = |other: fn(&Dir) -> Result<()>| {
        move |dir: &Dir| {
            let seen = dir.version("x")?;
            other(dir)?;
            dir.rewrite("x", b"new", seen, None)
        }
    };
    write_into(
        "rewrite-replaced",
        write(|dir| dir.replace_passing("x", b"old", 0o600)),
        [
            (
                vec![old()],
                Refused,
                vec![file("x", "old", 0o600)],
                "another file has come, with the same content",
            ),
            (
                vec![],
                Refused,
                vec![file("x", "old", 0o600)],
                "one has come where there was none",
            ),
        ],
    )?;
    write_into(
        "rewrite-appended",
        write(|dir| dir.append("x", b"er")),
        [(
            vec![old()],
            Refused,
            vec![file("x", "older", 0o640)],
            "it was written to",
        )],
    )?;
    write_into(
        "rewrite-removed",
        write(|dir| dir.remove("x")),
        [(vec![old()], Refused, vec![], "it was removed: it stays so")],
    )
}

#[test]
fn rewrite_puts_the_old_file_aside_when_the_new_one_is_whole() -> Tested {
    let kept = || file("x.old", "old", 0o640);
    let new = || file("x", "new", 0o640);
    write_into(
        "rewrite-kept",
        |dir| dir.rewrite("x", b"new", dir.version("x")?, Some("x.old")),
        [
            (vec![old()], Wrote, vec![new(), kept()], "with its name"),
            (
                vec![old(), file("x.old", "older", 0o600)],
                Wrote,
                vec![new(), kept()],
                "in the place of an earlier one",
            ),
            (
                vec![old(), directory("x.old", 0o755)],
                Failed,
                vec![old(), directory("x.old", 0o755)],
                "where that cannot be, it stays in its place",
            ),
        ],
    )
}

#[test]
fn a_writer_sweeps_what_killed_ones_have_left_and_nothing_else() -> Tested {
    let hour = Duration::from_secs(60 * 60);
    let long_ago = SystemTime::now() - 2 * hour;
    let temporary = |name: &str| format!(".{name}.hermes-s6-0123456789abcdef");
    #[rustfmt::skip]
    let rows = [
        (temporary("x"), long_ago, false, "its own, of long ago"),
        (temporary("y"), long_ago, false, "that of another file"),
        (temporary("x"), SystemTime::now(), true, "one that another container may be writing"),
        (temporary("x"), SystemTime::now() + hour, true, "one whose age cannot be told"),
        (".x.new".to_owned(), long_ago, true, "what we have not made"),
    ];
    for (name, written, stays, sentence) in rows {
        let scratch = Scratch::new("sweep")?;
        scratch.make(&[file(&name, "half", 0o644)])?;
        let place = scratch.path().join(&name);
        File::options()
            .append(true)
            .open(&place)?
            .set_modified(written)?;
        scratch.dir()?.replace("x", b"new")?;
        assert_eq!(place.exists(), stays, "{sentence}");
    }
    Ok(())
}

#[test]
fn rewrite_keeps_the_owner_of_a_file_where_we_may_give_it() -> Tested {
    let scratch = Scratch::new("owner")?;
    scratch.make(&[old()])?;
    let place = scratch.path().join("x");
    if chown(&place, Some(12_345), Some(12_346)).is_err() {
        // Only root gives files away.
        return Ok(());
    }
    let dir = scratch.dir()?;
    assert!(dir.rewrite("x", b"new", dir.version("x")?, None)?);
    let meta = std::fs::metadata(&place)?;
    assert_eq!((meta.uid(), meta.gid()), (12_345, 12_346));
    assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
    Ok(())
}

#[test]
fn who_has_the_old_file_open_reads_it_to_its_end() -> Tested {
    type Writer = fn(&Dir) -> Result<()>;
    let replace: Writer = |dir| dir.replace("x", b"new");
    let passing: Writer = |dir| dir.replace_passing("x", b"new", 0o644);
    let rewrite: Writer = |dir| dir.rewrite("x", b"new", dir.version("x")?, None).map(drop);
    for (write, sentence) in [
        (replace, "replace"),
        (passing, "replace_passing"),
        (rewrite, "rewrite"),
    ] {
        let scratch = Scratch::new("open")?;
        scratch.make(&[old()])?;
        let dir = scratch.dir()?;
        let mut reader = dir.file("x", OFlags::RDONLY)?;
        write(&dir)?;
        let mut content = String::new();
        reader.read_to_string(&mut content)?;
        assert_eq!(content, "old", "{sentence}");
        let now = dir.read("x", 3).unwrap_or_default();
        assert_eq!(now, b"new", "{sentence}");
    }
    Ok(())
}

#[test]
fn a_writer_names_the_file_that_it_was_to_write() -> Tested {
    let scratch = Scratch::new("named")?;
    let long = "y".repeat(255);
    scratch.make(&[directory("x", 0o755)])?;
    let dir = scratch.dir()?;
    for (result, name, sentence) in [
        (dir.replace("x", b"new"), "x", "where the rename fails"),
        (dir.replace(&long, b"new"), &long, "not by its passing name"),
        (dir.create("x", b"new", 0o644), "x", "where it is in place"),
    ] {
        let place = scratch.path().join(name);
        let text = result.map_err(|error| error.to_string());
        let begins = format!("unable to write {}: ", place.display());
        let is_named = matches!(&text, Err(text) if text.starts_with(&begins));
        assert!(is_named, "{sentence}: {text:?}");
    }
    Ok(())
}

#[test]
fn a_version_differs_from_every_other_one_of_its_name() -> Tested {
    type Change = fn(&Path) -> std::io::Result<()>;
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let nothing: Change = |_| Ok(());
    // Each of these with the old time, as if the clock had stood still.
    let longer: Change = |place| std::fs::write(place, "older");
    let another: Change = |place| {
        std::fs::rename(place, place.with_extension("old"))?;
        std::fs::write(place, "old")
    };
    let mode: Change =
        |place| std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o600));
    for (change, seconds, is_same, sentence) in [
        (nothing, 1, true, "nothing was done"),
        (mode, 1, true, "its mode is not what is in it"),
        (nothing, 2, false, "it was written to at another time"),
        (longer, 1, false, "it is longer"),
        (another, 1, false, "it is another file"),
    ] {
        let scratch = Scratch::new("version")?;
        scratch.make(&[old()])?;
        let (dir, place) = (scratch.dir()?, scratch.path().join("x"));
        let touch = |time| {
            File::options()
                .append(true)
                .open(&place)?
                .set_modified(time)
        };
        touch(at(1))?;
        let seen = dir.version("x")?;
        change(&place)?;
        touch(at(seconds))?;
        assert_eq!(dir.version("x")? == seen, is_same, "{sentence}");
    }
    let scratch = Scratch::new("version-link")?;
    scratch.make(&[other(), link("x", "other"), link("y", "none")])?;
    let dir = scratch.dir()?;
    assert_ne!(dir.version("x")?, dir.version("other")?, "a link is itself");
    assert_ne!(dir.version("y")?, None, "also where it leads nowhere");
    assert_eq!(dir.version("z")?, None, "there is none");
    let too_long = "z".repeat(256);
    let failed = dir.version(&too_long);
    assert!(
        failed.is_err(),
        "a look that fails finds no file missing: {failed:?}"
    );
    let failed = dir.rewrite(&too_long, b"new", None, None);
    assert!(failed.is_err(), "nor does a writer: {failed:?}");
    Ok(())
}

#[test]
fn publish_replaces_a_file_and_nothing_else() -> Tested {
    let row = |before: Vec<Entry>, sentence| (before.clone(), Failed, before, sentence);
    let new = || file("x", "new", 0o644);
    write_into(
        "publish",
        |dir| dir.publish(OsStr::new("x"), b"new").map(|()| true),
        [
            (vec![], Wrote, vec![new()], "there is none"),
            (vec![old()], Wrote, vec![new()], "all may read the new one"),
            (
                vec![file(".x.new", "half", 0o600), old()],
                Wrote,
                vec![file(".x.new", "half", 0o600), new()],
                "what others write aside is theirs",
            ),
            row(vec![directory("x", 0o755)], "a directory stays"),
            row(vec![other(), link("x", "other")], "so does a link"),
            row(vec![link("x", "none")], "wherever it leads"),
        ],
    )
}

#[test]
fn a_way_without_links_leads_only_through_directories() -> Tested {
    let scratch = Scratch::new("without-links")?;
    scratch.make(&[
        directory("real", 0o755),
        file("file", "", 0o644),
        link("linked", "real"),
    ])?;
    let place = scratch.dir()?.path().canonicalize()?;
    for (path, is_open, sentence) in [
        ("", true, "the directory itself"),
        ("real", true, "one in it"),
        ("real/../real/./", true, "by a roundabout way"),
        ("linked", false, "a link is not followed at the end"),
        ("linked/../real", false, "nor on the way"),
        ("file", false, "a file is no directory"),
        ("none", false, "there is none"),
    ] {
        let opened = Dir::open_without_links(&place.join(path));
        assert_eq!(opened.is_ok(), is_open, "{sentence}: {opened:?}");
    }
    assert!(Dir::open_without_links(Path::new("src/system")).is_ok());
    Ok(())
}
