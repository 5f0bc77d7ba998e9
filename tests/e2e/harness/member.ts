import type { Dialect } from './dialects';
import type { Kaigi } from './kaigi';
import { type LoginReply, Signaling } from './signaling';

/** A connection that is logged in. */
export interface Member {
  client: Signaling;
  id: string;
  reply: LoginReply;
}

/** Enters a room in a dialect. */
export async function enter(kaigi: Kaigi, room: string, { connect, login }: Dialect, role = 'presenter', user = role): Promise<Member> {
  const [client, token] = await Promise.all([Signaling.connect(kaigi.url, connect), kaigi.rest.token(room, user, role)]);
  try {
    const reply = await client.login(token, login);
    return { client, id: reply.id, reply };
  } catch (error) {
    client.close();
    throw error;
  }
}
