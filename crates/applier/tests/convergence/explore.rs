//! Every interleaving, each state once; and single long ones.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use crate::scenario::Scenario;
use crate::step::Step;
use crate::world::{End, World};

/// States of one exploration at most: a scenario that has more is too large for a test.
const MOST: usize = 20_000_000;

/// An interleaving that ends badly.
#[derive(Clone)]
pub(crate) struct Counterexample {
    pub(crate) what: String,
    pub(crate) steps: Vec<Step>,
}

impl fmt::Debug for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step:?}"))
    }
}

/// What an exploration came to.
#[derive(Debug, Default)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) swaps: usize,
    pub(crate) duplicates: usize,
    pub(crate) found: Option<Counterexample>,
}

/// What is wrong with a state, if anything is.
fn wrong(world: &World, scenario: &Scenario) -> Option<String> {
    match &world.end {
        Some(End::Swapped { ghost, original }) if ghost != original => {
            Some(format!("swapped in {:?} for {:?}", ghost.0, original.0))
        }
        Some(End::Duplicate) => {
            let seen = world.log.transactions(world.log.visible);
            let states = &scenario.workload.states[..=seen];
            let none = !states.iter().any(crate::table::Table::has_duplicates);
            none.then(|| "gave up for a duplicate that never was".to_owned())
        }
        _ => None,
    }
}

/// Explores breadth first, so that what is found is as short as it can be; stops at the first thing wrong.
pub(crate) fn explore(scenario: &Scenario) -> Explored {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let first = World::new(scenario);
    // Only fingerprints and the way to each state are kept.
    let mut seen = HashSet::from([hasher.hash_one(&first)]);
    let mut ways: Vec<(u32, Step)> = vec![(0, Step::StartStream)];
    let mut frontier = vec![(first, 0)];
    let mut explored = Explored::default();
    while !frontier.is_empty() {
        let mut next = Vec::new();
        for (world, at) in frontier {
            let steps = world.steps(scenario);
            if steps.is_empty() && !world.dead {
                let what = format!("nothing goes on: {world:?}");
                explored.found = Some(Counterexample {
                    what,
                    steps: way(&ways, at),
                });
                return explored;
            }
            for step in steps {
                let after = world.after(step, scenario);
                if !seen.insert(hasher.hash_one(&after)) {
                    continue;
                }
                assert!(ways.len() < MOST, "too many states: {scenario:?}");
                let number = u32::try_from(ways.len()).expect("few");
                ways.push((at, step));
                if let Some(what) = wrong(&after, scenario) {
                    explored.states = ways.len();
                    explored.found = Some(Counterexample {
                        what,
                        steps: way(&ways, number),
                    });
                    return explored;
                }
                match after.end {
                    Some(End::Swapped { .. }) => explored.swaps += 1,
                    Some(End::Duplicate) => explored.duplicates += 1,
                    Some(End::GaveUp) => {}
                    None => next.push((after, number)),
                }
            }
        }
        frontier = next;
    }
    explored.states = ways.len();
    explored
}

fn way(ways: &[(u32, Step)], mut at: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    while at != 0 {
        let (before, step) = ways[at as usize];
        steps.push(step);
        at = before;
    }
    steps.reverse();
    steps
}

/// Follows one interleaving: each choice picks among what can happen. When the choices are used up, the first thing
/// that can happen does, so that the run ends.
pub(crate) fn follow(scenario: &Scenario, choices: &[u16]) -> Result<bool, Counterexample> {
    const LONGEST: usize = 2000;
    let mut world = World::new(scenario);
    let mut steps = Vec::new();
    for at in 0..LONGEST {
        let possible = world.steps(scenario);
        if possible.is_empty() {
            let stuck = world.end.is_none() && !world.dead;
            if stuck {
                return Err(Counterexample {
                    what: "nothing goes on".to_owned(),
                    steps,
                });
            }
            break;
        }
        // Afterwards the last ones first: they finish what is begun.
        let choice = choices
            .get(at)
            .map_or(possible.len() - 1, |&choice| usize::from(choice) % possible.len());
        steps.push(possible[choice]);
        world = world.after(possible[choice], scenario);
        if let Some(what) = wrong(&world, scenario) {
            return Err(Counterexample { what, steps });
        }
    }
    Ok(matches!(world.end, Some(End::Swapped { .. })))
}
