import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium, type Participant } from '../../harness/browser';
import { GREEN, RED, isNear } from '../../harness/colours';
import { Kaigi } from '../../harness/kaigi';
import { Relay } from '../../harness/relay';
import { type Publisher, hears, publisher, subscribeWhenThere } from '../../harness/room';
import { Signaling, decodeToken } from '../../harness/signaling';
import { Speaker, gaps } from '../../harness/speaker';
import { until } from '../../harness/until';

/** Numbers said a second. */
const PACE = 20;
/** The longest that a picture may stand still and still be a moving picture on a busy machine, in ms. */
const STANDSTILL = 2500;

let kaigi: Kaigi;
let browser: Chromium;
let room: string;
let source: Publisher;
let speaking: Signaling;
let speaker: Speaker;
const relays: Relay[] = [];

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'reconnection' });
  browser = await Chromium.launch('reconnection');
  room = await kaigi.rest.createRoom('reconnection');
  source = await publisher(browser, kaigi, room, 'source', RED);
  speaking = await Signaling.connect(kaigi.url, { generation: 4, transports: ['websocket'] });
  await speaking.login(await kaigi.rest.token(room, 'speaker'));
  speaker = new Speaker(speaking, PACE);
});
afterAll(async () => {
  speaker?.stop();
  speaking?.close();
  await Promise.all(relays.map((relay) => relay.stop()));
  await browser?.close();
  await kaigi?.stop();
});

/** The way of one client. */
async function way(number: number): Promise<Relay> {
  const relay = await Relay.start(kaigi.ports.http, `127.0.0.${number}`);
  relays.push(relay);
  return relay;
}

/** Looks at a picture until it is told to stop; the longest that it stood still, in ms. */
function watch(page: Participant, subscription: string): { longest(): number; stop(): void } {
  let longest = 0;
  let frames = 0;
  let moved = Date.now();
  const timer = setInterval(() => {
    void page.frames(subscription).then((now) => {
      longest = Math.max(longest, Date.now() - moved);
      if (now > frames) [frames, moved] = [now, Date.now()];
    }, () => undefined); // prettier-ignore
  }, 100);
  return { longest: () => longest, stop: () => clearInterval(timer) };
}

const seconds = (count: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, count * 1000));

const CUTS: [string, number, 'cut' | 'silence', number][] = [
  ['is cut for 1 s', 1, 'cut', 11],
  ['is cut for 10 s', 10, 'cut', 12],
  ['is cut for 50 s', 50, 'cut', 13],
  ['swallows everything for 1 s', 1, 'silence', 14],
  ['swallows everything for 10 s', 10, 'silence', 15],
];

describe("a page whose way to the portal's socket", () => {
  it.concurrent.each(CUTS)('%s sees the picture all the while, and hears everything once', async (_, length, how, number) => {
    const relay = await way(number);
    const page = await browser.open(kaigi, `cut-${number}`, { recovers: true });
    const token = await kaigi.rest.token(room, `cut-${number}`, 'presenter', relay.host);
    expect(decodeToken(token).host).toBe(relay.host);
    await page.join(token);
    const subscription = await subscribeWhenThere(page, source.stream);
    await until('it sees', async () => isNear(await page.colour(subscription), RED.colour));
    await until('it hears', async () => (await page.messages()).length > PACE / 2);

    const watched = watch(page, subscription);
    relay[how]();
    await seconds(length);
    const before = (await page.messages()).length;
    relay.restore();
    const said = speaker.said;
    await until('it has heard what was said', async () => (await page.messages()).includes(String(said)), 30_000);
    // And goes on in its place as before.
    await until('it hears what is said now', async () => (await page.messages()).includes(String(said + PACE)));
    watched.stop();

    const heard = (await page.messages()).map(Number);
    expect(gaps(heard)).toEqual({ missing: [], doubled: [], disordered: [] });
    expect(heard.length - before, 'the connection was indeed cut').toBeGreaterThan((length * PACE) / 2);
    expect(watched.longest(), 'standstill of the picture in ms').toBeLessThan(STANDSTILL);
    expect(await page.hasJoined()).toBe(true);
    expect((await kaigi.rest.participants(room)).map(({ id }) => id)).toContain(page.id);
    await page.leave();
    await page.close();
  });
});

describe('a page that publishes', () => {
  it.concurrent('is seen and heard all the while its way to the portal is cut, and goes on under the same id', async () => {
    const relay = await way(19);
    const cut = await publisher(browser, kaigi, room, 'cut-publisher', GREEN, relay.host);
    const viewer = await browser.open(kaigi, 'viewer');
    await viewer.join(await kaigi.rest.token(room, 'viewer'));
    const subscription = await subscribeWhenThere(viewer, cut.stream);
    await until('it is seen', async () => isNear(await viewer.colour(subscription), GREEN.colour));

    const watched = watch(viewer, subscription);
    relay.cut();
    await seconds(10);
    await hears(viewer, subscription, [GREEN], [GREEN, RED]);
    relay.restore();
    const heard = async (): Promise<number> => (await cut.page.messages()).length;
    const before = await heard();
    await until('it hears again', async () => (await heard()) > before + 10 * PACE, 30_000);
    watched.stop();
    expect(watched.longest(), 'standstill of the picture in ms').toBeLessThan(STANDSTILL);
    expect((await kaigi.rest.streams(room)).map(({ id }) => id)).toContain(cut.stream);
    expect(gaps((await cut.page.messages()).map(Number))).toEqual({ missing: [], doubled: [], disordered: [] });
    for (const page of [viewer, cut.page]) await page.close();
  });
});

describe("a client of OWT's SDK", () => {
  it.concurrent('comes back with its ticket after 10 s and has missed nothing', async () => {
    const relay = await way(20);
    const { client, ticket, id } = await joined(relay);
    await until('it hears', () => client.heard('text').length > PACE);
    relay.cut();
    await seconds(10);
    relay.restore();
    const back = await Signaling.connect(`http://${relay.host}`, { transports: ['websocket'] });
    await back.granted('relogin', ticket);
    const said = speaker.said;
    await back.told('text', { message: String(said) });
    const number = (data: unknown): number => Number((data as { message: string }).message);
    const heard = [...client.heard('text').map(number), ...back.heard('text').map(number)];
    expect(gaps(heard).missing).toEqual([]);
    expect((await kaigi.rest.participants(room)).map((one) => one.id)).toContain(id);
    await back.leave();
  });
});

/** One who joins as OWT's JavaScript SDK does, by a relay. */
async function joined(relay: Relay): Promise<{ client: Signaling; ticket: string; id: string }> {
  const client = await Signaling.connect(`http://${relay.host}`, { transports: ['websocket'] });
  const { reconnectionTicket, id } = await client.login(await kaigi.rest.token(room, 'owt'));
  return { client, ticket: reconnectionTicket, id };
}
