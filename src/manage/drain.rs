//! `kaigi drain`: one process hands over what it has, and ends.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    ManageError,
    api::{self, Api, ApiError},
};

/// How often it is looked how far the process is.
const LOOK: Duration = Duration::from_millis(200);

/// Which process.
#[derive(Args, Clone, Debug)]
pub struct DrainCommand {
    /// Id of the process, or the beginning of one (`kaigi node list`); or its kind (portal, conference, access, mixer, streaming, gateway) if there is
    /// one of that kind
    pub worker: String,
    /// Return at once, without waiting for its end
    #[arg(long)]
    pub no_wait: bool,
    /// Seconds to wait for its end; what is not over by then goes on
    #[arg(long, value_name = "S", default_value_t = 900)]
    pub wait: u64,
}

/// What is said of a process on the way.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// So many tasks are left.
    Draining(u64),
    Ended,
}

/// Has the process drain, and tells how far it is until it is gone.
///
/// # Errors
/// If there is no such process or several, if the API refuses, or if the process is still there when the time is over.
pub(super) fn run(
    api: &Api,
    command: &DrainCommand,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), ManageError> {
    let nodes = api.get("cluster/nodes")?;
    let id = pick(&nodes, &command.worker)?;
    let mut say = |progress: &Progress| {
        let line = match (progress, json) {
            (Progress::Draining(tasks), true) => {
                json!({ "id": id, "draining": true, "tasks": tasks }).to_string()
            }
            (Progress::Ended, true) => json!({ "id": id, "ended": true }).to_string(),
            (Progress::Draining(tasks), false) => format!("{id} is draining, tasks: {tasks}"),
            (Progress::Ended, false) => format!("{id} has ended"),
        };
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(ManageError::Output)
    };
    api.post(&api::path(&["cluster", "nodes", &id, "drain"]), &json!({}))?;
    let mut told = Progress::Draining(tasks(&nodes, &id).unwrap_or_default());
    say(&told)?;
    if command.no_wait {
        return Ok(());
    }
    let give_up = Instant::now() + Duration::from_secs(command.wait);
    while told != Progress::Ended {
        if Instant::now() > give_up {
            return Err(ManageError::StillDraining(id));
        }
        std::thread::sleep(LOOK);
        let now = match api.get("cluster/nodes") {
            Ok(nodes) => tasks(&nodes, &id).map_or(Progress::Ended, Progress::Draining),
            // The portal that answers may be the one that ends.
            Err(ApiError::Unreachable { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        if now != told {
            say(&now)?;
            told = now;
        }
    }
    Ok(())
}

/// How many tasks that process has; `None` if it is not there.
fn tasks(nodes: &Value, id: &str) -> Option<u64> {
    nodes.as_array()?.iter().find(|node| node["id"] == id)?["tasks"].as_u64()
}

/// The id of the process that is meant.
fn pick(nodes: &Value, wanted: &str) -> Result<String, ManageError> {
    let all = nodes.as_array().map(Vec::as_slice).unwrap_or_default();
    let ids = |meant: &dyn Fn(&Value) -> bool| -> Vec<String> {
        all.iter()
            .filter(|node| meant(node))
            .filter_map(|node| Some(node["id"].as_str()?.to_owned()))
            .collect()
    };
    let exact = ids(&|node| node["id"] == wanted);
    let kind = ids(&|node| node["purpose"] == wanted && node["draining"] != true);
    let begins = ids(&|node| node["id"].as_str().is_some_and(|id| id.starts_with(wanted)));
    let meant = [exact, kind, begins].into_iter().find(|ids| !ids.is_empty()).unwrap_or_default();
    match meant.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(ManageError::NoSuchNode(wanted.to_owned())),
        several => Err(ManageError::SeveralNodes(wanted.to_owned(), several.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_meant_by_its_id_its_beginning_or_its_kind() {
        let node = |id: &str, purpose: &str, draining: bool| json!({ "id": id, "purpose": purpose, "draining": draining, "tasks": 2 });
        let nodes = json!([
            node("mixer-1a", "mixer", false),
            node("access-1b", "access", false),
            node("access-2c", "access", false),
            node("portal-1", "portal", true),
            node("portal-2", "portal", false),
        ]);
        let picked = |wanted: &str| pick(&nodes, wanted).map_err(|error| error.to_string());
        assert_eq!(picked("mixer").unwrap(), "mixer-1a");
        assert_eq!(picked("access-2").unwrap(), "access-2c");
        assert_eq!(picked("portal-1").unwrap(), "portal-1");
        assert_eq!(picked("portal").unwrap(), "portal-2", "the other one is draining already");
        assert!(picked("access").unwrap_err().contains("access-1b, access-2c"));
        assert!(picked("streaming").unwrap_err().contains("streaming"));
        assert_eq!((tasks(&nodes, "mixer-1a"), tasks(&nodes, "gone")), (Some(2), None));
    }
}
