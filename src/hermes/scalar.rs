//! What a plain word in YAML 1.1 means, as PyYAML has it: `yes` and `off` are truth values, `0x10` and `1:30`
//! are numbers.

/// What a scalar means.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// `~`, `null`, or nothing at all.
    Null,
    /// A truth value, such as `yes` or `off`.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// A date, or bytes.
    Other,
    /// `<<`: a key that adds the keys of other mappings.
    Merge,
    /// `=`: a text, but only as a key.
    Equals,
}

/// The text cannot be what its form or its tag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Scalar {
    /// Decides what an unquoted text means.
    pub fn plain(text: &str) -> Result<Self, Malformed> {
        let is_cased = || {
            let lower = text.to_ascii_lowercase();
            text == lower || text == text.to_ascii_uppercase() || text[1..] == lower[1..]
        };
        let begins = |with: fn(char) -> bool| text.starts_with(with);
        Ok(match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            "<<" => Self::Merge,
            "=" => Self::Equals,
            _ if begins(|first| first.is_ascii_alphabetic()) => match boolean(text) {
                Some(value) if is_cased() => Self::Bool(value),
                _ => Self::Text(text.to_owned()),
            },
            _ if !begins(|first| first.is_ascii_digit() || "+-.".contains(first)) => {
                Self::Text(text.to_owned())
            }
            _ if is_float(text) => Self::Number(float(text).ok_or(Malformed)?),
            _ if is_integer(text) => Self::Number(integer(text).ok_or(Malformed)?),
            _ => match is_date(text) {
                None => Self::Text(text.to_owned()),
                Some(true) => Self::Other,
                Some(false) => return Err(Malformed),
            },
        })
    }

    /// Decides what a text means that has a tag of YAML's own, such as `int`.
    pub fn tagged(kind: &str, text: &str) -> Result<Self, Malformed> {
        let number = |number: Option<f64>| number.map(Self::Number).ok_or(Malformed);
        match kind {
            "str" => Ok(Self::Text(text.to_owned())),
            "null" => Ok(Self::Null),
            "bool" => boolean(text).map(Self::Bool).ok_or(Malformed),
            "int" => number(integer(text)),
            "float" => number(float(text)),
            "binary" | "timestamp" => Ok(Self::Other),
            _ => Err(Malformed),
        }
    }

    /// Tells whether Python takes the value for true. A text is true unless it is empty.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Other | Self::Merge | Self::Equals => true,
        }
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" => Some(true),
        "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// Takes the sign off a number.
fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

fn sign(text: &str) -> f64 {
    if text.starts_with('-') { -1.0 } else { 1.0 }
}

/// Tells whether all characters are digits of this kind or `_`, and there is one at least.
fn are(text: &str, is_digit: fn(&u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte == b'_' || is_digit(&byte))
}

/// Tells whether a text is digits and `_`, and begins with a digit.
fn is_whole(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit()) && are(text, u8::is_ascii_digit)
}

/// Tells whether a text is a number to base 60, such as `1:30`, apart from its sign.
fn is_sexagesimal(text: &str) -> bool {
    let is_digit = |part: &str| match part.as_bytes() {
        [digit] => digit.is_ascii_digit(),
        [tens, digit] => (b'0'..=b'5').contains(tens) && digit.is_ascii_digit(),
        _ => false,
    };
    text.split_once(':')
        .is_some_and(|(first, rest)| is_whole(first) && rest.split(':').all(is_digit))
}

fn is_integer(text: &str) -> bool {
    let text = unsigned(text);
    match text.as_bytes() {
        b"0" => true,
        [b'0', b'b', ..] => are(&text[2..], |digit| matches!(digit, b'0' | b'1')),
        [b'0', b'x', ..] => are(&text[2..], u8::is_ascii_hexdigit),
        [b'0', ..] => are(&text[1..], |digit| (b'0'..=b'7').contains(digit)),
        _ => is_whole(text) || is_sexagesimal(text),
    }
}

fn integer(text: &str) -> Option<f64> {
    let digits = unsigned(text).replace('_', "");
    let to_base = |digits: &str, base: u32| {
        let digit = |digit: char| digit.to_digit(base).map(f64::from);
        let mut digits = digits.chars().map(digit);
        let first = digits.next()??;
        digits.try_fold(first, |sum, digit| Some(sum * f64::from(base) + digit?))
    };
    let value = match digits.as_bytes() {
        b"0" => Some(0.0),
        [b'0', b'b', ..] => to_base(&digits[2..], 2),
        [b'0', b'x', ..] => to_base(&digits[2..], 16),
        [b'0', ..] => to_base(&digits, 8),
        _ => digits
            .split(':')
            .try_fold(0.0, |sum, part| Some(sum * 60.0 + to_base(part, 10)?)),
    };
    value.map(|value| value * sign(text))
}

fn is_float(text: &str) -> bool {
    let bare = unsigned(text);
    match bare {
        ".inf" | ".Inf" | ".INF" => return true,
        ".nan" | ".NaN" | ".NAN" => return bare == text,
        _ => {}
    }
    let Some((whole, rest)) = bare.split_once('.') else {
        return false;
    };
    let (fraction, exponent) = match rest.split_once(['e', 'E']) {
        Some((fraction, exponent)) => (fraction, Some(exponent)),
        None => (rest, None),
    };
    let is_exponent = exponent.is_none_or(|exponent| {
        let digits = unsigned(exponent);
        digits.len() + 1 == exponent.len()
            && !digits.is_empty()
            && digits.bytes().all(|digit| digit.is_ascii_digit())
    });
    let is_fraction = fraction.is_empty() || are(fraction, u8::is_ascii_digit);
    match whole {
        "" => bare == text && is_exponent && is_whole(fraction),
        _ if is_whole(whole) => is_exponent && is_fraction,
        _ => exponent.is_none() && is_fraction && is_sexagesimal(whole),
    }
}

fn float(text: &str) -> Option<f64> {
    let digits = unsigned(text).replace('_', "").to_ascii_lowercase();
    let value = match digits.as_str() {
        ".inf" => Some(f64::INFINITY),
        ".nan" => Some(f64::NAN),
        _ => digits.split(':').try_fold(0.0, |sum, part| {
            Some(sum * 60.0 + part.parse::<f64>().ok()?)
        }),
    };
    value.map(|value| value * sign(text))
}

/// Tells of a text in the form of a date, with or without a time, whether there is such a date; `None` if it has
/// another form.
fn is_date(text: &str) -> Option<bool> {
    let (date, time) = match text.find(['T', 't', ' ', '\t']) {
        Some(end) => (
            &text[..end],
            Some(text[end + 1..].trim_start_matches([' ', '\t'])),
        ),
        None => (text, None),
    };
    // Only after a space may there be more spaces.
    let has_letter = text[date.len()..].starts_with(['T', 't']);
    if has_letter && time.is_some_and(|time| time.starts_with([' ', '\t'])) {
        return None;
    }
    let (year, month, day) = triple(date, '-', 4, time.is_some())?;
    let days = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let is_day = year > 0 && (1..=12).contains(&month) && (1..=days).contains(&day);
    let Some(time) = time else {
        return Some(is_day);
    };
    let end = time.find(|part: char| !part.is_ascii_digit() && part != ':');
    let (clock, mut rest) = time.split_at(end.unwrap_or(time.len()));
    let (hour, minute, second) = triple(clock, ':', 0, false)?;
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|digit: char| digit.is_ascii_digit());
    }
    let zone = rest.trim_start_matches([' ', '\t']);
    let offset = match zone {
        "" if rest.is_empty() => Some(0),
        "Z" => Some(0),
        _ => zone.strip_prefix(['+', '-']).and_then(|zone| {
            let (hours, minutes) = zone.split_once(':').unwrap_or((zone, "00"));
            let hours = digits(hours, 1, 2)?;
            Some(hours * 60 + digits(minutes, 2, 2)?)
        }),
    }?;
    Some(is_day && hour < 24 && minute < 60 && second < 60 && offset < 24 * 60)
}

/// Reads three numbers of two digits each. The first has `first` digits, or one or two if that is 0. The others
/// have at least one digit if they are `short`.
fn triple(text: &str, sign: char, first: usize, short: bool) -> Option<(u32, u32, u32)> {
    let mut parts = text.split(sign);
    let least = if short { 1 } else { 2 };
    let mut next = |least, most| digits(parts.next()?, least, most);
    let triple = (
        if first == 0 {
            next(1, 2)
        } else {
            next(first, first)
        }?,
        next(least, 2)?,
        next(least, 2)?,
    );
    parts.next().is_none().then_some(triple)
}

fn digits(text: &str, least: usize, most: usize) -> Option<u32> {
    let is_number =
        (least..=most).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}
