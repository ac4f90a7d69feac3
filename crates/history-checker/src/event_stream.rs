//! Server-sent events, read according to the HTML Living Standard, §9.2.6 "Interpreting an event stream".

use std::collections::BTreeMap;

use crate::position::Position;

/// One event of a stream, as a browser interprets it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamEvent {
    /// The name of the event; none for a `message`.
    pub name: Option<String>,
    /// The data; none if the browser dispatches nothing.
    pub data: Option<String>,
    /// The id, which the browser keeps, also if it dispatches nothing.
    pub id: Option<String>,
}

/// The content of an id, as far as the checker needs it. Parts that it does not know are left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) session: String,
    /// The position of each channel or pattern; none if the client has none yet.
    pub(crate) channels: BTreeMap<String, Option<Position>>,
}

impl StreamEvent {
    /// Reads the lines of one event, the blank line that ends it included. Returns none without that line: a browser
    /// discards an event that the end of the stream has cut, with its id.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let lines = text.strip_suffix("\n\n").or_else(|| text.strip_suffix('\n').filter(|rest| rest.is_empty()))?;
        let (mut event, mut data) = (Self::default(), Vec::new());
        for line in lines.split('\n').filter(|line| !line.starts_with(':')) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => event.name = Some(value.to_owned()),
                "data" => data.push(value),
                "id" if !value.contains('\0') => event.id = Some(value.to_owned()),
                _ => {}
            }
        }
        let data = data.join("\n");
        event.data = (!data.is_empty()).then_some(data);
        event.name = event.name.filter(|name| !name.is_empty());
        Some(event)
    }
}

impl Cursor {
    /// `SESSION;CHANNEL,CHANNEL/POSITION;…`
    pub(crate) fn read(id: &str) -> Self {
        let mut parts = id.split(';');
        let session = parts.next().unwrap_or_default().to_owned();
        let mut channels = BTreeMap::new();
        for part in parts {
            let (names, position) = match part.split_once('/') {
                None => (part, None),
                Some((names, position)) => match position.parse() {
                    Ok(position) => (names, Some(position)),
                    Err(()) => continue,
                },
            };
            channels.extend(names.split(',').map(|name| (name.to_owned(), position)));
        }
        Self { session, channels }
    }
}

/// The channels that the target of a request names. Clients of a run write them without escapes.
pub(crate) fn requested_channels(target: &str) -> impl Iterator<Item = &str> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let lists = query.split('&').filter_map(|pair| pair.strip_prefix("channels="));
    lists.flat_map(|list| list.split(',')).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: Option<&str>, data: Option<&str>, id: Option<&str>) -> Option<StreamEvent> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(StreamEvent { name: owned(name), data: owned(data), id: owned(id) })
    }

    #[test]
    fn events_are_read_as_a_browser_reads_them() {
        let text = "retry: 5\nid: a;b\nevent: gap\ndata: {\ndata:}\n\n";
        assert_eq!(StreamEvent::read(text), event(Some("gap"), Some("{\n}"), Some("a;b")));
        assert_eq!(StreamEvent::read(&text.replace('\n', "\r\n")), StreamEvent::read(text));
        assert_eq!(StreamEvent::read("id: x\n\n"), event(None, None, Some("x")), "an id alone");
        assert_eq!(StreamEvent::read(": c\n:x/1\ndata: 1\n\n"), event(None, Some("1"), None));
        assert_eq!(StreamEvent::read("id: x\ndata: {}\n"), None, "it is not complete");
        assert_eq!(StreamEvent::read("id: x\ndata: {"), None);
    }

    #[test]
    fn a_cursor_has_a_position_for_each_channel_and_unknown_parts_are_left_out() {
        let cursor = Cursor::read("5e;system;a:1:*,a:1/7-2;b:1/?;c:1/8-1");
        let at = |generation, offset| Some(Position { generation, offset });
        let channels = [("system", None), ("a:1:*", at(7, 2)), ("a:1", at(7, 2)), ("c:1", at(8, 1))];
        assert_eq!(cursor.session, "5e");
        assert_eq!(cursor.channels, channels.map(|(name, at)| (name.to_owned(), at)).into());
    }

    #[test]
    fn a_request_names_its_channels() {
        let names: Vec<&str> = requested_channels("/sse?x=1&channels=a:1:*,system").collect();
        assert_eq!(names, ["a:1:*", "system"]);
        assert_eq!(requested_channels("/sse").count(), 0);
    }
}
