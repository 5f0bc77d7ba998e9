import { useSignal } from '@preact/signals';
import { explain } from '../api/error.js';
import type { Room } from '../model/room.js';
import { go, link } from '../state/router.js';
import { useApi } from '../state/session.js';
import { tell } from '../state/notices.js';
import { Dialog, FormEnd } from '../ui/dialog.js';
import { SelectField, TextField, Toggle } from '../ui/fields.js';

const SIZES: Record<string, { width: number; height: number }> = {
  '640x480': { width: 640, height: 480 },
  '1280x720': { width: 1280, height: 720 },
  '1920x1080': { width: 1920, height: 1080 },
};

/** A new room: what is asked here is what one would change first. The rest is in its settings. */
export function CreateRoom({ onClose }: { onClose: () => void }) {
  const api = useApi();
  const name = useSignal('');
  const size = useSignal('1280x720');
  const autoMix = useSignal(true);
  const error = useSignal('');
  const submit = async (event: Event) => {
    event.preventDefault();
    if (!name.value.trim()) {
      error.value = 'A room needs a name.';
      return;
    }
    const resolution = SIZES[size.value];
    // Everything else of the view is the server's default.
    const views = resolution ? [{ label: 'common', video: { parameters: { resolution } } }] : [];
    try {
      const room = await api.call<Room>('POST', '/v1/rooms', { body: { name: name.value.trim(), options: { autoMix: autoMix.value, views } } });
      tell(`“${room.name}” is there.`);
      onClose();
      go(link('rooms', room._id, 'settings'));
    } catch (failure) {
      error.value = explain(failure);
    }
  };
  return (
    <Dialog title="New room" onClose={onClose} testId="create-room-dialog">
      <form class="stack" onSubmit={(event) => void submit(event)}>
        <TextField label="Name" value={name.value} onChange={(value) => (name.value = value)} error={error.value || undefined} testId="new-room-name" />
        <SelectField
          label="Mixed picture"
          value={size.value}
          onChange={(value) => (size.value = value)}
          options={[
            { value: '1280x720', label: 'HD, 1280 × 720' },
            { value: '1920x1080', label: 'Full HD, 1920 × 1080' },
            { value: '640x480', label: 'VGA, 640 × 480' },
            { value: 'none', label: 'None: streams are forwarded only' },
          ]}
          testId="new-room-size"
        />
        <Toggle label="Mix everybody" hint="Without a request for each publication" value={autoMix.value} onChange={(value) => (autoMix.value = value)} testId="new-room-automix" />
        <FormEnd onClose={onClose} action="Create" testId="new-room-create" />
      </form>
    </Dialog>
  );
}
