//! The name of a profile, checked once, where it enters the program.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, escaped};

/// The prefix of every slot's name in a scan directory.
pub const SLOT_PREFIX: &str = "gateway-";

/// The longest name that Hermes accepts, in bytes.
const LENGTH_MAX: usize = 64;

/// Names that Hermes refuses for a profile.
const RESERVED: [&str; 5] = ["hermes", "root", "sudo", "test", "tmp"];

/// The name of a profile: `[a-z0-9][a-z0-9_-]{0,63}`, and none of the reserved names.
///
/// Every value of this type is safe as a file name, as a word of a script and in a log line. `default` is the
/// profile of the data root itself, and comes first in every order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileName(String);

/// Tells whether Hermes refuses a name for profiles, although it has the form of one.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

impl ProfileName {
    /// Gives the name of the data root's own profile.
    pub fn default_profile() -> Self {
        Self("default".to_owned())
    }

    /// Tells whether this is the data root's own profile.
    pub fn is_default(&self) -> bool {
        self.0 == "default"
    }

    /// Gives the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Gives the name of the profile's slot, which is its service directory.
    pub fn slot(&self) -> String {
        format!("{SLOT_PREFIX}{}", self.0)
    }

    /// Reads the profile's name from the name of a slot; `None` if the name is not that of a slot.
    pub fn from_slot(slot: &str) -> Option<Self> {
        slot.strip_prefix(SLOT_PREFIX)?.parse().ok()
    }
}

impl Ord for ProfileName {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |name: &Self| !name.is_default();
        key(self)
            .cmp(&key(other))
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for ProfileName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::str::FromStr for ProfileName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for ProfileName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let is_name = bytes.len() <= LENGTH_MAX
            && bytes.first().is_some_and(|&first| is_plain(first))
            && bytes.iter().all(|&b| is_plain(b) || b == b'_' || b == b'-');
        if !is_name {
            return Err(Error::new(
                Code::Usage,
                format!("'{}' is not a profile name", escaped(bytes)),
            )
            .remedy("use 1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit"));
        }
        if is_reserved(&text) {
            return Err(Error::new(
                Code::Usage,
                format!("the name '{text}' is reserved by Hermes"),
            )
            .remedy("choose another name"));
        }
        Ok(Self(text))
    }
}

impl From<ProfileName> for String {
    fn from(name: ProfileName) -> Self {
        name.0
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a name in a test.
///
/// # Panics
///
/// If the name is not valid.
#[cfg(test)]
pub fn name(text: &str) -> ProfileName {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_hermes_accepts_are_accepted() {
        for name in ["a", "0", "coder", "my_bot-2", &"x".repeat(64)] {
            assert!(name.parse::<ProfileName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn names_that_hermes_refuses_are_refused() {
        let long = "x".repeat(65);
        for name in [
            "",
            "Foo",
            "mmm.bak",
            "_template",
            "-x",
            ".x",
            "a b",
            "a/b",
            "..",
            "a\n",
            "é",
            "root",
            "hermes",
            &long,
        ] {
            assert!(name.parse::<ProfileName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_slot_names_its_profile() {
        assert_eq!(
            ProfileName::from_slot("gateway-coder").map(|name| name.slot()),
            Some("gateway-coder".to_owned())
        );
        assert_eq!(ProfileName::from_slot("gateway-Foo"), None);
        assert_eq!(ProfileName::from_slot("other"), None);
    }
}
