import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DIALECTS } from '../../harness/dialects';
import { Kaigi } from '../../harness/kaigi';
import { type Member, enter } from '../../harness/member';
import { Signaling } from '../../harness/signaling';
import { until } from '../../harness/until';

let kaigi: Kaigi;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'protocol-participants' });
});
afterAll(() => kaigi?.stop());

describe.each(DIALECTS)('%s', (_, dialect) => {
  let room: string;
  let witness: Member;

  beforeAll(async () => {
    room = await kaigi.rest.createRoom('participants');
    witness = await enter(kaigi, room, dialect);
  });
  afterAll(() => witness?.client.leave());

  it('is told who comes and who logs out', async () => {
    const { client, id } = await enter(kaigi, room, dialect, 'viewer', 'Botan');
    const joined = await witness.client.told('participant', { action: 'join', data: { id } });
    expect(joined).toEqual({ action: 'join', data: { id, user: 'Botan', role: 'viewer' } });
    expect(await client.request('logout')).toEqual({ status: 'ok', data: undefined });
    await witness.client.told('participant', { action: 'leave', data: id });
    // Not about itself.
    expect(client.heard('participant', { data: { id } })).toEqual([]);
    expect(await client.request('text', { to: 'all', message: 'x' })).toEqual({ status: 'error', data: 'Illegal request' });
    client.close();
  });

  it('comes in again on the connection on which it logged out', async () => {
    const { client, id } = await enter(kaigi, room, dialect);
    await client.granted('logout');
    const again = await client.login(await kaigi.rest.token(room, 'again'), dialect.login);
    expect(again.id).not.toBe(id);
    await witness.client.told('participant', { action: 'join', data: { id: again.id } });
    await client.leave();
  });

  it('logs out with empty arguments, as mobile SDKs do', async () => {
    const { client, id } = await enter(kaigi, room, dialect);
    expect(await client.request('logout', null)).toEqual({ status: 'ok', data: undefined });
    await witness.client.told('participant', { action: 'leave', data: id });
    client.close();
  });

  it('leaves at once when its connection ends and it can not come back', async () => {
    const client = await Signaling.connect(kaigi.url, dialect.connect);
    const userAgent = { sdk: { type: 'Something', version: '1' } };
    const { id } = await client.login(await kaigi.rest.token(room, 'gone'), { ...dialect.login, userAgent });
    await witness.client.told('participant', { action: 'join', data: { id } });
    client.close();
    await witness.client.told('participant', { action: 'leave', data: id });
  });

  it('is told that it is dropped by management, and put out', async () => {
    const { client, id, reply } = await enter(kaigi, room, dialect);
    await kaigi.rest.dropParticipant(room, id);
    await until('it is put out', () => client.disconnected);
    expect(client.notifications.at(-1)).toMatchObject({ event: 'drop' });
    await witness.client.told('participant', { action: 'leave', data: id });
    client.close();

    const back = await Signaling.connect(kaigi.url, dialect.connect);
    expect(await back.request('relogin', reply.reconnectionTicket)).toEqual({ status: 'error', data: 'Client does NOT exist' });
    back.close();
  });

  it('is dropped with all others when the room is deleted', async () => {
    const doomed = await kaigi.rest.createRoom('doomed');
    const members = [await enter(kaigi, doomed, dialect), await enter(kaigi, doomed, dialect)];
    await kaigi.rest.deleteRoom(doomed);
    for (const { client } of members) {
      await until('it is put out', () => client.disconnected);
      expect(client.notifications.at(-1)).toMatchObject({ event: 'drop' });
      client.close();
    }
  });
});

it('tells nobody of participants in a room that does not want it', async () => {
  const room = await kaigi.rest.createRoom('discreet', { notifying: { participantActivities: false, streamChange: true } });
  const [, dialect] = DIALECTS[0]!;
  const witness = await enter(kaigi, room, dialect);
  const other = await enter(kaigi, room, dialect);
  await other.client.granted('text', { to: 'all', message: 'hello' });
  await other.client.leave();
  const last = await enter(kaigi, room, dialect);
  await last.client.granted('text', { to: 'all', message: 'last' });
  await witness.client.told('text', { message: 'last' });
  expect(witness.client.heard('participant')).toEqual([]);
  await last.client.leave();
  await witness.client.leave();
});
