//! Gateways that a killed s6-supervise has left: s6 takes them for down, but the lock of their home tells.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::hermes::name::ProfileName;
use crate::report::Warning;
use crate::rights::Rights;
use crate::rights::ask::by_child;
use crate::system::beneath::Dir;
use crate::system::mount::may_hang;
use crate::tree::lifecycle::Lifecycle;
use crate::tree::lifecycle::request::{End, Request};
use crate::tree::lifecycle::target::Target;
use crate::volume::lock::end_orphan_of;
use crate::volume::survey::survey_as;
use crate::volume::write::home_of;

impl Lifecycle<'_> {
    /// Ends the processes of gateways that are down by what s6 knows. Adds a warning for each that cannot be looked at.
    pub fn end_orphans<'t>(
        &self,
        targets: impl Iterator<Item = &'t mut Target>,
        request: Request,
        warnings: &mut Vec<Warning>,
    ) {
        // Root does not open homes: they belong to a user whom it does not trust.
        if *self.rights != Rights::Own {
            return;
        }
        let is_down =
            |target: &Target| matches!(target.end, Some(End::Down | End::Killed | End::WasDown));
        let mut down: Vec<&mut Target> = targets.filter(|target| is_down(target)).collect();
        let mut warn = |target: &Target, error: &Error| {
            let text = format!(
                "it cannot be told whether a process without a supervisor still runs: {error}"
            );
            warnings.push(Warning::of(target.name.as_str(), text));
        };
        if !down.is_empty() && may_hang(&self.settings.root.at(&self.settings.home)) {
            // One child looks for all of them: there seldom is such a process.
            let names: Vec<ProfileName> = down.iter().map(|target| target.name.clone()).collect();
            match survey_as(self.settings, self.rights, Some(self.tools), &names) {
                Ok(survey) => down.retain(|target| {
                    let lock = survey.profiles.get(&target.name);
                    let lock = lock.and_then(|profile| profile.lock.as_ref());
                    lock.is_some_and(|lock| lock.held && lock.pid.is_some())
                }),
                Err(error) => return down.iter().for_each(|target| warn(target, &error)),
            }
        }
        for target in down {
            if let Err(error) = self.end_orphan(target, request) {
                warn(target, &error);
            }
        }
    }

    fn end_orphan(&self, target: &mut Target, request: Request) -> Result<()> {
        let start = Instant::now();
        let left = request.left().unwrap_or(target.budget);
        let budget = target.budget.min(left);
        let milliseconds = budget.as_millis().to_string();
        let words = [
            "end-orphan",
            "-p",
            target.name.as_str(),
            "-t",
            &milliseconds,
        ];
        let ended = by_child(self.settings, self.rights, Some(self.tools), &words, &())
            .unwrap_or_else(|| self.end_orphan_here(target, budget))?;
        if let Some(killed) = ended {
            target.killed = killed;
            target.end = Some(if killed { End::Killed } else { End::Down });
            target.took += start.elapsed();
        }
        Ok(())
    }

    fn end_orphan_here(&self, target: &Target, budget: Duration) -> Result<Option<bool>> {
        let root = &self.settings.root;
        let home =
            Dir::open(&root.at(&self.settings.home)).and_then(|home| home_of(&home, &target.name));
        match home {
            Err(error) if error.is_not_found() => Ok(None),
            home => end_orphan_of(root, &home?, budget),
        }
    }
}
