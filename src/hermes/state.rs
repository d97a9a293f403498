//! The state file of a profile, `gateway_state.json`: the operator's intent, and what the gateway does.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::word;

/// The name of the state file in a profile's home. The gateway and the operator's commands write it.
pub const STATE_FILE: &str = "gateway_state.json";

/// The largest state file that is read, in bytes; real files have less than two thousand.
pub const STATE_LIMIT: u64 = 1 << 20;

/// The longest state that is kept, in characters: it is written into log lines.
const STATE_LENGTH: usize = 64;

/// The state that an operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// The gateway runs, now and after every start of the container.
    Running,
    /// The gateway stays down.
    Stopped,
}

/// The field of the state file that an intent comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `desired_state`, which only the operator's commands write.
    DesiredState,
    /// `gateway_state`, which the gateway writes: what it did when it last wrote.
    GatewayState,
}

/// The operator's intent, as far as the state file tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The value in the file; `None` if there is no usable file or field.
    pub state: Option<String>,
    /// The field that has the value.
    pub source: Option<Source>,
}

impl Intent {
    /// Makes the intent of an operator who asked for the gateway to run.
    pub fn running() -> Self {
        Self {
            state: Some("running".to_owned()),
            source: Some(Source::DesiredState),
        }
    }

    /// Tells whether the gateway shall run.
    ///
    /// Without a `desired_state`, `gateway_state` decides. A gateway that was killed while it was draining or
    /// degraded had been running, and runs again. A gateway that was starting, or had failed to start, is not
    /// started again without an order.
    pub fn wants_running(&self) -> bool {
        match (self.source, self.state.as_deref()) {
            (_, Some("running")) => true,
            (Some(Source::GatewayState), Some(state)) => matches!(state, "draining" | "degraded"),
            _ => false,
        }
    }

    /// Tells whether the operator asked for exactly this, in `desired_state`.
    pub fn is(&self, wanted: Wanted) -> bool {
        self.source == Some(Source::DesiredState) && self.state == Some(word(&wanted))
    }

    /// Tells whether the operator asked, in `desired_state`, for the gateway to be down.
    pub fn wants_stopped(&self) -> bool {
        self.is(Wanted::Stopped)
    }
}

/// Why a state file tells no intent: one word for a log line.
pub type Reason = &'static str;

/// Reads the intent from the content of a state file.
///
/// `desired_state` counts if it is there and not null, else `gateway_state`; the value is taken verbatim.
pub fn intent(content: &[u8]) -> Result<Intent, Reason> {
    let file = StateFile::parse(content)?;
    for (field, source) in [
        (file.desired_state, Source::DesiredState),
        (file.gateway_state, Source::GatewayState),
    ] {
        match field {
            Field::Null => {}
            Field::Text(state) => {
                let state = state.chars().take(STATE_LENGTH).collect();
                return Ok(Intent {
                    state: Some(state),
                    source: Some(source),
                });
            }
            Field::Number(_) | Field::Other => return Err("state-not-text"),
        }
    }
    Ok(Intent::default())
}

/// Writes an intent into the content of a state file, and gives the new content.
///
/// Sets `desired_state`, and `updated_at` to `now`, in seconds since 1970, as Hermes' own commands do. All other
/// fields keep their order and their exact text.
pub fn with_intent(content: &[u8], wanted: Wanted, now: u64) -> Result<Vec<u8>, Reason> {
    let mut entries: Entries =
        serde_json::from_slice(content).map_err(|_| "state-not-an-object")?;
    for (key, value) in [
        ("desired_state", format!("\"{}\"", word(&wanted))),
        ("updated_at", now.to_string()),
    ] {
        // If two fields have the same name, readers take the last.
        match entries.0.iter_mut().rfind(|(name, _)| name == key) {
            Some(entry) => entry.1 = value,
            None => entries.0.push((key.to_owned(), value)),
        }
    }
    let mut text = String::from("{");
    for (key, value) in &entries.0 {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&serde_json::to_string(key).unwrap_or_default());
        text.push(':');
        text.push_str(value);
    }
    text.push_str("}\n");
    Ok(text.into_bytes())
}

/// The fields of a JSON object in their order, with the exact text of their values.
struct Entries(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
            entries.push((key, value.get().to_owned()));
        }
        Ok(Entries(entries))
    }
}

/// The proof in a state file that a process wrote it, and not an earlier process with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The file names the start time of the process.
    Start,
    /// The file proves nothing.
    None,
}

/// Tells whether a process has written that it serves, and with which proof; `None` if it has not.
///
/// `pid` is the process, and `start` its start time, as field 22 of /proc/PID/stat. A gateway serves while its
/// `gateway_state` is `running` or `degraded`. The pid alone proves little: pids repeat in a container.
pub fn serves(content: &[u8], pid: u64, start: u64) -> Option<Proof> {
    let file = StateFile::parse(content).ok()?;
    let serving = matches!(&file.gateway_state, Field::Text(state) if state == "running" || state == "degraded");
    if !serving || file.pid != Field::Number(pid) {
        return None;
    }
    match file.start_time {
        Field::Null => Some(Proof::None),
        written => (written == Field::Number(start)).then_some(Proof::Start),
    }
}

/// The file in a profile's home that a gateway writes anew every 30 seconds, while its event loop runs.
pub const HEARTBEAT_FILE: &str = "gateway.heartbeat";

/// The directory of that file, in the profile's home.
pub const HEARTBEAT_DIRECTORY: &str = "state";

/// What a gateway says of itself in its files, apart from the intent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The process that has failed to start, and says so.
    pub failed_start: Option<u32>,
    /// The last heartbeat; `None` if there is none, or if it could not have been written.
    pub heartbeat: Option<Heartbeat>,
}

/// A sign that the event loop of a gateway runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The process that has given it.
    pub pid: u32,
    /// Its age, in seconds.
    pub age: u64,
}

impl Heartbeat {
    /// Reads a heartbeat; `monotonic` is the present time of CLOCK_MONOTONIC, in seconds.
    ///
    /// That clock stands while the machine sleeps, and nobody sets it.
    pub fn read(content: &[u8], monotonic: u64) -> Option<Self> {
        #[derive(Deserialize)]
        struct Written {
            pid: u32,
            monotonic: f64,
        }
        let written: Written = serde_json::from_slice(content).ok()?;
        let at = Duration::try_from_secs_f64(written.monotonic).ok()?;
        Some(Self {
            pid: written.pid,
            // A later time is that of another boot of the machine.
            age: monotonic.checked_sub(at.as_secs())?,
        })
    }
}

/// Gives the process that has written into a state file that it failed to start.
pub fn failed_start(content: &[u8]) -> Option<u32> {
    let file = StateFile::parse(content).ok()?;
    let has_failed = matches!(&file.gateway_state, Field::Text(state) if state == "startup_failed");
    match file.pid {
        Field::Number(pid) if has_failed => u32::try_from(pid).ok(),
        _ => None,
    }
}

/// The fields of a state file that matter here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StateFile {
    desired_state: Field,
    gateway_state: Field,
    pid: Field,
    /// Field 22 of /proc/PID/stat.
    start_time: Field,
}

impl StateFile {
    fn parse(content: &[u8]) -> Result<Self, Reason> {
        // serde also reads a struct from a JSON list.
        let is_object = content.trim_ascii_start().starts_with(b"{");
        match serde_json::from_slice::<Self>(content) {
            Ok(file) if is_object => Ok(file),
            Err(_) if is_object => Err("state-not-json"),
            _ if serde_json::from_slice::<IgnoredAny>(content).is_ok() => {
                Err("state-not-an-object")
            }
            _ => Err("state-not-json"),
        }
    }
}

/// The value of a field; what cannot matter is [`Field::Other`].
#[derive(Default, PartialEq)]
enum Field {
    #[default]
    Null,
    Text(String),
    Number(u64),
    Other,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Field, E> {
        Ok(Field::Number(number))
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(content: &str) -> Option<bool> {
        intent(content.as_bytes())
            .ok()
            .map(|intent| intent.wants_running())
    }

    #[test]
    fn desired_state_counts_verbatim_and_before_gateway_state() {
        for (content, expected) in [
            (
                r#"{"desired_state":"running","gateway_state":"stopped"}"#,
                true,
            ),
            (
                r#"{"desired_state":"stopped","gateway_state":"running"}"#,
                false,
            ),
            (
                r#"{"desired_state":"draining","gateway_state":"running"}"#,
                false,
            ),
            (r#"{"desired_state":"","gateway_state":"running"}"#, false),
            (r#"{"desired_state":null,"gateway_state":"running"}"#, true),
        ] {
            assert_eq!(running(content), Some(expected), "{content}");
        }
    }

    #[test]
    fn without_desired_state_a_gateway_that_was_serving_is_wanted() {
        for (state, expected) in [
            ("running", true),
            ("draining", true),
            ("degraded", true),
            ("starting", false),
            ("startup_failed", false),
            ("stopped", false),
            ("anything", false),
        ] {
            let content = format!(r#"{{"gateway_state":"{state}"}}"#);
            assert_eq!(running(&content), Some(expected), "{state}");
        }
        assert_eq!(running("{}"), Some(false));
    }

    #[test]
    fn content_that_is_not_a_state_has_a_reason() {
        assert_eq!(intent(b"[\"running\"]"), Err("state-not-an-object"));
        assert_eq!(intent(b"\"running\""), Err("state-not-an-object"));
        assert_eq!(intent(b""), Err("state-not-json"));
        assert_eq!(
            intent(b"{\"desired_state\":\"\xff\"}"),
            Err("state-not-json")
        );
        assert_eq!(intent(br#"{"desired_state":[]}"#), Err("state-not-text"));
        assert_eq!(
            intent("[".repeat(100_000).as_bytes()),
            Err("state-not-json")
        );
    }

    #[test]
    fn writing_an_intent_keeps_all_other_fields_to_the_letter() {
        let write = |content: &str, wanted| {
            with_intent(content.as_bytes(), wanted, 7)
                .map(|content| String::from_utf8_lossy(&content).into_owned())
        };
        assert_eq!(
            write("{}", Wanted::Running).as_deref(),
            Ok("{\"desired_state\":\"running\",\"updated_at\":7}\n")
        );
        let content = r#"{ "updated_at": "2026-01-01T00:00:00+00:00", "pid": 18446744073709551616, "x": {"b": 1.10, "a": [1e400]}, "desired_state": "running", "\u00e9": null }"#;
        assert_eq!(
            write(content, Wanted::Stopped).as_deref(),
            Ok(concat!(
                r#"{"updated_at":7,"pid":18446744073709551616,"x":{"b": 1.10, "a": [1e400]},"desired_state":"stopped","é":null}"#,
                "\n"
            ))
        );
        for damaged in ["", "[]", "{", "{\"a\":1} x", "\"running\""] {
            assert_eq!(
                write(damaged, Wanted::Running),
                Err("state-not-an-object"),
                "{damaged}"
            );
        }
    }

    #[test]
    fn only_the_gateway_of_that_pid_and_start_serves() {
        let content = br#"{"pid":7,"gateway_state":"running"}"#;
        assert_eq!(serves(content, 7, 1), Some(Proof::None));
        assert_eq!(serves(content, 8, 1), None);
        assert_eq!(
            serves(br#"{"pid":7,"gateway_state":"starting"}"#, 7, 1),
            None
        );
        assert_eq!(
            serves(br#"{"pid":"7","gateway_state":"running"}"#, 7, 1),
            None
        );
        let content = br#"{"pid":7,"start_time":1,"gateway_state":"degraded"}"#;
        assert_eq!(serves(content, 7, 1), Some(Proof::Start));
        assert_eq!(
            serves(content, 7, 2),
            None,
            "an earlier process of that pid"
        );
    }
}
