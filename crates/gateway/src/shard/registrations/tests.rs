//! Two shards of one instance: which of a session's connections goes on, whatever each is told and when.

use std::time::Duration;

use connection_registry::{RecordLookup, SessionRecord};
use wire::{ClientFrame, Families, SessionId, TenantId, UserId};

use super::*;
use crate::auth::grants::{GrantList, Grants};
use crate::config::{Config, RawConfig, Sources};
use crate::instance::gateway::rules;
use crate::session::{Session, bind};
use crate::shard::handoff::Opening;
use crate::shard::table::ConnectionState;

const NOW: Now = Now { mono_ms: 1_000, unix_ms: 1_000_000_000 };

/// An instance's shards, and what is on its way between them.
struct Instance {
    directory: Arc<Directory>,
    shards: Vec<(Shard, Registrations)>,
    start: Instant,
    /// Connections so far.
    arrival: u64,
}

/// A connection: its shard, and its slot there.
type Place = (usize, Slot);

impl Instance {
    fn new(shards: u8) -> Self {
        let config = Config::check(&mut RawConfig::gather(Sources::default())).expect("no configuration is dev mode");
        let (rules, directory) = (Arc::new(rules(&config)), Arc::new(Directory::default()));
        let shard = |index| {
            let (index, directory) = (ShardIndex(index), Arc::clone(&directory));
            (Shard::new(index, Arc::clone(&rules), Arc::default()), Registrations::new(index, directory))
        };
        Self { shards: (0..shards).map(shard).collect(), directory, start: Instant::now(), arrival: 0 }
    }

    /// Registers the sessions that the shard has identified.
    fn register(&mut self, at: usize) {
        let arrival = self.start + Duration::from_millis(self.arrival);
        let (shard, registrations) = &mut self.shards[at];
        registrations.leave_records(shard);
        let identified = shard.take_identified();
        for (index, item) in registrations.register(shard, &identified, NOW, arrival).elsewhere {
            let ToShard::CloseSession(closing, upto) = item else { panic!("{item:?}") };
            let (shard, registrations) = &mut self.shards[index.0 as usize];
            registrations.close_session(shard, closing, upto);
        }
    }

    /// A connection of alice's that names her session, and wants it back.
    fn asks(&mut self, at: usize) -> Place {
        let place = self.opens(at);
        self.says(place, &format!(r#"{{"type":"hello","payload":{{"restore":true,"session_id":"{}"}}}}"#, own(7)));
        place
    }

    fn opens(&mut self, at: usize) -> Place {
        self.arrival += 1;
        let grants = GrantList::parse(&Families::default(), &["collection:*"]).unwrap();
        let identity = Identity {
            tenant: TenantId::default(),
            user: UserId::parse("alice").unwrap(),
            grants: Grants::new(grants.clone(), grants),
            expires_at_unix_s: u64::from(u32::MAX),
            info: None,
            mark: Default::default(),
        };
        let (shard, registrations) = &mut self.shards[at];
        let session = Session::new(SessionId::from_random(u128::from(self.arrival)), None);
        let slot = shard.open(session, Opening::Authenticated(identity), NOW);
        registrations.open(slot);
        self.register(at);
        (at, slot)
    }

    fn says(&mut self, (at, slot): Place, frame: &str) {
        self.shards[at].0.frame(slot, ClientFrame::parse(frame), NOW);
        self.register(at);
    }

    /// The store cannot be asked.
    fn is_cut_off(&mut self, is_cut_off: bool) {
        self.shards.iter_mut().for_each(|(shard, _)| shard.degraded(is_cut_off));
    }

    /// Answers the questions that have been asked.
    fn answers(&mut self, answer: &RestoreResult) {
        let later = self.start + Duration::from_secs(1);
        for RecordLookup { ask, .. } in self.directory.restores().take_due(usize::MAX, later) {
            let at = usize::from(ask.shard);
            let (shard, registrations) = &mut self.shards[at];
            registrations.restored(shard, ask, answer.clone(), NOW);
            self.register(at);
        }
    }

    fn is_open(&mut self, (at, slot): Place) -> bool {
        self.shards[at].0.connection(slot).is_some_and(|connection| connection.state == ConnectionState::Open)
    }

    fn ends(&mut self, (at, slot): Place) {
        let (shard, registrations) = &mut self.shards[at];
        shard.remove(slot);
        registrations.remove(shard, slot);
    }
}

fn own(number: u128) -> SessionId {
    bind(SessionId::from_random(number), &TenantId::default(), &UserId::parse("alice").unwrap())
}

fn answers() -> [RestoreResult; 2] {
    let channels = vec![("collection:42".into(), None)];
    [RestoreResult::Nothing, RestoreResult::Found(SessionRecord { channels, exact: true })]
}

#[test]
fn the_newest_connection_goes_on_whatever_an_older_one_is_told() {
    for answer in answers() {
        for (older_at, newer_at) in [(0, 0), (0, 1), (1, 0)] {
            for (waits, gives_up) in [(true, false), (false, false), (false, true)] {
                let mut instance = Instance::new(2);
                let older = instance.asks(older_at);
                // The newer one waits as well, or cannot even ask.
                instance.is_cut_off(!waits);
                let newer = instance.asks(newer_at);
                if gives_up {
                    instance.shards[older.0].0.give_up_restoring(older.1);
                    instance.register(older.0);
                }
                instance.is_cut_off(false);
                instance.answers(&answer);
                let open = [older, newer].map(|place| instance.is_open(place));
                let case = format!("{answer:?} {older_at} {newer_at} {waits} {gives_up}");
                assert_eq!(open, [false, true], "{case}");
                let (number, row) = instance.directory.registration(own(7)).expect("it is listed");
                assert_eq!(usize::from(row.shard), newer_at, "{case}");
                instance.ends(older);
                assert_eq!(instance.directory.registration(own(7)).map(|(number, _)| number), Some(number), "{case}");
                instance.ends(newer);
                assert_eq!(instance.directory.get(own(7)), None, "{case}");
            }
        }
    }
}

/// Its place is that of its first hello, and its row stays while it asks again.
#[test]
fn who_asks_again_keeps_its_place() {
    let mut instance = Instance::new(1);
    instance.is_cut_off(true);
    let alice = instance.asks(0);
    let place = instance.directory.registration(own(7)).expect("it is listed");
    instance.is_cut_off(false);
    instance.says(alice, &format!(r#"{{"type":"hello","payload":{{"restore":true,"session_id":"{}"}}}}"#, own(7)));
    assert_eq!(instance.directory.registration(own(7)), Some(place.clone()));
    let [_, found] = answers();
    instance.answers(&found);
    assert!(instance.is_open(alice));
    assert_eq!(instance.directory.registration(own(7)), Some(place));
}
