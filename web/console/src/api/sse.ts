/** One message of an event stream. */
export interface ServerEvent {
  id: string;
  type: string;
  data: string;
}

/** Longest line that is kept while its end has not come, in characters. */
const MAX_LINE = 1_000_000;

/** Reads `text/event-stream` (WHATWG HTML, "Server-sent events") as it comes in pieces. */
export class EventStreamParser {
  #rest = '';
  #type = '';
  #data: string[] = [];
  #id = '';
  #endedWithReturn = false;

  /** The messages that are whole with this piece. */
  push(piece: string): ServerEvent[] {
    // The two halves of a CR LF may come in two pieces.
    const joined = this.#endedWithReturn && piece.startsWith('\n') ? piece.slice(1) : piece;
    if (piece !== '') this.#endedWithReturn = piece.endsWith('\r');
    const lines = (this.#rest + joined).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > MAX_LINE) throw new Error('a line of the event stream never ends');
    const events: ServerEvent[] = [];
    for (const line of lines) {
      const event = this.#line(line);
      if (event) events.push(event);
    }
    return events;
  }

  #line(line: string): ServerEvent | undefined {
    if (line === '') {
      const data = this.#data.join('\n');
      const event = { id: this.#id, type: this.#type || 'message', data };
      const has = this.#data.length > 0;
      this.#type = '';
      this.#data = [];
      return has ? event : undefined;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#type = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    return undefined;
  }
}
