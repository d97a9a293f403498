//! Slots follow the volume: for profiles that were added, removed or renamed without hermes-s6.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use crate::command::context::{Tree, is_inside};
use crate::error::Result;
use crate::hermes::name::ProfileName;
use crate::report::{self, Warning};
use crate::rights::Rights;
use crate::rights::ask::reach;
use crate::settings::Settings;
use crate::tree::reconcile::{Registered, warn};
use crate::volume::lock::Lock;
use crate::volume::survey::{Profile, names_in_time};

/// The difference between the profiles on the volume and the slots.
#[derive(Debug, Default)]
pub struct Strayed {
    /// Profiles that shall get a slot.
    new: BTreeSet<ProfileName>,
    /// Profiles whose slot shall be removed.
    gone: BTreeSet<ProfileName>,
    /// Whether profiles and slots differ at all: also by slots that may not be removed yet.
    pub any: bool,
}

/// Finds the profiles without a slot, and the slots without a profile's home.
pub fn strayed(tree: &Tree) -> Result<Strayed> {
    if tree.scandir.ours().is_err() || *tree.rights() != Rights::Own {
        return Ok(Strayed::default());
    }
    let profiles = names_in_time(tree.settings())?;
    let slots = tree.scandir.profiles()?;
    for name in tree.scandir.unregistered()? {
        if !profiles.contains(&name) && was_deleted(tree.settings(), &name) {
            tree.scandir.forget_unregistered(&name);
        }
    }
    let mut new = &profiles - &slots;
    new.retain(|name| !tree.scandir.is_unregistered(name));
    let mut gone = &slots - &profiles;
    let is_own = |name: &ProfileName| is_inside() && *name == tree.settings().own_profile();
    gone.retain(|name| has_no_home(tree.settings(), name) && !is_own(name));
    // If there is no named profile at all, the volume is probably not mounted: then no running gateway is gone.
    gone.retain(|name| profiles.len() > 1 || !tree.may_run(name));
    let any = profiles != slots;
    Ok(Strayed { new, gone, any })
}

/// Moves gateways to the new names of profiles whose homes were renamed while the gateways ran.
///
/// A gateway holds the lock of its home. So the profile with that lock is its profile, whatever the name is now.
///
/// `limit` is how long other commands are waited for.
pub fn follow_renamed(
    tree: &Tree,
    Strayed { new, gone, .. }: &Strayed,
    limit: Duration,
) -> Result<()> {
    if new.is_empty() || gone.is_empty() {
        return Ok(());
    }
    let survey = tree.context.survey(&Vec::from_iter(new.clone()))?;
    let new_name = |old: &ProfileName| {
        let pid = i32::try_from(tree.status(old).ok()??.pid?).ok();
        let is_held_by_pid = |lock: &Lock| lock.held && lock.pid.is_some() && lock.pid == pid;
        let is_home = |profile: &&Profile| profile.lock.as_ref().is_some_and(is_held_by_pid);
        Some(survey.profiles.values().find(is_home)?.name.clone())
    };
    let renamed = gone
        .iter()
        .filter_map(|old| Some([old.clone(), new_name(old)?]));
    let renamed: BTreeSet<ProfileName> = renamed.flatten().collect();
    if renamed.is_empty() {
        return Ok(());
    }
    converge(tree, &renamed, limit)
}

/// Adds the slots of new profiles, and removes the slots of profiles that are gone.
///
/// A new profile may still be incomplete: so its gateway is not started. And a profile that cannot be found may
/// be back soon: so a gateway is not ended if the volume may only be unmounted.
///
/// `limit` is how long other commands are waited for.
pub fn follow_volume(tree: &Tree, limit: Duration) -> Result<()> {
    let Strayed { mut new, gone, .. } = strayed(tree)?;
    if !gone.is_empty() {
        converge(tree, &gone, limit)?;
    }
    if new.is_empty() {
        return Ok(());
    }
    let session = tree.session(limit)?;
    // Until now, another command may have unregistered one.
    new.retain(|name| !tree.scandir.is_unregistered(name));
    let Registered {
        failures,
        unwritten,
        ..
    } = session.register(&new)?;
    report::warnings(&unwritten);
    let failed = failures.iter();
    let failed = failed.map(|(name, error)| Warning::of(name.as_str(), error.to_string()));
    report::warnings(&failed.collect::<Vec<_>>());
    for name in new.iter().filter(|name| !failures.contains_key(name)) {
        report::note(&format!("{} is registered, and down", name.slot()));
    }
    Ok(())
}

/// Tells whether the home of a profile certainly does not exist.
pub fn has_no_home(settings: &Settings, name: &ProfileName) -> bool {
    if reach(settings, &settings.home).is_err() {
        return false;
    }
    let home = settings.root.at(settings.home_of(name));
    home.symlink_metadata()
        .is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Tells whether the home of a profile certainly does not exist on a volume that is mounted: it has a place for homes.
fn was_deleted(settings: &Settings, name: &ProfileName) -> bool {
    let profiles = settings.root.at(settings.home.join("profiles"));
    has_no_home(settings, name) && profiles.is_dir()
}

/// Converges the slots of some profiles with the volume.
fn converge(tree: &Tree, names: &BTreeSet<ProfileName>, limit: Duration) -> Result<()> {
    let outcome = tree.session(limit)?.converge(false, Some(names))?;
    for change in &outcome.plan.changes {
        if !change.steps.is_empty() {
            report::note(&change.to_string());
        }
    }
    warn(&outcome);
    Ok(())
}
