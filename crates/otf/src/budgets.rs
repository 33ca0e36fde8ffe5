//! Profiles and prices that the budgets of a policy name.

use std::{collections::BTreeMap, path::Path};

use otf_artifact::{
    Artifact,
    diagnostic::Code,
    profile::{Prices, Profile},
};

use crate::{files, render::Failure};

/// What the budgets of a policy are reckoned from.
#[derive(Default)]
pub struct Budgets {
    /// Profiles by the name that the policy has for them.
    pub profiles: BTreeMap<String, Profile>,
    /// What a hit costs; nothing where nobody has measured it.
    pub prices: Option<Prices>,
}

impl Budgets {
    /// Reads what the policy names; the bundle carries their hashes.
    pub fn read(
        policy: &otf_policygen::Policy,
        policy_path: &Path,
        prices: &Path,
        hashes: &mut BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let mut budgets = Self::default();
        let folder = policy_path.parent().unwrap_or(Path::new(""));
        for rule in &policy.max_overhead {
            let name = &rule.profile;
            let path = folder.join(&name.value);
            let unreadable = |Failure(why): Failure| {
                let why: Vec<_> = why.iter().map(|d| d.message.as_str()).collect();
                let message = format!("the profile `{name}`: {}", why.join("; "));
                name.error(Code::BudgetProfile, &policy.file, message)
                    .help("`otf-load profile --operation NAME --count N` writes it; the path starts at the policy's folder")
            };
            let bytes = files::read(&path).map_err(unreadable)?;
            let profile = Profile::read(&bytes, &path.display().to_string())?;
            let input = format!("profile {name}");
            hashes.insert(input, otf_bundle::sha256(&bytes));
            budgets.profiles.insert(name.value.clone(), profile);
        }
        if !budgets.profiles.is_empty() && prices.exists() {
            let bytes = files::read(prices)?;
            budgets.prices = Some(Prices::read(&bytes, &prices.display().to_string())?);
            hashes.insert("prices".into(), otf_bundle::sha256(&bytes));
        }
        Ok(budgets)
    }
}
