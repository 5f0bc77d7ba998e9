//! The pictures of the built-in layouts in the documentation are what views look like. `UPDATE_PICTURES=1` makes them anew.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use image::{Rgb, RgbImage};
use kaigi_mixer_node::video::{
    ActiveInput, Area, Badge, Canvas, Colour, Composer, Decoration, Frame, FrameSlot, Picture, Plane, Rect,
    Region, Scene, Size,
};
use kaigi_proto::ids::StreamId;

const VIEW: Size = Size { width: 320, height: 180 };
/// Around each of several views.
const GAP: u32 = 8;
/// Side by side.
const COLUMNS: u32 = 3;
const NAMES: [&str; 16] = [
    "Ann", "Bob", "Chloe", "Dan", "Eve", "Finn", "Gwen", "Hal", "Ida", "Jo", "Kim", "Leo", "Mia", "Ned",
    "Olga", "Pim",
];

fn colour(number: usize) -> u32 {
    [0x3b6e8f, 0x8f5a3b, 0x4f7d4b, 0x7d4b6e, 0x6b6a3a, 0x4a5590, 0x8c4a4a, 0x3d7a74][number % 8]
}

/// Somebody before a wall: a picture of that size.
fn portrait(size: Size, number: usize) -> Arc<FrameSlot> {
    let mut canvas = Canvas::new(size, Colour::from_rgb(colour(number)));
    let [y, u, v] = Colour::from_rgb(0xe8c8a8).0;
    let half = Size { width: size.width / 2, height: size.height / 2 };
    let [wall, wall_u, wall_v] = Colour::from_rgb(colour(number)).0;
    let plane = |size: Size, person: u8, wall: u8| -> Vec<u8> {
        let inside = |i: u32| {
            // From the middle, in heights.
            let x = (f64::from(i % size.width) - f64::from(size.width) / 2.0) / f64::from(size.height);
            let y = f64::from(i / size.width) / f64::from(size.height);
            (x / 0.16).powi(2) + ((y - 0.42) / 0.22).powi(2) < 1.0
                || (x / 0.34).powi(2) + ((y - 1.0) / 0.3).powi(2) < 1.0
        };
        (0..size.width * size.height).map(|i| if inside(i) { person } else { wall }).collect()
    };
    let planes = [plane(size, y, wall), plane(half, u, wall_u), plane(half, v, wall_v)];
    let [luma, blue, red] = &planes;
    let picture = Picture {
        planes: [
            Plane::new(luma, size.width as usize, size).unwrap(),
            Plane::new(blue, half.width as usize, half).unwrap(),
            Plane::new(red, half.width as usize, half).unwrap(),
        ],
    };
    canvas.blit(&picture, Rect { x: 0, y: 0, size }, 0, 0);
    let slot = Arc::new(FrameSlot::default());
    slot.put(Arc::new(canvas), Instant::now());
    slot
}

/// The layout with an input in each of its regions.
fn scene(areas: &[[String; 4]], decoration: Decoration) -> Scene {
    let region = |(number, sides): (usize, &[String; 4])| {
        let [left, top, width, height] = sides.each_ref().map(|side| side.parse().unwrap());
        let name = NAMES.get(number % NAMES.len()).unwrap();
        Region {
            rect: Area { left, top, width, height }.place(VIEW).unwrap(),
            source: Some(portrait(VIEW, number)),
            badge: Some(Badge {
                stream: StreamId::new(format!("s{number}")).unwrap(),
                name: (*name).into(),
                avatar: true,
                still: None,
            }),
        }
    };
    let regions = areas.iter().enumerate().map(region).collect();
    Scene { size: VIEW, background: Colour::from_rgb(0x101418), crop: false, regions, decoration }
}

fn composed(scene: Scene) -> RgbImage {
    let mut composer = Composer::new(scene);
    // A quarter past nine.
    composer.advance(Instant::now(), UNIX_EPOCH + Duration::from_secs(9 * 3600 + 15 * 60));
    let picture = composer.compose().picture().unwrap();
    let [luma, blue, red] = picture.planes;
    RgbImage::from_fn(VIEW.width, VIEW.height, |x, y| {
        let at = |plane: Plane<'_>, x, y| f64::from(plane.row(x, y, 1)[0]);
        let (y, u, v) = (
            (at(luma, x, y) - 16.0) / 219.0,
            (at(blue, x / 2, y / 2) - 128.0) / 224.0,
            (at(red, x / 2, y / 2) - 128.0) / 224.0,
        );
        let rgb = [y + 1.402 * v, y - 0.344_14 * u - 0.714_14 * v, y + 1.772 * u];
        Rgb(rgb.map(|part| (part * 255.0).round().clamp(0.0, 255.0) as u8))
    })
}

/// All on one sheet.
fn sheet(pictures: &[RgbImage]) -> RgbImage {
    let count = u32::try_from(pictures.len()).unwrap();
    let (columns, rows) = (COLUMNS.min(count), count.div_ceil(COLUMNS));
    let side = |count: u32, length: u32| count * (length + GAP) + GAP;
    let mut sheet = RgbImage::from_pixel(side(columns, VIEW.width), side(rows, VIEW.height), Rgb([255; 3]));
    for (number, picture) in (0..).zip(pictures) {
        let (x, y) = (side(number % COLUMNS, VIEW.width), side(number / COLUMNS, VIEW.height));
        image::imageops::replace(&mut sheet, picture, x.into(), y.into());
    }
    sheet
}

fn is_in_the_documentation(name: &str, picture: &RgbImage) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/images").join(name);
    if std::env::var_os("UPDATE_PICTURES").is_some() {
        picture.save(&file).unwrap();
    }
    let documented = image::open(&file).unwrap().into_rgb8();
    assert_eq!(documented.dimensions(), picture.dimensions(), "{name}");
    // Letters are drawn by floating point numbers.
    let differs = |(one, other): (&u8, &u8)| one.abs_diff(*other) > 2;
    let different = documented.iter().zip(picture.iter()).filter(|pair| differs(*pair)).count();
    assert_eq!(
        different, 0,
        "values of {name} are not what views look like; UPDATE_PICTURES=1 makes it anew"
    );
}

#[test]
fn layouts_look_as_documented() {
    for (base, count) in [("fluid", 4), ("lecture", 8)] {
        let layouts = kaigi_conference_agent::built_in_layouts(base, 16);
        let plain = |areas: &Vec<[String; 4]>| composed(scene(areas, Decoration::default()));
        let pictures: Vec<RgbImage> = layouts.iter().map(plain).collect();
        assert_eq!(pictures.len(), count, "{base}");
        is_in_the_documentation(&format!("layouts-{base}.png"), &sheet(&pictures));
    }
}

#[test]
fn pictures_of_another_shape_are_fitted_in_or_cut_as_documented() {
    let layouts = kaigi_conference_agent::built_in_layouts("fluid", 4);
    let shapes = [(240, 180), (180, 320), (320, 180), (320, 100)];
    let pictures = [false, true].map(|crop| {
        let mut scene = Scene { crop, ..scene(&layouts[1], Decoration::default()) };
        for (number, (region, (width, height))) in scene.regions.iter_mut().zip(shapes).enumerate() {
            region.source = Some(portrait(Size { width, height }, number));
        }
        composed(scene)
    });
    is_in_the_documentation("fit-policies.png", &sheet(&pictures));
}

#[test]
fn decorations_look_as_documented() {
    let layouts = kaigi_conference_agent::built_in_layouts("fluid", 4);
    let active = ActiveInput::default();
    active.set(StreamId::new("s1").unwrap());
    let decoration = Decoration {
        captions: true,
        border: Some(Colour::from_rgb(0x00_c060)),
        active,
        clock: true,
        ..Decoration::default()
    };
    let mut scene = scene(&layouts[1], decoration);
    scene.regions[2].source = None;
    is_in_the_documentation("decoration.png", &composed(scene));
}
