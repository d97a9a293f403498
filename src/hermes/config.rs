//! Settings of Hermes that concern gateways: in `config.yaml`, in `.env` files and in the environment.
//!
//! They are read as Hermes Agent 0.19.0 reads them, see [`EnvFile`](crate::hermes::dotenv::EnvFile) for `.env`.

use std::time::Duration;

use crate::hermes::scalar::{Malformed, Scalar};
use crate::hermes::yaml::{Document, Value};

/// The variable that says whether one gateway serves all profiles.
pub const MULTIPLEX_VARIABLE: &str = "GATEWAY_MULTIPLEX_PROFILES";

/// The variable with the port of a profile's API server.
pub const PORT_VARIABLE: &str = "API_SERVER_PORT";

/// The prefixes of the variables that configure one profile's messaging accounts: tokens, addresses and so on.
/// There is a prefix for each platform of Hermes (`gateway/config.py`, `plugins/platforms/`).
const ACCOUNT_PREFIXES: [&str; 32] = [
    "API_SERVER_",
    "BLUEBUBBLES_",
    "DINGTALK_",
    "DISCORD_",
    "EMAIL_",
    "FEISHU_",
    "GATEWAY_PROXY_",
    "GATEWAY_RELAY_",
    "GOOGLE_CHAT_",
    "HASS_",
    "IRC_",
    "LINE_",
    "MATRIX_",
    "MATTERMOST_",
    "MSGRAPH_WEBHOOK_",
    "NTFY_",
    "PHOTON_",
    "QQBOT_",
    "QQ_",
    "RAFT_",
    "SIGNAL_",
    "SIMPLEX_",
    "SLACK_",
    "SMS_",
    "TEAMS_",
    "TELEGRAM_",
    "TWILIO_",
    "WEBHOOK_",
    "WECOM_",
    "WEIXIN_",
    "WHATSAPP_",
    "YUANBAO_",
];

/// Tells whether a variable configures the messaging accounts of one profile.
pub fn is_of_an_account(variable: &[u8]) -> bool {
    let mut prefixes = ACCOUNT_PREFIXES.iter();
    prefixes.any(|prefix| variable.starts_with(prefix.as_bytes()))
}

/// Reads a truth value as Hermes does: 1, true, yes, on and their opposites; `None` for any other text.
pub fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// A `config.yaml` that Hermes can load.
#[derive(Debug, Default)]
pub struct Config(Document);

impl Config {
    /// Reads the content of a file. Hermes goes on without a file that it cannot load.
    pub fn read(content: &[u8]) -> Result<Self, Malformed> {
        let document = Document::load(content)?;
        if document.is_mapping() {
            Ok(Self(document))
        } else {
            Err(Malformed)
        }
    }

    /// Tells whether one gateway is to serve all profiles.
    ///
    /// The gateway takes every setting at the top level also for a variable of its environment. Else the key at the
    /// top level counts, whatever its value is; only without it the one beneath `gateway`.
    pub fn multiplex(&self) -> bool {
        let variable = match self.0.get(&[MULTIPLEX_VARIABLE]) {
            Some(Value::Scalar(Scalar::Text(text))) => truth(&text),
            Some(Value::Scalar(Scalar::Bool(value))) => Some(value),
            Some(Value::Scalar(Scalar::Number(number))) => truth(&number.to_string()),
            _ => None,
        };
        variable.unwrap_or_else(|| {
            let top = self.0.get(&["multiplex_profiles"]);
            let value = top.or_else(|| self.0.get(&["gateway", "multiplex_profiles"]));
            match value {
                None => false,
                Some(Value::Scalar(Scalar::Text(text))) => truth(&text) == Some(true),
                Some(Value::Scalar(scalar)) => scalar.is_true(),
                Some(Value::Collection { filled }) => filled,
            }
        })
    }

    /// Gives how long a gateway that is told to end goes on with its work, in seconds, rounded up; `None` if that is
    /// not set.
    pub fn drain_timeout(&self) -> Option<u64> {
        let seconds = match self.0.get(&["agent", "restart_drain_timeout"])? {
            Value::Scalar(Scalar::Number(number)) => number,
            // As a number in Python, in which `_` may part digits.
            Value::Scalar(Scalar::Text(text)) => text.trim().replace('_', "").parse().ok()?,
            _ => return None,
        };
        if seconds.is_nan() {
            return None;
        }
        // The largest number that a duration has no room for is more than any gateway waits.
        let whole = Duration::try_from_secs_f64(seconds.max(0.0).ceil());
        Some(whole.map_or(u64::MAX, |whole| whole.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplexing_is_read_from_the_top_level_and_then_from_gateway() {
        #[rustfmt::skip]
        let rows = [
            ("multiplex_profiles: true", true),
            ("\u{feff}multiplex_profiles: true", true),
            ("gateway:\n  port: 1\n  multiplex_profiles: yes # all", true),
            ("gateway:\n  multiplex_profiles: 'on'\nmultiplex_profiles: false", false),
            ("gateway:\n  multiplex_profiles: on\nmultiplex_profiles:", false),
            ("gateway:\n  multiplex_profiles: on\nmultiplex_profiles: maybe", false),
            ("gateway: {multiplex_profiles: true, x: 1}", true),
            ("{\"gateway\": {\"multiplex_profiles\": true}}", true),
            ("'multiplex_profiles': true", true),
            ("multiplex_profiles: false\nmultiplex_profiles: true", true),
            ("multiplex_profiles: 2", true),
            ("multiplex_profiles: 0x0", false),
            ("multiplex_profiles: [0]", true),
            ("all: &all {multiplex_profiles: true}\ngateway: *all", true),
            ("all: &all {multiplex_profiles: true}\ngateway:\n  <<: *all", true),
            ("all: &all {multiplex_profiles: true}\ngateway:\n  <<: *all\n  multiplex_profiles: no", false),
            ("gateway:\n  relay:\n    multiplex_profiles: true", false),
            ("model:\n  multiplex_profiles: true", false),
            ("# multiplex_profiles: true", false),
            ("multiplex_profiles_x: true", false),
            ("GATEWAY_MULTIPLEX_PROFILES: 1\nmultiplex_profiles: no", true),
            ("", false),
        ];
        for (yaml, expected) in rows {
            let config = Config::read(yaml.as_bytes());
            assert_eq!(
                config.map(|config| config.multiplex()),
                Ok(expected),
                "{yaml}"
            );
        }
    }

    #[test]
    fn what_hermes_cannot_load_is_no_configuration() {
        let deep = "[".repeat(100_000);
        for yaml in [
            ": [}\n\t- broken",
            "- a list",
            "a: *nowhere",
            "a: !tag b",
            "a\0: b",
            &deep,
        ] {
            assert_eq!(
                Config::read(yaml.as_bytes()).err(),
                Some(Malformed),
                "{yaml:.20}"
            );
        }
        assert_eq!(Config::read(b"a: \xff").err(), Some(Malformed), "not UTF-8");
    }

    #[test]
    fn a_document_does_not_grow_by_its_aliases() {
        let mut bomb = "a0: &a0 {multiplex_profiles: true}\n".to_owned();
        for level in 1..60 {
            let last = level - 1;
            let line = format!(
                "a{level}: &a{level} {{<<: [*a{last}, *a{last}], x: [*a{last}, *a{last}]}}\n"
            );
            bomb.push_str(&line);
        }
        bomb.push_str("gateway: *a59\n");
        let config = Config::read(bomb.as_bytes());
        assert_eq!(config.map(|config| config.multiplex()), Ok(true));
        let without = bomb.replace("multiplex_profiles", "other");
        let config = Config::read(without.as_bytes());
        assert_eq!(config.map(|config| config.multiplex()), Ok(false));
    }

    #[test]
    fn no_document_takes_long() {
        let many = |text: &str| text.repeat((1 << 18) / text.len());
        let merges = many("  <<: *l\n");
        let lists = format!(
            "a: &a {{x: 1}}\nl: &l [{}*a]\ngateway:\n{merges}",
            many("*a, ")
        );
        let link = |level: usize| {
            let last = level.saturating_sub(1);
            format!("a{level}: &a{level} {{<<: *a{last}}}\n")
        };
        let links: String = (1..30_000).map(link).collect();
        let chain = format!("a0: &a0 {{x: 1}}\n{links}gateway: *a29999\n");
        for yaml in [lists, chain] {
            let config = Config::read(yaml.as_bytes());
            assert_eq!(config.map(|config| config.multiplex()), Ok(false));
        }
        for text in [
            "[", "{", "a: ", "- ", "? ", "-\n", "\"a\n", "'", "&a ", "!", "*", "a: 1\n", "%",
            "---\n",
        ] {
            let _ = Config::read(many(text).as_bytes());
        }
    }

    #[test]
    fn the_time_to_drain_is_read_in_whole_seconds_or_more() {
        #[rustfmt::skip]
        let rows = [
            ("agent:\n  restart_drain_timeout: 60", Some(60)),
            ("agent:\n  max_turns: 9\n  restart_drain_timeout: '90.5' # long", Some(91)),
            ("agent: {restart_drain_timeout: 30.0}", Some(30)),
            ("agent: {restart_drain_timeout: 1:30}", Some(90)),
            ("agent: {restart_drain_timeout: 1e3}", Some(1000)),
            ("agent: {restart_drain_timeout: .inf}", Some(u64::MAX)),
            ("agent: {restart_drain_timeout: -5}", Some(0)),
            ("agent: {restart_drain_timeout: .nan}", None),
            ("agent: {restart_drain_timeout: yes}", None),
            ("restart_drain_timeout: 60", None),
            ("gateway:\n  restart_drain_timeout: 60", None),
            ("agent:\n  x:\n    restart_drain_timeout: 60", None),
            ("agent:\n  restart_drain_timeout: soon", None),
            ("", None),
        ];
        for (yaml, expected) in rows {
            let config = Config::read(yaml.as_bytes());
            assert_eq!(
                config.map(|config| config.drain_timeout()),
                Ok(expected),
                "{yaml}"
            );
        }
    }
}
