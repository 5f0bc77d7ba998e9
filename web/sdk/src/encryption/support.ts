// The two ways in which browsers let frames be changed between encoder and network: the standard's (W3C WebRTC Encoded Transform), and the streams
// that Chromium had before it, for which a connection has to be made.

/** What Chromium's way gives of a sender or receiver. */
export interface EncodedStreams {
  readable: ReadableStream;
  writable: WritableStream;
}

interface WithStreams {
  createEncodedStreams(): EncodedStreams;
}

export function hasScriptTransforms(): boolean {
  return typeof RTCRtpScriptTransform !== 'undefined' && 'transform' in RTCRtpSender.prototype;
}

export function hasStreams(): boolean {
  return typeof RTCRtpSender !== 'undefined' && 'createEncodedStreams' in RTCRtpSender.prototype;
}

/** What a connection whose frames are to be changed has to be made with. */
export function connectionOptions(): RTCConfiguration {
  return hasScriptTransforms() ? {} : ({ encodedInsertableStreams: true } as RTCConfiguration);
}

export function streamsOf(target: RTCRtpSender | RTCRtpReceiver): EncodedStreams {
  return (target as unknown as WithStreams).createEncodedStreams();
}

/** Leaves the frames of a sender or receiver as they are, on a connection whose frames have to be taken. */
export function passThrough(target: RTCRtpSender | RTCRtpReceiver): void {
  if (hasScriptTransforms()) return;
  const { readable, writable } = streamsOf(target);
  readable.pipeTo(writable).catch(() => {});
}
