//! User accounts, read from `/etc/passwd`: a statically linked program cannot ask the name service (NSS).

use std::path::Path;

use crate::error::{Code, Error, Result, escaped};
use crate::system::root::Root;

/// An entry of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The id of the primary group.
    pub gid: u32,
}

impl Account {
    /// Finds an account by its name.
    pub fn find(root: &Root, name: &str) -> Result<Self> {
        let file = root.at(Path::new("/etc/passwd"));
        let passwd = std::fs::read(&file).map_err(|cause| Error::system("read", &file, cause))?;
        parse(&String::from_utf8_lossy(&passwd), name).ok_or_else(|| {
            Error::new(
                Code::Usage,
                format!(
                    "unable to find user '{}' in /etc/passwd",
                    escaped(name.as_bytes())
                ),
            )
            .remedy(
                "create it, name another with HERMES_S6_USER, or run as the user who owns the data",
            )
        })
    }
}

fn parse(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        Some(Account {
            name: name.to_owned(),
            uid: fields.nth(1)?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nhermes2:x:7:8::/:/x\nhermes:x:10000:10001::/:/x\n";
        let after = |line: &str| format!("{line}\n{passwd}");
        #[rustfmt::skip]
        let rows = [
            (passwd.to_owned(), "hermes", Some((10_000, 10_001)), "among others"),
            (passwd.to_owned(), "hermes2", Some((7, 8)), "one with a longer name"),
            (passwd.to_owned(), "herm", None, "a part of a name is none"),
            (passwd.to_owned(), "", None, "no name is none"),
            (passwd.to_owned(), "hermes:x", None, "a name has no colon"),
            (String::new(), "hermes", None, "nobody is there"),
            (after("hermes:x:1:2::/:/x"), "hermes", Some((1, 2)), "the first one counts"),
            ("hermes:x:ten:1::/:/x".to_owned(), "hermes", None, "its uid is no number"),
            ("hermes:x:1:-1::/:/x".to_owned(), "hermes", None, "nor is its gid"),
            ("hermes:x:4294967296:1::/:/x".to_owned(), "hermes", None, "its uid is too large"),
            ("hermes:x:1".to_owned(), "hermes", None, "the line is torn"),
            ("hermes:x:1:2".to_owned(), "hermes", Some((1, 2)), "behind what counts"),
            (after("\n# hermes:x:1:2"), "hermes", Some((10_000, 10_001)), "a comment is nobody"),
        ];
        for (passwd, name, ids, sentence) in rows {
            let found = parse(&passwd, name);
            let expected = ids.map(|(uid, gid)| Account {
                name: name.to_owned(),
                uid,
                gid,
            });
            assert_eq!(found, expected, "{sentence}");
        }
    }
}
