import http from 'node:http';
import { matches } from './matches';
import type { Event } from './receiver';
import { until } from './until';

/** A stream of server-sent events, as a client without a browser reads it. */
export class Feed {
  status = 0;
  headers: http.IncomingHttpHeaders = {};
  readonly events: Event[] = [];
  /** Names of events, also of those that are no events of rooms. */
  readonly names: string[] = [];
  comments = 0;
  lastId = '';
  ended = false;
  private buffer = '';
  private name = '';
  private data = '';

  private constructor(private readonly outgoing: http.ClientRequest) {}

  /** Ready when there is an answer. */
  static open(url: string, headers: Record<string, string>): Promise<Feed> {
    return new Promise((resolve, reject) => {
      const outgoing = http.request(url, { headers, agent: false });
      const feed = new Feed(outgoing);
      outgoing.on('error', reject);
      outgoing.on('response', (incoming) => {
        feed.status = incoming.statusCode ?? 0;
        feed.headers = incoming.headers;
        incoming.setEncoding('utf8');
        incoming.on('data', (text: string) => feed.read(text));
        const end = (): void => void (feed.ended = true);
        incoming.on('end', end);
        incoming.on('close', end);
        incoming.on('error', end);
        resolve(feed);
      });
      outgoing.end();
    });
  }

  get types(): string[] {
    return this.events.map(({ type }) => type);
  }

  close(): void {
    this.outgoing.destroy();
  }

  /** Waits for an event that has at least these members. */
  gets(wanted: object): Promise<Event> {
    return until(`an event ${JSON.stringify(wanted)}, of ${this.types.join(' ')}`, () => this.events.find((event) => matches(event, wanted)), 30_000);
  }

  private read(text: string): void {
    this.buffer += text;
    for (;;) {
      const end = this.buffer.indexOf('\n');
      if (end < 0) return;
      this.line(this.buffer.slice(0, end));
      this.buffer = this.buffer.slice(end + 1);
    }
  }

  private line(line: string): void {
    const [, field = '', value = ''] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (line === '') {
      if (this.data !== '') {
        this.names.push(this.name);
        if (this.name.includes('.')) this.events.push(JSON.parse(this.data) as Event);
      }
      this.name = this.data = '';
    } else if (field === '') this.comments += 1;
    else if (field === 'id') this.lastId = value;
    else if (field === 'event') this.name = value;
    else if (field === 'data') this.data += value;
  }
}
