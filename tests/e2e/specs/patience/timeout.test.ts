import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../../harness/browser';
import { RED } from '../../harness/colours';
import { Kaigi } from '../../harness/kaigi';
import { Relay } from '../../harness/relay';
import { type Publisher, publisher } from '../../harness/room';
import { Signaling } from '../../harness/signaling';
import { until } from '../../harness/until';

/** How long a place is kept here, in seconds. */
const KEPT = 3;

let kaigi: Kaigi;
let browser: Chromium;
let relay: Relay;
let room: string;
let witness: Signaling;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'timeout', env: { KAIGI_RECONNECTION_TIMEOUT: String(KEPT) } });
  browser = await Chromium.launch('timeout');
  relay = await Relay.start(kaigi.ports.http, '127.0.0.30');
  room = await kaigi.rest.createRoom('timeout');
  witness = await Signaling.connect(kaigi.url);
  await witness.login(await kaigi.rest.token(room, 'witness'));
});
afterAll(async () => {
  witness?.close();
  await relay?.stop();
  await browser?.close();
  await kaigi?.stop();
});

describe('one who does not come back in time', () => {
  let gone: Publisher;
  let ticket: string;
  let owt: string;
  let cutAt: number;

  beforeAll(async () => {
    gone = await publisher(browser, kaigi, room, 'gone', RED, relay.host);
    await witness.told('stream', { id: gone.stream, status: 'add' });
    const client = await Signaling.connect(`http://${relay.host}`);
    ({ reconnectionTicket: ticket, id: owt } = await client.login(await kaigi.rest.token(room, 'owt')));
    cutAt = Date.now();
    relay.cut();
  });

  it('is there as long as was promised, then leaves as if it had logged out, with its streams', async () => {
    await until('it has left', () => witness.heard('participant', { action: 'leave', data: gone.page.id }).length > 0);
    const after = Date.now() - cutAt;
    expect(after).toBeGreaterThanOrEqual(KEPT * 1000 - 100);
    expect(after).toBeLessThan(KEPT * 1000 + 3000);
    const order = witness.notifications.map(({ event, data }) => `${event} ${JSON.stringify(data)}`);
    const removed = order.findIndex((line) => line.startsWith('stream') && line.includes(gone.stream) && line.includes('remove'));
    const left = order.findIndex((line) => line.startsWith('participant') && line.includes(gone.page.id) && line.includes('leave'));
    expect(removed).toBeGreaterThanOrEqual(0);
    expect(removed).toBeLessThan(left);
    await witness.told('participant', { action: 'leave', data: owt });
    expect(await kaigi.rest.streams(room)).not.toContainEqual(expect.objectContaining({ id: gone.stream }));
    expect((await kaigi.rest.participants(room)).map(({ user }) => user)).toEqual(['witness']);
  });

  it('is not let back in, and is told so', async () => {
    relay.restore();
    const back = await Signaling.connect(`http://${relay.host}`);
    expect(await back.request('relogin', ticket)).toEqual({ status: 'error', data: 'Client does NOT exist' });
    await until('it is put out', () => back.disconnected);
    back.close();
    await until('the page knows it', async () => !(await gone.page.hasJoined()), 30_000);
    expect(await gone.page.isPublishing()).toBe(false);
  });
});
