import { useSignal } from '@preact/signals';
import { explain } from '../api/error.js';
import { tell } from '../state/notices.js';
import { Dialog, FormEnd } from '../ui/dialog.js';
import { type Option, SelectField, TextField } from '../ui/fields.js';
import type { Input } from './inputs.js';
import { useLive } from './panel.js';

const SOURCES: Option[] = [
  { value: 'url', label: 'an address, from where it is pulled' },
  { value: 'rtmp', label: 'an encoder that pushes by RTMP' },
  { value: 'srt', label: 'an encoder that pushes by SRT' },
];
const WISHES: Option[] = [
  { value: 'auto', label: 'if there is one' },
  { value: 'true', label: 'yes' },
  { value: 'false', label: 'no' },
];

/** Where a stream is to come from. What an encoder is to push with is handed on; what the server refuses is told in its words. */
export function InputForm({ onClose, onStarted }: { onClose: () => void; onStarted: (pushed: Input | undefined) => void }) {
  const { store } = useLive();
  const source = useSignal('url');
  const url = useSignal('rtsp://');
  const audio = useSignal('auto');
  const video = useSignal('auto');
  const error = useSignal('');
  const isBusy = useSignal(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    const connection = source.value === 'url' ? { url: url.value.trim() } : { listen: source.value };
    const media = { audio: wish(audio.value), video: wish(video.value) };
    error.value = '';
    isBusy.value = true;
    try {
      const begun = await store.api.call<Input>('POST', `${store.path}/streaming-ins`, { body: { connection, media } });
      const isPushed = source.value !== 'url';
      if (!isPushed) tell('It has come in.');
      store.refresh();
      onClose();
      onStarted(isPushed ? begun : undefined);
    } catch (failure) {
      error.value = explain(failure);
    } finally {
      isBusy.value = false;
    }
  };
  return (
    <Dialog title="Bring a stream in" onClose={onClose} testId="input-dialog">
      <form class="stack" onSubmit={(event) => void submit(event)}>
        <SelectField label="From" value={source.value} onChange={(value) => (source.value = value)} options={SOURCES} testId="input-source" />
        {source.value === 'url' && (
          <TextField label="Address" type="url" value={url.value} onChange={(value) => (url.value = value)} hint="rtsp, rtmp, srt, or http for HLS and files; this may take half a minute" testId="input-url" />
        )}
        <SelectField label="Picture" value={video.value} onChange={(value) => (video.value = value)} options={WISHES} />
        <SelectField label="Sound" value={audio.value} onChange={(value) => (audio.value = value)} options={WISHES} />
        <FormEnd error={error.value} errorTestId="input-error" onClose={onClose} action="Bring in" isBusy={isBusy.value} testId="input-start" />
      </form>
    </Dialog>
  );
}

function wish(value: string): 'auto' | boolean {
  return value === 'auto' ? value : value === 'true';
}
