//! `kaigi events`: what happens, as it happens.

use std::{
    io::{BufRead, BufReader, Read, Write},
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::Value;

use super::{
    ManageError,
    api::{self, Api, ApiError},
    report::moment,
    sse::{Message, Parser},
};
use crate::backoff::Backoff;

/// What the stream says when events that were asked for are not kept any more.
const GAP: &str = "gap";
/// Longest line looked at, in bytes; an event is one line.
const MAX_LINE: u64 = 4 << 20;

/// Which events.
#[derive(Args, Clone, Debug)]
pub struct EventsCommand {
    /// Only those of this room
    #[arg(long, value_name = "ID")]
    room: Option<String>,
    /// Only those types, such as room.started or participant.*; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// First those that are kept after the event of this id
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Prints events until so many have come, or for ever. A connection that is cut is made again, and goes on after the last event.
///
/// # Errors
/// What the API refuses; that it can't be reached only at the first time.
pub(super) fn run(
    api: &Api,
    command: &EventsCommand,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), ManageError> {
    let types = (!command.types.is_empty()).then(|| command.types.join(","));
    let mut parser = Parser::default();
    let mut left = command.count.unwrap_or(u64::MAX);
    let mut backoff = Backoff::default();
    let mut was_connected = false;
    loop {
        let after = Some(parser.last_id()).filter(|id| !id.is_empty()).or(command.after.as_deref());
        let query = [("room", command.room.as_deref()), ("types", types.as_deref()), ("after", after)];
        let began = Instant::now();
        match api.stream(&format!("v1/events{}", api::query(&query))) {
            Ok(body) => {
                was_connected = true;
                left = print(body, &mut parser, left, json, out)?;
                if left == 0 {
                    return Ok(());
                }
            }
            Err(ApiError::Unreachable { .. }) if was_connected => {}
            Err(error) => return Err(error.into()),
        }
        parser.cut();
        std::thread::sleep(backoff.pause_after(began.elapsed()).max(Duration::from_millis(100)));
    }
}

/// Prints what comes until the connection ends; how many of `left` are left then.
fn print(
    body: impl Read,
    parser: &mut Parser,
    mut left: u64,
    json: bool,
    out: &mut dyn Write,
) -> Result<u64, ManageError> {
    let mut body = BufReader::new(body);
    let mut line = Vec::new();
    loop {
        line.clear();
        match body.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            // The end, silence for too long, or a cut.
            Ok(0) | Err(_) => return Ok(left),
            Ok(_) if line.last() != Some(&b'\n') => return Ok(left),
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let Some(message) = parser.line(text.trim_end_matches(['\n', '\r'])) else { continue };
        writeln!(out, "{}", shown(&message, json)).and_then(|()| out.flush()).map_err(ManageError::Output)?;
        if message.event != GAP {
            left -= 1;
        }
        if left == 0 {
            return Ok(0);
        }
    }
}

/// One line.
fn shown(message: &Message, json: bool) -> String {
    match serde_json::from_str::<Value>(&message.data) {
        Ok(_) if !json && message.event == GAP => "(some events before are not kept any more)".to_owned(),
        Ok(event) if json => event.to_string(),
        Ok(event) => {
            let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
            let data = if event["data"].is_null() { String::new() } else { event["data"].to_string() };
            format!("{}  {:<20}  {}  {data}", moment(&event["time"]), text("type"), text("room"))
                .trim_end()
                .to_owned()
        }
        // Something else than an event of the API, such as a remark on the stream itself.
        Err(_) if json => serde_json::json!({ "type": message.event, "data": message.data }).to_string(),
        Err(_) => format!("{} {}", message.event, message.data.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "id: 1\nevent: room.started\ndata: {\"id\":\"1\",\"type\":\"room.started\",\"time\":1700000000000,\"room\":\"a\",\"data\":{}}\n\n\
                          : still here\n\nid: 2\nevent: x\ndata: y\n\nid: 3\ndata: {\"cut\":";

    fn printed(left: u64, json: bool) -> (u64, String, String) {
        let (mut parser, mut out) = (Parser::default(), Vec::new());
        let left = print(STREAM.as_bytes(), &mut parser, left, json, &mut out).unwrap();
        (left, String::from_utf8(out).unwrap(), parser.last_id().to_owned())
    }

    #[test]
    fn programs_get_a_line_of_json_for_each() {
        let (left, text, last) = printed(9, true);
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((left, lines.len(), last.as_str()), (7, 2, "2"));
        assert_eq!((&lines[0]["type"], &lines[1]["data"]), (&"room.started".into(), &"y".into()));
    }

    #[test]
    fn what_is_not_kept_any_more_is_said_and_does_not_count() {
        let text = format!("event: gap\ndata: {{\"type\":\"gap\"}}\n\n{STREAM}");
        let (mut parser, mut out) = (Parser::default(), Vec::new());
        assert_eq!(print(text.as_bytes(), &mut parser, 1, false, &mut out).unwrap(), 0);
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with("(some events before are not kept any more)\n2023-11-14"), "{out}");
    }

    #[test]
    fn people_get_time_type_and_room() {
        let (left, text, _) = printed(1, false);
        assert_eq!((left, text.as_str()), (0, "2023-11-14 22:13:20  room.started          a  {}\n"));
    }
}
