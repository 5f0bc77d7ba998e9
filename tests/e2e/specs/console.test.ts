import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium, type Participant } from '../harness/browser';
import { BLUE, GREEN, RED } from '../harness/colours';
import { Console } from '../harness/console';
import { Kaigi } from '../harness/kaigi';
import { type Publisher, publisher, showsLayout } from '../harness/room';
import { until } from '../harness/until';

interface RoomDocument {
  name: string;
  inputLimit: number;
  participantLimit: number;
  autoMix: boolean;
  roles: { role: string; publish: { audio: boolean; video: boolean } }[];
  views: { label: string; video: { maxInput: number; bgColor: object; parameters: { framerate: number }; layout: { templates: { custom: { region: { id: string; area: object }[] }[] } } } }[];
}

let kaigi: Kaigi;
let browser: Chromium;
let desk: Console;
/** Made by the console. */
let room: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'console', env: { KAIGI_RTMP_LISTEN: '127.0.0.1:0' } });
  browser = await Chromium.launch('console');
  desk = await Console.open(kaigi, browser, 'console');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

async function document(): Promise<RoomDocument> {
  return JSON.parse((await kaigi.rest.call('GET', `/v1/rooms/${room}`)).text) as RoomDocument;
}

const inPage = (path: string) => `/rooms/${room}/${path}`;

describe('signing in', () => {
  it('tells a wrong key from a right one', async () => {
    await desk.signIn({ id: kaigi.service.id, key: 'not the key' });
    expect(await desk.get('sign-in-error').textContent()).toContain('is not right');
    await desk.signIn({ id: 'nobody', key: kaigi.service.key });
    await until('the error is told', async () => (await desk.get('sign-in-error').textContent())?.includes('is not right'));
    expect(await desk.barriers()).toEqual([]);

    await desk.signIn(kaigi.service);
    await desk.get('rooms').waitFor();
    expect(await desk.get('service-name').textContent()).toBe('kaigi');
  });

  it('lasts as long as the tab', async () => {
    await desk.reload();
    await desk.get('rooms').waitFor();
    const other = await Console.open(kaigi, browser, 'other tab');
    await other.page.context().close();
  });
});

describe('rooms', () => {
  it('are made, and found by a part of their name', async () => {
    await desk.get('create-room').click();
    await desk.get('new-room-create').click();
    expect(await desk.get('create-room-dialog').getByTestId('field-error').textContent()).toContain('needs a name');
    await desk.get('new-room-name').fill('Weekly <b>planning</b>');
    await desk.get('new-room-size').selectOption('640x480');
    await desk.get('new-room-create').click();
    await desk.get('section-general').waitFor();
    const made = (await kaigi.rest.rooms()).find(({ name }) => name === 'Weekly <b>planning</b>');
    room = made?._id ?? '';
    expect(await desk.page.locator('h1').textContent()).toBe('Weekly <b>planning</b>');

    for (let n = 0; n < 22; n++) await kaigi.rest.createRoom(`room ${n}`);
    await desk.go('/rooms', 'next-page');
    await until('a page is full', async () => (await desk.get('room-row').count()) === 20);
    await desk.get('room-search').fill('WEEKLY');
    await until('one is found', async () => (await desk.get('room-row').count()) === 1);
    expect(await desk.barriers()).toEqual([]);
  });

  it('go with everything in them once their name is typed', async () => {
    await desk.get('room-search').fill('room 21');
    await until('one is found', async () => (await desk.get('room-row').count()) === 1);
    await desk.page.getByRole('button', { name: 'Delete room 21' }).click();
    await desk.get('confirm-action').click();
    expect(await desk.page.getByRole('alert').textContent()).toContain('to confirm');
    await desk.get('confirm-text').fill('room 21');
    await desk.page.keyboard.press('Enter');
    await until('the room is gone', async () => !(await kaigi.rest.rooms()).some(({ name }) => name === 'room 21'));
  });
});

describe('settings', () => {
  it('are saved by what has changed alone', async () => {
    await desk.go(inPage('settings/general'), 'inputLimit');
    await desk.get('inputLimit').fill('12');
    await desk.get('section-roles').click();
    await desk.get('roles.1.publish.audio').check();
    const { body, ifMatch } = await desk.saves(() => desk.get('save').click());
    expect(Object.keys(body as object).sort()).toEqual(['inputLimit', 'roles']);
    expect(ifMatch).toMatch(/^".+"$/);
    await desk.get('save-bar').waitFor({ state: 'hidden' });
    const saved = await document();
    expect(saved.inputLimit).toBe(12);
    expect(saved.roles[1]).toMatchObject({ role: 'viewer', publish: { audio: true, video: false } });
    expect(await desk.barriers()).toEqual([]);
  });

  it('that are wrong are told at their field, and not saved', async () => {
    await desk.go(inPage('settings/views'), 'views.0.video.maxInput');
    await desk.get('views.0.video.maxInput').fill('0');
    await desk.get('save').click();
    await until('the field has the focus', () => desk.get('views.0.video.maxInput').evaluate((field) => field === field.ownerDocument.activeElement));
    expect(await desk.get('field-error').textContent()).toContain('1 to 256');
    await desk.get('views.0.video.maxInput').fill('9');
    await desk.get('views.0.video.parameters.framerate').fill('15');
    await desk.saves(() => desk.page.keyboard.press('Enter'));
    await until('it is saved', async () => (await document()).views[0]?.video.parameters.framerate === 15);
    expect((await document()).views[0]?.video.maxInput).toBe(9);
  });

  it('of what is drawn over a view are saved as they are entered', async () => {
    const field = (name: string) => desk.get(`views.0.video.decoration.${name}`);
    await desk.go(inPage('settings/views'), 'views.0.video.maxInput');
    await desk.page.getByText('Names, avatars, logo').click();
    await field('captions').check();
    await field('logo.picture').fill('../logo.png');
    await desk.get('save').click();
    await until('the field has the focus', () => field('logo.picture').evaluate((input) => input === input.ownerDocument.activeElement));
    await field('logo.picture').fill('logo.png');
    await field('logo.corner').selectOption('bottomRight');
    await desk.saves(() => desk.get('save').click());
    const { decoration } = (await document()).views[0]!.video as { decoration?: object };
    expect(decoration).toMatchObject({ captions: true, logo: { picture: 'logo.png', corner: 'bottomRight', height: 10 } });
  });

  it('can be written as JSON, and what the server refuses is told in its words', async () => {
    await desk.go(inPage('settings/json'), 'json');
    const json = desk.get('json');
    await json.fill('{ "name": ');
    await until('it is told that this is no JSON', async () => (await desk.get('json-error').textContent()) !== '');
    const wrong = await document();
    Object.assign(wrong.views[0]!.video, { bgColor: { r: 300, g: 0, b: 0 } });
    await json.fill(JSON.stringify(wrong));
    await desk.saves(() => desk.get('save').click());
    await until('the refusal is told', async () => (await desk.page.locator('.section-content').textContent())?.includes('300') ?? false);
    await desk.get('revert').click();
    await desk.get('save-bar').waitFor({ state: 'hidden' });
  });

  it('of two who change the same are not lost silently', async () => {
    await desk.go(inPage('settings/general'), 'participantLimit');
    await desk.get('participantLimit').fill('30');
    const put = await kaigi.rest.call('PUT', `/v1/rooms/${room}`, { participantLimit: 5 });
    expect(put.status).toBe(200);
    await desk.get('save').click();
    await desk.get('conflict').waitFor();
    expect(await desk.get('conflict').textContent()).toContain('participantLimit');
    expect((await document()).participantLimit).toBe(5);
    await desk.get('conflict-mine').click();
    await until('mine is saved', async () => (await document()).participantLimit === 30);

    // What the others changed elsewhere stays.
    await kaigi.rest.call('PUT', `/v1/rooms/${room}`, { inputLimit: 7 });
    await desk.get('participantLimit').fill('31');
    await desk.get('save').click();
    await until('both are there', async () => (await document()).participantLimit === 31 && (await document()).inputLimit === 7);
  });
});

describe('the layout editor', () => {
  it('draws by keyboard, by mouse and by numbers', async () => {
    const { page } = desk;
    await desk.go(inPage('settings/views'), 'new-layout');
    await desk.get('new-layout').focus();
    await page.keyboard.press('Enter');
    await desk.get('layout-canvas').waitFor();
    // Halves side by side; the first becomes two thirds wide and as high as that.
    const region = (n: number) => desk.get('region').nth(n);
    await region(0).focus();
    await page.keyboard.press('Shift+ArrowRight');
    await page.keyboard.press('Shift+ArrowRight');
    for (let n = 0; n < 4; n++) await page.keyboard.press('Shift+ArrowUp');
    await until('they overlap', async () => (await desk.get('overlap').count()) === 1);
    // The second to the right edge, by mouse: by its left edge, from the middle to two thirds.
    await region(1).click();
    await desk.get('layout-canvas').evaluate((canvas) => canvas.scrollIntoView({ block: 'center' }));
    const canvas = (await desk.get('layout-canvas').boundingBox())!;
    await page.mouse.move(canvas.x + canvas.width / 2, canvas.y + canvas.height / 2);
    await page.mouse.down();
    await page.mouse.move(canvas.x + canvas.width * 0.6, canvas.y + canvas.height / 2, { steps: 4 });
    await page.mouse.move(canvas.x + canvas.width * 0.665, canvas.y + canvas.height / 2, { steps: 4 });
    await page.mouse.up();
    await until('they do not overlap any more', async () => (await desk.get('overlap').count()) === 0);
    // A third one on the free space below the first, then exactly by numbers.
    await page.mouse.move(canvas.x + canvas.width * 0.05, canvas.y + canvas.height * 0.8);
    await page.mouse.down();
    await page.mouse.move(canvas.x + canvas.width * 0.4, canvas.y + canvas.height * 0.97, { steps: 4 });
    await page.mouse.up();
    await until('there are three', async () => (await desk.get('region').count()) === 3);
    const row = desk.get('region-row').nth(2);
    for (const [side, text] of [['left', '0'], ['top', '2/3'], ['width', '1/3'], ['height', '1/3']] as const) await row.getByTestId(`side-${side}`).fill(text);
    await desk.saves(() => desk.get('save').click());
    await desk.get('save-bar').waitFor({ state: 'hidden' });
    expect((await document()).views[0]?.video.layout.templates.custom[0]?.region.map(({ area }) => area)).toEqual([
      { left: '0', top: '0', width: '2/3', height: '2/3' },
      { left: '2/3', top: '0', width: '1/3', height: '1' },
      { left: '0', top: '2/3', width: '1/3', height: '1/3' },
    ]);
    expect(await desk.barriers()).toEqual([]);
  });

  it('shows what so many inputs would look like', async () => {
    await desk.get('preview-inputs').fill('3');
    await desk.get('preview-words').getByText('Custom layout of 3').waitFor();
    await desk.get('preview-inputs').fill('9');
    await desk.get('preview-words').getByText('Built-in layout of 9').waitFor();
  });
});

describe('a running room', () => {
  let publishers: Publisher[];
  let viewer: Participant;
  let mixed: string;
  let subscription: string;
  const stream = (n: number) => desk.page.locator(`[data-testid=stream][data-stream="${publishers[n]?.stream}"]`);

  it('is seen as it is, without a reload', async () => {
    await desk.go(inPage('live'), 'event-state');
    publishers = [
      await publisher(browser, kaigi, room, 'Aiko', RED),
      await publisher(browser, kaigi, room, 'Botan', GREEN),
      await publisher(browser, kaigi, room, 'Chiyo', BLUE),
    ];
    viewer = await browser.open(kaigi, 'viewer');
    await viewer.join(await kaigi.rest.token(room, 'Dai', 'viewer'));
    mixed = await viewer.mixedStream();
    subscription = await viewer.subscribe(mixed);
    for (const n of [0, 1, 2]) await stream(n).waitFor();
    await until('four people are listed', async () => (await desk.get('participant').count()) === 4);
    await until('three are in the picture', async () => (await desk.page.locator('.mini-region.filled').count()) === 3);
  });

  it('is mixed as the layout was drawn', async () => {
    await showsLayout(viewer, mixed, subscription, publishers);
    const places = await viewer.layout(mixed);
    expect(places.map(({ left, top }) => [left, top].map((side) => Math.round(side * 100)))).toEqual([[0, 0], [67, 0], [0, 67]]);
  });

  it('mutes and unmutes', async () => {
    const status = async () => (await kaigi.rest.stream(room, publishers[0]!.stream)).media.audio?.status;
    await stream(0).getByTestId('mute-audio').click();
    await until('the audio is muted', async () => (await status()) === 'inactive');
    await desk.page.getByRole('button', { name: 'Unmute the audio of Aiko' }).click();
    await until('the audio is on again', async () => (await status()) === 'active');
  });

  it('mixes and unmixes, and puts streams into regions', async () => {
    const views = async () => (await kaigi.rest.stream(room, publishers[2]!.stream)).info.inViews;
    await stream(2).getByTestId('mix-common').click();
    await until('it is out of the mix', async () => (await views())?.length === 0);
    // The page learns of it later than the server.
    await until('the page shows it', async () => (await stream(2).getByTestId('mix-common').getAttribute('aria-pressed')) === 'false');
    await stream(2).getByTestId('mix-common').click();
    await until('it is in the mix', async () => (await views())?.includes('common'));
    await until('all are in the picture', async () => (await desk.page.locator('.mini-region.filled').count()) === 3);
    await desk.get('place-0').selectOption(publishers[1]!.stream);
    await until('the second is the first', async () => (await viewer.layout(mixed))[0]?.stream === publishers[1]!.stream);
    await showsLayout(viewer, mixed, subscription, publishers);
  });

  it('filters the mixed picture', async () => {
    const filter = async () => (await kaigi.rest.stream(room, mixed)).info.filter ?? 'none';
    await desk.get('filter').click();
    await until('the filter is on', async () => (await filter()) === 'edgedetect');
    await desk.page.getByRole('button', { name: 'Edge filter on common', pressed: true }).click();
    await until('the filter is off', async () => (await filter()) === 'none');
  });

  it('gets another layout while it runs', async () => {
    await desk.get('edit-layout').click();
    const dialog = desk.get('layout-dialog');
    const rows = dialog.getByTestId('region-row');
    await rows.nth(0).getByTestId('side-width').fill('1/2');
    await rows.nth(0).getByTestId('side-height').fill('1/2');
    await dialog.getByTestId('seat-0').selectOption(publishers[2]!.stream);
    await desk.get('apply-layout').click();
    expect(await desk.get('layout-error').textContent()).toContain('two regions');
    await dialog.getByTestId('seat-2').selectOption('');
    expect(await desk.barriers()).toEqual([]);
    await desk.get('apply-layout').click();
    await dialog.waitFor({ state: 'detached' });
    await until('the layout is in force', async () => (await viewer.layout(mixed))[0]?.width === 0.5);
    expect((await viewer.layout(mixed))[0]?.stream).toBe(publishers[2]!.stream);
    await showsLayout(viewer, mixed, subscription, publishers);
  });

  it('tells how streams do, in lines that go on', async () => {
    const line = stream(0).getByTestId('spark-bitrate');
    await line.locator('polyline').waitFor();
    expect(await line.locator('.spark-value').textContent()).toMatch(/[1-9]\d* kbit\/s|Mbit\/s/);
    const points = () => line.locator('polyline').first().getAttribute('points');
    const before = await points();
    await until('the line goes on', async () => (await points()) !== before);
    const got = desk.get('subscription').first();
    expect(await got.locator('h3').textContent()).toContain('Dai');
    expect(await got.getByTestId('limit').first().getAttribute('data-limit')).toBe('none');
  });

  it('tells what happened', async () => {
    await until('events are followed', async () => (await desk.get('event-state').getAttribute('data-state')) === 'live');
    await viewer.leave();
    await until('who left is told', async () => (await desk.get('event-log').textContent())?.includes('participant.left'));
    await until('three are listed', async () => (await desk.get('participant').count()) === 3);
  });

  it('takes permissions, and drops', async () => {
    const botan = desk.page.locator('[data-testid=participant][data-user=Botan]');
    await botan.locator('summary').click();
    await botan.getByTestId('permit-publish-audio').uncheck();
    await until('its audio has ended', async () => (await kaigi.rest.stream(room, publishers[1]!.stream)).media.audio?.status === 'inactive');
    expect(await desk.barriers()).toEqual([]);
    await botan.getByTestId('drop').click();
    await desk.get('confirm-action').click();
    await until('Botan is gone', async () => (await botan.count()) === 0 && (await kaigi.rest.participants(room)).length === 2);
  });

  it('ends streams', async () => {
    await stream(2).getByTestId('remove-stream').click();
    await desk.get('confirm-action').click();
    await until('it is gone', async () => (await stream(2).count()) === 0 && !(await kaigi.rest.streams(room)).some(({ id }) => id === publishers[2]!.stream));
  });

  it('starts recordings, and stops them', async () => {
    await desk.get('start-recordings').click();
    await desk.get('output-start').click();
    const running = async (): Promise<number> => (JSON.parse((await kaigi.rest.call('GET', `/v1/rooms/${room}/recordings`)).text) as unknown[]).length;
    await until('it runs', async () => (await running()) === 1);
    await desk.get('recordings').locator('[data-testid=condition][data-state=active]').waitFor();
    await desk.get('recordings').getByRole('button', { name: /^Stop/ }).click();
    await desk.get('confirm-action').click();
    await until('it has ended', async () => (await running()) === 0);
  });

  it('has encoders push streams into the room, and tells the key once', async () => {
    await desk.get('start-input').click();
    await desk.get('input-source').selectOption('rtmp');
    await desk.get('input-start').click();
    const key = await desk.get('push-key').inputValue();
    expect(key).toMatch(/^[0-9a-f]{32}$/);
    expect(await desk.get('push-url').inputValue()).toMatch(/^rtmp:\/\/127\.0\.0\.1:\d+\/live$/);
    expect(await desk.barriers()).toEqual([]);
    await desk.get('push-dialog').getByRole('button', { name: 'Done' }).click();
    const input = desk.get('inputs').getByTestId('input');
    await input.locator('[data-state=starting]').waitFor();
    expect(await desk.get('inputs').innerText()).not.toContain(key);
    await input.getByRole('button', { name: /^End/ }).click();
    await desk.get('confirm-action').click();
    await until('nothing is waited for', async () => (await input.count()) === 0);
  });

  it('says why nothing can be had from an address', async () => {
    await desk.get('start-input').click();
    await desk.get('input-url').fill('ftp://example.org/a');
    await desk.get('input-start').click();
    await until('it is said', async () => (await desk.get('input-error').innerText()).includes('nothing can be pulled from such a URL'));
    await desk.get('input-dialog').getByRole('button', { name: 'Cancel' }).click();
  });

  it('says why what is not there does not start', async () => {
    await desk.get('start-analytics').click();
    await desk.get('output-start').click();
    await until('the server’s words are told', async () => ((await desk.get('output-error').textContent()) ?? '') !== '');
    await desk.page.keyboard.press('Escape');
    await desk.get('output-dialog').waitFor({ state: 'detached' });
  });
});
