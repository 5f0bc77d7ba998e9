import { rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { Kaigi, newDataDir, showService } from '../harness/kaigi';
import { Signaling } from '../harness/signaling';

const dataDir = newDataDir();
afterAll(() => rmSync(dataDir, { recursive: true, force: true }));

/** Three seconds is what a user is promised; a loaded test machine is given some more. In ms. */
const RESTART = 5000;

it('keeps services and rooms over a restart, and is ready again at once', async () => {
  const first = await Kaigi.start({ name: 'start-first', dataDir });
  const service = first.service;
  const room = await first.rest.createRoom('kept');
  const stopped = await first.stop();

  const second = await Kaigi.start({ name: 'start-second', dataDir });
  try {
    console.log(`first start ${first.startedIn} ms, stop ${stopped} ms, second start ${second.startedIn} ms`);
    expect(second.startedIn).toBeLessThan(RESTART);
    expect(second.service).toEqual(service);
    const rooms = await second.rest.rooms();
    expect(rooms.map(({ _id, name }) => [_id, name])).toEqual(expect.arrayContaining([[room, 'kept'], [service.room, 'default']]));

    const client = await Signaling.connect(second.url);
    expect((await client.login(await second.rest.token(room, 'Aiko'))).room.id).toBe(room);
    client.close();
  } finally {
    await second.stop();
  }
});

it('keeps the credentials from other users of the machine', () => {
  expect(statSync(path.join(dataDir, 'credentials.json')).mode & 0o777).toBe(0o600);
  expect(showService(dataDir)).toMatchObject({ id: expect.stringMatching(/^[0-9a-f]{24}$/), key: expect.any(String) });
});
