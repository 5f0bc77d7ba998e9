import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DIALECTS } from '../../harness/dialects';
import { Kaigi } from '../../harness/kaigi';
import { type Member, enter } from '../../harness/member';
import { Signaling } from '../../harness/signaling';
import { until } from '../../harness/until';

const ALTERED = Buffer.from('0'.repeat(64)).toString('base64');

let kaigi: Kaigi;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'protocol-relogin' });
});
afterAll(() => kaigi?.stop());

function decode(ticket: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(ticket, 'base64').toString('utf8')) as Record<string, unknown>;
}

function encode(ticket: object): string {
  return Buffer.from(JSON.stringify(ticket)).toString('base64');
}

describe.each(DIALECTS)('%s', (_, dialect) => {
  let room: string;
  let witness: Member;

  beforeAll(async () => {
    room = await kaigi.rest.createRoom('relogin');
    witness = await enter(kaigi, room, dialect);
  });
  afterAll(() => witness?.client.leave());

  it('is given a ticket that SDKs can read, and others on demand', async () => {
    const { client, id, reply } = await enter(kaigi, room, dialect);
    const fresh = await client.granted<string>('refreshReconnectionTicket');
    expect(await client.request('refreshReconnectionTicket', null)).toEqual({ status: 'ok', data: expect.any(String) });
    for (const ticket of [reply.reconnectionTicket, fresh]) {
      const { notBefore, notAfter, ...rest } = decode(ticket) as { notBefore: number; notAfter: number };
      expect(rest).toMatchObject({ participantId: id, ticketId: expect.any(String), signature: expect.any(String) });
      expect(notAfter - notBefore).toBe(600_000);
      expect(notBefore).toBeLessThanOrEqual(Date.now() + 1000);
    }
    expect(fresh).not.toBe(reply.reconnectionTicket);
    await client.leave();
  });

  it('comes back to its place, and is told what it has missed', async () => {
    const gone = await enter(kaigi, room, dialect);
    await gone.client.hangUp();
    const missed = Array.from({ length: 30 }, (_, i) => `missed ${i}`);
    const greeting = `${gone.id} is back`;
    for (const message of missed) await witness.client.granted('text', { to: gone.id, message });

    const back = await Signaling.connect(kaigi.url, dialect.connect);
    const relogin = back.request('relogin', gone.reply.reconnectionTicket);
    // What is asked right behind it waits for it.
    const asked = back.request('text', { to: witness.id, message: greeting });
    const ack = await relogin;
    expect(ack).toEqual({ status: 'ok', data: expect.any(String) });
    expect(decode(ack.data as string)).toMatchObject({ participantId: gone.id });
    expect(await asked).toEqual({ status: 'ok', data: undefined });
    expect(await witness.client.told('text', { message: greeting })).toEqual({ from: gone.id, to: 'me', message: greeting });

    await back.told('text', { message: 'missed 29' });
    expect(back.heard('text').map((data) => (data as { message: string }).message)).toEqual(missed);
    // For the others it was never gone.
    expect(witness.client.heard('participant', { data: gone.id })).toEqual([]);
    // A ticket is good once; the new one is good.
    const second = await Signaling.connect(kaigi.url, dialect.connect);
    expect(await second.request('relogin', gone.reply.reconnectionTicket)).toEqual({ status: 'error', data: 'Ticket is expired' });
    await until('it is put out', () => second.disconnected);
    second.close();
    const third = await Signaling.connect(kaigi.url, dialect.connect);
    await third.granted('relogin', ack.data);
    // The connection that is still open is told to go.
    await until('the older connection is put out', () => back.disconnected);
    expect(back.notifications.at(-1)).toMatchObject({ event: 'drop' });
    back.close();
    await third.granted('text', { to: 'all', message: 'third' });
    await third.leave();
    await witness.client.told('participant', { action: 'leave', data: gone.id });
  });

  it('can not come back after it has logged out', async () => {
    const { client, reply } = await enter(kaigi, room, dialect);
    await client.leave();
    const back = await Signaling.connect(kaigi.url, dialect.connect);
    expect(await back.request('relogin', reply.reconnectionTicket)).toEqual({ status: 'error', data: 'Client does NOT exist' });
    await until('it is put out', () => back.disconnected);
    back.close();
  });

  it('can not come back with a ticket of which anything was altered', async () => {
    const { client, reply } = await enter(kaigi, room, dialect);
    const ticket = decode(reply.reconnectionTicket);
    const others = [
      encode({ ...ticket, signature: ALTERED }),
      encode({ ...ticket, participantId: witness.id }),
      encode({ ...ticket, notAfter: (ticket.notAfter as number) + 1 }),
      encode({ ...ticket, ticketId: 'another' }),
      'no ticket',
      '',
      null,
      7,
    ];
    for (const other of others) {
      const back = await Signaling.connect(kaigi.url, dialect.connect);
      expect(await back.request('relogin', other)).toEqual({ status: 'error', data: 'Invalid reconnection ticket signature' });
      await until('it is put out', () => back.disconnected);
      back.close();
    }
    await client.leave();
  });
});

describe('a client of an SDK that does not come back', () => {
  it('is refused tickets', async () => {
    const room = await kaigi.rest.createRoom('no tickets');
    const client = await Signaling.connect(kaigi.url);
    await client.login(await kaigi.rest.token(room, 'Aiko'), { userAgent: { sdk: { type: 'Something', version: '1' } } });
    expect(await client.request('refreshReconnectionTicket')).toEqual({ status: 'error', data: 'Reconnection is not enabled.' });
    await client.leave();
  });
});
