import { afterAll, beforeAll, expect, it } from 'vitest';
import { Chromium } from '../harness/browser';
import { BLUE, RED, isNear } from '../harness/colours';
import { Kaigi } from '../harness/kaigi';
import { hears, mixingRoom, publisher, showsLayout, subscribeWhenThere } from '../harness/room';
import { until } from '../harness/until';

const PROCESSES = ['kaigi-access-node', 'kaigi-cluster-manager', 'kaigi-conference-agent', 'kaigi-mixer-node', 'kaigi-portal'];

let kaigi: Kaigi;
let browser: Chromium;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'recovery' });
  browser = await Chromium.launch('recovery');
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

/** Two people meet in a new room: the whole way from a token to pictures and sound, forwarded and mixed. */
async function conference(name: string): Promise<void> {
  const room = await mixingRoom(kaigi, name);
  const one = await publisher(browser, kaigi, room, `${name}-1`, RED);
  try {
    const two = await publisher(browser, kaigi, room, `${name}-2`, BLUE);
    try {
      const forward = await subscribeWhenThere(one.page, two.stream);
      await until('the picture arrives', async () => isNear(await one.page.colour(forward), BLUE.colour));
      await hears(one.page, forward, [BLUE], [RED, BLUE]);
      const mixed = await two.page.mixedStream();
      const subscription = await two.page.subscribe(mixed);
      await showsLayout(two.page, mixed, subscription, [one, two]);
      await hears(two.page, subscription, [RED], [RED, BLUE]);
    } finally {
      await two.page.close();
    }
  } finally {
    await one.page.close();
  }
}

it('runs its five processes', () => {
  expect(kaigi.children().map((child) => child.name)).toEqual(PROCESSES);
});

it.each(PROCESSES)('brings %s back when it is killed, and new conferences work', async (name) => {
  const killed = kaigi.child(name);
  if (!killed) throw new Error(`${name} does not run`);
  process.kill(killed.pid, 'SIGKILL');

  await until(`${name} runs again`, () => {
    const again = kaigi.child(name);
    return again && again.pid !== killed.pid;
  });
  await until('it is ready', () => kaigi.isReady());
  // The new process is known to the others a moment after it runs.
  let attempt = 0;
  await until('a new conference works', async () => {
    await conference(`${name}-${attempt++}`);
    return true;
  }, 30_000);
}, 120_000);
