//! What a worker has of what limits it, and how much of that is taken: told to whoever looks at the cluster.

use kaigi_proto::v1;

use super::worker::{InvalidInput, Load};

/// Most resources of a worker.
const MAX_RESOURCES: usize = 16;

/// Use of a resource.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Use {
    resource: v1::Resource,
    used: f64,
    capacity: f64,
}

impl From<Use> for v1::ResourceUse {
    fn from(told: Use) -> Self {
        Self { resource: told.resource.into(), used: told.used, capacity: told.capacity }
    }
}

/// What a worker reports of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The largest share that is taken.
    pub load: Load,
    /// Of what.
    pub resources: Vec<Use>,
}

impl From<Load> for Measured {
    fn from(load: Load) -> Self {
        Self { load, resources: Vec::new() }
    }
}

/// Those that are known here. A worker of another version may be limited by something else, too.
///
/// # Errors
/// If there are too many, or one is no number, is negative, or is of nothing.
pub fn parse(told: &[v1::ResourceUse]) -> Result<Vec<Use>, InvalidInput> {
    if told.len() > MAX_RESOURCES {
        return Err(InvalidInput::TooMany("resources"));
    }
    let mut uses = Vec::with_capacity(told.len());
    for &v1::ResourceUse { resource, used, capacity } in told {
        if !(used.is_finite() && used >= 0.0 && capacity.is_finite() && capacity > 0.0) {
            return Err(InvalidInput::Use(used, capacity));
        }
        match v1::Resource::try_from(resource) {
            Ok(v1::Resource::Unspecified) | Err(_) => {}
            Ok(resource) => uses.push(Use { resource, used, capacity }),
        }
    }
    Ok(uses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_checked() {
        let told = |used, capacity| {
            parse(&[v1::ResourceUse { resource: v1::Resource::Encoders.into(), used, capacity }])
        };
        assert_eq!(told(20.0, 16.0).map(|uses| uses.len()), Ok(1), "more than there should be");
        for (used, capacity) in [(-1.0, 1.0), (0.0, 0.0), (f64::INFINITY, 1.0), (1.0, f64::INFINITY)] {
            assert_eq!(told(used, capacity), Err(InvalidInput::Use(used, capacity)));
        }
        assert!(told(f64::NAN, 1.0).is_err());
        let strange = v1::ResourceUse { resource: 99, used: 1.0, capacity: 1.0 };
        assert_eq!(parse(&[strange]), Ok(vec![]), "of a later version");
        assert_eq!(parse(&[strange; 17]), Err(InvalidInput::TooMany("resources")));
    }
}
