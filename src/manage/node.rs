//! `kaigi node`: the machines' processes that do the work.

use clap::Subcommand;
use serde_json::Value;

use super::{
    ManageError,
    api::Api,
    report::{moment, percent},
    show::{Shown, Table},
};

/// About nodes.
#[derive(Clone, Debug, Subcommand)]
pub enum NodeCommand {
    /// All nodes of the cluster, with their load; for a super service
    List,
}

const NODES: Table = Table(&[
    ("ID", "/id"),
    ("PURPOSE", "/purpose"),
    ("LOAD", "/load"),
    ("TAKEN", "/taken"),
    ("TASKS", "/tasks"),
    ("STATE", "/state"),
    ("ENDPOINT", "/endpoint"),
    ("SINCE (UTC)", "/since"),
]);

pub(super) fn run(api: &Api, command: NodeCommand) -> Result<Shown, ManageError> {
    match command {
        NodeCommand::List => Ok(table(api.get("cluster/nodes")?)),
    }
}

/// `cpu 0.4/2, encoders 3/16`.
fn taken(resources: &Value) -> String {
    let number = |value: &Value| {
        let number = value.as_f64().unwrap_or_default();
        if number < 10.0 { ((number * 10.0).round() / 10.0).to_string() } else { format!("{number:.0}") }
    };
    let one = |resource: &Value| {
        let name = resource["name"].as_str().unwrap_or_default();
        format!("{name} {}/{}", number(&resource["used"]), number(&resource["capacity"]))
    };
    resources.as_array().into_iter().flatten().map(one).collect::<Vec<_>>().join(", ")
}

fn table(nodes: Value) -> Shown {
    let rows = nodes.as_array().into_iter().flatten().map(|node| {
        let mut row = node.clone();
        row["load"] = percent(&node["load"]).into();
        row["taken"] = taken(&node["resources"]).into();
        row["state"] = if node["draining"] == true { "draining" } else { "up" }.into();
        row["since"] = moment(&node["since"]).into();
        row
    });
    Shown::table(rows.collect(), NODES, nodes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_are_shown_with_load_and_state() {
        let nodes = json!([
            { "id": "a", "purpose": "mixer", "endpoint": "127.0.0.1:4", "load": 0.256, "resources": [{ "name": "cpu", "used": 0.512, "capacity": 2.0 }, { "name": "encoders", "used": 3.0, "capacity": 16.0 }], "tasks": 3, "draining": true, "since": 1_700_000_000_000_u64 },
        ]);
        let shown = table(nodes.clone());
        assert_eq!(
            shown.text(false).lines().nth(1).unwrap(),
            "a   mixer    26 %  cpu 0.5/2, encoders 3/16  3      draining  127.0.0.1:4  2023-11-14 22:13:20"
        );
        assert_eq!(shown.text(true), nodes.to_string());
    }
}
