//! Positions, and the rule by which a client keeps them: every case of `positions.json`.

use std::collections::BTreeMap;

use serde_json::Value;
use wire::Position;

use crate::names::matches_by_text;
use crate::vectors::Vectors;

#[test]
fn valid_positions_are_read_and_written_back() {
    for case in Vectors::load("positions.json").cases("valid") {
        let text = case.text("text");
        let position: Position = text.parse().unwrap_or_else(|e| panic!("{}: {text}: {e}", case.at));
        let numbers = (position.generation.to_string(), position.offset.to_string());
        assert_eq!((&*numbers.0, &*numbers.1), (case.text("generation"), case.text("offset")), "{}", case.at);
        assert_eq!(position.to_string(), text, "{}", case.at);
    }
}

#[test]
fn invalid_positions_are_refused() {
    for text in Vectors::load("positions.json").texts("invalid") {
        assert!(text.parse::<Position>().is_err(), "{text:?} was taken for {:?}", text.parse::<Position>());
    }
}

#[test]
fn positions_are_ordered_as_two_integers() {
    for case in Vectors::load("positions.json").cases("order") {
        let [smaller, larger] = ["smaller", "larger"].map(|field| case.text(field).parse::<Position>().unwrap());
        assert!(smaller < larger, "{}: {smaller} and {larger}", case.at);
    }
}

/// The rule of `docs/protocol.md`, as a client would implement it.
fn keep(held: &mut BTreeMap<&str, Option<Position>>, frame: &Value) {
    let is_message = frame.get("timestamp").is_some();
    let at = match frame["type"].as_str() {
        _ if is_message => &frame["position"],
        // If there is a position already, the `gap` that follows moves it.
        Some("subscribed") if held[frame["channel"].as_str().unwrap()].is_some() => return,
        Some("subscribed" | "position") => &frame["position"],
        Some("gap") => &frame["payload"]["upto"],
        _ => return,
    };
    let Some(at) = at.as_str().map(|text| text.parse::<Position>().unwrap()) else { return };
    let channel = frame["channel"].as_str().unwrap();
    for (pattern, last) in held {
        let is_meant = if is_message { matches_by_text(pattern, channel) } else { *pattern == channel };
        if is_meant {
            *last = (*last).max(Some(at));
        }
    }
}

#[test]
fn clients_keep_the_larger_position_of_what_concerns_a_subscription() {
    for case in Vectors::load("positions.json").cases("keeping") {
        let positions = |field: &str| -> BTreeMap<&str, Option<Position>> {
            let all = case.get(field).and_then(Value::as_object).unwrap();
            all.iter().map(|(channel, at)| (&**channel, at.as_str().map(|text| text.parse().unwrap()))).collect()
        };
        let mut held = positions("held");
        for text in case.texts("frames") {
            let frame: Value = serde_json::from_str(text).unwrap();
            if let Some(known) = crate::server_frames::read(&frame) {
                assert_eq!(crate::server_frames::json(&known), text, "{}: what gateways send", case.at);
            }
            keep(&mut held, &frame);
        }
        assert_eq!(held, positions("keep"), "{}", case.at);
    }
}
