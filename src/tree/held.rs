//! What else decides whether a gateway is to run, beside the intent of its own operator: what this container is for,
//! and whether one gateway serves all profiles.

use crate::hermes::container::Command;
use crate::hermes::name::ProfileName;
use crate::hermes::state::{Intent, Source};
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
    /// The gateway of `default` would serve the profile, and its operator has stopped that.
    Unserved,
    /// Whether another gateway serves the profile is not known.
    Unknown(Problem),
}

impl Held {
    /// Gives the reason in one word.
    pub fn word(&self) -> &str {
        match self {
            Self::Meant(word) => word,
            Self::Served | Self::Unserved => "multiplex",
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
            Answer::Known(true) if is_stopped(survey) => Some(Held::Unserved),
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

/// Tells whether the operator of `default` has said, in `desired_state`, that its gateway is not to run.
fn is_stopped(survey: &Survey) -> bool {
    let default = survey.profiles.get(&ProfileName::default_profile());
    default.is_some_and(|default| {
        default.intent.source == Some(Source::DesiredState) && !default.intent.wants_running()
    })
}

/// Lists the profiles for which the gateway of `default` is to run although nobody has asked for it itself: it serves
/// them. If its operator has said what it is to do, that counts alone.
///
/// `others_run` says that a gateway of another profile runs. It would be served a second time, so then nobody calls.
pub fn called_by<'s>(
    settings: &Settings,
    survey: &'s Survey,
    others_run: bool,
) -> Vec<&'s ProfileName> {
    let default = survey.profiles.get(&ProfileName::default_profile());
    let is_asked =
        default.is_some_and(|default| default.intent.source == Some(Source::DesiredState));
    if is_asked || others_run || survey.multiplex(settings) != Answer::Known(true) {
        return Vec::new();
    }
    let profiles = survey.profiles.values();
    let calls =
        profiles.filter(|profile| !profile.name.is_default() && profile.intent.wants_running());
    calls.map(|profile| &profile.name).collect()
}

/// Gives what is wanted of a gateway: what its own operator wants, and of the one that serves all profiles what the
/// operators of the others want, see [`called_by`].
pub fn intent(
    settings: &Settings,
    survey: &Survey,
    others_run: bool,
    profile: &ProfileName,
) -> Intent {
    let of = |name: &ProfileName| survey.profiles.get(name).map(|profile| &profile.intent);
    let own = of(profile).cloned().unwrap_or_default();
    if !profile.is_default() {
        return own;
    }
    let calls = called_by(settings, survey, others_run);
    let calls: Vec<&Intent> = calls.into_iter().filter_map(of).collect();
    // What an operator has said counts for more than what a gateway has written.
    let said = calls
        .iter()
        .find(|intent| intent.source == Some(Source::DesiredState));
    let call = said.or(calls.first());
    call.map_or(own, |call| (*call).clone())
}
