import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { Console } from '../harness/console';
import { Kaigi } from '../harness/kaigi';
import { type Member, enter } from '../harness/member';
import { until } from '../harness/until';

let kaigi: Kaigi;
let browser: Chromium;
let desk: Console;
const members: Member[] = [];
const join = async (user: string) => members.push(await enter(kaigi, kaigi.service.room, { protocol: '1.2', connect: {}, login: {} }, 'presenter', user));

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'console-recovery' });
  browser = await Chromium.launch('console-recovery');
  desk = await Console.open(kaigi, browser, 'console');
  await desk.signIn(kaigi.service);
  await desk.get('rooms').waitFor();
});
afterAll(async () => {
  for (const { client } of members) client.close();
  await browser?.close();
  await kaigi?.stop();
});

it('goes on when the portal has died, and has missed nothing', async () => {
  const state = (wanted: string) => until(`it is ${wanted}`, async () => (await desk.get('event-state').getAttribute('data-state')) === wanted, 30_000);
  await join('Aiko');
  await desk.go(`/rooms/${kaigi.service.room}/live`, 'participant');
  await state('live');
  const portal = kaigi.child('kaigi-portal');
  process.kill(portal?.pid ?? 0, 'SIGKILL');
  await state('broken');
  await until('there is a portal again', () => kaigi.isReady());
  await join('Botan');
  await desk.page.locator('[data-testid=participant][data-user=Botan]').waitFor();
  await state('live');
  await until('who came is told', async () => (await desk.get('event-log').textContent())?.includes('Botan'));
  expect(await desk.page.getByRole('alert').count()).toBe(0);
  expect(desk.complaints).toEqual([]);
});

it('rests while nobody looks, and goes on where it was', async () => {
  const hide = (hidden: boolean) =>
    desk.page.evaluate((isHidden) => {
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => isHidden });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
  const streams = () => desk.requests.filter((one) => one.url().includes('/v1/events?'));
  const before = streams().length;
  await hide(true);
  await until('the stream is given up', async () => (await streams().at(-1)?.response()) !== null && streams().at(-1)?.failure() !== null);
  await join('Daisuke');
  await hide(false);
  await until('who came meanwhile is told', async () => (await desk.get('event-log').textContent())?.includes('Daisuke'));
  await desk.page.locator('[data-testid=participant][data-user=Daisuke]').waitFor();
  expect(streams().length).toBe(before + 1);
  expect(streams().at(-1)?.url()).toMatch(/after=[1-9]/);
});

it('looks again and again where the events can’t be had', async () => {
  const other = await Console.open(kaigi, browser, 'without events');
  await other.page.route('**/v1/events?*', (route) => route.fulfill({ status: 404, headers: { 'access-control-allow-origin': '*' }, body: '' }));
  await other.signIn(kaigi.service);
  await other.go(`/rooms/${kaigi.service.room}/live`, 'event-state');
  await until('it does without', async () => (await other.get('event-state').getAttribute('data-state')) === 'absent');
  await join('Chiyo');
  await other.page.locator('[data-testid=participant][data-user=Chiyo]').waitFor();
  await other.page.context().close();
});

it('draws layouts with a finger', async () => {
  const devtools = await desk.page.context().newCDPSession(desk.page);
  await devtools.send('Emulation.setTouchEmulationEnabled', { enabled: true });
  const touch = (type: 'touchStart' | 'touchMove' | 'touchEnd', at?: { x: number; y: number }) => devtools.send('Input.dispatchTouchEvent', { type, touchPoints: at ? [at] : [] });
  await desk.go(`/rooms/${kaigi.service.room}/settings/views`, 'new-layout');
  await desk.get('new-layout').click();
  const canvas = desk.get('layout-canvas');
  await canvas.evaluate((element) => element.scrollIntoView({ block: 'center' }));
  const box = (await canvas.boundingBox())!;
  const at = (x: number, y: number) => ({ x: box.x + box.width * x, y: box.y + box.height * y });
  // The right half goes down by its lower edge's handle, up to the middle.
  await desk.get('region').nth(1).click();
  await touch('touchStart', at(0.75, 0.995));
  await touch('touchMove', at(0.75, 0.8));
  await touch('touchMove', at(0.75, 0.51));
  await touch('touchEnd');
  const row = desk.get('region-row').nth(1);
  await until('it is half as high', async () => (await row.getByTestId('side-height').inputValue()) === '1/2');
  expect(await row.getByTestId('side-top').inputValue()).toBe('0');
  await desk.get('undo').click();
  await desk.get('revert').click();
});

it('asks before what is not saved is left, and keeps it until then', async () => {
  const { page } = desk;
  const answers: boolean[] = [];
  page.on('dialog', (dialog) => void (answers.shift() ? dialog.accept() : dialog.dismiss()));
  await desk.go(`/rooms/${kaigi.service.room}/settings/general`, 'inputLimit');
  await desk.get('inputLimit').fill('3');
  // Other places of the same room are no leaving.
  await page.getByRole('tab', { name: 'Live' }).click();
  await desk.get('event-state').waitFor();
  answers.push(false);
  await desk.get('nav-services').click();
  await until('the address is what it was', () => answers.length === 0 && new URL(page.url()).hash === `#/rooms/${kaigi.service.room}/live`);
  await page.getByRole('tab', { name: 'Settings' }).click();
  expect(await desk.get('inputLimit').inputValue()).toBe('3');
  answers.push(true);
  await desk.get('nav-services').click();
  await desk.get('services').waitFor();
  // It is asked once.
  await desk.get('nav-rooms').click();
  await desk.get('rooms').waitFor();
  expect(answers).toEqual([]);
});

it('tells things beside the buttons that are pressed next', async () => {
  await desk.go(`/rooms/${kaigi.service.room}/settings/general`, 'inputLimit');
  await desk.get('inputLimit').fill('4');
  await desk.saves(() => desk.page.keyboard.press('Control+s'));
  const notice = desk.get('notices').getByText('Saved');
  await notice.waitFor();
  await desk.get('inputLimit').fill('5');
  const [told, bar] = [await notice.boundingBox(), await desk.get('save-bar').boundingBox()];
  expect((told?.y ?? 0) + (told?.height ?? 0)).toBeLessThan(bar?.y ?? 0);
  await desk.get('revert').click();
});

it('finds the management API behind a proxy', async () => {
  let target = '';
  const proxy = http.createServer((incoming, answer) => {
    const path = incoming.url?.replace(/^\/api/, '') ?? '/';
    const outgoing = http.request(target + path, { method: incoming.method, headers: incoming.headers }, (got) => {
      answer.writeHead(got.statusCode ?? 502, got.headers);
      got.pipe(answer);
    });
    outgoing.on('error', () => answer.destroy());
    incoming.pipe(outgoing);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const api = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}/api`;
  const hidden = await Kaigi.start({ name: 'console-proxy', env: { KAIGI_CONSOLE_API: api } });
  try {
    target = hidden.managementUrl;
    const page = await Console.open(hidden, browser, 'behind a proxy');
    await page.signIn(hidden.service);
    await page.go(`/rooms/${hidden.service.room}/live`, 'event-state');
    await until('events come through', async () => (await page.get('event-state').getAttribute('data-state')) === 'live');
    expect(page.complaints).toEqual([]);
    expect(page.requests.some((one) => one.url().startsWith(hidden.managementUrl))).toBe(false);
    await page.page.context().close();
  } finally {
    await hidden.stop();
    proxy.closeAllConnections();
    proxy.close();
  }
});
