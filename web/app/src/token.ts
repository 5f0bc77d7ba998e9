/** Who wants to join what. */
export interface JoinRequest {
  name: string;
  room: string | undefined;
  role: string;
}

/** A token to join with, and the id of the room that it is for. */
export interface Admission {
  token: string;
  room: string;
}

/** The server didn't give a token; the message is for people. */
export class TokenError extends Error {
  override readonly name = 'TokenError';
}

/** Asks the page's own server for a token. */
export async function requestToken({ name, room, role }: JoinRequest): Promise<Admission> {
  let response: Response;
  try {
    response = await fetch('/sample/tokens', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(room === undefined ? { user: name, role } : { user: name, role, room }),
    });
  } catch (cause) {
    throw new TokenError('The server can’t be reached. Check your connection and try again.', { cause });
  }
  const body: unknown = await response.json().catch(() => undefined);
  if (!response.ok) throw new TokenError(refusal(response.status, body));
  const { token, room: roomId } = (body ?? {}) as Record<string, unknown>;
  if (typeof token !== 'string') throw new TokenError('The server’s answer can’t be understood.');
  return { token, room: typeof roomId === 'string' ? roomId : (room ?? '') };
}

function refusal(status: number, body: unknown): string {
  const { error, message } = (body ?? {}) as { error?: unknown; message?: unknown };
  const text = typeof error === 'object' && error !== null ? (error as { message?: unknown }).message : (error ?? message);
  if (typeof text === 'string' && text !== '') return `The server refused: ${text}`;
  return status === 404 ? 'There is no such room.' : `The server refused to let you in (${status}).`;
}
