import { Emitter } from './emitter.js';
import type { ParticipantFields } from './wire.js';

/** The events of a {@link Participant}. */
export interface ParticipantEvents {
  /** The participant left the conference. */
  left: Record<string, never>;
}

/** Someone in the conference. */
export class Participant extends Emitter<ParticipantEvents> {
  /** Names it in the conference. */
  readonly id: string;
  /** The name its token was made with; several participants may bear the same. */
  readonly user: string;
  /** What its token gave it. */
  readonly role: string;

  /** @internal */
  constructor(fields: ParticipantFields) {
    super();
    this.id = fields.id;
    this.user = fields.user;
    this.role = fields.role;
  }
}
