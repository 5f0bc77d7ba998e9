import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DIALECTS } from '../../harness/dialects';
import { Kaigi } from '../../harness/kaigi';
import { type Member, enter } from '../../harness/member';

let kaigi: Kaigi;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'protocol-text' });
});
afterAll(() => kaigi?.stop());

/** The longest message, in characters as JavaScript counts them (UTF-16 code units). */
const LONGEST = 2048;

describe.each(DIALECTS)('%s', (_, dialect) => {
  let one: Member;
  let two: Member;
  let three: Member;

  beforeAll(async () => {
    const room = await kaigi.rest.createRoom('text');
    one = await enter(kaigi, room, dialect);
    two = await enter(kaigi, room, dialect);
    three = await enter(kaigi, room, dialect, 'viewer');
  });
  afterAll(async () => {
    for (const member of [one, two, three]) await member?.client.leave();
  });

  it('says something to all, itself among them', async () => {
    expect(await one.client.request('text', { to: 'all', message: 'good morning' })).toEqual({ status: 'ok', data: undefined });
    for (const { client } of [one, two, three]) {
      expect(await client.told('text', { message: 'good morning' })).toEqual({ from: one.id, to: 'all', message: 'good morning' });
    }
  });

  it('says something to one, and nobody else hears it', async () => {
    await three.client.granted('text', { to: two.id, message: 'only you' });
    expect(await two.client.told('text', { message: 'only you' })).toEqual({ from: three.id, to: 'me', message: 'only you' });
    // What is said to all afterwards comes afterwards.
    await three.client.granted('text', { to: 'all', message: 'everybody' });
    for (const { client } of [one, three]) {
      await client.told('text', { message: 'everybody' });
      expect(client.heard('text', { message: 'only you' })).toEqual([]);
    }
  });

  it('is heard in the order in which it spoke', async () => {
    const said = Array.from({ length: 20 }, (_, i) => `number ${i}`);
    await Promise.all(said.map((message) => one.client.granted('text', { to: two.id, message })));
    await two.client.told('text', { message: 'number 19' });
    const heard = two.client.heard('text').map((data) => (data as { message: string }).message);
    expect(heard.filter((message) => message.startsWith('number'))).toEqual(said);
  });

  it.each([
    ['letters', 'x'.repeat(LONGEST)],
    ['characters of several bytes', 'あ'.repeat(LONGEST)],
    ['characters that JavaScript counts twice', '🎉'.repeat(LONGEST / 2)],
    ['nothing', ''],
  ])('may say as much as %s', async (_, message) => {
    await one.client.granted('text', { to: two.id, message });
    expect(await two.client.told('text', { message })).toEqual({ from: one.id, to: 'me', message });
  });

  const REFUSED: [string, unknown, string][] = [
    ['to nobody', { message: 'x' }, 'Invalid receiver'],
    ['to an empty name', { to: '', message: 'x' }, 'Invalid receiver'],
    ['to a number', { to: 7, message: 'x' }, 'Invalid receiver'],
    ['to one who is not there', { to: 'nobody', message: 'x' }, 'Target participant does NOT exist: nobody'],
    ['nothing at all', null, 'Invalid receiver'],
    ['one character too many', { to: 'all', message: 'x'.repeat(LONGEST + 1) }, 'Message is longer than 2048 characters'],
    ['half a character too many', { to: 'all', message: `${'🎉'.repeat(LONGEST / 2)}x` }, 'Message is longer than 2048 characters'],
    ['what is no text', { to: 'all', message: { a: 1 } }, 'Message is not a string'],
    ['without a message', { to: 'all' }, 'Message is not a string'],
  ];
  it.each(REFUSED)('can not speak %s', async (_, data, text) => {
    expect(await one.client.request('text', data)).toEqual({ status: 'error', data: text });
  });

  it('is heard though it wants no answer, or says more than it should', async () => {
    one.client.send('text', { to: two.id, message: 'no answer' });
    await two.client.told('text', { message: 'no answer' });
    await one.client.granted('text', { to: two.id, message: 'and more' }, null, null);
    await two.client.told('text', { message: 'and more' });
  });

  it('can not speak to one who has left', async () => {
    const left = await enter(kaigi, one.reply.room.id, dialect);
    await left.client.leave();
    await one.client.told('participant', { action: 'leave', data: left.id });
    const text = { status: 'error', data: `Target participant does NOT exist: ${left.id}` };
    expect(await one.client.request('text', { to: left.id, message: 'x' })).toEqual(text);
  });
});
