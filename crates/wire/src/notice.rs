//! A word from a backend or an operator to a user's connections, whatever they have subscribed.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::limits::NOTICE_BYTES_MAX;
use crate::message::check_type;
use crate::object::Object;

/// What is sent to connections and not to a channel: it has no position and is kept nowhere.
///
/// ```
/// use wire::Notice;
/// let notice = Notice::new("maintenance", r#"{"minutes":5}"#).unwrap();
/// assert_eq!(notice.to_json(), r#"{"event":"maintenance","payload":{"minutes":5}}"#);
/// assert_eq!(Notice::parse(&notice.to_json()), Ok(notice));
/// assert!(Notice::new("welcome", "null").is_err(), "that is a control frame's");
/// assert!(Notice::new("maintenance", "{").is_err());
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Notice {
    event: Box<str>,
    payload: Box<RawValue>,
}

/// Why something is not a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNotice {
    /// The event is named like no message.
    #[error("an event has 1 to 128 letters, digits, and _ . : - and is none of the control types")]
    Event,
    /// The payload is not one JSON value.
    #[error("the payload is not JSON")]
    Payload,
    /// Too long.
    #[error("a notice has at most {NOTICE_BYTES_MAX} bytes of payload")]
    TooBig,
}

impl Notice {
    /// A notice of this event, with JSON.
    ///
    /// # Errors
    /// When one of them is not what it must be.
    pub fn new(event: &str, payload: &str) -> Result<Self, BadNotice> {
        let payload = serde_json::from_str(payload).map_err(|_| BadNotice::Payload)?;
        Self { event: event.into(), payload }.checked()
    }

    /// Reads [`Self::to_json`] back.
    ///
    /// # Errors
    /// When the text is no notice.
    pub fn parse(text: &str) -> Result<Self, BadNotice> {
        serde_json::from_str::<Object<Self>>(text).map_err(|_| BadNotice::Payload)?.0.checked()
    }

    /// As it travels to the instances, and as the payload of the frame.
    ///
    /// # Panics
    /// Never: it has been checked.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a text and JSON are JSON")
    }

    /// How many bytes it has, about.
    #[must_use]
    pub fn size(&self) -> usize {
        self.event.len() + self.payload.get().len()
    }

    fn checked(self) -> Result<Self, BadNotice> {
        check_type(&self.event).map_err(|_| BadNotice::Event)?;
        if self.payload.get().len() > NOTICE_BYTES_MAX { Err(BadNotice::TooBig) } else { Ok(self) }
    }
}

impl PartialEq for Notice {
    fn eq(&self, other: &Self) -> bool {
        (&self.event, self.payload.get()) == (&other.event, other.payload.get())
    }
}

impl Eq for Notice {}
