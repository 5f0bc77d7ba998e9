import { describe, expect, it } from 'vitest';
import { read } from '../src/signaling';

describe('messages of the server', () => {
  it.each([
    { type: 'existing_peers', peers: ['a'] },
    { type: 'peer_joined', peer_id: 'a' },
    { type: 'offer', from_peer_id: 'a', sdp: 'v=0' },
    { type: 'ice_candidate', from_peer_id: 'a', candidate: null },
    { type: 'error', code: 'malformed', message: 'x' },
  ])('are read: $type', (message) => {
    expect(read(JSON.stringify(message))).toEqual(message);
  });

  it.each(['', '[]', 'null', '{"type":"other"}', '{"type":"offer","sdp":"v=0"}', '{"type":"existing_peers","peers":"a"}', '{"type":"peer_left"}'])(
    'are left out if they are none: %s',
    (text) => {
      expect(read(text)).toBeUndefined();
    },
  );

  it('are no bytes', () => {
    expect(read(new ArrayBuffer(3))).toBeUndefined();
  });
});
