import { useSignal } from '@preact/signals';
import { useEffect, useId } from 'preact/hooks';
import type { Room } from '../model/room.js';
import { useEditor } from './editor.js';
import { Group } from './group.js';

/** The whole document, for those who know it by heart. */
export function JsonSection() {
  const editor = useEditor();
  const id = useId();
  const text = useSignal(JSON.stringify(editor.draft.value, null, 2));
  const error = useSignal('');
  // What else changes it, such as a revert, is shown too.
  useEffect(() => {
    let current: unknown;
    try {
      current = JSON.parse(text.value);
    } catch {
      current = undefined;
    }
    if (JSON.stringify(current) !== JSON.stringify(editor.draft.value) && !error.value) text.value = JSON.stringify(editor.draft.value, null, 2);
  }, [editor.draft.value]);
  const change = (value: string) => {
    text.value = value;
    try {
      const room = JSON.parse(value) as Room;
      error.value = shapeFlaw(room);
      if (!error.value) {
        editor.draft.value = room;
        editor.refused.value = {};
      }
    } catch (failure) {
      error.value = (failure as Error).message;
    }
  };
  return (
    <Group title="The room as JSON" hint="What is changed here is changed in the other sections, too. It is saved with the button below.">
      <div class="field">
        <label for={id} class="unseen">
          Room document
        </label>
        <textarea
          id={id}
          class="code"
          rows={28}
          spellcheck={false}
          autocomplete="off"
          value={text}
          aria-invalid={error.value ? true : undefined}
          aria-describedby={`${id}-error`}
          onInput={(event) => change(event.currentTarget.value)}
          data-testid="json"
        />
        <p class="field-error" id={`${id}-error`} role="status" data-testid="json-error">
          {error}
        </p>
      </div>
    </Group>
  );
}

/** What the other sections could not show. */
function shapeFlaw(room: unknown): string {
  const it = room as Partial<Room> | null;
  if (typeof it !== 'object' || it === null || Array.isArray(it)) return 'A room is an object.';
  for (const list of ['roles', 'views'] as const) if (!Array.isArray(it[list])) return `“${list}” is a list.`;
  for (const member of ['mediaIn', 'mediaOut', 'transcoding', 'notifying'] as const) {
    if (typeof it[member] !== 'object' || it[member] === null) return `“${member}” is an object.`;
  }
  if (!Array.isArray(it.mediaIn?.audio) || !Array.isArray(it.mediaIn.video)) return '“mediaIn” has the lists “audio” and “video”.';
  if (!Array.isArray(it.mediaOut?.audio) || !Array.isArray(it.mediaOut.video?.format) || !it.mediaOut.video.parameters) {
    return '“mediaOut” has the list “audio”, and “video” with “format” and “parameters”.';
  }
  const isView = (view: Room['views'][number]) =>
    typeof view?.label === 'string' && view.audio?.format && (view.video === false || (view.video?.parameters?.resolution && Array.isArray(view.video.layout?.templates?.custom)));
  if (!it.views?.every(isView)) return 'A view has “label”, “audio” with “format”, and “video” (or false) with “parameters” and “layout”.';
  if (!it.roles?.every((role) => typeof role?.role === 'string')) return 'A role has a name, “role”.';
  return '';
}
