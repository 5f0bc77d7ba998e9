import { offer } from './door.js';

/** Longest wait for candidates, in ms: the offer has all of them. */
const GATHERING = 3000;

function gathered(connection: RTCPeerConnection): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      if (connection.iceGatheringState === 'complete') resolve();
    };
    connection.addEventListener('icegatheringstatechange', done);
    setTimeout(resolve, GATHERING);
    done();
  });
}

export interface Told {
  back(stream: MediaStream): void;
  state(state: RTCPeerConnectionState): void;
  channel(isOpen: boolean): void;
  said(text: string): void;
}

/** One connection, from the offer to its end. */
export class Session {
  private constructor(
    readonly id: string,
    readonly connection: RTCPeerConnection,
    private readonly channel: RTCDataChannel,
  ) {}

  static async begin(stream: MediaStream, transform: string, told: Told): Promise<Session> {
    const connection = new RTCPeerConnection();
    try {
      const channel = connection.createDataChannel('chat');
      channel.addEventListener('open', () => told.channel(true));
      channel.addEventListener('close', () => told.channel(false));
      channel.addEventListener('message', ({ data }) => told.said(String(data)));
      const back = new MediaStream();
      connection.addEventListener('track', ({ track }) => {
        back.addTrack(track);
        told.back(back);
      });
      connection.addEventListener('connectionstatechange', () => told.state(connection.connectionState));
      for (const track of stream.getTracks()) connection.addTrack(track, stream);
      await connection.setLocalDescription();
      await gathered(connection);
      const answer = await offer(connection.localDescription?.sdp ?? '', transform);
      await connection.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
      return new Session(answer.session, connection, channel);
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** Whether it could be sent. */
  say(text: string): boolean {
    if (this.channel.readyState !== 'open') return false;
    this.channel.send(text);
    return true;
  }

  close(): void {
    this.connection.close();
  }
}
