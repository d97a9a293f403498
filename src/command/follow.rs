//! Slots follow the volume: profiles that have come, gone or been renamed by ways that did not call us.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use crate::command::context::{Tree, is_inside};
use crate::error::Result;
use crate::hermes::name::ProfileName;
use crate::report;
use crate::rights::Rights;
use crate::tree::scandir::LOCK_WAIT;
use crate::volume::lock::Lock;
use crate::volume::survey::{Profile, names};

/// What differs between the profiles on the volume and the slots.
#[derive(Debug, Default)]
pub struct Strayed {
    /// Profiles that are to have a slot.
    new: BTreeSet<ProfileName>,
    /// Profiles whose slot is to go.
    gone: BTreeSet<ProfileName>,
    /// Whether profiles and slots differ at all: also by what may not go yet.
    pub any: bool,
}

/// Finds the profiles without a slot, and the slots without a profile's home: somebody has edited the volume from
/// outside.
pub fn strayed(tree: &Tree) -> Result<Strayed> {
    if tree.scandir.ours().is_err() || *tree.rights() != Rights::Own {
        return Ok(Strayed::default());
    }
    let there = names(tree.settings())?;
    let slots = tree.scandir.profiles()?;
    for name in tree.scandir.unregistered()? {
        if !there.contains(&name) {
            tree.scandir.forget_unregistered(&name);
        }
    }
    let mut new = &there - &slots;
    new.retain(|name| !tree.scandir.is_unregistered(name));
    let mut gone = &slots - &there;
    let is_own = |name: &ProfileName| is_inside() && *name == tree.settings().own_profile();
    gone.retain(|name| has_no_home(tree, name) && !is_own(name));
    // Where there is no named profile at all, it is rather the volume that is away.
    gone.retain(|name| there.len() > 1 || !tree.is_not_down(name));
    let any = there != slots;
    Ok(Strayed { new, gone, any })
}

/// Lets gateways follow profiles whose homes have been renamed while they ran: the profile whose lock a gateway
/// holds is its profile, whatever that is called now.
pub fn follow_renamed(tree: &Tree, Strayed { new, gone, .. }: &Strayed) -> Result<()> {
    if new.is_empty() || gone.is_empty() {
        return Ok(());
    }
    let survey = tree.context.survey(&Vec::from_iter(new.clone()))?;
    let runs_as = |old: &ProfileName| {
        let pid = i32::try_from(tree.status(old)?.pid?).ok();
        let holds = |lock: &Lock| lock.held && lock.pid.is_some() && lock.pid == pid;
        let is_it = |profile: &&Profile| profile.lock.as_ref().is_some_and(holds);
        Some(survey.profiles.values().find(is_it)?.name.clone())
    };
    let renamed = gone
        .iter()
        .filter_map(|old| Some([old.clone(), runs_as(old)?]));
    let renamed: BTreeSet<ProfileName> = renamed.flatten().collect();
    if renamed.is_empty() {
        return Ok(());
    }
    converge(tree, &renamed)
}

/// Lets slots follow profiles that have come or gone.
///
/// A new one may be half made, and one that cannot be found may be back at once. So nothing is started,
/// and nothing is ended whose home may only be away.
pub fn follow_volume(tree: &Tree) -> Result<()> {
    let Strayed { new, gone, .. } = strayed(tree)?;
    if !gone.is_empty() {
        converge(tree, &gone)?;
    }
    if new.is_empty() {
        return Ok(());
    }
    let (_, failures) = tree.session(LOCK_WAIT)?.register(&new)?;
    for name in &new {
        match failures.get(name) {
            Some(error) => report::warning(&error.to_string()),
            None => report::note(&format!("{} is registered, and down", name.slot())),
        }
    }
    Ok(())
}

fn has_no_home(tree: &Tree, name: &ProfileName) -> bool {
    let home = tree.settings().root.at(tree.settings().home_of(name));
    home.symlink_metadata()
        .is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Makes the slots of some profiles agree with the volume.
fn converge(tree: &Tree, names: &BTreeSet<ProfileName>) -> Result<()> {
    let outcome = tree.session(LOCK_WAIT)?.converge(false, Some(names))?;
    for change in &outcome.plan.changes {
        if !change.steps.is_empty() {
            report::note(&change.to_string());
        }
    }
    outcome
        .failures
        .iter()
        .for_each(|failure| report::warning(failure));
    Ok(())
}
