import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium, type Participant } from '../harness/browser';
import { BLACK, BLUE, GREEN, RED, isNear } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { type Publisher, hears, mixingRoom, publisher, showsLayout, subscribeWhenThere } from '../harness/room';
import { until } from '../harness/until';

const ALL = [RED, GREEN, BLUE];

let kaigi: Kaigi;
let browser: Chromium;
let room: string;
let publishers: Publisher[];

beforeAll(async () => {
  // Everybody on another media worker than the one before.
  const env = { KAIGI_ROOM_TRANSPORTS_PER_WORKER: '1' };
  kaigi = await Kaigi.start({ name: 'conference', args: ['--media-workers', '2'], env });
  browser = await Chromium.launch('conference');
  room = await mixingRoom(kaigi, 'conference');
  publishers = [
    await publisher(browser, kaigi, room, 'Aiko', RED),
    await publisher(browser, kaigi, room, 'Botan', GREEN),
    await publisher(browser, kaigi, room, 'Chiyo', BLUE),
  ];
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

describe('three who publish', () => {
  it('each see and hear both others as they are', async () => {
    for (const receiver of publishers) {
      for (const sender of publishers.filter((other) => other !== receiver)) {
        const subscription = await subscribeWhenThere(receiver.page, sender.stream);
        await until(`${receiver.page.who} sees the colour of ${sender.page.who}`, async () =>
          isNear(await receiver.page.colour(subscription), sender.look.colour),
        );
        const frames = await receiver.page.frames(subscription);
        await until('frames go on', async () => (await receiver.page.frames(subscription)) > frames + 15);
        await hears(receiver.page, subscription, [sender.look], ALL);
        await receiver.page.unsubscribe(subscription);
      }
    }
  });

  it('are listed by REST', async () => {
    const streams = await kaigi.rest.streams(room);
    const forward = streams.filter((stream) => stream.type === 'forward');
    expect(forward.map((stream) => stream.id).sort()).toEqual(publishers.map((one) => one.stream).sort());
    expect(forward.every((stream) => stream.info.inViews?.includes('common'))).toBe(true);
    const participants = await kaigi.rest.participants(room);
    expect(participants.map((one) => one.user).sort()).toEqual(['Aiko', 'Botan', 'Chiyo']);
  });
});

describe('the mixed stream', () => {
  let viewer: Participant;
  let mixed: string;
  let subscription: string;

  beforeAll(async () => {
    viewer = await browser.open(kaigi, 'viewer');
    await viewer.join(await kaigi.rest.token(room, 'Dai', 'viewer'));
    mixed = await viewer.mixedStream();
    subscription = await viewer.subscribe(mixed);
  });

  it('shows a viewer each colour in its quarter, as the layout says', async () => {
    await showsLayout(viewer, mixed, subscription, publishers);
    const layout = await viewer.layout(mixed);
    expect(layout.every(({ width, height }) => width === 0.5 && height === 0.5)).toBe(true);
    expect(new Set(layout.map(({ left, top }) => `${left} ${top}`)).size).toBe(3);
    // The fourth quarter is the background.
    const [empty] = await viewer.colours(subscription, [[0.75, 0.75]]);
    expect(isNear(empty ?? [255, 255, 255], BLACK)).toBe(true);
  });

  it('lets a viewer hear all three', async () => {
    await hears(viewer, subscription, ALL, ALL);
  });

  it.each([0, 1, 2])('lets publisher %i hear the others, but not itself', async (which) => {
    const one = publishers[which];
    if (!one) throw new Error('no such publisher');
    const own = await one.page.subscribe(mixed, { audio: true, video: false });
    await hears(one.page, own, ALL.filter((look) => look !== one.look), ALL);
    await one.page.unsubscribe(own);
  });

  it('closes up when one leaves', async () => {
    const [first, second, third] = publishers;
    if (!first || !second || !third) throw new Error('three were there');
    await first.page.leave();

    await showsLayout(viewer, mixed, subscription, [second, third]);
    await until('the first quarter shows who was second', async () => {
      const [colour] = await viewer.colours(subscription, [[0.25, 0.25]]);
      return colour && isNear(colour, second.look.colour);
    });
    await until('the third quarter is empty', async () => {
      const [colour] = await viewer.colours(subscription, [[0.25, 0.75]]);
      return colour && isNear(colour, BLACK);
    });
    await hears(viewer, subscription, [second.look, third.look], ALL);
  });

  it('fills the picture when only one is left', async () => {
    const [, second, third] = publishers;
    if (!second || !third) throw new Error('three were there');
    await second.page.unpublish();

    await showsLayout(viewer, mixed, subscription, [third]);
    const corners = await viewer.colours(subscription, [[0.1, 0.1], [0.9, 0.1], [0.9, 0.8], [0.1, 0.8]]);
    expect(corners.every((colour) => isNear(colour, third.look.colour))).toBe(true);
  });
});
