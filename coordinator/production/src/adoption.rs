//! The destination outranks the ledger: what is done but not there is made again, what stands there is done.

use super::ledger::{Ledger, LedgerError, RecipeState};
use crate::destination;
use edp_engine::granule::inspect::{self, Identity};
use edp_protocol::Location;
use edp_protocol::recipe::Recipe;
use edp_store::Stores;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// The reason why ledger and destination could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum AdoptionError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The destination cannot be listed.
    #[error("the destination cannot be looked at: {0}")]
    Destination(String),
}

/// Granules that are written down at once.
const BATCH: usize = 256;

/// Ids of the recipes of the present list that are in a state.
///
/// # Errors
/// The ledger cannot be read.
pub fn ids(ledger: &Ledger, state: RecipeState) -> Result<HashSet<String>, LedgerError> {
    let mut ids = HashSet::new();
    ledger.each::<LedgerError>(&[state], |one| {
        ids.insert(one.id);
        Ok(())
    })?;
    Ok(ids)
}

/// Puts recipes back to the beginning that the ledger has as done and whose granules are not there.
///
/// # Errors
/// The ledger cannot be written, or the destination not be looked at.
pub fn put_back(ledger: &mut Ledger, recipes: &[Recipe], stores: &Stores) -> Result<(), AdoptionError> {
    let done = ids(ledger, RecipeState::Done)?;
    let is_done = |recipe: &&Recipe| recipe.recipe.as_ref().is_some_and(|plan| done.contains(&plan.id));
    let absent = destination::absent(recipes.iter().filter(is_done), stores);
    for id in absent.map_err(AdoptionError::Destination)? {
        ledger.reopen(&id)?;
    }
    Ok(())
}

/// Writes down granules of recipes that wait, and that stand at their destination already: for a ledger that was begun
/// anew. Looks for so long at most, since looking takes milliseconds each; workers find the rest. Returns how many.
///
/// # Errors
/// The ledger cannot be written.
pub fn adopt(ledger: &mut Ledger, recipes: &[Recipe], stores: &Stores, limit: Duration) -> Result<usize, LedgerError> {
    let begun = Instant::now();
    let waiting = ids(ledger, RecipeState::Waiting)?;
    let mut found = Vec::new();
    let mut count = 0;
    for recipe in recipes {
        if begun.elapsed() > limit {
            break;
        }
        let Some(plan) = recipe.recipe.as_ref().filter(|plan| waiting.contains(&plan.id)) else { continue };
        if let Some(bytes) = standing(recipe, &plan.id, stores) {
            found.push((plan.id.clone(), bytes));
            count += 1;
        }
        if found.len() >= BATCH {
            ledger.adopt(&std::mem::take(&mut found))?;
        }
    }
    ledger.adopt(&found)?;
    Ok(count)
}

/// The size of a recipe's granule, if that is what stands at its destination. Whatever hinders looking is left to
/// the worker to say.
fn standing(recipe: &Recipe, id: &str, stores: &Stores) -> Option<u64> {
    let at: Location = recipe.granule.parse().ok()?;
    let head = stores.head(&at).ok()??;
    let same = match &at {
        Location::Local(path) => matches!(inspect::identify(path, recipe), Ok(Identity::Same)),
        Location::S3 { .. } => head.recipe_id.as_deref() == Some(id),
    };
    same.then_some(head.size)
}
