//! Connections whose user is not known: how many there are, and how long they may take to close.

use super::*;

const NOBODY: [Slot; 0] = [];

fn refused() -> Opening {
    let (code, close) = (ErrorCode::Unauthenticated, Close::Unauthenticated);
    Opening::Refused { code, close, message: "no".into(), retry_after_ms: None }
}

impl Table {
    fn open(&mut self, opening: Opening) -> Slot {
        self.shard.open(Session::new(SessionId::from_random(3), None), opening, self.now)
    }

    /// A table that lets so many connections without a user close at their own pace.
    fn closing_max(closing_max: usize) -> Self {
        let mut table = Self::new();
        Arc::get_mut(&mut table.shard.rules).expect("nobody else has it").limits.unauthenticated_max = 4 * closing_max;
        table
    }
}

/// Refused at the upgrade, after a hello, by time, and by their own close frame.
#[test]
fn those_that_take_longest_to_close_make_room() {
    let ends: [fn(&mut Table) -> Slot; 4] = [
        |table| table.open(refused()),
        |table| {
            let slot = table.open(Opening::AwaitHello);
            table.client_sends(slot, r#"{"type":"hello","payload":{"token":"forged"}}"#);
            slot
        },
        |table| {
            let slot = table.open(Opening::AwaitHello);
            table.shard.refuse(slot, ErrorCode::Unauthenticated, "no token came in time", Close::HelloTimeout);
            slot
        },
        |table| {
            let slot = table.open(Opening::AwaitHello);
            table.shard.end(slot, Some(1000), None);
            slot
        },
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let mut table = Table::closing_max(4);
        let _client = table.connect("alice");
        let slots: Vec<Slot> = (0..4).map(|_| end(&mut table)).collect();
        assert_eq!(table.shard.take_evicted(), NOBODY, "{n}: there is room");
        let [a, b, c, d] = slots[..] else { panic!("four") };
        table.shard.remove(b);
        let reused = table.open(Opening::AwaitHello);
        assert_eq!(reused, b);
        let e = end(&mut table);
        assert_eq!(table.shard.take_evicted(), NOBODY, "{n}: one has answered, and its slot is another's");
        (0..3).for_each(|_| {
            end(&mut table);
        });
        assert_eq!(table.shard.take_evicted(), [a, c, d], "{n}");
        end(&mut table);
        table.shard.remove(e);
        assert_eq!(table.shard.take_evicted(), NOBODY, "{n}: it has gone by itself");
    }
}

#[test]
fn a_refused_client_costs_no_place_of_those_that_wait_for_their_token() {
    let mut table = Table::closing_max(1);
    let waiting: Vec<Slot> = (0..4).map(|_| table.open(Opening::AwaitHello)).collect();
    table.open(refused());
    assert!(waiting.iter().all(|slot| table.received(*slot).is_empty()), "nobody is closed");
    table.open(Opening::AwaitHello);
    assert_eq!(table.received(waiting[0]), ["error unavailable", "bye", "close 1013"], "the oldest");
}
