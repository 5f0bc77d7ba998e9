import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { Caller } from '../harness/caller';
import { checkPage } from '../harness/examples';
import { request } from '../harness/http';
import { Kaigi } from '../harness/kaigi';
import { OwtPeers } from '../harness/owt-peers';
import { freePort } from '../harness/live-server';
import { until } from '../harness/until';

const AXE = readFileSync(fileURLToPath(new URL('../node_modules/axe-core/axe.min.js', import.meta.url)), 'utf8');

let kaigi: Kaigi;
let browser: Chromium;
let owtPort: number;
let aiko: Caller;
let ben: Caller;

const json = async (path: string): Promise<unknown> => JSON.parse((await request(kaigi.url + path)).text);

beforeAll(async () => {
  owtPort = await freePort();
  kaigi = await Kaigi.start({ name: 'peers', env: { KAIGI_OWT_PEER_PORT: String(owtPort) } });
  browser = await Chromium.launch('peers');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

describe('pages in a peer-to-peer room', () => {
  it('see each other', async () => {
    aiko = await Caller.open(browser, kaigi, 'garden', 'aiko');
    await aiko.state(/^Connected$/);
    ben = await Caller.open(browser, kaigi, 'garden', 'ben');
    await Promise.all([aiko.sees(ben), ben.sees(aiko)]);
    expect(await json('/webrtc/rooms')).toEqual({ rooms: [{ room_id: 'garden', peers: 2 }] });
    expect(await json('/webrtc/rooms/garden/peers')).toEqual({ room_id: 'garden', peers: ['aiko', 'ben'] });
  });

  it('see who comes to look on, and who begins later', async () => {
    const chie = await Caller.open(browser, kaigi, 'garden', 'chie', { starts: false });
    await Promise.all([chie.sees(aiko), chie.sees(ben)]);
    await chie.page.getByTestId('start').click();
    await Promise.all([aiko.sees(chie), ben.sees(chie)]);
    await chie.close();
    await Promise.all([aiko.hasNoTileOf('chie'), ben.hasNoTileOf('chie')]);
  });

  it('are told that a name is taken', async () => {
    const other = await Caller.open(browser, kaigi, 'garden', 'aiko');
    await other.state(/name is taken/);
    await other.close();
    await ben.sees(aiko);
  });

  it.each(['kaigi-cluster-manager', 'kaigi-portal'])('go on when %s dies, and others come', async (name) => {
    const before = kaigi.child(name)?.pid;
    expect(before).toBeDefined();
    process.kill(before ?? 0, 'SIGKILL');
    await until(`${name} is back`, () => kaigi.child(name)?.pid !== before);
    await Promise.all([aiko.sees(ben), ben.sees(aiko)]);
    await until('both are there', async () => (await request(`${kaigi.url}/webrtc/rooms/garden/peers`)).text.includes('"peers":["aiko","ben"]'));
    const dai = await Caller.open(browser, kaigi, 'garden', 'dai');
    await Promise.all([dai.sees(aiko), dai.sees(ben), aiko.sees(dai), ben.sees(dai)]);
    await dai.close();
    await Promise.all([aiko.hasNoTileOf('dai'), ben.hasNoTileOf('dai')]);
    expect(await aiko.logged(/ben (left|joined|is not back)/)).toBe(1);
  });

  it('have no accessibility faults', async () => {
    await aiko.page.evaluate(AXE);
    const found = await aiko.page.evaluate(async () => {
      const { violations } = await (window as unknown as { axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> } }).axe.run();
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
    });
    expect(found).toEqual([]);
    await aiko.page.screenshot({ path: browser.artifact('page'), fullPage: true });
  });
});

describe('the page of the documentation', () => {
  it('says what happens', async () => {
    await Promise.all([aiko.close(), ben.close()]);
    await until('all have left', async () => (await request(`${kaigi.url}/webrtc/rooms`)).text === '{"rooms":[]}');
    checkPage('peers.md', kaigi);
  });
});

describe('clients of OWT\'s peer-to-peer mode', () => {
  it.each([2, 3, 4] as const)('pass messages by Socket.IO %i', async (generation) => {
    const owt = OwtPeers.open(`http://127.0.0.1:${owtPort}`, generation);
    const [one, two] = [await owt.connect('aiko'), await owt.connect('ben')];
    await one.say('ben', 'ring');
    await until('it is heard', () => two.heard.some(({ from, data }) => from === 'aiko' && data === 'ring'));
    expect(await one.say('nobody', 'ring')).toBe('2201');
    owt.close();
  });
});

describe('rooms that need a token', () => {
  it('let in who has one', async () => {
    const guarded = await Kaigi.start({ name: 'peers-token', env: { KAIGI_PEER_ROOMS: 'token' } });
    try {
      const { id, key } = guarded.service;
      const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
      const unsigned = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ iss: id, exp: Math.floor(Date.now() / 1000) + 300, grants: { peers: { room: 'garden' } } })}`;
      const token = `${unsigned}.${createHmac('sha256', key).update(unsigned).digest('base64url')}`;
      const stranger = await Caller.open(browser, guarded, 'garden', 'stranger');
      await stranger.state(/A token for this room and name is needed/);
      const one = await Caller.open(browser, guarded, 'garden', 'one', { token });
      const two = await Caller.open(browser, guarded, 'garden', 'two', { token });
      await Promise.all([one.sees(two), two.sees(one)]);
    } finally {
      await guarded.stop();
    }
  });
});
