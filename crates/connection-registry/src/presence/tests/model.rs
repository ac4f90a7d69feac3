//! Members against a store whose calls and answers get lost, under seeds: in the end the store has exactly the members
//! that are here, and gets no departure of a member that it cannot list.

use std::collections::{BTreeMap, BTreeSet};

use test_support::Random;

use super::*;

type Name = (String, String);

#[derive(Default)]
struct World {
    presence: Presence,
    /// Connections by scope and user.
    here: BTreeMap<Name, usize>,
    store: BTreeSet<Name>,
    /// Members that the store may list.
    maybe: BTreeSet<Name>,
}

impl World {
    fn step(&mut self, random: &mut Random) {
        let (room, user) = (room(random.below(2)), user(["alice", "bob", "carol"][random.below(3)]));
        let name = (room.to_string(), user.to_string());
        match random.below(10) {
            0..4 => {
                self.presence.enter(&room, &user, &info(), NOW);
                *self.here.entry(name).or_default() += 1;
            }
            4..7 => {
                self.presence.exit(&room, &user);
                if let Some(connections) = self.here.get_mut(&name) {
                    *connections -= 1;
                    if *connections == 0 {
                        self.here.remove(&name);
                    }
                }
            }
            7 if random.below(8) == 0 => self.presence.rewrite(),
            _ => drop(self.heartbeat(random.below(3) + 1, random.below(3))),
        }
        assert_eq!(self.presence.len(), self.here.len());
        self.presence.table().check();
    }

    /// Writes a batch to the store as the heartbeat task does. The call may get lost on its way to the store (1), or
    /// its answer on the way back (2). Returns whether there was anything to write.
    fn heartbeat(&mut self, max: usize, fate: usize) -> bool {
        if self.presence.take_rewrite() {
            if fate != 1 {
                self.store.clear();
                self.maybe.clear();
            }
            if fate != 0 {
                self.presence.rewrite();
                return true;
            }
        }
        let batch = self.presence.take(max);
        assert!(batch.len() <= max);
        let reported = batch.len();
        for change in &batch {
            let (MemberChange::Enter(scope, user, _) | MemberChange::Exit(scope, user)) = change;
            let name = (scope.to_string(), user.to_string());
            match change {
                MemberChange::Enter(..) => {
                    self.maybe.insert(name.clone());
                    if fate != 1 {
                        self.store.insert(name);
                    }
                }
                MemberChange::Exit(..) => {
                    assert!(self.maybe.contains(&name), "{name:?} is not there to leave");
                    if fate != 1 {
                        self.store.remove(&name);
                    }
                    if fate == 0 {
                        self.maybe.remove(&name);
                    }
                }
            }
        }
        if fate != 0 {
            self.presence.put_back(batch);
        }
        reported > 0
    }
}

#[test]
fn under_any_seed_the_store_ends_with_the_members_that_are_here() {
    for seed in 0..500 {
        let (mut world, mut random) = (World::default(), Random::new(seed));
        for _ in 0..200 {
            world.step(&mut random);
        }
        while world.heartbeat(2, 0) {}
        assert_eq!(world.store, world.here.into_keys().collect(), "seed {seed}");
    }
}
