import { useSignal } from '@preact/signals';
import type { Path } from '../model/draft.js';
import { type AudioFormat, type VideoFormat, formatName, sameFormat } from '../model/room.js';
import { Action } from '../ui/buttons.js';
import { useEditor } from './editor.js';

type Format = AudioFormat & VideoFormat;

const AUDIO: Format[] = [
  { codec: 'opus', sampleRate: 48000, channelNum: 2 },
  { codec: 'pcmu' },
  { codec: 'pcma' },
  { codec: 'g722', sampleRate: 16000, channelNum: 1 },
  { codec: 'isac', sampleRate: 16000 },
  { codec: 'isac', sampleRate: 32000 },
  { codec: 'ilbc' },
  { codec: 'aac' },
  { codec: 'aac', sampleRate: 48000, channelNum: 2 },
  { codec: 'ac3' },
  { codec: 'nellymoser' },
];
const VIDEO: Format[] = [
  { codec: 'vp8' },
  { codec: 'vp9' },
  { codec: 'h264' },
  { codec: 'h264', profile: 'CB' },
  { codec: 'h264', profile: 'B' },
  { codec: 'h264', profile: 'M' },
  { codec: 'h264', profile: 'H' },
  { codec: 'av1' },
  { codec: 'h265' },
];

/** An ordered list of formats: what is there can be moved and removed, what is not can be added. */
export function FormatList({ path, kind, label }: { path: Path; kind: 'audio' | 'video'; label: string }) {
  const editor = useEditor();
  const formats = (editor.get(path) as Format[] | undefined) ?? [];
  const chosen = useSignal('0');
  const others = (kind === 'audio' ? AUDIO : VIDEO).filter((known) => !formats.some((format) => sameFormat(format, known)));
  const set = (next: Format[]) => editor.set(path, next);
  const move = (from: number, to: number) => {
    const next = [...formats];
    const [moved] = next.splice(from, 1);
    if (moved) next.splice(to, 0, moved);
    set(next);
  };
  return (
    <fieldset class="list-edit" data-testid={path.join('.')}>
      <legend>{label}</legend>
      <ol>
        {formats.map((format, i) => (
          <li key={formatName(format)}>
            <span>{formatName(format)}</span>
            <span class="buttons nowrap">
              <Action icon="up" label={`${formatName(format)}: earlier`} disabled={i === 0} onClick={() => move(i, i - 1)} />
              <Action icon="close" label={`Remove ${formatName(format)}`} onClick={() => set(formats.filter((_, other) => other !== i))} />
            </span>
          </li>
        ))}
        {formats.length === 0 && <li class="soft">None</li>}
      </ol>
      {others.length > 0 && (
        <div class="add-row">
          <select aria-label={`Format to add to: ${label}`} value={chosen} onChange={(event) => (chosen.value = event.currentTarget.value)}>
            {others.map((format, i) => (
              <option key={formatName(format)} value={String(i)}>
                {formatName(format)}
              </option>
            ))}
          </select>
          <Action
            icon="plus"
            onClick={() => {
              const format = others[Number(chosen.value)] ?? others[0];
              if (format) set([...formats, format]);
              chosen.value = '0';
            }}
          >
            Add
          </Action>
        </div>
      )}
    </fieldset>
  );
}
