import { computed, signal } from '@preact/signals';
import { createContext } from 'preact';
import { useContext } from 'preact/hooks';
import type { Api } from '../api/client.js';
import { ApiError } from '../api/error.js';
import { type Path, at, changedMeanwhile, changes, mergePatch, put, removed, same } from '../model/draft.js';
import type { Room } from '../model/room.js';
import { type Problems, fieldOf, problemsOf } from '../model/validate.js';

/** Somebody else has changed what was about to be saved. */
export interface Conflict {
  current: Room;
  etag: string | undefined;
  /** The attributes that both changed. */
  attributes: string[];
}

/** A room's settings while they are edited: as they were read, as they shall be, and what is wrong with that. */
export class SettingsEditor {
  readonly base = signal<Room>(undefined as never);
  readonly draft = signal<Room>(undefined as never);
  readonly conflict = signal<Conflict | undefined>(undefined);
  /** What the server refused, by field; `''` for the whole. */
  readonly refused = signal<Problems>({});
  readonly isSaving = signal(false);
  readonly isDirty = computed(() => !same(this.base.value, this.draft.value));
  readonly problems = computed<Problems>(() => ({ ...this.refused.value, ...problemsOf(this.draft.value) }));
  readonly changed = computed(() => [...Object.keys(changes(this.base.value, this.draft.value)), ...removed(this.base.value, this.draft.value)]);
  #etag: string | undefined;

  constructor(
    private readonly api: Api,
    room: Room,
    etag: string | undefined,
  ) {
    this.base.value = room;
    this.draft.value = room;
    this.#etag = etag;
  }

  get(path: Path): unknown {
    return at(this.draft.value, path);
  }

  set(path: Path, value: unknown): void {
    this.draft.value = put(this.draft.value, path, value);
    const key = path.join('.');
    const kept = Object.entries(this.refused.value).filter(([field]) => field !== '' && field !== key && !field.startsWith(`${key}.`));
    this.refused.value = Object.fromEntries(kept);
  }

  /** What is wrong with a field. */
  problem(...path: Path): string | undefined {
    return this.problems.value[path.join('.')];
  }

  /** Whether anything below a path is wrong. */
  isFlawed(...prefixes: string[]): boolean {
    return Object.keys(this.problems.value).some((path) => prefixes.some((prefix) => path === prefix || path.startsWith(`${prefix}.`)));
  }

  revert(): void {
    this.draft.value = this.base.value;
    this.refused.value = {};
  }

  /**
   * Saves what has changed. Whether it did; if not, `problems` or `conflict` say why.
   *
   * @throws ApiError for anything that is no field's fault
   */
  async save(): Promise<boolean> {
    if (this.isSaving.value || Object.keys(problemsOf(this.draft.value)).length > 0) return false;
    this.isSaving.value = true;
    this.refused.value = {};
    try {
      return (await this.#isUpToDate()) && (await this.#send());
    } finally {
      this.isSaving.value = false;
    }
  }

  /** Goes on from what is there now: with one's own changes upon it, or without. */
  async resolve(keepMine: boolean): Promise<boolean> {
    const conflict = this.conflict.value;
    if (!conflict) return false;
    const mine = changes(this.base.value, this.draft.value);
    const gone = removed(this.base.value, this.draft.value);
    this.conflict.value = undefined;
    this.base.value = conflict.current;
    this.#etag = conflict.etag;
    const next = { ...conflict.current, ...(keepMine && mine) } as Room & Record<string, unknown>;
    if (keepMine) for (const key of gone) delete next[key];
    this.draft.value = next;
    return keepMine ? this.save() : false;
  }

  get #path(): string {
    return `/v1/rooms/${this.base.value._id}`;
  }

  /** Without ETags, a look before the change is the next best. */
  async #isUpToDate(): Promise<boolean> {
    if (this.#etag !== undefined) return true;
    const { value, etag } = await this.api.exchange<Room>('GET', this.#path);
    return !this.#conflicts(value, etag);
  }

  #conflicts(current: Room, etag: string | undefined): boolean {
    const attributes = changedMeanwhile(this.base.value, current, this.changed.value);
    if (attributes.length > 0) this.conflict.value = { current, etag, attributes };
    return attributes.length > 0;
  }

  async #send(): Promise<boolean> {
    const { base, draft } = this;
    // Only a patch can take an attribute away.
    const takesAway = removed(base.value, draft.value).length > 0;
    try {
      const answer = await this.api.exchange<Room>(takesAway ? 'PATCH' : 'PUT', this.#path, {
        body: takesAway ? mergePatch(base.value, draft.value) : changes(base.value, draft.value),
        ifMatch: this.#etag,
      });
      this.#etag = answer.etag;
      base.value = answer.value;
      draft.value = answer.value;
      return true;
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      if (failure.isConflict) return this.#met();
      const field = fieldOf(failure.message);
      const isKnown = field && at(draft.value, field.path.split('.')) !== undefined;
      if (!isKnown && failure.status !== 400 && failure.code !== 2001) throw failure;
      this.refused.value = isKnown ? { [field.path]: field.text } : { '': failure.message };
      return false;
    }
  }

  /** The document is another one by now: tells what both changed, or saves again if that is nothing. */
  async #met(): Promise<boolean> {
    const { value, etag } = await this.api.exchange<Room>('GET', this.#path);
    if (this.#conflicts(value, etag)) return false;
    this.conflict.value = { current: value, etag, attributes: [] };
    this.isSaving.value = false;
    return this.resolve(true);
  }
}

export const EditorContext = createContext<SettingsEditor | undefined>(undefined);

export function useEditor(): SettingsEditor {
  const editor = useContext(EditorContext);
  if (!editor) throw new Error('no settings are edited here');
  return editor;
}
