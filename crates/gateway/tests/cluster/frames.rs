//! Test clients that receive frames. Tests that publish use WebSockets; others run over both transports.

use serde_json::Value;

use crate::client::Client;
use crate::receiver::Receiver;

pub(crate) trait Frames {
    /// The next frame, or a close.
    async fn frame(&mut self) -> Value;
}

impl Frames for Client {
    async fn frame(&mut self) -> Value {
        self.next().await
    }
}

impl Frames for Receiver {
    async fn frame(&mut self) -> Value {
        self.next().await
    }
}
