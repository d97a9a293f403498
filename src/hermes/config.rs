//! Settings of Hermes that concern gateways: in `config.yaml`, in `.env` files and in the environment.
//!
//! They are read as Hermes Agent 0.19.0 reads them.

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

/// Reads `multiplex_profiles` from a `config.yaml`: at the top level, else beneath `gateway`.
pub fn multiplex_in_config(yaml: &str) -> Option<bool> {
    ["", "gateway"]
        .into_iter()
        .find_map(|section| truth(config_setting(yaml, section, "multiplex_profiles")?))
}

/// Reads the value of a key in a section of a `config.yaml`; an empty section means the top level.
///
/// Understands the block style that Hermes itself writes, and `section: {…}` on one line. A key in any other
/// form counts as not set.
pub fn config_setting<'a>(yaml: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let value_of = |text: &'a str, key: &str| {
        let value = text.trim().strip_prefix(key)?.trim_start();
        let value = value.strip_prefix(':')?;
        Some(value.split(" #").next().unwrap_or(value).trim())
    };
    let mut found = None;
    let mut inside = section.is_empty();
    let mut indent = inside.then_some(0);
    for line in yaml.lines() {
        let text = line.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let depth = line.len() - text.len();
        if depth == 0 && !section.is_empty() {
            let rest = value_of(text, section);
            inside = rest.is_some();
            indent = None;
            let flow = rest.and_then(|rest| rest.strip_prefix('{')?.split('}').next());
            found = flow
                .and_then(|flow| flow.split(',').find_map(|pair| value_of(pair, key)))
                .or(found);
        } else if inside && depth == *indent.get_or_insert(depth) {
            found = value_of(text, key).or(found);
        }
    }
    found.map(|value| value.trim_matches(['"', '\'']))
}

/// Reads from a `config.yaml` how long a gateway that is told to end goes on with its work, in seconds, rounded
/// up.
pub fn drain_timeout(yaml: &str) -> Option<u64> {
    let value = config_setting(yaml, "agent", "restart_drain_timeout")?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let has_fraction = fraction.bytes().any(|digit| digit != b'0');
    Some(
        whole
            .parse::<u64>()
            .ok()?
            .saturating_add(u64::from(has_fraction)),
    )
}

/// Reads the value of a variable from an environment file; the last line wins, as for Hermes.
pub fn env_setting(env_file: &str, variable: &str) -> Option<String> {
    env_file
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line.split_once('=')?;
            (name.trim() == variable).then_some(())?;
            let value = value.trim();
            let quoted = ['"', '\'']
                .iter()
                .find_map(|quote| value.strip_prefix(*quote)?.split(*quote).next());
            let bare = value.split(" #").next().unwrap_or(value).trim();
            Some(quoted.unwrap_or(bare).to_owned())
        })
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplexing_is_read_from_the_top_level_and_then_from_gateway() {
        for (yaml, expected) in [
            ("multiplex_profiles: true\n", Some(true)),
            (
                "gateway:\n  port: 1\n  multiplex_profiles: yes # all\n",
                Some(true),
            ),
            (
                "gateway:\n  multiplex_profiles: 'on'\nmultiplex_profiles: false\n",
                Some(false),
            ),
            ("gateway: {multiplex_profiles: true, x: 1}\n", Some(true)),
            ("gateway:\n  relay:\n    multiplex_profiles: true\n", None),
            ("model:\n  multiplex_profiles: true\n", None),
            ("# multiplex_profiles: true\n", None),
            ("multiplex_profiles: maybe\n", None),
            ("multiplex_profiles_x: true\n", None),
            (": [}\n\t- broken", None),
            ("", None),
        ] {
            assert_eq!(multiplex_in_config(yaml), expected, "{yaml:?}");
        }
    }

    #[test]
    fn a_setting_is_found_in_every_usual_form() {
        for (file, expected) in [
            ("API_SERVER_PORT=1", Some("1")),
            ("export API_SERVER_PORT = 2", Some("2")),
            ("API_SERVER_PORT=\"3\" # why", Some("3")),
            ("API_SERVER_PORT='4'\nAPI_SERVER_PORT=5 # last", Some("5")),
            ("#API_SERVER_PORT=6", None),
            ("XAPI_SERVER_PORT=7", None),
            ("API_SERVER_PORT", None),
        ] {
            assert_eq!(
                env_setting(file, "API_SERVER_PORT").as_deref(),
                expected,
                "{file}"
            );
        }
    }

    #[test]
    fn the_time_to_drain_is_read_in_whole_seconds_or_more() {
        for (yaml, expected) in [
            ("agent:\n  restart_drain_timeout: 60\n", Some(60)),
            (
                "agent:\n  max_turns: 9\n  restart_drain_timeout: '90.5' # long\n",
                Some(91),
            ),
            ("agent: {restart_drain_timeout: 30.0}\n", Some(30)),
            ("restart_drain_timeout: 60\n", None),
            ("gateway:\n  restart_drain_timeout: 60\n", None),
            ("agent:\n  x:\n    restart_drain_timeout: 60\n", None),
            ("agent:\n  restart_drain_timeout: soon\n", None),
            ("", None),
        ] {
            assert_eq!(drain_timeout(yaml), expected, "{yaml:?}");
        }
    }
}
