import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Kaigi } from '../harness/kaigi';
import { type ConnectOptions, Signaling } from '../harness/signaling';
import { until } from '../harness/until';

let kaigi: Kaigi;
let room: string;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'clients' });
  room = await kaigi.rest.createRoom('clients');
});
afterAll(() => kaigi?.stop());

const CLIENTS: [string, ConnectOptions][] = [
  ['socket.io-client 3.1.2, upgrading from polling', { generation: 3 }],
  ['socket.io-client 3.1.2, WebSocket only', { generation: 3, transports: ['websocket'] }],
  ['socket.io-client 3.1.2, polling only', { generation: 3, transports: ['polling'] }],
  ['socket.io-client 2.5.0, upgrading from polling', { generation: 2 }],
  ['socket.io-client 2.5.0, WebSocket only', { generation: 2, transports: ['websocket'] }],
  ['socket.io-client 2.5.0, polling only', { generation: 2, transports: ['polling'] }],
];

describe.each(CLIENTS)('%s', (_, options) => {
  it('logs in with a token and is given the room as it stands', async () => {
    const client = await Signaling.connect(kaigi.url, options);
    try {
      const reply = await client.login(await kaigi.rest.token(room, 'Aiko'));

      expect(reply).toMatchObject({ user: 'Aiko', role: 'presenter', room: { id: room, views: ['common'] } });
      expect(reply.permission).toEqual({ publish: { audio: true, video: true }, subscribe: { audio: true, video: true } });
      expect(reply.room.participants).toContainEqual({ id: reply.id, user: 'Aiko', role: 'presenter' });
      const mixed = reply.room.streams.find((stream) => stream.type === 'mixed');
      expect(mixed).toMatchObject({ id: `${room}-common`, info: { label: 'common' } });
      const ticket = JSON.parse(Buffer.from(reply.reconnectionTicket, 'base64').toString('utf8')) as Record<string, unknown>;
      expect(ticket).toMatchObject({ participantId: reply.id });
      expect(ticket.notAfter).toBeGreaterThan(Date.now());
    } finally {
      await client.request('logout');
      client.close();
    }
  });

  it('talks with the others, and is told of them', async () => {
    const one = await Signaling.connect(kaigi.url, options);
    const two = await Signaling.connect(kaigi.url, options);
    try {
      const first = await one.login(await kaigi.rest.token(room, 'Aiko'));
      const second = await two.login(await kaigi.rest.token(room, 'Botan', 'viewer'));
      await until('the first is told that the second came', () =>
        one.notifications.some(
          ({ event, data }) => event === 'participant' && JSON.stringify(data).includes(second.id) && JSON.stringify(data).includes('join'),
        ),
      );

      expect(await two.request('text', { to: first.id, message: 'hello' })).toMatchObject({ status: 'ok' });
      await until('the message arrives', () =>
        one.notifications.some(({ event, data }) => event === 'text' && JSON.stringify(data).includes('"message":"hello"')),
      );
      const text = one.notifications.find(({ event }) => event === 'text');
      expect(text?.data).toEqual({ from: second.id, to: 'me', message: 'hello' });

      expect(await two.request('logout')).toMatchObject({ status: 'ok' });
      await until('the first is told that the second left', () =>
        one.notifications.some(({ data }) => JSON.stringify(data) === JSON.stringify({ action: 'leave', data: second.id })),
      );
    } finally {
      one.close();
      two.close();
    }
  });
});
