import { describe, expect, it } from 'vitest';
import { answers, midsOf, withoutRefusedSimulcast } from '../src/negotiation.js';

const AUDIO = 'm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=sendonly\r\n';
const RID = 'a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n';
const LAYERS = 'a=rid:q send\r\na=rid:f send\r\na=simulcast:send q;f\r\n';
const VIDEO = 'm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v1\r\n';

describe('an answer', () => {
  it('is for the offer with the same m-lines', () => {
    expect(midsOf(`v=0\r\n${AUDIO}${VIDEO}`)).toEqual(['0', 'v1']);
    expect(answers(AUDIO + VIDEO, AUDIO + VIDEO)).toBe(true);
    expect(answers(AUDIO, AUDIO + VIDEO)).toBe(false);
    expect(answers(VIDEO + AUDIO, AUDIO + VIDEO)).toBe(false);
  });
});

describe('an offer', () => {
  it('keeps simulcast that can be negotiated', () => {
    const sdp = `v=0\r\n${AUDIO}${VIDEO}${RID}${LAYERS}`;
    expect(withoutRefusedSimulcast(sdp)).toBe(sdp);
  });

  it('loses simulcast that lacks its header extension, in that m-line only', () => {
    const sdp = `v=0\r\n${VIDEO}${LAYERS}${VIDEO}${RID}${LAYERS}${AUDIO}`;
    expect(withoutRefusedSimulcast(sdp)).toBe(`v=0\r\n${VIDEO}${VIDEO}${RID}${LAYERS}${AUDIO}`);
  });
});
