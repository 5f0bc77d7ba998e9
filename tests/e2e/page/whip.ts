// Runs in the browser: WHIP and WHEP clients by fetch and RTCPeerConnection alone, and how they measure what arrives.
import type { Look, Rgb } from '../harness/colours';
import { Screen, hum, paint } from './media.js';

declare global {
  interface Window {
    whip: Whip;
  }
}

interface Session {
  peer: RTCPeerConnection;
  address: string;
  tag: string;
  token: string;
  screen: Screen | undefined;
}

export class Whip {
  readonly #sessions = new Map<string, Session>();

  /** Publishes a picture and a tone to an endpoint; the session's address. With layers, the picture is sent in several sizes. */
  async publish(endpoint: string, token: string, look: Look, layers: RTCRtpEncodingParameters[] = []): Promise<string> {
    const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    const stream = new MediaStream();
    peer.addTransceiver(hum(look.tone), { direction: 'sendonly', streams: [stream] });
    const size = layers.length > 0 ? { width: 640, height: 480 } : {};
    peer.addTransceiver(paint(look.colour, size), { direction: 'sendonly', streams: [stream], sendEncodings: layers });
    return (await this.#begin(peer, endpoint, token)).address;
  }

  /** Plays what an endpoint has; the session's address. */
  async play(endpoint: string, token: string): Promise<string> {
    const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    const stream = new MediaStream();
    for (const kind of ['audio', 'video']) stream.addTrack(peer.addTransceiver(kind, { direction: 'recvonly' }).receiver.track);
    const session = await this.#begin(peer, endpoint, token);
    session.screen = new Screen(stream);
    return session.address;
  }

  async #begin(peer: RTCPeerConnection, endpoint: string, token: string): Promise<Session> {
    await peer.setLocalDescription();
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/sdp' };
    const answer = await fetch(endpoint, { method: 'POST', headers, body: peer.localDescription?.sdp ?? '' });
    const text = await answer.text();
    if (answer.status !== 201) throw new Error(`${answer.status} ${text}`);
    await peer.setRemoteDescription({ type: 'answer', sdp: text });
    const address = new URL(answer.headers.get('location') ?? '', endpoint).href;
    const session = { peer, address, tag: answer.headers.get('etag') ?? '', token, screen: undefined };
    this.#sessions.set(address, session);
    return session;
  }

  #session(address: string): Session {
    const session = this.#sessions.get(address);
    if (!session) throw new Error(`no session ${address}`);
    return session;
  }

  /** Sends a fragment with what of its lines belongs to ICE; the answer's status. */
  async #patch(session: Session, tag: string, sdp: string): Promise<Response> {
    const wanted = ['m=', 'a=mid:', 'a=ice-ufrag:', 'a=ice-pwd:', 'a=candidate:'];
    const first = sdp.split('\r\nm=').slice(0, 2).join('\r\nm=').split('\r\n');
    const body = first.filter((line) => wanted.some((start) => line.startsWith(start))).map((line) => `${line}\r\n`);
    const headers = { authorization: `Bearer ${session.token}`, 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': tag };
    return fetch(session.address, { method: 'PATCH', headers, body: body.join('') });
  }

  /** Tells the server its candidates; the status. */
  async trickle(address: string): Promise<number> {
    const session = this.#session(address);
    return (await this.#patch(session, session.tag, session.peer.localDescription?.sdp ?? '')).status;
  }

  /** Restarts ICE. */
  async restart(address: string): Promise<void> {
    const session = this.#session(address);
    const { peer } = session;
    const before = peer.currentRemoteDescription?.sdp ?? '';
    peer.restartIce();
    await peer.setLocalDescription();
    const answer = await this.#patch(session, '*', peer.localDescription?.sdp ?? '');
    const fragment = await answer.text();
    if (answer.status !== 200) throw new Error(`${answer.status} ${fragment}`);
    session.tag = answer.headers.get('etag') ?? '';
    // The answer as it was, with the server's new side of the ICE session.
    const value = (name: string): string => new RegExp(`^a=${name}:.*$`, 'm').exec(fragment)?.[0] ?? '';
    const sdp = before.replace(/^a=ice-ufrag:.*$/gm, value('ice-ufrag')).replace(/^a=ice-pwd:.*$/gm, value('ice-pwd'));
    await peer.setRemoteDescription({ type: 'answer', sdp });
  }

  /** The user name fragments under which media go. */
  ice(address: string): { local: string | null | undefined; remote: string | null | undefined; state: string } {
    const { peer } = this.#session(address);
    const pair = peer.getSenders()[0]?.transport?.iceTransport.getSelectedCandidatePair();
    return { local: pair?.local?.usernameFragment, remote: pair?.remote?.usernameFragment, state: peer.connectionState };
  }

  /** Ends a session as its client; the status. */
  async end(address: string): Promise<number> {
    const session = this.#session(address);
    const answer = await fetch(address, { method: 'DELETE', headers: { authorization: `Bearer ${session.token}` } });
    session.peer.close();
    return answer.status;
  }

  /** Whether the server still knows a session: what it says to a request that changes nothing. */
  async status(address: string): Promise<number> {
    const { token } = this.#session(address);
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': '"none"' };
    return (await fetch(address, { method: 'PATCH', headers, body: 'a=end-of-candidates\r\n' })).status;
  }

  /** Closes the connection without a word. */
  vanish(address: string): void {
    this.#session(address).peer.close();
  }

  frames(address: string): number {
    return this.#session(address).screen?.frames() ?? 0;
  }

  colours(address: string, points: [number, number][]): Rgb[] {
    const { screen } = this.#session(address);
    if (!screen) throw new Error('nothing is played');
    return screen.colours(points);
  }

  levels(address: string, tones: number[]): number[] {
    return this.#session(address).screen?.levels(tones) ?? [];
  }

  state(address: string): string {
    return this.#session(address).peer.connectionState;
  }
}

window.whip = new Whip();
