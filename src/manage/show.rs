//! What is printed: JSON, or tables for people.

use serde_json::Value;

use crate::service::Credentials;

/// What a command has to show.
#[derive(Debug)]
pub(super) enum Shown {
    /// Rows of a table.
    Rows(Value, Table),
    /// Everything there is about one thing.
    Document(Value),
    /// What the data directory tells of the first service.
    Credentials(Credentials),
    /// One text and its name in JSON.
    Text(&'static str, String),
    /// It is done.
    Nothing,
}

/// Columns: heading, and JSON pointer of the value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table(&'static [(&'static str, &'static str)]);

impl Table {
    pub(super) const SERVICES: Self =
        Self(&[("ID", "/id"), ("NAME", "/name"), ("SUPER", "/super"), ("ROOMS", "/rooms")]);
    pub(super) const SERVICE_KEY: Self = Self(&[("ID", "/id"), ("NAME", "/name"), ("KEY", "/key")]);
    pub(super) const ROOMS: Self = Self(&[("ID", "/_id"), ("NAME", "/name")]);
    pub(super) const PARTICIPANTS: Self = Self(&[
        ("ID", "/id"),
        ("USER", "/user"),
        ("ROLE", "/role"),
        ("PUBLISH", "/permission/publish"),
        ("SUBSCRIBE", "/permission/subscribe"),
    ]);
    pub(super) const STREAMS: Self = Self(&[
        ("ID", "/id"),
        ("TYPE", "/type"),
        ("OWNER", "/info/owner"),
        ("AUDIO", "/media/audio/status"),
        ("VIDEO", "/media/video/status"),
        ("IN VIEWS", "/info/inViews"),
    ]);

    fn text(self, items: &[Value]) -> String {
        let mut rows = vec![self.0.iter().map(|(heading, _)| (*heading).to_owned()).collect::<Vec<_>>()];
        rows.extend(items.iter().map(|item| {
            self.0.iter().map(|(_, pointer)| cell(item.pointer(pointer).unwrap_or(&Value::Null))).collect()
        }));
        let widths: Vec<usize> = (0..self.0.len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let lines = rows.iter().map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        // What is switched on: {"audio": true, "video": false} is "audio".
        Value::Object(members) if members.values().all(Value::is_boolean) => {
            let on: Vec<&str> = members
                .iter()
                .filter(|(_, v)| **v == Value::Bool(true))
                .map(|(name, _)| name.as_str())
                .collect();
            if on.is_empty() { "-".to_owned() } else { on.join(",") }
        }
        other => other.to_string(),
    };
    // A name with a line break would tear the table.
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl Shown {
    pub(super) fn list(items: Value, table: Table) -> Self {
        Self::Rows(items, table)
    }

    pub(super) fn one(item: Value, table: Table) -> Self {
        Self::Rows(item, table)
    }

    pub(super) fn text(self, json: bool) -> String {
        match (self, json) {
            (Self::Rows(value, _) | Self::Document(value), true) => value.to_string(),
            (Self::Credentials(credentials), true) => credentials.to_json(),
            (Self::Credentials(credentials), false) => credentials.to_string(),
            (Self::Text(name, text), true) => serde_json::json!({ name: text }).to_string(),
            (Self::Nothing, true) => "{}".to_owned(),
            (Self::Rows(Value::Array(items), table), false) => table.text(&items),
            (Self::Rows(item, table), false) => table.text(std::slice::from_ref(&item)),
            (Self::Document(value), false) => format!("{value:#}"),
            (Self::Text(_, text), false) => text,
            (Self::Nothing, false) => "done".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_aligned_and_stay_whole() {
        let participants = json!([
            { "id": "a", "user": "Åse\nB", "role": "presenter",
              "permission": { "publish": { "audio": true, "video": false }, "subscribe": { "audio": false, "video": false } } },
            { "id": "abcdef", "user": { "name": "C" }, "role": "guest" }
        ]);
        let shown = Shown::list(participants, Table::PARTICIPANTS).text(false);
        assert_eq!(
            shown.lines().collect::<Vec<_>>(),
            [
                "ID      USER          ROLE       PUBLISH  SUBSCRIBE",
                "a       Åse B         presenter  audio    -",
                "abcdef  {\"name\":\"C\"}  guest      -        -",
            ]
        );
    }

    #[test]
    fn programs_get_json() {
        assert_eq!(Shown::Text("token", "x".into()).text(true), r#"{"token":"x"}"#);
        assert_eq!(Shown::list(json!([]), Table::ROOMS).text(true), "[]");
        assert_eq!(Shown::list(json!([]), Table::ROOMS).text(false), "ID  NAME");
    }
}
