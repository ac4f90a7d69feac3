//! The directory against a store whose calls and answers get lost, under seeds: in the end the store has exactly the
//! rows that are here, and gets no removal of a row that it cannot list.

use std::collections::{BTreeMap, BTreeSet};

use test_support::Random;

use super::*;

#[derive(Default)]
struct World {
    directory: Directory,
    /// All registrations that have not been returned, also older ones of a session.
    registrations: Vec<Registration>,
    /// The newest registration of each session, if it has not been returned.
    here: BTreeMap<u128, (RegistrationNumber, String)>,
    store: BTreeMap<u128, String>,
    /// Sessions that the store may list.
    maybe: BTreeSet<u128>,
}

fn number_of(session: SessionId) -> u128 {
    (0..SESSIONS).find(|number| super::session(*number) == session).unwrap()
}

const SESSIONS: u128 = 6;

impl World {
    fn step(&mut self, random: &mut Random) {
        match random.below(10) {
            0..4 => {
                let (number, user) = (random.below(SESSIONS as usize) as u128, format!("user-{}", random.below(3)));
                let registration = self.directory.connect(session(number), row(&user));
                self.here.insert(number, (registration.number(), user));
                self.registrations.push(registration);
            }
            4..7 if !self.registrations.is_empty() => {
                let registration = self.registrations.swap_remove(random.below(self.registrations.len()));
                let number = number_of(registration.session());
                if self.here.get(&number).is_some_and(|(newest, _)| *newest == registration.number()) {
                    self.here.remove(&number);
                }
                self.directory.disconnect(registration);
            }
            7 if random.below(8) == 0 => self.directory.rewrite(),
            _ => drop(self.heartbeat(random.below(4) + 1, random.below(3))),
        }
        for number in 0..SESSIONS {
            let here = self.here.get(&number);
            let expected = here.map(|(registration, user)| (*registration, row(user)));
            assert_eq!(self.directory.registration(session(number)), expected);
        }
        assert_eq!(self.directory.len(), self.here.len());
    }

    /// Writes a batch to the store as the heartbeat task does. The call may get lost on its way to the store (1), or
    /// its answer on the way back (2). Returns whether there was anything to write.
    fn heartbeat(&mut self, max: usize, fate: usize) -> bool {
        if self.directory.take_rewrite() {
            if fate != 1 {
                self.store.clear();
                self.maybe.clear();
            }
            if fate != 0 {
                self.directory.rewrite();
                return true;
            }
        }
        let batch = self.directory.take(max, None);
        assert!(batch.len() <= max);
        let reported = batch.len();
        for change in &batch {
            let number = number_of(change.session());
            match change {
                RowChange::Put(_, row, _) => {
                    self.maybe.insert(number);
                    if fate != 1 {
                        self.store.insert(number, row.user.to_string());
                    }
                }
                RowChange::Remove(_) => {
                    assert!(self.maybe.contains(&number), "nothing of {number} is there to be removed");
                    if fate != 1 {
                        self.store.remove(&number);
                    }
                    if fate == 0 {
                        self.maybe.remove(&number);
                    }
                }
            }
        }
        if fate != 0 {
            self.directory.put_back(batch);
        }
        reported > 0
    }
}

#[test]
fn under_any_seed_the_store_ends_with_the_rows_that_are_here() {
    for seed in 0..500 {
        let (mut world, mut random) = (World::default(), Random::new(seed));
        for _ in 0..200 {
            world.step(&mut random);
        }
        while world.heartbeat(2, 0) {}
        let here: BTreeMap<u128, String> = world.here.iter().map(|(n, (_, user))| (*n, user.clone())).collect();
        assert_eq!(world.store, here, "seed {seed}");
        for user in ["user-0", "user-1", "user-2"] {
            let theirs = world.directory.sessions_of(&TenantId::default(), &UserId::parse(user).unwrap());
            let theirs: BTreeSet<u128> = theirs.into_iter().map(number_of).collect();
            let expected: BTreeSet<u128> = here.iter().filter(|(_, u)| *u == user).map(|(n, _)| *n).collect();
            assert_eq!(theirs, expected);
        }
    }
}
