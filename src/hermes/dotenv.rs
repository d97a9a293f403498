//! Environment files, `.env`, as Hermes reads them: with python-dotenv, after it has put the lines right itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The mark that some editors put before UTF-8 text.
const MARK: char = '\u{feff}';

/// How many bytes all values of a file may have together. What references would add beyond that stays a reference.
const ROOM: usize = 4 << 20;

/// The variables that an environment file sets.
#[derive(Debug, Default)]
pub struct EnvFile {
    values: Values,
    /// The same if the byte-order mark at the beginning is taken for a part of the first name.
    with_mark: Option<Values>,
}

/// The names in the file, with their values; `None` for a name without `=`, which sets nothing.
type Values = BTreeMap<String, Option<String>>;

/// The file sets a variable for one version of Hermes, and does not for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous;

impl EnvFile {
    /// Reads an environment file. `environment` gives the variables that `${NAME}` in a value can also name.
    pub fn read(content: &[u8], environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let text = tidy(&decode(content));
        let values = |text| values(text, environment);
        match text.strip_prefix(MARK) {
            None => Self {
                values: values(&text),
                with_mark: None,
            },
            Some(bare) => Self {
                values: values(bare),
                with_mark: Some(values(&text)),
            },
        }
    }

    /// Gives the value of a variable; `None` if the file does not set it.
    ///
    /// Hermes 0.19.0 takes a byte-order mark for a part of the first name, later versions do not.
    pub fn get(&self, name: &str) -> Result<Option<&str>, Ambiguous> {
        let value = value_in(&self.values, name);
        match &self.with_mark {
            Some(other) if value_in(other, name) != value => Err(Ambiguous),
            _ => Ok(value),
        }
    }

    /// Lists the variables that the file sets, with their values.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let values = self.values.iter();
        values.filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)))
    }
}

fn value_in<'a>(values: &'a Values, name: &str) -> Option<&'a str> {
    values.get(name)?.as_deref()
}

/// Reads text as Hermes does: UTF-16 with its mark, else UTF-8, else Latin-1.
fn decode(content: &[u8]) -> Cow<'_, str> {
    let utf16 = |unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = content[2..].as_chunks::<2>();
        let units = pairs.iter().map(|pair| unit(*pair));
        let text: Option<String> = char::decode_utf16(units).collect::<Result<_, _>>().ok();
        text.filter(|_| rest.is_empty())
    };
    let text = match content {
        [0xff, 0xfe, 0, 0, ..] => None,
        [0xff, 0xfe, ..] => utf16(u16::from_le_bytes),
        [0xfe, 0xff, ..] => utf16(u16::from_be_bytes),
        _ => None,
    };
    match (text, std::str::from_utf8(content)) {
        (Some(text), _) => Cow::Owned(text),
        (None, Ok(text)) => Cow::Borrowed(text),
        (None, Err(_)) => Cow::Owned(content.iter().copied().map(char::from).collect()),
    }
}

/// Puts the lines right as Hermes does before it loads them: without NUL, and without space around them.
fn tidy(text: &str) -> String {
    let text = text
        .replace("\r\n", "\n")
        .replace('\r', "\n")
        .replace('\0', "");
    let mut tidy = String::with_capacity(text.len() + 1);
    for line in text.split_terminator('\n') {
        let stripped = line.trim_matches(is_space);
        let is_kept = stripped.is_empty() || stripped.starts_with('#');
        tidy.push_str(if is_kept { line } else { stripped });
        tidy.push('\n');
    }
    tidy
}

/// Tells whether Python takes a character for white space.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

fn is_space_in_line(character: char) -> bool {
    is_space(character) && character != '\n'
}

/// Reads the names and values; the last value of a name counts.
fn values(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Values {
    let mut values = Values::new();
    let mut rest = text;
    let mut room = ROOM;
    while !rest.is_empty() {
        match binding(&mut rest) {
            Ok(Some((name, value))) => {
                let value = value.map(|value| {
                    let resolved = resolve(&value, &values, environment, room);
                    resolved.unwrap_or(value)
                });
                room = room.saturating_sub(value.as_ref().map_or(0, String::len));
                values.insert(name, value);
            }
            Ok(None) => {}
            // It ends at the end of the line, and the next line is read as usual.
            Err(Garbled) => rest = rest.split_once('\n').map_or("", |(_, rest)| rest),
        }
    }
    values
}

/// A name, and its value if there is a `=`.
type Binding = (String, Option<String>);

/// The text is no such line.
struct Garbled;

/// Reads one line, or more if quotes enclose more; `None` if the line sets nothing. If it is garbled, `rest` is then
/// at the place where that was seen.
fn binding(rest: &mut &str) -> Result<Option<Binding>, Garbled> {
    *rest = rest.trim_start_matches(is_space);
    if rest.is_empty() {
        return Ok(None);
    }
    if let Some(after) = rest.strip_prefix("export")
        && after.starts_with(is_space_in_line)
    {
        *rest = after.trim_start_matches(is_space_in_line);
    }
    let name = match rest.chars().next() {
        Some('#') => None,
        Some('\'') => {
            let (name, after) = rest[1..]
                .split_once('\'')
                .filter(|(name, _)| !name.is_empty())
                .ok_or(Garbled)?;
            *rest = after;
            Some(name)
        }
        _ => {
            let end = rest
                .find(|c| c == '=' || c == '#' || is_space(c))
                .unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            if name.is_empty() {
                return Err(Garbled);
            }
            *rest = after;
            Some(name)
        }
    };
    let name = name.map(str::to_owned);
    *rest = rest.trim_start_matches(is_space_in_line);
    let value = match rest.strip_prefix('=') {
        None => None,
        Some(after) => {
            *rest = after.trim_start_matches(is_space_in_line);
            Some(value(rest).ok_or(Garbled)?)
        }
    };
    let after = rest.trim_start_matches(is_space_in_line);
    if after.starts_with('#') {
        *rest = after.trim_start_matches(|character| character != '\n');
    }
    let after = rest.trim_start_matches(is_space_in_line);
    *rest = match after.strip_prefix('\n') {
        Some(next) => next,
        None if after.is_empty() => after,
        None => return Err(Garbled),
    };
    Ok(name.map(|name| (name, value)))
}

/// Reads a value, with quotes or without; `None` if the quotes have no end.
fn value(rest: &mut &str) -> Option<String> {
    if let Some(quote @ ('\'' | '"')) = rest.chars().next() {
        let inner = &rest[1..];
        let end = end_of_quotes(inner, quote)?;
        *rest = &inner[end + 1..];
        return Some(unescaped(&inner[..end], quote));
    }
    let (line, after) = rest.split_at(rest.find('\n').unwrap_or(rest.len()));
    *rest = after;
    let is_comment = |place: usize| line[..place].ends_with(is_space);
    let mut signs = line.match_indices('#').map(|(place, _)| place);
    let end = signs.find(|place| is_comment(*place)).unwrap_or(line.len());
    Some(line[..end].trim_end_matches(is_space).to_owned())
}

/// Finds the quote that ends a value: the first without `\` before it, else the last of all.
fn end_of_quotes(inner: &str, quote: char) -> Option<usize> {
    let mut escaped = None;
    let mut is_escaped = false;
    for (place, character) in inner.char_indices() {
        if character == quote {
            if !is_escaped {
                return Some(place);
            }
            escaped = Some(place);
        }
        is_escaped = character == '\\';
    }
    escaped
}

/// Replaces the escapes in a quoted value; in single quotes there are only two.
fn unescaped(text: &str, quote: char) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let escape = characters.peek().filter(|_| character == '\\');
        let meant = match (escape, quote) {
            (Some(escaped @ ('\\' | '\'')), _) => Some(*escaped),
            (Some('"'), '"') => Some('"'),
            (Some('a'), '"') => Some('\x07'),
            (Some('b'), '"') => Some('\x08'),
            (Some('f'), '"') => Some('\x0c'),
            (Some('n'), '"') => Some('\n'),
            (Some('r'), '"') => Some('\r'),
            (Some('t'), '"') => Some('\t'),
            (Some('v'), '"') => Some('\x0b'),
            _ => None,
        };
        if meant.is_some() {
            characters.next();
        }
        plain.push(meant.unwrap_or(character));
    }
    plain
}

/// Replaces each `${NAME}` and `${NAME:-default}` in a value. What the file has set before goes first. `None` if the
/// result has more than `room` bytes.
fn resolve(
    value: &str,
    set: &Values,
    environment: &dyn Fn(&str) -> Option<String>,
    room: usize,
) -> Option<String> {
    let mut resolved = String::with_capacity(value.len());
    // After the last brace there is no reference: it is not looked for again and again.
    let (mut rest, last) = value.split_at(value.rfind('}').map_or(0, |brace| brace + 1));
    while let Some(start) = rest.find("${") {
        if resolved.len() > room {
            return None;
        }
        let inner = &rest[start + 2..];
        let Some((name, default, after)) = reference(inner) else {
            // It stays, and there may be one right after it.
            resolved.push_str(&rest[..start + 2]);
            rest = inner;
            continue;
        };
        resolved.push_str(&rest[..start]);
        match set.get(name) {
            Some(value) => resolved.push_str(value.as_deref().unwrap_or_default()),
            None => resolved.push_str(&environment(name).unwrap_or_else(|| default.to_owned())),
        }
        rest = after;
    }
    resolved.push_str(rest);
    resolved.push_str(last);
    Some(resolved).filter(|resolved| resolved.len() <= room)
}

/// Reads what follows `${`: the name, the default, and what comes after them.
fn reference(inner: &str) -> Option<(&str, &str, &str)> {
    let (name, after) = inner.split_at(inner.find(['}', ':'])?);
    match after.strip_prefix(":-") {
        Some(default) => {
            let (default, after) = default.split_once('}')?;
            Some((name, default, after))
        }
        None => Some((name, "", after.strip_prefix('}')?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_found_in_every_form_that_python_dotenv_reads() {
        #[rustfmt::skip]
        let rows = [
            ("A=1", Some("1")),
            ("export A = 2", Some("2")),
            ("  export\tA=2", Some("2")),
            ("A=\"3\" # why", Some("3")),
            ("A='4'\nA=5 # last", Some("5")),
            ("A=5#6", Some("5#6")),
            ("A= # 6", Some("# 6")),
            ("'A'=7", Some("7")),
            ("A=1\r\nB=2\r\n", Some("1")),
            ("A=\"1\n2\"\nB=3", Some("1\n2")),
            ("B=\"\nA=1\n\"", None),
            ("B=\"never closed\nA=1", Some("1")),
            ("B='1' 2\nA=1", Some("1")),
            ("A=\"a\\tb\\\"c\\d\"", Some("a\tb\"c\\d")),
            ("A='it\\'s\\n'", Some("it's\\n")),
            ("A='C:\\'", Some("C:\\")),
            ("B=1\nA=${B}2${HOME}${NONE:-4}${NONE}$B", Some("12/root4$B")),
            ("A=${B\nB=1", Some("${B")),
            ("A=1\nA", None),
            ("A=", Some("")),
            ("A\0=1", Some("1")),
            ("#A=6", None),
            ("XA=7", None),
            ("A", None),
            ("A:1", None),
        ];
        let home = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        for (file, expected) in rows {
            let file = EnvFile::read(file.as_bytes(), &home);
            assert_eq!(file.get("A"), Ok(expected), "{file:?}");
        }
    }

    #[test]
    fn every_encoding_is_read_and_a_mark_may_hide_the_first_name() {
        let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            let marked = format!("{MARK}{text}");
            marked.encode_utf16().flat_map(bytes).collect()
        };
        #[rustfmt::skip]
        let rows = [
            (utf16("A=\u{e9}\n", u16::to_le_bytes), Ok(Some("\u{e9}")), "UTF-16, as Notepad writes it"),
            (utf16("A=\u{e9}\n", u16::to_be_bytes), Ok(Some("\u{e9}")), "the other one"),
            (b"A=\xe9\n".to_vec(), Ok(Some("\u{e9}")), "Latin-1"),
            (b"\xef\xbb\xbfA=1\n".to_vec(), Err(Ambiguous), "versions of Hermes differ"),
            (b"\xef\xbb\xbfB=1\nA=2\n".to_vec(), Ok(Some("2")), "not for the next line"),
            (b"\xef\xbb\xbfA=1\nA=2\n".to_vec(), Ok(Some("2")), "nor where the next one says more"),
        ];
        for (content, expected, sentence) in rows {
            let file = EnvFile::read(&content, &|_| None);
            assert_eq!(file.get("A"), expected, "{sentence}");
        }
    }

    #[test]
    fn a_file_of_a_megabyte_takes_no_time() {
        for text in [
            "A=\"",
            "A='\\'",
            "${",
            "A=${A}${A}\n",
            "A=1\n",
            "'",
            "\n",
            "# ",
        ] {
            let file = text.repeat((1 << 20) / text.len());
            let _ = EnvFile::read(file.as_bytes(), &|_| None);
        }
    }
}
