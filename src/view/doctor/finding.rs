//! The findings of the doctor's checks, and how they are written.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::report::{first_few, one_line};
use crate::tree::slot::LOGGER_MARGIN;

/// The remedy for what a tree reads only when it starts.
pub const RESTART: &str =
    "restart the container, or end the tree with s6-svscanctl -t and run hermes-s6 supervise";

/// The seconds that a container needs to end, in addition to the time of its gateways and loggers.
const CONTAINER_MARGIN: u64 = 10;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All is as it should be.
    Ok,
    /// The check could not be made.
    Unknown,
    /// It works, but will not always, or not for everybody.
    Warning,
    /// It does not work.
    Problem,
}

/// The finding of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check, in one word.
    pub check: String,
    /// How bad the finding is.
    pub level: Level,
    /// The profile that the finding is about, if it is about one.
    pub profile: Option<String>,
    /// The finding itself, for a person.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// All findings.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    /// The version of this schema.
    version: u32,
    /// Whether nothing is wrong, as far as the checks could be made.
    pub ok: bool,
    findings: Vec<Finding>,
}

impl Diagnosis {
    /// Makes the diagnosis from all findings.
    pub fn new(findings: Vec<Finding>) -> Self {
        let is_good = |finding: &Finding| matches!(finding.level, Level::Ok | Level::Unknown);
        Self {
            version: 1,
            ok: findings.iter().all(is_good),
            findings,
        }
    }
}

/// The findings so far, and the check that is being made.
#[derive(Debug, Default)]
pub struct Findings {
    /// The check that is being made.
    pub check: &'static str,
    /// The profile that the next finding is about.
    pub profile: Option<String>,
    /// The findings so far.
    pub list: Vec<Finding>,
}

impl Findings {
    /// Makes an empty list, and begins with a check.
    pub fn new(check: &'static str) -> Self {
        Self {
            check,
            ..Self::default()
        }
    }

    /// Adds a finding of the current check; an empty remedy means that there is none.
    pub fn add(&mut self, level: Level, text: String, remedy: &str) {
        self.list.push(Finding {
            check: self.check.to_owned(),
            level,
            profile: self.profile.take(),
            text,
            remedy: (!remedy.is_empty()).then(|| remedy.to_owned()),
        });
    }

    /// Sets the profile that the next finding is about.
    pub fn of(&mut self, profile: &str) -> &mut Self {
        self.profile = Some(profile.to_owned());
        self
    }

    /// Adds an error as a finding, with its remedy.
    pub fn error(&mut self, level: Level, error: &Error) {
        let advice = error.advice().unwrap_or_default();
        let text = error.to_string();
        let what = text.strip_suffix(advice).unwrap_or(&text);
        self.add(level, what.trim_end_matches(": ").to_owned(), advice);
    }

    /// Adds a sentence as a finding; what stands behind its last colon is the remedy.
    pub fn sentence(&mut self, level: Level, sentence: &str) {
        let (text, remedy) = sentence.rsplit_once(": ").unwrap_or((sentence, ""));
        self.add(level, text.to_owned(), remedy);
    }

    /// Ends the current check. If it has no finding yet, `text` becomes one, with the level ok.
    pub fn conclude(&mut self, text: String) {
        if !self.list.iter().any(|finding| finding.check == self.check) {
            self.add(Level::Ok, text, "");
        }
    }
}

/// Gives the time that a container needs to end, in seconds; `gateways` is the time of its gateways.
pub fn stop_of_container(gateways: u64) -> u64 {
    gateways.saturating_add(LOGGER_MARGIN.as_secs() + CONTAINER_MARGIN)
}

/// Writes the first paths or names of a list, and the number of the others.
pub fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display()).collect();
    first_few(&paths)
}

/// Writes a line for each finding, and a last line with the sums; with `colour` for a terminal.
pub fn text(diagnosis: &Diagnosis, colour: bool) -> String {
    let mut text = String::new();
    let mut counts = [0; 4];
    for finding in &diagnosis.findings {
        let level = finding.level as usize;
        counts[level] += 1;
        let word = ["ok   ", "?    ", "WARN ", "FAIL "][level];
        if colour {
            text.extend([
                "\x1b[",
                ["32", "2", "33", "31"][level],
                "m",
                word,
                "\x1b[0m",
            ]);
        } else {
            text.push_str(word);
        }
        text.push_str(&one_line(&finding.check));
        let (profile, remedy) = (finding.profile.as_ref(), finding.remedy.as_ref());
        for part in profile.into_iter().chain([&finding.text]).chain(remedy) {
            text.push_str(": ");
            text.push_str(&one_line(part));
        }
        text.push('\n');
    }
    let [_, unknown, warnings, problems] = counts;
    let last = format!("problems: {problems}, warnings: {warnings}, unknown: {unknown}\n");
    text + &last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_whatever_is_in_it() {
        let mut found = Findings::new("volume");
        found
            .of("coder")
            .add(Level::Warning, "a\nb".to_owned(), "rm x");
        found.error(
            Level::Problem,
            &Error::system("open", "/x", rustix::io::Errno::ACCESS).remedy("chmod it"),
        );
        found.conclude("not this".to_owned());
        let diagnosis = Diagnosis::new(found.list);
        assert!(!diagnosis.ok);
        assert_eq!(
            text(&diagnosis, false),
            "WARN volume: coder: a\\nb: rm x\nFAIL volume: unable to open /x: Permission denied: chmod it\nproblems: 1, warnings: 1, unknown: 0\n"
        );
        assert!(text(&diagnosis, true).starts_with("\x1b[33mWARN \x1b[0mvolume: "));
    }
}
