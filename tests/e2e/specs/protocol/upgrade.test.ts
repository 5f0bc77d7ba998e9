import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Kaigi } from '../../harness/kaigi';
import { Relay } from '../../harness/relay';
import { Signaling } from '../../harness/signaling';
import { PATIENCE, until } from '../../harness/until';

let kaigi: Kaigi;
let relay: Relay;
let room: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'protocol-upgrade' });
  // On one machine the upgrade is over before anything can be said.
  relay = await Relay.start(kaigi.ports.http, '127.0.0.40');
  relay.webSocketsAfter = 100;
  room = await kaigi.rest.createRoom('upgrade');
});
afterAll(async () => {
  await relay?.stop();
  await kaigi?.stop();
});

describe.each([2, 3, 4] as const)('socket.io-client of generation %i', (generation) => {
  it('begins by polling and goes over to WebSocket, and nothing is lost, doubled or late on the way', async () => {
    const token = await kaigi.rest.token(room, 'Aiko');
    const client = await Signaling.connect(`http://${relay.host}`, { generation, transports: ['polling', 'websocket'] });
    const begun = client.transport;
    const login = client.login(token);
    let said = 0;
    const say = (count: number): Promise<unknown>[] =>
      Array.from({ length: count }, () => client.granted('text', { to: 'all', message: String(said++) }));
    const first = say(20);
    await until('it has gone over', async () => {
      await Promise.all(say(20));
      return client.transport === 'websocket' && said >= 200;
    }, PATIENCE, 1); // prettier-ignore
    await Promise.all([login, ...first]);
    await client.told('text', { message: String(said - 1) });
    const heard = client.heard('text').map((data) => Number((data as { message: string }).message));
    expect(heard).toEqual(Array.from({ length: said }, (_, i) => i));
    expect(begun).toBe('polling');
    await client.leave();
  });
});
