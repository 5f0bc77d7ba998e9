import { attempt, tell } from '../state/notices.js';
import { Dialog } from '../ui/dialog.js';
import type { SettingsEditor } from './editor.js';

/** Two have changed the same: whose word counts? */
export function ConflictDialog({ editor }: { editor: SettingsEditor }) {
  const attributes = editor.conflict.value?.attributes ?? [];
  const keep = () =>
    attempt('Saving', async () => {
      if (await editor.resolve(true)) tell('Saved.');
    });
  return (
    <Dialog title="Changed by someone else" onClose={() => (editor.conflict.value = undefined)} testId="conflict">
      <div class="stack">
        <p>
          While you edited, someone changed what you have changed, too: <strong>{attributes.join(', ')}</strong>. Nothing of yours is saved yet.
        </p>
        <div class="buttons end">
          <button type="button" class="plain" onClick={() => void editor.resolve(false)} data-testid="conflict-theirs">
            Take theirs
          </button>
          <button type="button" class="primary" onClick={() => void keep()} data-testid="conflict-mine">
            Save mine over it
          </button>
        </div>
      </div>
    </Dialog>
  );
}
