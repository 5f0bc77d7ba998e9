import { afterEach, describe, expect, it, vi } from 'vitest';
import { Refused, message, offer } from '../src/door';

const answers = (status: number, body: string): void => void vi.stubGlobal('fetch', vi.fn(async () => new Response(body, { status })));

afterEach(() => vi.unstubAllGlobals());

describe('the door', () => {
  it('is asked with what is chosen, and gives the answer', async () => {
    answers(200, '{"sdp":"v=0","type":"answer","session":"s"}');
    expect(await offer('v=0', 'edges')).toMatchObject({ sdp: 'v=0', session: 's' });
    const [path, { body }] = vi.mocked(fetch).mock.calls[0] as unknown as [string, { body: string }];
    expect([path, JSON.parse(body)]).toEqual(['./offer', { sdp: 'v=0', type: 'offer', video_transform: 'edges' }]);
  });

  it('says why it refuses', async () => {
    answers(409, '{"error":{"code":"no_channel","message":"The session has no open data channel"}}');
    await expect(message('s', 'x')).rejects.toThrow(new Refused('no_channel', 'The session has no open data channel'));
  });

  it('may not be there', async () => {
    answers(404, 'Not found');
    await expect(offer('v=0', 'none')).rejects.toThrow('This portal does not serve this');
  });
});
