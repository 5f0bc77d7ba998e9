import type { Chromium, Participant } from './browser';
import { type Look, isNear } from './colours';
import type { Kaigi } from './kaigi';
import { hearsExactly } from './sound';
import { until } from './until';

/** A view that is cheap to compose and encode, and whose quarters have the size of what the participants publish. */
export const SMALL_VIEW = {
  label: 'common',
  audio: { format: { codec: 'opus', sampleRate: 48000, channelNum: 2 }, vad: true },
  video: {
    format: { codec: 'vp8' },
    parameters: { resolution: { width: 640, height: 480 }, framerate: 15, keyFrameInterval: 100 },
    layout: { fitPolicy: 'letterbox', templates: { base: 'fluid', custom: [] } },
  },
};

/** A room in which all that is published is mixed. */
export function mixingRoom(kaigi: Kaigi, name: string): Promise<string> {
  return kaigi.rest.createRoom(name, { autoMix: true, views: [SMALL_VIEW] });
}

/** One who joined and published. */
export interface Publisher {
  page: Participant;
  look: Look;
  stream: string;
}

/** Joins, by `host` if there is more than one way, and publishes. */
export async function publisher(
  browser: Chromium,
  kaigi: Kaigi,
  room: string,
  name: string,
  look: Look,
  host?: string,
): Promise<Publisher> {
  // Who comes another way wants to come back on it, too.
  const page = await browser.open(kaigi, name, { recovers: host !== undefined });
  await page.join(await kaigi.rest.token(room, name, 'presenter', host));
  return { page, look, stream: await page.publish(look) };
}

/** Waits until `page` knows of the stream, and subscribes it. */
export async function subscribeWhenThere(page: Participant, stream: string): Promise<string> {
  await until(`${page.who} knows of ${stream}`, async () => (await page.forwardStreams()).includes(stream));
  return page.subscribe(stream);
}

/** Waits until of the tones exactly the expected are heard, at one moment. */
export function hears(page: Participant, subscription: string, expected: Look[], all: Look[]): Promise<boolean> {
  return hearsExactly(page.who, (tones) => page.levels(subscription, tones), expected, all);
}

/** Waits until the colour in the middle of each region that the last layout announced is that of the stream in it. */
export function showsLayout(page: Participant, mixed: string, subscription: string, publishers: Publisher[]): Promise<boolean> {
  return until(`${page.who} sees ${publishers.length} streams in their regions`, async () => {
    const layout = await page.layout(mixed);
    if (layout.length !== publishers.length) throw new Error(`layout ${JSON.stringify(layout)}`);
    const points = layout.map(({ left, top, width, height }): [number, number] => [left + width / 2, top + height / 2]);
    const colours = await page.colours(subscription, points);
    const right = layout.every(({ stream }, i) => {
      const of = publishers.find((one) => one.stream === stream);
      const colour = colours[i];
      return of !== undefined && colour !== undefined && isNear(colour, of.look.colour);
    });
    if (!right) throw new Error(`layout ${JSON.stringify(layout)} shows ${JSON.stringify(colours)}`);
    return true;
  });
}
