//! The ports that hermes-s6 gives to named profiles: a profile keeps its port, and no two are given the same.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hermes::name::ProfileName;
use crate::settings::{FIRST_PORT, PORTS};
use crate::system::beneath::Dir;

/// The file in the data root with the record of ports: which profile was given which port.
pub const PORTS_FILE: &str = ".hermes-s6-ports.json";

/// The largest record that is read, in bytes.
const RECORD_LIMIT: u64 = 1 << 20;

/// The port that Hermes itself uses if neither the profile nor the environment sets one.
pub const HERMES_DEFAULT: u16 = 8642;

/// The ports that hermes-s6 gave to named profiles.
pub type Ports = BTreeMap<ProfileName, u16>;

/// Gives the natural port of a name, by a hash of the name. The profile gets it if it is free.
///
/// That is the port that the original image gives, if it is in the range.
fn natural(name: &ProfileName, range: &RangeInclusive<u16>) -> u16 {
    let digest = Sha256::digest(name.as_str().as_bytes());
    let head = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let original = nth(&PORTS, head);
    if range.contains(&original) {
        return original;
    }
    nth(range, head)
}

/// Gives a port of a range by its number, which begins anew behind the last port.
fn nth(range: &RangeInclusive<u16>, number: u32) -> u16 {
    let count = u32::from(range.end() - range.start()) + 1;
    range.start() + u16::try_from(number % count).unwrap_or(0)
}

/// Says that there is no port left in a range, as the end of a sentence.
pub fn all_given(range: &RangeInclusive<u16>) -> String {
    format!("all of {} to {} are given", range.start(), range.end())
}

/// What to do about a profile without a port.
pub const NO_PORT_REMEDY: &str =
    "set API_SERVER_PORT in its .env, or a wider range with HERMES_S6_PORTS";

/// What the record of ports on a volume is worth.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// There is no record: this volume has never served a named profile.
    #[default]
    None,
    /// The record has exactly the ports that still count.
    Current,
    /// The record has names that are gone, or entries that do not count.
    Outdated,
    /// There is a record, and nobody knows what is in it: it stays as it is.
    Unusable,
}

/// The content of a record: names and ports, not yet checked.
pub type Entries = BTreeMap<String, u16>;

/// The record of ports as it was read.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recorded {
    /// There is no record.
    #[default]
    Nothing,
    /// The record has these entries.
    Entries(Entries),
    /// The record cannot be read or understood; why, as a sentence with the remedy.
    Unusable(String),
}

impl Recorded {
    /// Tells whether no port was ever given on this volume. A record that cannot be read may have some.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Entries(entries) => entries.is_empty(),
            Self::Unusable(_) => false,
        }
    }
}

/// Reads the record of ports.
pub fn read_record(home: &Dir) -> Recorded {
    let unusable = |why: &str, remedy: &str| {
        Recorded::Unusable(format!(
            "{why}: it stays as it is, profiles keep the ports of their slots, and new ports are not recorded: {remedy}, or remove it"
        ))
    };
    match home.read(PORTS_FILE, RECORD_LIMIT) {
        Ok(content) => serde_json::from_slice(&content).map_or_else(
            |_| {
                let why = format!("{PORTS_FILE} is no record of ports");
                unusable(&why, "mend it")
            },
            Recorded::Entries,
        ),
        Err(error) if error.is_missing() => Recorded::Nothing,
        Err(error) => unusable(&error.text, "make it readable"),
    }
}

/// Gives the ports of a record that still count, and what the record is worth.
///
/// A port counts if profiles can be given it, it is recorded for one name only, and `is_there` holds for the name.
/// It need not be in the present range: whoever sets another range, or forgets to set it in one shell, moves nothing.
pub fn still_given(
    recorded: &Recorded,
    is_there: impl Fn(&ProfileName) -> bool,
) -> (Ports, Record) {
    let entries = match recorded {
        Recorded::Nothing => return (Ports::new(), Record::None),
        Recorded::Unusable(_) => return (Ports::new(), Record::Unusable),
        Recorded::Entries(entries) => entries,
    };
    let ports = sound(entries, is_there);
    let record = if ports.len() == entries.len() {
        Record::Current
    } else {
        Record::Outdated
    };
    (ports, record)
}

/// Gives the entries that count, see [`still_given`].
pub fn sound(entries: &Entries, is_there: impl Fn(&ProfileName) -> bool) -> Ports {
    let mut used = BTreeSet::new();
    let mut ports = Ports::new();
    for (name, port) in entries {
        if let Ok(name) = name.parse::<ProfileName>()
            && is_there(&name)
            && *port >= FIRST_PORT
            && used.insert(*port)
        {
            ports.insert(name, *port);
        }
    }
    ports
}

/// Gives every named profile its port.
///
/// `recorded` are the ports that profiles were given before: they keep them. `taken` are the ports that profiles
/// set themselves. New ports are those of `range`. A new profile gets its natural port if that is free. After that, the remaining new profiles
/// get the next free port each, in the order of their names. If there are more profiles than ports, the last
/// profiles get none.
pub fn assign<'a>(
    names: impl Iterator<Item = &'a ProfileName> + Clone,
    recorded: &Ports,
    taken: &BTreeSet<u16>,
    range: &RangeInclusive<u16>,
) -> Ports {
    let mut ports = Ports::new();
    ports.extend(
        names
            .clone()
            .filter_map(|name| Some((name.clone(), *recorded.get(name)?))),
    );
    let mut used = taken.clone();
    // Also those of profiles that could not be looked at this time.
    used.extend(recorded.values());
    let mut displaced = Vec::new();
    for name in names.filter(|name| !name.is_default() && !recorded.contains_key(name)) {
        let natural = natural(name, range);
        if used.insert(natural) {
            ports.insert(name.clone(), natural);
        } else {
            displaced.push((name, natural));
        }
    }
    for (name, natural) in displaced {
        let mut next = (natural..=*range.end()).chain(*range.start()..natural);
        let free = next.find(|port| used.insert(*port));
        if let Some(port) = free {
            ports.insert(name.clone(), port);
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<ProfileName> {
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// Gives ports of the usual range, of which no profile has set one itself.
    fn assigned<'a>(
        names: impl Iterator<Item = &'a ProfileName> + Clone,
        recorded: &Ports,
    ) -> Ports {
        assign(names, recorded, &BTreeSet::new(), &PORTS)
    }

    /// Two names with the same natural port, found by trying.
    fn twins() -> (ProfileName, ProfileName) {
        let mut seen: BTreeMap<u16, ProfileName> = BTreeMap::new();
        for number in 0.. {
            let name: ProfileName = names(&[&format!("p{number:04}")]).remove(0);
            if let Some(first) = seen.insert(natural(&name, &PORTS), name.clone()) {
                return (first, name);
            }
        }
        unreachable!()
    }

    #[test]
    fn a_natural_port_is_9200_plus_the_head_of_the_names_sha256_modulo_600() {
        // sha256("coder") begins with c84a9e3a: 3360333370 modulo 600 is 370.
        let coder = names(&["coder"]);
        let ports = assigned(coder.iter(), &Ports::new());
        assert_eq!(ports[&coder[0]], 9570);
    }

    #[test]
    fn a_port_stays_when_a_name_that_sorts_first_would_have_it() {
        let (first, second) = twins();
        let alone = assigned([&second].into_iter(), &Ports::new());
        let both = assigned([&first, &second].into_iter(), &alone);
        assert_eq!(both[&second], alone[&second]);
        assert_ne!(both[&first], both[&second]);
    }

    #[test]
    fn a_displaced_name_keeps_its_port_when_the_other_is_gone() {
        let (first, second) = twins();
        let both = assigned([&first, &second].into_iter(), &Ports::new());
        let alone = assigned([&second].into_iter(), &both);
        assert_eq!(alone[&second], both[&second]);
    }

    #[test]
    fn a_port_that_a_profile_sets_itself_is_given_to_nobody() {
        let coder = names(&["coder"]);
        let own = natural(&coder[0], &PORTS);
        let ports = assign(coder.iter(), &Ports::new(), &BTreeSet::from([own]), &PORTS);
        assert_ne!(ports[&coder[0]], own);
        assert!((9200..9800).contains(&ports[&coder[0]]));
    }

    #[test]
    fn the_port_of_a_profile_that_is_not_seen_this_time_is_given_to_nobody() {
        let (first, second) = twins();
        let recorded = assigned([&second].into_iter(), &Ports::new());
        let ports = assigned([&first].into_iter(), &recorded);
        assert_ne!(ports[&first], recorded[&second]);
    }

    #[test]
    fn all_ports_are_given_once_and_then_no_more() {
        let many: Vec<_> = (0..700).map(|number| format!("p{number:03}")).collect();
        let many = names(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let ports = assigned(many.iter(), &Ports::new());
        let distinct: BTreeSet<_> = ports.values().collect();
        assert_eq!((ports.len(), distinct.len()), (600, 600));
    }

    #[test]
    fn a_natural_port_in_another_range_is_that_of_the_original_where_it_can_be() {
        let coder = &names(&["coder"])[0];
        for (range, port, sentence) in [
            (9200..=9799, 9570, "the usual range"),
            (9200..=10_199, 9570, "a wider one"),
            (1024..=65535, 9570, "the widest"),
            (9570..=9570, 9570, "just this port"),
            // 3360333370 modulo 10000.
            (
                20_000..=29_999,
                23_370,
                "one without the port of the original",
            ),
            (65535..=65535, 65535, "the last port of all"),
        ] {
            assert_eq!(natural(coder, &range), port, "{sentence}");
        }
    }

    #[test]
    fn a_wider_range_moves_no_port_and_has_one_for_everybody() {
        let many: Vec<_> = (0..700).map(|number| format!("p{number:03}")).collect();
        let many = names(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let given = assigned(many.iter(), &Ports::new());
        for range in [9200..=9899, 9000..=9799, 30_000..=30_099, 1024..=65535] {
            let ports = assign(many.iter(), &given, &BTreeSet::new(), &range);
            let distinct: BTreeSet<_> = ports.values().collect();
            assert_eq!((ports.len(), distinct.len()), (700, 700), "{range:?}");
            let stay = given.iter().all(|(name, port)| ports[name] == *port);
            assert!(stay, "{range:?}");
            // Also when the range is forgotten again.
            assert_eq!(assigned(many.iter(), &ports), ports, "{range:?}");
        }
    }

    #[test]
    fn the_default_profile_gets_no_port() {
        assert!(assigned(names(&["default"]).iter(), &Ports::new()).is_empty());
    }

    #[test]
    fn of_a_record_only_what_is_sound_and_there_counts() {
        let entries = |list: &[(&str, u16)]| -> Entries {
            list.iter()
                .map(|(name, port)| ((*name).to_owned(), *port))
                .collect()
        };
        let read = |recorded: Recorded| {
            let (ports, record) = still_given(&recorded, |name| name.as_str() != "gone");
            let ports: Vec<_> = ports
                .into_iter()
                .map(|(name, port)| (name.to_string(), port))
                .collect();
            (ports, record)
        };
        let coder = vec![("coder".to_owned(), 9570)];
        assert_eq!(
            read(Recorded::Nothing),
            (vec![], Record::None),
            "there is none"
        );
        assert_eq!(
            read(Recorded::Unusable(String::new())),
            (vec![], Record::Unusable),
            "nobody knows what is in it"
        );
        #[rustfmt::skip]
        let rows = [
            (&[][..], vec![], Record::Current, "nobody has a port yet"),
            (&[("coder", 9570)], coder.clone(), Record::Current, "as it should be"),
            (&[("coder", 9570), ("gone", 9571)], coder.clone(), Record::Outdated, "one is gone"),
            (&[("coder", 9570), ("qa", 80)], coder.clone(), Record::Outdated, "a port that nobody is given"),
            (&[("coder", 9570), ("qa", 9570)], coder.clone(), Record::Outdated, "one port for two"),
            (&[("coder", 65535)], vec![("coder".to_owned(), 65535)], Record::Current, "of another range"),
            (&[("", 0), ("coder", 9570)], coder, Record::Outdated, "a damaged entry"),
        ];
        for (list, ports, record, sentence) in rows {
            let read = read(Recorded::Entries(entries(list)));
            assert_eq!(read, (ports, record), "{sentence}");
        }
    }

    #[test]
    fn a_record_is_missing_only_if_there_is_no_file() -> Result<(), Box<dyn std::error::Error>> {
        use crate::system::beneath::scratch::{Entry, Scratch, directory, file, link};
        type Row = (Vec<Entry>, fn(&Recorded) -> bool, &'static str);
        let entries = Recorded::Entries(BTreeMap::from([("coder".to_owned(), 9570)]));
        let unusable = |recorded: &Recorded| matches!(recorded, Recorded::Unusable(_));
        #[rustfmt::skip]
        let rows: [Row; 6] = [
            (vec![], |recorded| *recorded == Recorded::Nothing, "there is none"),
            (vec![file(PORTS_FILE, "{}", 0o644)], Recorded::is_empty, "an empty record"),
            (vec![file(PORTS_FILE, "", 0o644)], unusable, "an empty file is damaged"),
            (vec![file(PORTS_FILE, "{\"coder\":9570", 0o644)], unusable, "so is a half of one"),
            (vec![link(PORTS_FILE, "none")], unusable, "a link, also one that leads nowhere"),
            (vec![directory(PORTS_FILE, 0o755)], unusable, "a directory"),
        ];
        for (there, is_expected, sentence) in rows {
            let scratch = Scratch::new("record")?;
            scratch.make(&there)?;
            let read = read_record(&scratch.dir()?);
            assert!(is_expected(&read), "{sentence}: {read:?}");
        }
        let scratch = Scratch::new("record-sound")?;
        scratch.make(&[file(PORTS_FILE, "{\"coder\":9570}\n", 0o644)])?;
        assert_eq!(read_record(&scratch.dir()?), entries);
        Ok(())
    }
}
