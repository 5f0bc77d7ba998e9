import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, GREEN, RED } from '../harness/colours';
import { Console, PHONE } from '../harness/console';
import { request } from '../harness/http';
import { Kaigi } from '../harness/kaigi';
import { Rest } from '../harness/rest';
import { SMALL_VIEW, publisher } from '../harness/room';
import { until } from '../harness/until';

let kaigi: Kaigi;
let browser: Chromium;
let desk: Console;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'console-admin' });
  browser = await Chromium.launch('console-admin');
  desk = await Console.open(kaigi, browser, 'console');
  await desk.signIn(kaigi.service);
  await desk.get('rooms').waitFor();
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

describe('services', () => {
  const name = 'Application of others';
  let credentials: { id: string; key: string };
  const card = () => desk.get('service').filter({ hasText: name });

  it('get a key, which is shown once', async () => {
    await desk.go('/services', 'services');
    await desk.get('create-service').click();
    await desk.get('new-service-name').fill(name);
    await desk.page.keyboard.press('Enter');
    await desk.get('new-key').waitFor();
    const id = await desk.get('key-dialog').getByLabel('Service id', { exact: true }).inputValue();
    credentials = { id, key: await desk.get('new-key').inputValue() };
    expect(await desk.barriers()).toEqual([]);
    await desk.page.keyboard.press('Escape');
    await card().waitFor();
    expect(await desk.page.content()).not.toContain(credentials.key);
    expect(await new Rest(kaigi.managementUrl, credentials).rooms()).toEqual([]);
  });

  it('that are no super service see what is theirs', async () => {
    const theirs = await Console.open(kaigi, browser, 'their console');
    await theirs.signIn(credentials);
    await theirs.page.getByText('There is no room yet').waitFor();
    expect(await theirs.get('nav-cluster').count()).toBe(0);
    await theirs.go('/cluster', 'sign-out');
    await theirs.page.getByText('Permission denied').waitFor();
    await theirs.page.context().close();
  });

  it('get another key, with which the old one is void', async () => {
    const theirs = await Console.open(kaigi, browser, 'their console');
    await theirs.signIn(credentials);
    await theirs.get('sign-out').waitFor();
    await card().getByTestId('rotate-key').click();
    await desk.get('confirm-action').click();
    await desk.get('new-key').waitFor();
    const key = await desk.get('new-key').inputValue();
    expect((await new Rest(kaigi.managementUrl, credentials).call('GET', '/v1/rooms')).status).toBe(401);
    expect(await new Rest(kaigi.managementUrl, { ...credentials, key }).rooms()).toEqual([]);
    await theirs.get('create-room').click();
    await theirs.get('new-room-name').fill('too late');
    await theirs.page.keyboard.press('Enter');
    expect(await theirs.get('sign-in-error').textContent()).toContain('signed out');
    await theirs.page.context().close();
    await desk.page.keyboard.press('Escape');
  });

  it('are deleted once their name is typed', async () => {
    await card().getByTestId('delete-service').click();
    await desk.get('confirm-text').fill(name);
    await desk.page.keyboard.press('Enter');
    await until('it is gone', async () => (await card().count()) === 0);
    expect(await desk.barriers()).toEqual([]);
  });

  it('change their own key without signing in again', async () => {
    await desk.get('service').filter({ hasText: 'super' }).getByTestId('rotate-key').click();
    await desk.get('confirm-action').click();
    await desk.get('new-key').waitFor();
    kaigi.service.key = await desk.get('new-key').inputValue();
    await desk.page.keyboard.press('Escape');
    await desk.go('/rooms', 'room-row');
    await desk.reload();
    await desk.get('room-row').first().waitFor();
  });
});

describe('the cluster', () => {
  it('is shown by its processes and their load', async () => {
    await desk.go('/cluster', 'node');
    const purposes = await desk.get('node').evaluateAll((nodes) => nodes.map((node) => (node as HTMLElement).dataset.purpose));
    expect([...new Set(purposes)].sort()).toEqual(['access', 'conference', 'mixer', 'portal', 'streaming']);
    expect(await desk.page.getByRole('meter').count()).toBe(purposes.length);
    expect(await desk.barriers()).toEqual([]);
  });
});

describe('webhooks', () => {
  /** What a receiver was sent: events, by their type. */
  const received: { type: string; signature: unknown }[] = [];
  const receiver = http.createServer((incoming, answer) => {
    let body = '';
    incoming.on('data', (chunk: Buffer) => (body += chunk.toString()));
    incoming.on('end', () => {
      received.push({ type: (JSON.parse(body) as { type: string }).type, signature: incoming.headers['webhook-signature'] });
      answer.end();
    });
  });
  let url: string;
  beforeAll(async () => {
    await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`;
  });
  afterAll(() => receiver.close());

  it('are made with a secret, which is shown once, and can be tried', async () => {
    await desk.go('/webhooks', 'create-webhook');
    await until('the list is there', () => desk.get('create-webhook').isEnabled());
    await desk.get('create-webhook').click();
    await desk.get('webhook-url').fill('no address');
    await desk.get('webhook-save').click();
    expect(await desk.get('field-error').textContent()).toContain('https://');
    await desk.get('webhook-url').fill(url);
    await desk.get('webhook-save').click();
    expect(await desk.get('new-secret').inputValue()).toMatch(/^whsec_/);
    expect(await desk.barriers()).toEqual([]);
    await desk.page.keyboard.press('Escape');
    await desk.get('webhook-ping').click();
    await until('the ping has come', () => received.some(({ type, signature }) => type === 'ping' && /^v1,/.test(String(signature))));
  });

  it('can be limited, switched off, and deleted', async () => {
    await desk.get('webhook-edit').click();
    await desk.page.getByRole('radio', { name: 'Only some' }).check();
    await desk.page.getByRole('checkbox', { name: /room\.\*/ }).check();
    await desk.get('webhook-save').click();
    await desk.get('webhook').getByText('room.*').waitFor();
    await kaigi.rest.createRoom('told of');
    await until('the room is told', () => received.some(({ type }) => type === 'room.created'));
    expect(await desk.barriers()).toEqual([]);
    await desk.get('webhook-active').uncheck();
    await desk.get('webhook-delete').click();
    await desk.get('confirm-action').click();
    await desk.page.getByText('There is no webhook yet').waitFor();
  });
});

describe('invitations', () => {
  it('are a link that lets in once', async () => {
    await desk.go(`/rooms/${kaigi.service.room}/invite`, 'make-token');
    await desk.get('token-user').fill('Aiko');
    await desk.get('token-role').selectOption('viewer');
    await desk.get('make-token').click();
    await desk.get('token-link').waitFor();
    const link = await desk.get('token-link').inputValue();
    expect(await desk.barriers()).toEqual([]);
    const guest = await browser.page(`${link.replace('?', '?camera=off&microphone=off&join=1&')}`, 'guest');
    await guest.waitForSelector('[data-testid=conference]');
    expect(guest.url()).not.toContain('token=');
    const people = await kaigi.rest.participants(kaigi.service.room);
    expect(people).toMatchObject([{ user: 'Aiko', role: 'viewer' }]);
    await guest.context().close();
  });
});

describe('the page', () => {
  const places = () => [
    ['/rooms', 'room-row'],
    [`/rooms/${kaigi.service.room}/live`, 'event-state'],
    [`/rooms/${kaigi.service.room}/settings/general`, 'name'],
    [`/rooms/${kaigi.service.room}/settings/views`, 'layouts'],
    [`/rooms/${kaigi.service.room}/settings/roles`, 'add-role'],
    [`/rooms/${kaigi.service.room}/settings/media`, 'mediaIn.audio'],
    [`/rooms/${kaigi.service.room}/settings/sip`, 'sip'],
    [`/rooms/${kaigi.service.room}/settings/json`, 'json'],
    [`/rooms/${kaigi.service.room}/invite`, 'make-token'],
    ['/services', 'service'],
    ['/cluster', 'node'],
    ['/webhooks', 'create-webhook'],
  ] as const;

  it.each(['light', 'dark'] as const)('has no barriers in the %s, and is no wider than a telephone', async (colorScheme) => {
    const phone = await Console.open(kaigi, browser, `${colorScheme} phone`, PHONE);
    await phone.page.emulateMedia({ colorScheme });
    await phone.signIn(kaigi.service);
    await phone.get('rooms').waitFor();
    for (const [path, testId] of places()) {
      await phone.go(path, testId);
      expect([path, await phone.barriers(), await phone.hasHorizontalScroll()]).toEqual([path, [], false]);
    }
    await phone.go('/rooms', 'room-row');
    await phone.page.screenshot({ path: browser.artifact(`phone-${colorScheme}`) });
    await phone.page.context().close();
  });

  it('is dark when it is told to, whatever the system has', async () => {
    const ground = () => desk.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await desk.page.emulateMedia({ colorScheme: 'light' });
    expect(await ground()).toBe('rgb(243, 245, 247)');
    await desk.page.getByRole('radio', { name: 'Dark' }).check({ force: true });
    expect(await ground()).toBe('rgb(16, 21, 27)');
    await desk.go(`/rooms/${kaigi.service.room}/settings/views`, 'layouts');
    expect(await desk.barriers()).toEqual([]);
    expect((await desk.page.screenshot({ path: browser.artifact('dark') })).length).toBeGreaterThan(10_000);
  });

  it('can be walked through by keyboard', async () => {
    await desk.reload();
    await desk.get('rooms').waitFor();
    const focused = () => desk.page.evaluate(() => document.activeElement?.textContent?.trim() ?? '');
    await desk.page.keyboard.press('Tab');
    expect(await focused()).toBe('Skip to the content');
    await desk.page.keyboard.press('Enter');
    await desk.page.keyboard.press('Tab');
    expect(await desk.page.evaluate(() => document.activeElement?.getAttribute('data-testid'))).toBe('room-search');
    await desk.go(`/rooms/${kaigi.service.room}/live`, 'event-state');
    await desk.page.getByRole('tab', { name: 'Live' }).focus();
    await desk.page.keyboard.press('ArrowRight');
    await desk.get('section-general').waitFor();
    expect(await focused()).toBe('Settings');
    expect(await desk.page.getByRole('tab', { selected: true }).textContent()).toBe('Settings');
  });

  it('lets no foreign script in, and asks nobody else', async () => {
    const { headers } = await request(`${kaigi.url}/console/`);
    const policy = String(headers['content-security-policy']);
    expect(policy).toContain("script-src 'self';");
    expect(policy).not.toContain('unsafe');
    expect(desk.complaints).toEqual([]);
    const origins = new Set(desk.requests.map((one) => new URL(one.url()).origin).filter((origin) => origin !== 'null'));
    expect([...origins].sort()).toEqual([kaigi.url, kaigi.managementUrl].sort());
    const sent = desk.requests.map((one) => `${one.url()} ${JSON.stringify(one.headers())} ${one.postData() ?? ''}`).join('\n');
    expect(sent).toContain('Bearer');
    expect(sent).not.toContain(kaigi.service.key);
  });

  it('forgets who was signed in', async () => {
    await desk.get('sign-out').click();
    await desk.get('sign-in').waitFor();
    expect(await desk.page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }]))).not.toContain(kaigi.service.id);
    await desk.reload();
    await desk.get('sign-in').waitFor();
  });
});

it('works by https as well', async () => {
  const secure = await Kaigi.start({ name: 'console-tls', scheme: 'https', args: ['--tls', 'self-signed'] });
  try {
    const page = await Console.open(secure, browser, 'secure console');
    await page.signIn(secure.service);
    await page.get('room-row').first().waitFor();
    expect(page.complaints).toEqual([]);
    expect(new Set(page.requests.map((one) => new URL(one.url()).protocol))).toEqual(new Set(['https:']));
  } finally {
    await secure.stop();
  }
});

/** The pictures in the manual; only made anew on request. */
describe.runIf(process.env.UPDATE_SCREENSHOT === '1')('the manual', () => {
  const picture = (name: string) => fileURLToPath(new URL(`../../../docs/images/${name}.png`, import.meta.url));
  const area = (left: string, top: string, width: string, height: string) => ({ left, top, width, height });
  const regions = [area('0', '0', '2/3', '1'), area('2/3', '0', '1/3', '1/2'), area('2/3', '1/2', '1/3', '1/2')];
  const custom = [{ region: regions.map((one, i) => ({ id: String(i + 1), shape: 'rectangle', area: one })) }];
  const view = { ...SMALL_VIEW, video: { ...SMALL_VIEW.video, parameters: { ...SMALL_VIEW.video.parameters, resolution: { width: 480, height: 270 } }, layout: { fitPolicy: 'crop', templates: { base: 'lecture', custom } } } };

  it('shows a running room and the layout editor', { timeout: 180_000 }, async () => {
    const console = await Console.open(kaigi, browser, 'manual', { width: 1280, height: 1000 });
    await console.signIn(kaigi.service);
    await console.get('rooms').waitFor();
    const room = await kaigi.rest.createRoom('Weekly planning', { autoMix: true, views: [view] });
    await console.page.emulateMedia({ colorScheme: 'light' });
    await console.go(`/rooms/${room}/live`, 'event-state');
    for (const [name, look] of [['Aiko', RED], ['Botan', GREEN], ['Chiyo', BLUE]] as const) await publisher(browser, kaigi, room, name, look);
    const viewer = await browser.open(kaigi, 'Dai');
    await viewer.join(await kaigi.rest.token(room, 'Dai', 'viewer'));
    await viewer.subscribe(await viewer.mixedStream());
    const line = console.get('stream').first().getByTestId('spark-bitrate').locator('polyline').first();
    await until('there are two minutes to be seen', async () => ((await line.getAttribute('points')) ?? '').split(' ').length > 75, 150_000, 1000);
    await console.page.screenshot({ path: picture('console-live') });
    await console.go(`/rooms/${room}/settings/views`, 'layout-3');
    await console.get('layout-3').click();
    await console.get('region').nth(1).click();
    await console.get('bench').evaluate((bench) => bench.scrollIntoView({ block: 'end' }));
    await console.page.evaluate(() => scrollBy(0, 40));
    await console.page.screenshot({ path: picture('console-layout') });
  });
});
