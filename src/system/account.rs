//! Users and groups, read from `/etc/passwd`: a static program has no name service.

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
        assert_eq!(
            parse(passwd, "hermes"),
            Some(Account {
                name: "hermes".to_owned(),
                uid: 10000,
                gid: 10001
            })
        );
        assert_eq!(parse(passwd, "herm"), None);
        assert_eq!(parse("hermes:x:ten:1::/:/x", "hermes"), None);
    }
}
