//! What is wrong, and what a look at the volume has found out.

use serde::{Deserialize, Serialize};

/// Something that is wrong, as a word for a log line and as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The problem in one word, without spaces.
    pub reason: String,
    /// The problem as a sentence for a person, with the remedy.
    pub text: String,
}

impl Problem {
    /// Makes a problem.
    pub fn new(reason: &str, text: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            text: text.into(),
        }
    }
}

/// The answer of a look. A look that has failed tells nothing: neither that something is so, nor that it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// It is so.
    Known(T),
    /// It cannot be known, and why.
    Unknown(Problem),
}

impl<T> Answer<T> {
    /// Gives what is known, if it is.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// Gives what keeps it from being known.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(problem) => Some(problem),
        }
    }

    /// Goes on from what is known.
    pub fn and_then<U>(self, next: impl FnOnce(T) -> Answer<U>) -> Answer<U> {
        match self {
            Self::Known(value) => next(value),
            Self::Unknown(problem) => Answer::Unknown(problem),
        }
    }

    /// Makes something of what is known.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Answer<U> {
        self.and_then(|value| Answer::Known(make(value)))
    }
}

impl<T: Default> Default for Answer<T> {
    fn default() -> Self {
        Self::Known(T::default())
    }
}
