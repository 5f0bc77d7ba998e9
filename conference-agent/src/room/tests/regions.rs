//! Regions and layouts: who is shown where.

use kaigi_proto::v1;
use serde_json::json;

use super::world::{MIXED, World, participant, stream};
use crate::room::{
    Command, Kind, LayoutAssignment, MixerChange, Refusal, Reply, RequestedLayout, StreamOperation,
};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

/// A room that mixes everybody, three at most, and its streams: ann's, bob's, cat's and dan's.
fn room() -> (World, [String; 4]) {
    let view =
        json!({"label": "common", "video": {"maxInput": 3, "layout": {"templates": {"base": "fluid"}}}});
    let mut world = World::new(json!({"autoMix": true, "views": [view]}));
    let names = ["ann", "bob", "cat", "dan"];
    world.presenters(&names);
    let streams = names.map(|name| world.publish(name, &BOTH).stream.to_string());
    world.forget();
    (world, streams)
}

fn set(name: &str, id: &str, view: &str, region: &str) -> Command {
    let operations = vec![StreamOperation::SetRegion { view: view.into(), region: region.into() }];
    Command::ControlStream { participant: participant(name), stream: stream(id), operations }
}

fn get(name: &str, id: &str, view: &str) -> Command {
    Command::GetRegion { participant: participant(name), stream: stream(id), view: view.into() }
}

fn update(id: &str, operation: StreamOperation) -> Command {
    Command::UpdateStream { stream: stream(id), operations: vec![operation] }
}

fn assign(index: usize, id: &str) -> StreamOperation {
    StreamOperation::Assignment(LayoutAssignment { index, stream: stream(id) })
}

/// Columns of equal width, with their streams.
fn columns(streams: &[&str]) -> StreamOperation {
    let region = |(i, id): (usize, &&str)| v1::LayoutRegion {
        stream_id: (*id).into(),
        region_id: format!("column {i}"),
        left: format!("{i}/{}", streams.len()),
        top: "0".into(),
        width: format!("1/{}", streams.len()),
        height: "1".into(),
    };
    let layout = v1::Layout { regions: streams.iter().enumerate().map(region).collect() };
    StreamOperation::Layout(RequestedLayout::from_wire(layout).unwrap())
}

fn region(id: &str) -> Result<Reply, Refusal> {
    Ok(Reply::Region(id.into()))
}

#[test]
fn two_streams_swap_their_regions() {
    let (mut world, [ann, bob, cat, _]) = room();
    assert_eq!(world.run(set("bob", &bob, "common", "1")), Ok(Reply::Done));
    let told = format!("layout {MIXED} [{bob},{ann},{cat},]");
    assert_eq!((world.told("ann"), world.told("bob")), (vec![told.clone()], vec![told]));
    let shown = world.view().video.unwrap().layout.unwrap();
    assert_eq!(
        (shown.regions[0].stream_id.as_str(), shown.regions[1].stream_id.as_str()),
        (bob.as_str(), ann.as_str())
    );
    assert_eq!(world.run(get("ann", &ann, "common")), region("2"));
    assert_eq!(world.run(set("bob", &bob, "common", "1")), Ok(Reply::Done));
    assert!(world.told("ann").is_empty() && world.made().is_empty(), "it is there already");
}

#[test]
fn a_stream_that_waits_takes_the_place_of_another_one() {
    let (mut world, [ann, bob, cat, dan]) = room();
    assert_eq!(world.run(get("dan", &dan, "common")), region(""));
    world.run(set("dan", &dan, "common", "2")).unwrap();
    assert_eq!(world.told("ann"), [format!("layout {MIXED} [{ann},{dan},{cat},]")]);
    assert_eq!(world.run(get("bob", &bob, "common")), region(""));
    assert_eq!(world.view().inputs.len(), 4, "who waits is heard");
}

#[test]
fn regions_are_refused_in_owts_words() {
    let (mut world, [ann, ..]) = room();
    let sound = world.publish("ann", &[Kind::Audio]).stream.to_string();
    world.forget();
    let mut refused = |command: Command| world.run(command).unwrap_err().to_string();
    assert_eq!(refused(set("ann", &ann, "common", "4")), "Invalid region_id.", "it shows nobody");
    assert_eq!(refused(set("ann", &ann, "common", "nine")), "Invalid region_id.");
    assert_eq!(refused(set("ann", &ann, "none", "1")), "Invalid view");
    assert_eq!(refused(get("ann", &ann, "none")), "Invalid view");
    assert_eq!(refused(set("ann", &sound, "common", "1")), "Invalid input stream_id.");
    assert_eq!(refused(get("ann", &sound, "common")), "Invalid input stream_id.");
    assert_eq!(refused(set("bob", &ann, "common", "1")), "unauthorized");
    assert_eq!(refused(get("bob", &ann, "common")), "unauthorized");
    assert_eq!(refused(set("ann", MIXED, "common", "1")), "Stream is Mixed");
    assert_eq!(refused(get("ann", "none", "common")), "Stream does NOT exist");
    assert!(world.told("ann").is_empty() && world.made().is_empty());
}

#[test]
fn an_admin_moves_the_streams_of_others() {
    let role = |name: &str| json!({"role": name, "publish": {"audio": true, "video": true}, "subscribe": {"audio": true, "video": true}});
    let mut world = World::new(json!({"autoMix": true, "roles": [role("admin"), role("presenter")]}));
    world.presenters(&["ann", "bob"]);
    world.join("boss", "admin").unwrap();
    let ann = world.publish("ann", &BOTH).stream;
    let bob = world.publish("bob", &BOTH).stream;
    world.run(set("boss", bob.as_str(), "common", "1")).unwrap();
    assert_eq!(world.run(get("boss", ann.as_str(), "common")), region("2"));
}

#[test]
fn a_layout_replaces_all_templates() {
    let (mut world, [ann, bob, cat, dan]) = room();
    let Ok(Reply::Stream(after)) = world.run(update(MIXED, columns(&[&dan, &bob, ""]))) else { panic!() };
    let layout = after.layout.unwrap();
    let shown: Vec<_> = layout.regions.iter().map(|r| (r.region_id.as_str(), r.stream_id.as_str())).collect();
    assert_eq!(shown, [("column 0", dan.as_str()), ("column 1", bob.as_str()), ("column 2", ann.as_str())]);
    assert_eq!(layout.regions[0].left, "0/1");
    assert_eq!(layout.regions[2].left, "2/3");
    assert_eq!(world.told("ann"), [format!("layout {MIXED} [{dan},{bob},{ann}]")]);
    assert_eq!(world.view().video.unwrap().layout, Some(layout));
    world.run(Command::Leave { participant: participant("bob") }).unwrap();
    assert!(world.told("ann").contains(&format!("layout {MIXED} [{dan},{cat},{ann}]")), "cat waited");
    world.run(Command::Leave { participant: participant("dan") }).unwrap();
    assert!(
        world.told("ann").contains(&format!("layout {MIXED} [{cat},{ann},]")),
        "no smaller template is left"
    );
}

#[test]
fn a_layout_with_streams_that_are_not_in_the_view_changes_nothing() {
    let (mut world, [ann, ..]) = room();
    let sound = world.publish("ann", &[Kind::Audio]).stream.to_string();
    world.forget();
    let before = world.streams()[0].clone();
    for strange in [sound.as_str(), "none", MIXED] {
        assert_eq!(world.run(update(MIXED, columns(&[&ann, strange]))), Err(Refusal::InvalidInput));
    }
    assert_eq!(world.run(update(&ann, columns(&[""]))), Err(Refusal::NotMixed));
    assert_eq!(world.streams()[0], before);
    assert!(world.told("ann").is_empty() && world.made().is_empty());
}

#[test]
fn a_region_is_given_to_a_stream_by_its_number() {
    let (mut world, [ann, bob, cat, dan]) = room();
    let Ok(Reply::Stream(after)) = world.run(update(MIXED, assign(2, &ann))) else { panic!() };
    assert_eq!(after.layout.unwrap().regions[2].stream_id, ann);
    assert_eq!(world.told("ann"), [format!("layout {MIXED} [{cat},{bob},{ann},]")]);
    world.run(update(MIXED, assign(0, &dan))).unwrap();
    assert_eq!(world.told("ann"), [format!("layout {MIXED} [{dan},{bob},{ann},]")]);
    assert_eq!(world.run(update(MIXED, assign(3, &ann))), Err(Refusal::InvalidRegionId), "it shows nobody");
    assert_eq!(world.run(update(MIXED, assign(4, &ann))), Err(Refusal::NoSuchRegion));
    assert_eq!(world.run(update(MIXED, assign(0, "none"))), Err(Refusal::InvalidInput));
    assert_eq!(world.run(update(&ann, assign(0, &ann))), Err(Refusal::NoSuchRegion));
    assert!(world.told("ann").is_empty());
}

#[test]
fn the_loudest_input_still_becomes_the_primary_one_of_a_layout() {
    let view = json!({"label": "common", "audio": {"vad": false}, "video": {"keepActiveInputPrimary": true}});
    let mut world = World::new(json!({"autoMix": true, "views": [view]}));
    world.presenters(&["ann", "bob"]);
    let ann = world.publish("ann", &BOTH).stream;
    let bob = world.publish("bob", &BOTH).stream;
    world.run(update(MIXED, columns(&[ann.as_str()]))).unwrap();
    world.forget();
    world.mixer_event("mixer-1", MixerChange::ActiveInput(bob.clone()));
    assert_eq!(world.told("ann"), [format!("layout {MIXED} [{bob}]")], "it waited");
}
