//! Options that a list must have been planned with.

use edp_protocol::Mode;
use edp_protocol::recipe::{Plan, Recipe};

/// The reason why a list does not suit the options with which it is to be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListOptionError {
    /// The list was planned for another mode.
    #[error("{list}: was planned for {found}, --compatibility asks for {asked}: leave the option out, or plan again")]
    Mode {
        /// Name of the list.
        list: String,
        /// The mode for which it was planned.
        found: Mode,
        /// The mode that is asked for.
        asked: Mode,
    },
    /// The list holds a recipe of which a part can be made.
    #[error(
        "{list}: {granule}: is to be held by this list, and its recipe would be another; plan again with --allow-partial"
    )]
    Held {
        /// Name of the list.
        list: String,
        /// Path of the granule.
        granule: String,
    },
}

/// Checks that a list was planned for the mode that is asked for, if one is, and, if partial granules are asked for,
/// that it holds no recipe. `list` is its name in messages.
///
/// # Errors
/// Returns an error if the list would have to be planned again.
pub fn check_options(
    list: &str,
    recipes: &[Recipe],
    asked: Option<Mode>,
    allow_partial: bool,
) -> Result<(), ListOptionError> {
    let list_mode = |recipe: &Recipe| recipe.recipe.as_ref().map_or_else(|| recipe.generation(), |plan| plan.mode);
    // Time-invariant tasks are written by hand, for the mode that is asked for; EDP of 2024 has none.
    let is_free =
        |recipe: &Recipe, mode| recipe.recipe.is_none() && recipe.is_time_invariant() && mode != Mode::Edp2024;
    if let Some(asked) = asked {
        let other = recipes.iter().find(|recipe| list_mode(recipe) != asked && !is_free(recipe, asked));
        if let Some(recipe) = other {
            return Err(ListOptionError::Mode { list: list.into(), found: list_mode(recipe), asked });
        }
    }
    let is_held = |recipe: &&Recipe| recipe.recipe.as_ref().is_some_and(Plan::is_held);
    match recipes.iter().find(is_held).filter(|_| allow_partial) {
        Some(recipe) => Err(ListOptionError::Held { list: list.into(), granule: recipe.granule.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::demo_plan::DemoPlan;
    use crate::plan::preparation::PlanRules;
    use edp_protocol::recipe::TIME_INVARIANT;

    #[test]
    fn a_list_suits_the_options_that_it_was_planned_with() {
        let mut recipes = DemoPlan::new().prepared(PlanRules::default()).plan_all(|_| {}, |_| {}).unwrap().0;
        let check = |recipes: &[Recipe], mode, partial| check_options("list", recipes, mode, partial);
        assert_eq!(check(&recipes, None, true), Ok(()));
        assert_eq!(check(&recipes, Some(Mode::Corrected), true), Ok(()));
        let (list, found, asked) = ("list".to_owned(), Mode::Corrected, Mode::Edp2026);
        assert_eq!(check(&recipes, Some(asked), false), Err(ListOptionError::Mode { list, found, asked }));
        let plan = recipes[1].recipe.as_mut().unwrap();
        plan.missing.push("SSH".into());
        assert!(plan.is_held());
        assert_eq!(check(&recipes, None, false), Ok(()));
        let (list, granule) = ("list".to_owned(), recipes[1].granule.clone());
        assert_eq!(check(&recipes, None, true), Err(ListOptionError::Held { list, granule }));
    }

    #[test]
    fn time_invariant_tasks_are_of_the_mode_that_is_asked_for() {
        let mut recipes = DemoPlan::new().prepared(PlanRules::default()).plan_all(|_| {}, |_| {}).unwrap().0;
        recipes.truncate(1);
        recipes[0].recipe = None;
        recipes[0].dynamic_metadata.time_coverage_resolution = Some(TIME_INVARIANT.into());
        for mode in [Mode::Edp2026, Mode::Corrected] {
            assert_eq!(check_options("list", &recipes, Some(mode), false), Ok(()));
        }
        assert!(check_options("list", &recipes, Some(Mode::Edp2024), false).is_err());
    }
}
