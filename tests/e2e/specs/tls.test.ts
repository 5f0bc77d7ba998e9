import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { GREEN, isNear } from '../harness/colours';
import { request } from '../harness/http';
import { Kaigi } from '../harness/kaigi';
import { mixingRoom, publisher } from '../harness/room';
import { Signaling, decodeToken } from '../harness/signaling';
import { until } from '../harness/until';

let kaigi: Kaigi;
let browser: Chromium;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'tls', scheme: 'https', args: ['--tls', 'self-signed'] });
  browser = await Chromium.launch('tls');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

it('serves pages and REST by https only', async () => {
  expect((await request(`${kaigi.url}/`)).status).toBe(200);
  expect((await kaigi.rest.call('GET', '/v1/rooms')).status).toBe(200);
  await expect(request(kaigi.url.replace('https:', 'http:'))).rejects.toThrow();
});

it('tells clients by the token to use TLS, and they can', async () => {
  const token = await kaigi.rest.token(kaigi.service.room, 'Aiko');
  expect(decodeToken(token)).toMatchObject({ secure: true, host: `127.0.0.1:${kaigi.ports.http}` });
  const client = await Signaling.connect(kaigi.url);
  expect((await client.login(token)).room.id).toBe(kaigi.service.room);
  client.close();
});

it('holds a conference', async () => {
  const room = await mixingRoom(kaigi, 'tls');
  const { page } = await publisher(browser, kaigi, room, 'Aiko', GREEN);
  const mixed = await page.subscribe(await page.mixedStream());
  await until('the mixed picture shows who published', async () => isNear(await page.colour(mixed), GREEN.colour));
});
