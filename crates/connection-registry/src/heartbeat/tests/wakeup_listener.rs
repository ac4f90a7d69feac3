//! The wake-up listener: notified by the store, and by this process.

use super::*;
use crate::connection_row::RowChange;
use crate::heartbeat::wakeup_listener::WakeupListener;
use crate::store::Store;

#[tokio::test]
async fn a_command_for_this_instance_is_a_wake_up() {
    let store = store();
    let own = keeper("gw-1", &store).await.held().unwrap();
    let other = keeper("gw-2", &store).await.held().unwrap();
    let listener = WakeupListener::start(Arc::new(store.clone()), own.instance().id.clone(), TIMINGS.heartbeat);
    listener.wakeup().notify_one();
    listener.notified().await;
    // The same session connects elsewhere, so this instance gets a command to close its connection.
    for held in [own, other] {
        let put = RowChange::Put(session(1), row("alice"), Timestamp(2_000));
        store.write_rows(held.instance(), held.token(), &[put]).await.unwrap();
    }
    listener.notified().await;
}
