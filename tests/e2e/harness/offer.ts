/** One m-line of an offer. */
export interface OfferedLine {
  kind: 'audio' | 'video';
  direction: 'sendonly' | 'recvonly' | 'inactive';
}

const CODECS = {
  audio: { types: '111', lines: ['a=rtpmap:111 opus/48000/2', 'a=fmtp:111 minptime=10;useinbandfec=1'] },
  video: { types: '96', lines: ['a=rtpmap:96 VP8/90000', 'a=rtcp-fb:96 nack', 'a=rtcp-fb:96 nack pli', 'a=rtcp-fb:96 transport-cc'] },
};

const FINGERPRINT = Array.from({ length: 32 }, () => 'AB').join(':');

/** An offer as browsers make it, shortened. Nobody is there to connect to. Mids are the m-lines' numbers. */
export function offer(lines: OfferedLine[], ufrag = 'abcd'): string {
  const mids = lines.map((_, i) => String(i));
  const sections = lines.flatMap(({ kind, direction }, i) => [
    `m=${kind} 9 UDP/TLS/RTP/SAVPF ${CODECS[kind].types}`,
    'c=IN IP4 0.0.0.0',
    'a=rtcp:9 IN IP4 0.0.0.0',
    `a=ice-ufrag:${ufrag}`,
    'a=ice-pwd:0123456789012345678901',
    'a=ice-options:trickle',
    `a=fingerprint:sha-256 ${FINGERPRINT}`,
    'a=setup:actpass',
    `a=mid:${i}`,
    'a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid',
    `a=${direction}`,
    'a=rtcp-mux',
    ...CODECS[kind].lines,
    ...(direction === 'sendonly' ? [`a=msid:- track-${i}`, `a=ssrc:${1000 + i} cname:x`] : []),
  ]);
  return ['v=0', 'o=- 1 2 IN IP4 127.0.0.1', 's=-', 't=0 0', `a=group:BUNDLE ${mids.join(' ')}`, 'a=msid-semantic: WMS', ...sections, ''].join('\r\n');
}

/** What an SDP says of each of its m-lines. */
export function lines(sdp: string): { kind: string; mid: string; direction: string; candidates: string[]; msid: string | undefined }[] {
  const [, ...sections] = sdp.split(/^(?=m=)/m);
  return sections.map((section) => ({
    kind: /^m=(\w+)/.exec(section)?.[1] ?? '',
    mid: /^a=mid:(\S+)/m.exec(section)?.[1] ?? '',
    direction: /^a=(sendonly|recvonly|sendrecv|inactive)/m.exec(section)?.[1] ?? '',
    candidates: [...section.matchAll(/^a=candidate:.*/gm)].map(([line]) => line),
    msid: /msid:(\S+)/.exec(section)?.[1],
  }));
}
