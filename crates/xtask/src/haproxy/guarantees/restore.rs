//! Sessions that return without positions, by the way their connections ended.

use serde_json::json;

use crate::failure::Failure;
use crate::haproxy::client::Client;
use crate::haproxy::{Trial, expect, passed};

impl Trial {
    pub(super) fn moves_a_client_and_gives_it_exactly_the_rest(&mut self) -> Result<(), Failure> {
        self.gives_exactly_the_rest("drained", 1012, |trial| trial.signal("-TERM", 3))?;
        self.fleet.start_again(3)?;
        passed("a client that is moved by a drain gets exactly the rest")
    }

    pub(super) fn disconnects_a_client_and_gives_it_exactly_the_rest(&mut self) -> Result<(), Failure> {
        self.gives_exactly_the_rest("kicked", 4505, |trial| trial.kick("kicked"))?;
        passed("a client that is disconnected gets exactly the rest")
    }

    /// The later connection waits for the record of the connection that it replaces.
    pub(super) fn replaces_a_client_and_gives_it_exactly_the_rest(&mut self) -> Result<(), Failure> {
        const CHANNEL: &str = "collection:replaced:ops";
        let (older, mut publisher) = self.with_a_past("replaced", CHANNEL)?;
        let session = older.session.clone();
        let mut newer = self.client(2, "replaced", Some(&session))?;
        older.answers_close(4504)?;
        publisher.publish(CHANNEL, 20..21)?;
        got_exactly_the_rest(&mut newer, &mut publisher, CHANNEL)?;
        passed("a client that is replaced gets exactly the rest")
    }

    /// A socket vanishes, and a client does not answer a close. No message is missing, and the client is told that some
    /// messages may be repeated.
    pub(super) fn repeats_where_an_end_is_not_confirmed(&mut self) -> Result<(), Failure> {
        for user in ["vanishing", "silent"] {
            let channel = format!("collection:{user}:ops");
            let (client, mut publisher) = self.with_a_past(user, &channel)?;
            let session = client.session.clone();
            if user == "vanishing" {
                drop(client);
            } else {
                self.kick(user)?;
                drop(client.closed(4505)?);
            }
            publisher.publish(&channel, 20..21)?;
            let mut back = self.client(3, user, Some(&session))?;
            let restored = back.restored()?;
            expect(restored["found"] == true && restored["repeats"] == true, || format!("{user} is told {restored}"))?;
            // The client has answered no ping, so it gets everything since it subscribed.
            back.numbers(0..21)?;
        }
        passed("after an end that was not confirmed nothing is missing, and repeats are announced")
    }

    /// A client of gateway3 that has subscribed and read twenty messages, and the publisher of these messages.
    fn with_a_past(&self, user: &str, channel: &str) -> Result<(Client, Client), Failure> {
        let mut client = self.client(3, user, None)?;
        client.subscribe(channel, None)?;
        let mut publisher = self.client(1, "publisher", None)?;
        publisher.publish(channel, 0..20)?;
        client.numbers(0..20)?;
        Ok((client, publisher))
    }

    fn gives_exactly_the_rest(
        &mut self,
        user: &str,
        code: u16,
        end: impl FnOnce(&Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let channel = format!("collection:{user}:ops");
        let (client, mut publisher) = self.with_a_past(user, &channel)?;
        let session = client.session.clone();
        end(self)?;
        client.answers_close(code)?;
        publisher.publish(&channel, 20..21)?;
        let mut back = self.client(3, user, Some(&session))?;
        got_exactly_the_rest(&mut back, &mut publisher, &channel)
    }

    fn kick(&self, user: &str) -> Result<(), Failure> {
        self.is_listed(user)?;
        self.tidegate(&["kick", user]).run()
    }
}

/// One message was published in the meantime, and one is published now.
fn got_exactly_the_rest(back: &mut Client, publisher: &mut Client, channel: &str) -> Result<(), Failure> {
    let restored = back.restored()?;
    let wanted = json!({ "found": true, "repeats": false, "channels": [channel] });
    expect(restored == wanted, || format!("repeats: it is told {restored}, not {wanted}"))?;
    publisher.publish(channel, 21..22)?;
    back.numbers(20..22).map(drop)
}
