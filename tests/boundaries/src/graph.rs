//! Which top-level module of a crate uses which, and what is wrong with that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What the crate's root is called among its modules.
pub(crate) const ROOT: &str = "(root)";

/// Where a use stands, for people.
pub(crate) type Place = String;

/// The top-level modules of a crate, and what each uses.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    uses: BTreeMap<String, BTreeMap<String, Place>>,
}

impl Graph {
    /// Adds a module.
    pub(crate) fn module(&mut self, name: &str) {
        self.uses.entry(name.to_owned()).or_default();
    }

    /// Notes that one module uses another; the first place stays.
    pub(crate) fn uses(&mut self, by: &str, used: &str, place: Place) {
        self.module(used);
        if by != used {
            let of_module = self.uses.entry(by.to_owned()).or_default();
            of_module.entry(used.to_owned()).or_insert(place);
        }
    }

    /// The modules without the root.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &str> {
        self.uses.keys().map(String::as_str).filter(|name| *name != ROOT)
    }

    /// How many pairs of modules there are of which one uses the other.
    pub(crate) fn edges(&self) -> usize {
        self.uses.values().map(BTreeMap::len).sum()
    }

    /// For each module in a cycle its shortest one, each once, the shortest first.
    pub(crate) fn cycles(&self) -> Vec<Vec<&str>> {
        let mut cycles: Vec<_> = self.uses.keys().filter_map(|name| self.shortest_cycle(name)).collect();
        for cycle in &mut cycles {
            let first = (0..cycle.len()).min_by_key(|at| cycle[*at]).unwrap_or_default();
            cycle.rotate_left(first);
        }
        cycles.sort_by(|one, other| one.len().cmp(&other.len()).then_with(|| one.cmp(other)));
        cycles.dedup();
        cycles
    }

    /// A shortest way from a module back to it.
    fn shortest_cycle<'a>(&'a self, start: &'a str) -> Option<Vec<&'a str>> {
        let mut from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut waiting = VecDeque::from([start]);
        while let Some(module) = waiting.pop_front() {
            for used in self.uses.get(module)?.keys() {
                if used == start {
                    let mut cycle = vec![module];
                    while let Some(before) = cycle.last().and_then(|last| from.get(last)) {
                        cycle.push(before);
                    }
                    cycle.reverse();
                    return Some(cycle);
                }
                if !from.contains_key(used.as_str()) {
                    from.insert(used.as_str(), module);
                    waiting.push_back(used);
                }
            }
        }
        None
    }

    /// A cycle with the place of each use: `a -> b (a.rs:3) -> a (b.rs:8)`.
    pub(crate) fn describe(&self, cycle: &[&str]) -> String {
        let mut parts: Vec<_> = cycle.iter().take(1).map(|first| (*first).to_owned()).collect();
        for (at, by) in cycle.iter().enumerate() {
            let used = cycle[(at + 1) % cycle.len()];
            let place = self
                .uses
                .get(*by)
                .and_then(|uses| uses.get(used))
                .map_or("", String::as_str);
            parts.push(format!("{used} ({place})"));
        }
        parts.join(" -> ")
    }

    /// What is against this order, in which each module may use only those before it.
    pub(crate) fn against(&self, order: &[&str]) -> Vec<String> {
        let level = |name: &str| order.iter().position(|listed| *listed == name);
        let modules: BTreeSet<_> = self.modules().collect();
        let unknown = order.iter().filter(|name| !modules.contains(**name));
        let mut wrong: Vec<_> = unknown
            .map(|name| format!("{name} is in the order and does not exist"))
            .collect();
        for by in modules {
            let Some(own) = level(by) else {
                wrong.push(format!("{by} is not in the order"));
                continue;
            };
            let above = self.uses[by]
                .iter()
                .filter(|(used, _)| level(used).is_some_and(|used| used > own));
            wrong.extend(above.map(|(used, place)| format!("{by} uses {used}, which is above it ({place})")));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a>b` for each use.
    fn graph(pairs: &str) -> Graph {
        let mut graph = Graph::default();
        for pair in pairs.split_whitespace() {
            let (by, used) = pair.split_once('>').unwrap();
            graph.uses(by, used, format!("{by}.rs:1"));
        }
        graph
    }

    #[test]
    fn modules_without_a_cycle_have_none() {
        let graph = graph("a>b a>c b>d c>d");
        assert!(graph.cycles().is_empty());
    }

    #[test]
    fn shortest_cycle_of_each_module_is_found_once() {
        let graph = graph("a>b b>c c>a c>d d>c e>a");
        assert_eq!(graph.cycles(), [vec!["c", "d"], vec!["a", "b", "c"]]);
    }

    #[test]
    fn cycle_names_the_place_of_each_use() {
        let graph = graph("a>b b>a");
        assert_eq!(graph.describe(&graph.cycles()[0]), "a -> b (a.rs:1) -> a (b.rs:1)");
    }

    #[test]
    fn module_that_uses_itself_is_no_cycle() {
        assert!(graph("a>a").cycles().is_empty());
    }

    #[test]
    fn order_refuses_what_is_above_unknown_or_unlisted() {
        let graph = graph("low>high high>low other>low");
        let wrong = graph.against(&["low", "high", "gone"]);
        let expected = [
            "gone is in the order and does not exist",
            "low uses high, which is above it (low.rs:1)",
            "other is not in the order",
        ];
        assert_eq!(wrong, expected);
        assert!(super::tests::graph("high>low").against(&["low", "high"]).is_empty());
    }
}
