import { useSignal } from '@preact/signals';
import { explain } from '../api/error.js';
import { tell } from '../state/notices.js';
import { Dialog, FormEnd } from '../ui/dialog.js';
import { type Option, SelectField, TextField } from '../ui/fields.js';
import { useLive } from './panel.js';

/** The kinds of outputs, by the last part of their paths. */
export const OUTPUTS = {
  'streaming-outs': { title: 'Streaming', start: 'Start streaming' },
  recordings: { title: 'Recordings', start: 'Start recording' },
  analytics: { title: 'Analytics', start: 'Start analytics' },
} as const;

export type OutputKind = keyof typeof OUTPUTS;

const NOTHING: Option = { value: '', label: 'none' };
const options = (values: string[]): Option[] => values.map((value) => ({ value, label: value }));

/** What is to be sent where. What the server refuses is told in its words. */
export function OutputForm({ kind, onClose, onStarted }: { kind: OutputKind; onClose: () => void; onStarted: () => void }) {
  const { store } = useLive();
  const of = (media: 'audio' | 'video') => store.streams.value.filter((stream) => stream.media[media]).map((stream) => ({ value: stream.id, label: store.streamName(stream.id) }));
  const preferred = store.mixed.value[0]?.id ?? '';
  const url = useSignal('rtmp://');
  const protocol = useSignal('rtmp');
  const container = useSignal('auto');
  const algorithm = useSignal('');
  const audio = useSignal(preferred);
  const video = useSignal(preferred);
  const error = useSignal('');
  const isBusy = useSignal(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    const from = (id: string) => (id ? { from: id } : false);
    const media = { audio: kind === 'analytics' ? false : from(audio.value), video: from(video.value) };
    if (!media.audio && !media.video) return void (error.value = 'Choose a stream.');
    const own = { 'streaming-outs': { protocol: protocol.value, url: url.value.trim() }, recordings: { container: container.value }, analytics: { algorithm: algorithm.value.trim() } }[kind];
    error.value = '';
    isBusy.value = true;
    try {
      await store.api.call('POST', `${store.path}/${kind}`, { body: { ...own, media } });
      tell('Started.');
      onStarted();
      onClose();
    } catch (failure) {
      error.value = explain(failure);
    } finally {
      isBusy.value = false;
    }
  };
  return (
    <Dialog title={OUTPUTS[kind].start} onClose={onClose} testId="output-dialog">
      <form class="stack" onSubmit={(event) => void submit(event)}>
        {kind === 'streaming-outs' && (
          <>
            <SelectField label="Protocol" value={protocol.value} onChange={(value) => (protocol.value = value)} options={options(['rtmp', 'srt', 'rtsp', 'hls'])} />
            <TextField label="Address" type="url" value={url.value} onChange={(value) => (url.value = value)} testId="output-url" />
          </>
        )}
        {kind === 'recordings' && <SelectField label="Container" value={container.value} onChange={(value) => (container.value = value)} options={options(['auto', 'mp4', 'mkv'])} />}
        {kind === 'analytics' && <TextField label="Algorithm" value={algorithm.value} onChange={(value) => (algorithm.value = value)} />}
        <SelectField label="Picture of" value={video.value} onChange={(value) => (video.value = value)} options={[NOTHING, ...of('video')]} />
        {kind !== 'analytics' && <SelectField label="Sound of" value={audio.value} onChange={(value) => (audio.value = value)} options={[NOTHING, ...of('audio')]} />}
        <FormEnd error={error.value} errorTestId="output-error" onClose={onClose} action="Start" isBusy={isBusy.value} testId="output-start" />
      </form>
    </Dialog>
  );
}
