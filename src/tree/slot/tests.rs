//! Slots as directories: written, changed, and compared with what they should be.

use std::error::Error;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::{fs, io};

use super::*;
use crate::system::beneath::scratch::{Scratch, directory, file};

type Tested = std::result::Result<(), Box<dyn Error>>;

/// A small slot with a file in each directory but `env`.
fn files() -> Files {
    let file = |mode, content: &str| File {
        mode,
        content: content.as_bytes().to_vec(),
    };
    Files::from([
        ("run", file(0o755, "run\n")),
        ("type", file(0o644, "longrun\n")),
        ("log/run", file(0o755, "log\n")),
        (MARKER, file(0o644, "digest\n")),
    ])
}

#[test]
fn a_new_slot_has_its_files_and_directories_whatever_the_umask_says() -> Tested {
    let scratch = Scratch::new("slot-new")?;
    let slot = write_new(&scratch.dir()?, "slot", &files())?;
    assert_eq!(slot.path(), scratch.path().join("slot"));
    assert_eq!(
        scratch.entries()?,
        [
            file("slot/data/hermes-s6", "digest\n", 0o644),
            file("slot/log/run", "log\n", 0o755),
            file("slot/run", "run\n", 0o755),
            file("slot/type", "longrun\n", 0o644),
            directory("slot", 0o755),
            directory("slot/data", 0o755),
            // The run script reads it, also where it is empty.
            directory("slot/env", 0o755),
            directory("slot/log", 0o755),
        ]
    );
    assert_eq!(
        compare(&slot, &files()),
        Difference::default(),
        "what was written is what should be there"
    );
    Ok(())
}

#[test]
fn a_new_slot_is_not_written_over_another_one() -> Tested {
    let scratch = Scratch::new("slot-over")?;
    scratch.make(&[
        directory("slot", 0o755),
        file("slot/type", "other\n", 0o600),
    ])?;
    let written = write_new(&scratch.dir()?, "slot", &files());
    assert!(written.is_err(), "{written:?}");
    let other = file("slot/type", "other\n", 0o600);
    assert!(scratch.entries()?.contains(&other), "it stays as it was");
    Ok(())
}

#[test]
fn a_file_is_put_into_a_slot_in_the_place_of_the_old_one() -> Tested {
    let new = File {
        mode: 0o755,
        content: b"new\n".to_vec(),
    };
    for (before, path, after, sentence) in [
        (
            vec![],
            "run",
            vec![file("run", "new\n", 0o755)],
            "there is none",
        ),
        (
            vec![file("run", "old\n", 0o600)],
            "run",
            vec![file("run", "new\n", 0o755)],
            "there is one, with another mode",
        ),
        (
            vec![directory("log", 0o755), file("log/run", "old\n", 0o755)],
            "log/run",
            vec![file("log/run", "new\n", 0o755), directory("log", 0o755)],
            "it is in a directory",
        ),
        (
            vec![],
            "env/API_SERVER_PORT",
            vec![
                file("env/API_SERVER_PORT", "new\n", 0o755),
                directory("env", 0o755),
            ],
            "somebody has removed the directory",
        ),
    ] {
        let scratch = Scratch::new("slot-put")?;
        scratch.make(&before)?;
        put(&scratch.dir()?, path, &new)?;
        assert_eq!(scratch.entries()?, after, "{sentence}");
    }
    Ok(())
}

/// What somebody has done to a slot, the outdated files, the debris, and what the row is about.
type Row = (
    fn(&Path) -> io::Result<()>,
    &'static [&'static str],
    &'static [&'static str],
    &'static str,
);

fn compare_all(test: &str, rows: &[Row]) -> Tested {
    for (change, outdated, debris, sentence) in rows {
        let scratch = Scratch::new(test)?;
        let slot = write_new(&scratch.dir()?, "slot", &files())?;
        change(slot.path())?;
        let difference = compare(&slot, &files());
        assert_eq!(difference.outdated, *outdated, "{sentence}");
        assert_eq!(difference.debris, *debris, "{sentence}");
    }
    Ok(())
}

#[test]
fn a_file_is_outdated_unless_it_has_its_mode_and_content() -> Tested {
    compare_all(
        "slot-outdated",
        &[
            (|_| Ok(()), &[], &[], "nothing was done"),
            (
                |slot| fs::write(slot.join("run"), "ran\n"),
                &["run"],
                &[],
                "other content of the same length",
            ),
            (
                |slot| fs::write(slot.join("run"), "run\n\n"),
                &["run"],
                &[],
                "a byte more",
            ),
            (
                |slot| fs::write(slot.join("run"), ""),
                &["run"],
                &[],
                "nothing in it",
            ),
            (
                |slot| fs::set_permissions(slot.join("run"), fs::Permissions::from_mode(0o644)),
                &["run"],
                &[],
                "another mode",
            ),
            (
                |slot| fs::set_permissions(slot.join("run"), fs::Permissions::from_mode(0o4755)),
                &["run"],
                &[],
                "a bit that should not be there",
            ),
            (
                |slot| fs::remove_file(slot.join("log/run")),
                &["log/run"],
                &[],
                "it is missing",
            ),
            (
                |slot| {
                    fs::rename(slot.join("run"), slot.join("other"))?;
                    symlink("other", slot.join("run"))
                },
                &["run"],
                &[],
                "a link to what should be there",
            ),
            (
                |slot| {
                    fs::remove_file(slot.join("run"))?;
                    fs::create_dir(slot.join("run"))
                },
                &["run"],
                &[],
                "a directory in its place",
            ),
            (
                |slot| fs::remove_dir_all(slot.join("log")),
                &["log/run"],
                &[],
                "its directory is missing",
            ),
            (
                |slot| {
                    fs::rename(slot.join("log"), slot.join("other"))?;
                    symlink("other", slot.join("log"))
                },
                &["log/run"],
                &[],
                "its directory is a link",
            ),
            (
                |slot| fs::remove_dir_all(slot),
                &["data/hermes-s6", "log/run", "run", "type"],
                &[],
                "the slot is gone",
            ),
        ],
    )
}

#[test]
fn what_else_lies_in_a_slot_is_not_looked_at_but_for_debris() -> Tested {
    compare_all(
        "slot-debris",
        &[
            (
                |slot| fs::write(slot.join(".run.hermes-s6-0123456789abcdef"), ""),
                &[],
                &[".run.hermes-s6-0123456789abcdef"],
                "a file of ours half written",
            ),
            (
                |slot| fs::write(slot.join("log/.run.hermes-s6-0123456789abcdef"), ""),
                &[],
                &["log/.run.hermes-s6-0123456789abcdef"],
                "in a directory",
            ),
            (
                |slot| fs::write(slot.join(".down.hermes-s6-0123456789abcdef"), ""),
                &[],
                &[".down.hermes-s6-0123456789abcdef"],
                "the down file, which is ours too",
            ),
            (
                |slot| symlink("none", slot.join(".run.hermes-s6-0123456789abcdef")),
                &[],
                &[".run.hermes-s6-0123456789abcdef"],
                "a link in such a place",
            ),
            (
                |slot| {
                    fs::write(slot.join(".run.hermes-s6-0123456789abcdef"), "")?;
                    fs::write(slot.join("run"), "")
                },
                &["run"],
                &[".run.hermes-s6-0123456789abcdef"],
                "both at once",
            ),
            (
                |slot| fs::create_dir(slot.join("log/.run.hermes-s6-0123456789abcdef")),
                &[],
                &[],
                "a directory, which no writer of ours has made",
            ),
            (
                |slot| fs::write(slot.join(".other.hermes-s6-0123456789abcdef"), ""),
                &[],
                &[],
                "of somebody else",
            ),
            (
                |slot| fs::write(slot.join("data/.run.hermes-s6-0123456789abcdef"), ""),
                &[],
                &[],
                "where no file of ours would be",
            ),
            (
                |slot| {
                    fs::write(slot.join("down"), "")?;
                    fs::write(slot.join("env/OTHER"), "")
                },
                &[],
                &[],
                "files that are not of the form",
            ),
            (
                |slot| {
                    fs::create_dir(slot.join("supervise"))?;
                    fs::write(slot.join("supervise/.run.hermes-s6-0123456789abcdef"), "")?;
                    fs::create_dir(slot.join("log/supervise"))?;
                    fs::write(
                        slot.join("log/supervise/.run.hermes-s6-0123456789abcdef"),
                        "",
                    )
                },
                &[],
                &[],
                "what s6 keeps there",
            ),
        ],
    )
}
