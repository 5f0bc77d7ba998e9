/** The portal's door, beside this page: offer and answer, and messages to a session. */

/** What the portal says of a refusal. */
export class Refused extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

export interface Answer {
  sdp: string;
  session: string;
}

async function post(path: string, body: unknown): Promise<unknown> {
  const answer = await fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  const said: unknown = await answer.json().catch(() => undefined);
  if (answer.ok) return said;
  const { code, message } = (said as { error?: { code?: string; message?: string } } | undefined)?.error ?? {};
  // A portal that does not serve this has no words for it.
  throw new Refused(code ?? String(answer.status), message ?? 'This portal does not serve this');
}

export const offer = (sdp: string, transform: string): Promise<Answer> =>
  post('./offer', { sdp, type: 'offer', video_transform: transform }) as Promise<Answer>;

/** Has a text sent on the data channels of a session. */
export const message = async (session: string, text: string): Promise<void> => void (await post('./message', { session, text }));
