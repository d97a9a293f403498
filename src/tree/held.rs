//! What keeps a gateway down although its operator wants it: what this container is for, and whether one gateway serves
//! all profiles.

use crate::hermes::container::Command;
use crate::hermes::name::ProfileName;
use crate::settings::Settings;
use crate::volume::problem::{Answer, Problem};
use crate::volume::survey::Survey;

/// Why a gateway stays down although its operator wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// It is meant so: why, in one word.
    Meant(String),
    /// The gateway of `default` serves the profile.
    Served,
    /// Whether another gateway serves the profile is not known.
    Unknown(Problem),
}

impl Held {
    /// Gives the reason in one word.
    pub fn word(&self) -> &str {
        match self {
            Self::Meant(word) => word,
            Self::Served => "multiplex",
            Self::Unknown(_) => "multiplex-unknown",
        }
    }
}

/// Gives the reason to keep a gateway down although its operator wants it; `None` if there is none.
pub fn held(
    settings: &Settings,
    command: &Command,
    survey: &Survey,
    profile: &ProfileName,
) -> Option<Held> {
    // The container's command itself is this gateway; a second one would get in its way.
    let is_command = gateway(settings, command, survey) == Some((profile.clone(), false));
    match (settings.autostart, command.other_role) {
        (Some(false), _) => Some(Held::Meant("autostart=never".to_owned())),
        _ if is_command => Some(Held::Meant("command=gateway-run".to_owned())),
        (None, Some(role)) => Some(Held::Meant(format!("role={role}"))),
        _ if profile.is_default() => None,
        _ => match survey.multiplex(settings) {
            Answer::Known(false) => None,
            Answer::Known(true) => Some(Held::Served),
            Answer::Unknown(problem) => Some(Held::Unknown(problem)),
        },
    }
}

/// Gives the profile whose gateway the container's command runs, and whether that gateway is to be supervised.
pub fn gateway(
    settings: &Settings,
    command: &Command,
    survey: &Survey,
) -> Option<(ProfileName, bool)> {
    let gateway = command.gateway.as_ref()?;
    let profile = gateway.profile.clone();
    // Hermes, too, takes `default` if it cannot read which profile was chosen.
    let meant = || {
        let meant = survey.meant(settings);
        meant.unwrap_or_else(|_| ProfileName::default_profile())
    };
    let profile = profile.unwrap_or_else(meant);
    Some((profile, gateway.supervised && !settings.no_supervise))
}

/// Tells whether the default profile's gateway serves a profile, beside which a gateway of its own ends at once.
pub fn is_multiplexed(settings: &Settings, survey: &Survey, profile: &ProfileName) -> bool {
    !profile.is_default() && survey.multiplex(settings) == Answer::Known(true)
}
