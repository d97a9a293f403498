//! Whom a scan directory is for.

use std::error::Error;
use std::fs;

use super::*;
use crate::system::beneath::scratch::{Scratch, directory, file, link};
use crate::system::root::Root;

fn settings(root: &Path, home: &str) -> Settings {
    Settings {
        root: Root::new(root),
        home: PathBuf::from(home),
        ..Settings::example()
    }
}

fn owner(settings: &Settings, home: &str, instance: String) -> Owner {
    let tools = Tools {
        s6: PathBuf::new(),
        execline: PathBuf::new(),
        hermes: PathBuf::new(),
        hermes_s6: PathBuf::new(),
    };
    Owner {
        home: PathBuf::from(home),
        instance,
        choices: Choices::new(settings, tools),
    }
}

#[test]
fn a_tree_serves_a_data_root_by_whatever_path_that_has() -> Result<(), Box<dyn Error>> {
    let scratch = Scratch::new("owner-serves")?;
    scratch.make(&[
        directory("data", 0o755),
        directory("other", 0o755),
        link("to-data", "data"),
        link("to-link", "to-data"),
        link("to-other", "other"),
        link("to-none", "none"),
        // Outside the root, this one would be found at "/".
        directory("proc", 0o755),
    ])?;
    for (made_for, home, serves, sentence) in [
        ("/data", "/data", true, "the same path"),
        ("/data", "/to-data", true, "a link to it"),
        ("/to-data", "/data", true, "it was made by a link"),
        ("/to-link", "/to-data", true, "two links"),
        ("/data", "/other", false, "another directory"),
        ("/data", "/to-other", false, "a link to another one"),
        ("/to-data", "/to-other", false, "two links to two of them"),
        ("/none", "/none", true, "the same path, where nothing is"),
        ("/none", "/gone", false, "two paths where nothing is"),
        ("/none", "/to-none", false, "a link that leads nowhere"),
        ("/data", "/none", false, "it is there, and the other is not"),
        ("/none", "/data", false, "the other way round"),
        ("/proc", "/data", false, "what is in the root counts"),
    ] {
        let settings = settings(scratch.path(), home);
        let owner = owner(&settings, made_for, String::new());
        assert_eq!(owner.serves(&settings).ok(), Some(serves), "{sentence}");
    }
    Ok(())
}

#[test]
fn an_instance_is_known_by_the_machines_start_and_that_of_pid_1() -> Result<(), Box<dyn Error>> {
    let scratch = Scratch::new("owner-instance")?;
    let stat = |start: &str| format!("1 (s6 svscan) S{} {start} 0", " 0".repeat(18));
    scratch.make(&[
        directory("proc", 0o755),
        directory("proc/1", 0o755),
        directory("proc/sys", 0o755),
        directory("proc/sys/kernel", 0o755),
        directory("proc/sys/kernel/random", 0o755),
        file("proc/sys/kernel/random/boot_id", "a-b-c\n", 0o644),
        file("proc/1/stat", &stat("77"), 0o644),
    ])?;
    let settings = settings(scratch.path(), "/data");
    let ours = instance(&settings)?;
    assert_eq!(ours, "a-b-c 77");
    let owner = owner(&settings, "/data", ours);
    assert!(owner.is_of_this_instance(&settings)?);
    for (path, content, sentence) in [
        ("proc/1/stat", stat("78"), "another PID 1"),
        ("proc/1/stat", String::new(), "none that can be seen"),
    ] {
        fs::write(scratch.path().join(path), content)?;
        assert!(!owner.is_of_this_instance(&settings)?, "{sentence}");
    }
    fs::write(scratch.path().join("proc/1/stat"), stat("77"))?;
    assert!(owner.is_of_this_instance(&settings)?, "the same again");
    let boot_id = "proc/sys/kernel/random/boot_id";
    fs::write(scratch.path().join(boot_id), "d-e-f\n")?;
    assert!(!owner.is_of_this_instance(&settings)?, "another boot");
    fs::remove_file(scratch.path().join(boot_id))?;
    fs::create_dir(scratch.path().join(boot_id))?;
    let unread = owner.is_of_this_instance(&settings);
    assert!(unread.is_err(), "a failed look is not another boot");
    Ok(())
}
