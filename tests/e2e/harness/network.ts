/** What a network lets through, of what the media of a page may take. */
export interface Network {
  /** Nothing but what goes by the TURN server whose address begins and ends like that. */
  relay?: [begin: string, end: string];
  /** Nothing to candidates of this protocol. */
  without?: 'udp' | 'tcp';
  /** Nothing to candidates with another address. */
  only?: string;
}

/** By which candidates media go. */
export interface Way {
  /** Of the server's candidate. */
  protocol: string | undefined;
  address: string | undefined;
  /** `host`, or what the relay gave. */
  type: string | undefined;
  bytesSent: number;
}

/** Runs in a page, before all else: peer connections that are made there know of nothing that the network does not let through. */
export function confine({ relay, without, only }: Network): void {
  const made: RTCPeerConnection[] = [];
  const passes = (candidate: string): boolean => {
    const [, , protocol, , address] = candidate.split(' ');
    return protocol?.toLowerCase() !== without && (only === undefined || address === only);
  };
  const isNear = (url: string): boolean => relay !== undefined && url.startsWith(relay[0]) && url.endsWith(relay[1]);
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration: RTCConfiguration = {}) {
      const iceServers = configuration.iceServers?.filter(({ urls }) => [urls].flat().some(isNear)) ?? [];
      super(relay ? { ...configuration, iceServers, iceTransportPolicy: 'relay' } : configuration);
      made.push(this);
    }

    override setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void> {
      const lines = description.sdp?.split('\r\n').filter((line) => !line.startsWith('a=candidate:') || passes(line));
      return super.setRemoteDescription(lines ? { type: description.type, sdp: lines.join('\r\n') } : description);
    }
  };
  window.ways = async () => {
    const ways: Way[] = [];
    for (const connection of made.filter(({ connectionState }) => connectionState === 'connected')) {
      const stats = [...(await connection.getStats()).values()];
      for (const pair of stats.filter(({ type, nominated, state }) => type === 'candidate-pair' && nominated && state === 'succeeded')) {
        const find = (id: string): Record<string, string> | undefined => stats.find((each) => each.id === id);
        const [local, remote] = [find(pair.localCandidateId), find(pair.remoteCandidateId)];
        ways.push({ protocol: remote?.protocol, address: remote?.address, type: local?.candidateType, bytesSent: pair.bytesSent });
      }
    }
    return ways;
  };
}
