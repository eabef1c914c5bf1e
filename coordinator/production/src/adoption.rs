//! Comparison of the ledger with the destination, which takes precedence: a granule that is done but missing is made
//! again, and a granule that exists at its destination is done.

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
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The destination cannot be listed.
    #[error("the destination cannot be looked at: {0}")]
    Destination(String),
}

/// Number of granules that are written into the ledger in one transaction.
const BATCH: usize = 256;

/// Returns the ids of the recipes of the present list that are in a state.
///
/// # Errors
/// Returns an error if the ledger cannot be read.
pub fn ids(ledger: &Ledger, state: RecipeState) -> Result<HashSet<String>, LedgerError> {
    let mut ids = HashSet::new();
    ledger.each::<LedgerError>(&[state], |one| {
        ids.insert(one.id);
        Ok(())
    })?;
    Ok(ids)
}

/// Resets the recipes that are done in the ledger, but whose granules do not exist.
///
/// # Errors
/// Returns an error if the ledger cannot be written, or the destination cannot be listed.
pub fn put_back(ledger: &mut Ledger, recipes: &[Recipe], stores: &Stores) -> Result<(), AdoptionError> {
    let done = ids(ledger, RecipeState::Done)?;
    let is_done = |recipe: &&Recipe| recipe.recipe.as_ref().is_some_and(|plan| done.contains(&plan.id));
    let absent = destination::absent(recipes.iter().filter(is_done), stores);
    Ok(ledger.reopen(&absent.map_err(AdoptionError::Destination)?)?)
}

/// Marks recipes as done whose granules exist at their destination already: for a ledger that was begun again, or that is
/// an old copy, which does not know what was made since. In a copy, recipes under way are looked for as well: the lost
/// coordinator may have received their outcomes, which do not come again. Stops after `limit`, since each granule takes
/// milliseconds; workers find the rest. Returns the number of granules found.
///
/// # Errors
/// Returns an error if the ledger cannot be written.
pub fn adopt(ledger: &mut Ledger, recipes: &[Recipe], stores: &Stores, limit: Duration) -> Result<usize, LedgerError> {
    let begun = Instant::now();
    let mut open = ids(ledger, RecipeState::Waiting)?;
    if ledger.is_copy {
        open.extend(ids(ledger, RecipeState::UnderWay)?);
    }
    let mut found = Vec::new();
    let mut count = 0;
    for recipe in recipes {
        if begun.elapsed() > limit {
            break;
        }
        let Some(plan) = recipe.recipe.as_ref().filter(|plan| open.contains(&plan.id)) else { continue };
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

/// Returns the size in bytes of a recipe's granule, if it exists at its destination. Errors count as `None`; the worker
/// will report them.
fn standing(recipe: &Recipe, id: &str, stores: &Stores) -> Option<u64> {
    let at: Location = recipe.granule.parse().ok()?;
    let head = stores.head(&at).ok()??;
    let same = match &at {
        Location::Local(path) => matches!(inspect::identify(path, recipe), Ok(Identity::Same)),
        Location::Object(_) => head.recipe_id.as_deref() == Some(id),
    };
    same.then_some(head.size)
}
