//! Quoting for execline: every value in a template becomes exactly one word.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// A value that a template writes as one execline word: any bytes but NUL.
///
/// askama takes text only, but file names are bytes. Therefore each byte is kept as the character with the same
/// number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    /// Makes a word from a file name or argument.
    pub fn new(value: impl AsRef<OsStr>) -> Self {
        Self(
            value
                .as_ref()
                .as_bytes()
                .iter()
                .copied()
                .map(char::from)
                .collect(),
        )
    }
}

impl askama::FastWritable for Word {
    fn write_into<W: fmt::Write + ?Sized>(
        &self,
        dest: &mut W,
        _: &dyn askama::Values,
    ) -> askama::Result<()> {
        Ok(dest.write_str(&self.0)?)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The escaper that `askama.toml` binds to templates ending in `.execline`.
///
/// A word of letters, digits and `_./:=@%+,-` stays bare. Anything else is written between double
/// quotes by the rules of the execlineb lexer
/// (<https://skarnet.org/software/execline/execlineb.html>). `$` is an ordinary character there, but importas,
/// define and `execlineb -S` replace `${X}` in all words behind them. There, templates write no values but
/// directories of programs, which have plain names. NUL cannot be part of an argument and is refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct Execline;

impl askama::filters::Escaper for Execline {
    fn write_escaped_str<W: fmt::Write>(&self, mut dest: W, string: &str) -> fmt::Result {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:=@%+,-".contains(&byte);
        if !string.is_empty() && string.bytes().all(plain) {
            return dest.write_str(string);
        }
        dest.write_char('"')?;
        for character in string.chars() {
            match u8::try_from(character).map_err(|_| fmt::Error)? {
                0 => return Err(fmt::Error),
                b'"' => dest.write_str("\\\"")?,
                b'\\' => dest.write_str("\\\\")?,
                7 => dest.write_str("\\a")?,
                8 => dest.write_str("\\b")?,
                b'\t' => dest.write_str("\\t")?,
                b'\n' => dest.write_str("\\n")?,
                11 => dest.write_str("\\v")?,
                12 => dest.write_str("\\f")?,
                b'\r' => dest.write_str("\\r")?,
                byte @ (1..32 | 127..) => write!(dest, "\\0x{byte:02x}")?,
                byte => dest.write_char(char::from(byte))?,
            }
        }
        dest.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use askama::filters::Escaper;

    fn quoted(value: &[u8]) -> Result<String, fmt::Error> {
        let mut out = String::new();
        let word = Word::new(OsStr::from_bytes(value));
        Execline.write_escaped_str(&mut out, &word.0)?;
        Ok(out)
    }

    #[test]
    fn a_plain_word_stays_bare_and_everything_else_is_quoted() {
        assert_eq!(quoted(b"/opt/data").as_deref(), Ok("/opt/data"));
        assert_eq!(quoted(b"").as_deref(), Ok("\"\""));
        assert_eq!(quoted(b"#x").as_deref(), Ok("\"#x\""));
        assert_eq!(quoted(b"a b").as_deref(), Ok("\"a b\""));
        assert_eq!(quoted(b"}").as_deref(), Ok("\"}\""));
        assert_eq!(
            quoted(b"q\"\\\n\x01\x7f\xff").as_deref(),
            Ok(r#""q\"\\\n\0x01\0x7f\0xff""#)
        );
    }

    #[test]
    fn nul_is_refused() {
        assert_eq!(quoted(b"a\0b"), Err(fmt::Error));
    }
}
