//! Server-sent events (WHATWG HTML, "Server-sent events"), line by line.

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Its type; empty = `message`.
    pub(super) event: String,
    pub(super) data: String,
}

/// Puts lines together to events.
#[derive(Debug, Default)]
pub(super) struct Parser {
    building: Message,
    has_data: bool,
    id: String,
    last_id: String,
}

impl Parser {
    /// The id of the last whole event, to go on after; empty = none had one.
    pub(super) fn last_id(&self) -> &str {
        &self.last_id
    }

    /// Takes a line without its end; the event, when the line is the empty one that ends it.
    pub(super) fn line(&mut self, line: &str) -> Option<Message> {
        if line.is_empty() {
            self.last_id.clone_from(&self.id);
            let whole = std::mem::take(&mut self.building);
            return std::mem::take(&mut self.has_data).then_some(whole);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.building.event = value.to_owned(),
            "data" => {
                if self.has_data {
                    self.building.data.push('\n');
                }
                self.has_data = true;
                self.building.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = value.to_owned(),
            // Comments have the empty name. What is not known does not count, says the standard.
            _ => {}
        }
        None
    }

    /// A connection was cut: what is not whole does not count.
    pub(super) fn cut(&mut self) {
        (self.building, self.has_data) = (Message::default(), false);
        self.id.clone_from(&self.last_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parser: &mut Parser, text: &str) -> Vec<Message> {
        text.lines().filter_map(|line| parser.line(line)).collect()
    }

    fn message(event: &str, data: &str) -> Message {
        Message { event: event.into(), data: data.into() }
    }

    #[test]
    fn an_event_is_what_stands_before_an_empty_line() {
        let mut parser = Parser::default();
        let text =
            ": hello\n\nid: 7\nevent: room.started\ndata: {\"a\":\ndata:1}\n\nevent: empty\n\ndata: x\n\n";
        assert_eq!(parse(&mut parser, text), [message("room.started", "{\"a\":\n1}"), message("", "x")]);
        assert_eq!(parser.last_id(), "7");
    }

    #[test]
    fn half_an_event_is_none() {
        let mut parser = Parser::default();
        assert_eq!(parse(&mut parser, "id: 1\n\nid: 2\nevent: a\ndata: lost\n"), []);
        parser.cut();
        assert_eq!(parser.last_id(), "1", "so that it comes again");
        assert_eq!(parse(&mut parser, "data: b\n\n"), [message("", "b")]);
        assert_eq!(parser.last_id(), "1");
    }
}
