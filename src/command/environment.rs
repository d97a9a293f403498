//! What the program of a gateway gets besides the environment of its script: the last thing before it is executed.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::process::umask;

use crate::error::{Code, Error, Result, escaped};
use crate::hermes::config::is_of_an_account;
use crate::hermes::program::path_with_programs;
use crate::report;

/// The ends of the names of variables that are secrets.
const SECRETS: [&[u8]; 5] = [
    b"_TOKEN",
    b"_API_KEY",
    b"_SERVER_KEY",
    b"_SECRET",
    b"_PASSWORD",
];

/// More than any secret is long, in bytes: a service account of a cloud has a few thousand.
const SECRET_LIMIT: u64 = 1 << 16;

/// Files of secrets that programs read by themselves, and that are exchanged while they run.
const READ_BY_OTHERS: [&[u8]; 2] = [
    b"AWS_WEB_IDENTITY_TOKEN_FILE",
    b"AZURE_FEDERATED_TOKEN_FILE",
];

/// Completes the environment of a program, and sets the umask.
///
/// A gateway needs the accounts that it is told of: it fails if it `must_have` them, and their secrets cannot be read.
pub fn complete(program: &mut Command, must_have: bool) -> Result<()> {
    let variables: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    for (name, value) in &variables {
        if is_leftover(name.as_bytes()) {
            program.env_remove(name);
        }
        if let Some(secret) = secret_in_file(name)
            && std::env::var_os(secret).is_none_or(|value| value.is_empty())
            && !value.is_empty()
        {
            match read_secret(name, Path::new(value)) {
                Ok(value) => drop(program.env(secret, value)),
                Err(error) if must_have && is_of_an_account(name.as_bytes()) => return Err(error),
                Err(error) => report::warning(&error.to_string()),
            }
        }
    }
    // A program that is told another directory than its own believes it.
    if let Ok(here) = std::env::current_dir() {
        program.env("PWD", here).env_remove("OLDPWD");
    }
    // HOME is the data root here. What the program itself starts, it also finds among Hermes' own programs there.
    if let (Some(path), Some(data_root)) = (std::env::var_os("PATH"), std::env::var_os("HOME"))
        && let Some(path) = path_with_programs(&path, Path::new(&data_root))
    {
        program.env("PATH", path);
    }
    if let Some(text) = std::env::var_os("UMASK").filter(|text| !text.is_empty()) {
        match mask(&text) {
            Some(mask) => drop(umask(mask)),
            None => report::warning(&format!(
                "UMASK='{}' is ignored: it takes an octal number from 0 to 777, such as 027",
                escaped(text.as_bytes())
            )),
        }
    }
    Ok(())
}

/// Tells whether execline has left a variable for the rest of a script: `!`, `?`, `#` and the arguments by number.
fn is_leftover(name: &[u8]) -> bool {
    matches!(name, b"!" | b"?" | b"#") || name.iter().all(u8::is_ascii_digit)
}

/// Gives the variable whose value is in the file that a variable names; `None` if it names no secret's file.
fn secret_in_file(name: &OsStr) -> Option<&OsStr> {
    let secret = name.as_bytes().strip_suffix(b"_FILE")?;
    let is_one = SECRETS.iter().any(|end| secret.ends_with(end))
        && !READ_BY_OTHERS.contains(&name.as_bytes());
    is_one.then(|| OsStr::from_bytes(secret))
}

/// Reads a secret, as it is for programs that read such files: without the line end.
fn read_secret(name: &OsStr, file: &Path) -> Result<OsString> {
    let name = name.to_string_lossy();
    let mut content = Vec::new();
    let read = open_regular(file).and_then(|file| {
        file.take(SECRET_LIMIT + 1).read_to_end(&mut content)?;
        Ok(())
    });
    let remedy = format!("let hermes read the file that {name} names, or leave {name} out");
    read.map_err(|cause| Error::system("read", file, cause).remedy(remedy))?;
    content.truncate(content.trim_ascii_end().len());
    let is_too_long = content.len() as u64 > SECRET_LIMIT;
    if is_too_long || content.is_empty() || content.contains(&0) {
        let what = format!(
            "{name} names a file that has no secret in it: {}",
            file.display()
        );
        return Err(Error::new(Code::Usage, what));
    }
    Ok(OsString::from_vec(content))
}

/// Opens a file that a secret can be in. It may be a link: Kubernetes makes them so.
fn open_regular(file: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(file)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

fn mask(text: &OsStr) -> Option<Mode> {
    let digits = text.to_str()?.trim();
    let is_octal = digits.len() <= 4 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mask = u32::from_str_radix(digits, 8).ok()?;
    (is_octal && mask <= 0o777).then(|| Mode::from_raw_mode(mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_secret_if_the_variable_without_the_end_is_one() {
        for (name, secret) in [
            ("TELEGRAM_BOT_TOKEN_FILE", Some("TELEGRAM_BOT_TOKEN")),
            ("API_SERVER_KEY_FILE", Some("API_SERVER_KEY")),
            ("OPENAI_API_KEY_FILE", Some("OPENAI_API_KEY")),
            ("SSL_CERT_FILE", None),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", None),
            ("TLS_KEY_FILE", None),
            ("TELEGRAM_BOT_TOKEN", None),
            ("_FILE", None),
        ] {
            assert_eq!(
                secret_in_file(OsStr::new(name)),
                secret.map(OsStr::new),
                "{name}"
            );
        }
    }

    #[test]
    fn a_umask_is_an_octal_number() {
        for (text, wanted) in [
            ("022", Some(0o022)),
            ("0", Some(0)),
            ("0027", Some(0o027)),
            (" 77 ", Some(0o077)),
            ("777", Some(0o777)),
            ("1000", None),
            ("+22", None),
            ("8", None),
            ("u=rwx", None),
            ("", None),
        ] {
            assert_eq!(
                mask(OsStr::new(text)),
                wanted.map(Mode::from_raw_mode),
                "{text}"
            );
        }
    }

    #[test]
    fn what_execline_sets_is_left_over() {
        for name in ["!", "?", "#", "0", "12"] {
            assert!(is_leftover(name.as_bytes()), "{name}");
        }
        for name in ["PATH", "A1", "_", "%"] {
            assert!(!is_leftover(name.as_bytes()), "{name}");
        }
    }
}
