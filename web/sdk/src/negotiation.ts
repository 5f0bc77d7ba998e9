/** The mids of an SDP's m-lines, in order. */
export function midsOf(sdp: string): string[] {
  return [...sdp.matchAll(/^a=mid:(\S+)/gm)].map((match) => match[1] ?? '');
}

/** Whether an answer is for this offer and not for an earlier one that was given up: m-lines match one to one (RFC 3264 §6). */
export function answers(answer: string, offer: string): boolean {
  const answered = midsOf(answer);
  const offered = midsOf(offer);
  return answered.length === offered.length && answered.every((mid, line) => mid === offered[line]);
}

const RID_EXTENSION = 'urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id';

/**
 * An offer without the simulcast that an earlier answer refused. Chromium goes on offering it, without the header
 * extension that the answer left out, and then rejects its own offer.
 */
export function withoutRefusedSimulcast(sdp: string): string {
  const sections = sdp.split(/^(?=m=)/m);
  return sections
    .map((section) => (section.includes(RID_EXTENSION) ? section : section.replace(/^a=(?:simulcast|rid):.*\r?\n/gm, '')))
    .join('');
}

/**
 * Puts codecs with one of the names first, in the names' order, and leaves the others behind them as a fallback, as far as `usable` has them (and
 * what serves them all, such as retransmission).
 */
export function preferCodecs(transceiver: RTCRtpTransceiver, kind: string, names: readonly string[], usable?: readonly string[]): void {
  if ((names.length === 0 && !usable) || !('setCodecPreferences' in transceiver)) return;
  const all = RTCRtpReceiver.getCapabilities?.(kind)?.codecs;
  const isUsable = ({ mimeType }: { mimeType: string }) => {
    const name = mimeType.toLowerCase().split('/')[1] ?? '';
    return !usable || usable.includes(name) || (kind === 'video' && VIDEO_HELPERS.includes(name));
  };
  const codecs = all?.filter(isUsable);
  if (!codecs) return;
  const rank = (codec: { mimeType: string }) => {
    const index = names.findIndex((name) => `${kind}/${name}`.toLowerCase() === codec.mimeType.toLowerCase());
    return index < 0 ? names.length : index;
  };
  transceiver.setCodecPreferences([...codecs].sort((a, b) => rank(a) - rank(b)));
}

const DEPENDENCIES = 'https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension';

/** What a browser's transceiver has in addition, where it is served: which header extensions are offered. */
interface Extensible {
  getHeaderExtensionsToNegotiate?(): { uri: string; direction: RTCRtpTransceiverDirection }[];
  setHeaderExtensionsToNegotiate?(extensions: { uri: string; direction: RTCRtpTransceiverDirection }[]): void;
}

/**
 * Offers to take the frames' own word for what they depend on, so that those that are left out (layers) are told from those that are lost.
 * Browsers know the header extension and don't offer it by themselves.
 */
export function describeDependencies(transceiver: RTCRtpTransceiver & Extensible): void {
  try {
    const extensions = transceiver.getHeaderExtensionsToNegotiate?.();
    const extension = extensions?.find(({ uri }) => uri === DEPENDENCIES);
    if (!extensions || !extension) return;
    extension.direction = 'sendrecv';
    transceiver.setHeaderExtensionsToNegotiate?.(extensions);
  } catch {
    // It goes without.
  }
}

/** What goes with any codec of video. What does so with audio, redundant audio, is part of its frames. */
const VIDEO_HELPERS = ['rtx', 'red', 'ulpfec', 'flexfec-03'];

/** Whether a description has a line for data that isn't refused. */
export function hasData(sdp: string | undefined): boolean {
  return /^m=application [1-9]/m.test(sdp ?? '');
}

/** Whether an answer has other ICE credentials than the description `before` an ICE restart; true if there was none. */
export function isRestarted(answer: string, before: string | undefined): boolean {
  const credentials = (sdp: string) => /^a=ice-ufrag:(\S+)/m.exec(sdp)?.[1];
  const old = credentials(before ?? '');
  return old === undefined || credentials(answer) !== old;
}
