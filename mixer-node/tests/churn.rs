//! A view whose inputs come and go, and whose layout changes, a thousand times while it runs: its output goes on, and nothing piles up.
//! `--nocapture` tells the stalls: gaps between two of its pictures, by their timestamps.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use kaigi_proto::v1;
use support::{
    Consumer, MixerNode, Publisher, eventually,
    tap::{Tap, picture_times},
    view,
};

const CHANGES: u64 = 1000;
/// Milliseconds without a picture that are a stall. How many there are is told: a busy machine makes some.
const STALL: u32 = 100;
/// Changes until everything that is kept for later is there.
const WARM_UP: u64 = 250;
/// What may have been added since, in KiB. A decoder that stays behind has more than one MiB.
const GROWTH: u64 = 64 << 10;

/// A number of this process.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_changes_cost_no_picture_no_thread_and_no_memory() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let all = [("a", 0xff0000, 400.0), ("b", 0x00ff00, 700.0), ("c", 0x0000ff, 1100.0)]
        .map(|(name, rgb, hz)| publisher.publish(name, rgb, hz));
    let described = |revision, inputs, side, captions| {
        let mut view = view(revision, inputs, side);
        let video = view.video.as_mut().unwrap();
        (video.framerate, video.captions) = (30, captions);
        view
    };
    let reply = node.control.set_view(described(1, vec![], 1, false)).await.unwrap().into_inner();
    // Views of an agent that does not listen are removed after a while.
    let request = v1::MixerEventsRequest { agent_id: "agent-1".into() };
    let _events = node.control.events(request).await.unwrap();
    let consumer = Consumer::start();
    let screen = consumer.watch(reply.video.as_ref().unwrap());
    let mut ear = consumer.listen(reply.audio.as_ref().unwrap());
    let tap = Tap::attach(reply.video.as_ref().unwrap()).await;
    eventually("the view", || screen.number() > 0).await;
    let (threads, mut memory, mut dice) = (status("Threads"), 0, 1u32);
    for change in 0..CHANGES {
        if change == WARM_UP {
            memory = status("VmRSS");
        }
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Each input is in it or not, with or without its picture.
        let inputs =
            all.iter().enumerate().filter(|(index, _)| dice >> (8 + index) & 1 > 0).map(|(index, one)| {
                v1::ViewInput { video_muted: dice >> (16 + index) & 3 == 0, ..one.input() }
            });
        let next = described(change + 2, inputs.collect(), 1 + (dice >> 24) % 3, dice >> 31 > 0);
        node.control.set_view(next).await.unwrap();
        let shown = screen.number();
        eventually("the next picture", || {
            ear.hears([]);
            screen.number() > shown
        })
        .await;
    }
    assert_eq!(ear.lost, 0);
    let grown = status("VmRSS").saturating_sub(memory);
    assert!(grown < GROWTH, "{grown} KiB more after {} changes", CHANGES - WARM_UP);
    node.control.set_view(described(CHANGES + 2, vec![], 1, false)).await.unwrap();
    eventually("its threads have ended", || status("Threads") <= threads).await;

    let packets = tap.packets();
    let followed =
        |pair: &[support::tap::Packet]| pair[1].header.sequence == pair[0].header.sequence.wrapping_add(1);
    assert!(packets.windows(2).all(followed), "numbers are missing");
    let times = picture_times(&packets);
    let mut gaps: Vec<u32> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 90).collect();
    gaps.sort_unstable();
    let late = gaps.iter().filter(|gap| **gap > STALL).count();
    let longest = gaps.last().unwrap();
    println!(
        "{CHANGES} changes, {} pictures, {late} gaps of more than {STALL} ms, the longest {longest} ms, {grown} KiB more",
        times.len()
    );
}
