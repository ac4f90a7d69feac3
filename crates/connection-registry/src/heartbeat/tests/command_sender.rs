//! The command sender: only sessions that are connected here get commands.

use super::*;
use crate::instance_command::InstanceCommand;
use crate::session_close::{CloseReason, SessionClose};

#[test]
fn commands_go_to_sessions_that_are_connected_here() {
    let (directory, commands, mut receiver) = commands();
    let registration = directory.connect(session(1), row("alice"));
    let [here, elsewhere] = [1, 2].map(|n| SessionClose { session: session(n), why: CloseReason::Kicked });
    commands.send(vec![InstanceCommand::Session(elsewhere, None), InstanceCommand::Session(here, None)]);
    assert_eq!(receiver.try_recv(), Ok(SessionCommand::Close(here, registration.number())));
    assert!(receiver.try_recv().is_err());
}

#[test]
fn connections_above_the_limits_are_closed_without_the_store() {
    let (directory, commands, mut receiver) = commands();
    let [_first, second] = [1, 2].map(|n| directory.connect(session(n), row("alice")));
    commands.close_excess(ANY_NUMBER);
    assert!(receiver.try_recv().is_err());
    commands.close_excess(ConnectionLimits { per_user_max: 1, ..ANY_NUMBER });
    let close = SessionClose { session: session(2), why: CloseReason::TooMany };
    assert_eq!(receiver.try_recv(), Ok(SessionCommand::Close(close, second.number())));
    assert!(receiver.try_recv().is_err());
}
