//! What is printed: JSON, or tables for people.

use serde_json::Value;

use crate::service::Credentials;

/// What a command has to show.
#[derive(Debug)]
pub(super) enum Shown {
    /// Rows of a table for people, and what programs get in their place.
    Rows { rows: Vec<Value>, table: Table, answer: Value },
    /// Lines for people, and what programs get in their place.
    Report(String, Value),
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
pub(super) struct Table(pub(super) &'static [(&'static str, &'static str)]);

impl Table {
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

pub(super) fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
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
    /// The items of an answer, or the one thing that it is.
    pub(super) fn rows(answer: Value, table: Table) -> Self {
        let rows = answer.as_array().cloned().unwrap_or_else(|| vec![answer.clone()]);
        Self::Rows { rows, table, answer }
    }

    /// Rows that an answer was made into.
    pub(super) fn table(rows: Vec<Value>, table: Table, answer: Value) -> Self {
        Self::Rows { rows, table, answer }
    }

    pub(super) fn text(&self, json: bool) -> String {
        match (self, json) {
            (Self::Rows { answer, .. } | Self::Document(answer) | Self::Report(_, answer), true) => {
                answer.to_string()
            }
            (Self::Credentials(credentials), true) => credentials.to_json(),
            (Self::Credentials(credentials), false) => credentials.to_string(),
            (Self::Text(name, text), true) => serde_json::json!({ *name: text }).to_string(),
            (Self::Nothing, true) => "{}".to_owned(),
            (Self::Rows { rows, table, .. }, false) => table.text(rows),
            (Self::Report(text, _), false) => text.clone(),
            (Self::Document(value), false) => format!("{value:#}"),
            (Self::Text(_, text), false) => text.clone(),
            (Self::Nothing, false) => "done".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const USERS: Table = Table(&[("ID", "/id"), ("USER", "/user"), ("PUBLISH", "/permission/publish")]);

    #[test]
    fn tables_are_aligned_and_stay_whole() {
        let users = json!([
            { "id": "a", "user": "Åse\nB", "permission": { "publish": { "audio": true, "video": false } } },
            { "id": "abcdef", "user": { "name": "C" }, "permission": { "publish": "" } }
        ]);
        assert_eq!(
            Shown::rows(users, USERS).text(false).lines().collect::<Vec<_>>(),
            ["ID      USER          PUBLISH", "a       Åse B         audio", "abcdef  {\"name\":\"C\"}  -"]
        );
    }

    #[test]
    fn programs_get_json() {
        assert_eq!(Shown::Text("token", "x".into()).text(true), r#"{"token":"x"}"#);
        assert_eq!(Shown::rows(json!([]), USERS).text(true), "[]");
        assert_eq!(Shown::rows(json!([]), USERS).text(false), "ID  USER  PUBLISH");
        assert_eq!(Shown::rows(json!({ "id": 1 }), USERS).text(true), r#"{"id":1}"#);
    }
}
