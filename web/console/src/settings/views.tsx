import { useSignal } from '@preact/signals';
import { ViewLayouts } from '../layout/view-layouts.js';
import { type View, formatName, newView, newViewVideo, sameFormat } from '../model/room.js';
import { Action } from '../ui/buttons.js';
import { Field, Toggle } from '../ui/fields.js';
import { BoundChoice, BoundNumber, BoundText, BoundToggle, ColourField } from './bound.js';
import { DecorationFields } from './decoration.js';
import { useEditor } from './editor.js';
import { Group } from './group.js';

/** The mixed streams of the room. */
export function ViewsSection() {
  const editor = useEditor();
  const views = editor.draft.value.views;
  const setViews = (next: View[]) => editor.set(['views'], next);
  return (
    <>
      {views.map((view, i) => (
        <ViewGroup key={i} index={i} view={view} onRemove={() => setViews(views.filter((_, other) => other !== i))} />
      ))}
      {views.length === 0 && <p class="empty">Nothing is mixed in this room: streams are forwarded only.</p>}
      <Action class="plain" icon="plus" onClick={() => setViews([...views, newView(editor.draft.value)])} testId="add-view">
        Add view
      </Action>
    </>
  );
}

function ViewGroup({ index, view, onRemove }: { index: number; view: View; onRemove: () => void }) {
  const editor = useEditor();
  const room = editor.draft.value;
  const path = ['views', index];
  return (
    <Group title={`View “${view.label}”`} hint="One mixed stream, of sound and perhaps a picture." tools={<Action icon="trash" label={`Remove view ${view.label}`} onClick={onRemove} />}>
      <div class="row wide">
        <BoundText path={[...path, 'label']} label="Label" />
        <BoundChoice path={[...path, 'audio', 'format']} label="Sound" choices={room.mediaOut.audio} same={sameFormat} name={formatName} />
      </div>
      <BoundToggle path={[...path, 'audio', 'vad']} label="Announce who speaks" hint="Voice activity detection" />
      <Toggle
        label="Picture"
        hint="Without it, the view is only heard"
        value={view.video !== false}
        onChange={(on) => editor.set([...path, 'video'], on ? newViewVideo(room) : false)}
        testId={`views.${index}.video`}
      />
      {view.video && <VideoFields index={index} />}
    </Group>
  );
}

const SIZES = ['320x240', '640x360', '640x480', '1280x720', '1920x1080', '2560x1440', '3840x2160'];

function VideoFields({ index }: { index: number }) {
  const editor = useEditor();
  const room = editor.draft.value;
  const view = room.views[index];
  const isOpen = useSignal(true);
  if (!view?.video) return null;
  const video = view.video;
  const path = ['views', index, 'video'];
  const { width, height } = video.parameters.resolution;
  const size = `${width}x${height}`;
  return (
    <>
      <div class="row">
        <Field label="Size">
          {(props) => (
            <select
              {...props}
              value={SIZES.includes(size) ? size : ''}
              data-testid={`${path.join('.')}.size`}
              onChange={(event) => {
                const [w, h] = event.currentTarget.value.split('x').map(Number);
                if (w && h) editor.set([...path, 'parameters', 'resolution'], { width: w, height: h });
              }}
            >
              {!SIZES.includes(size) && <option value="">Other</option>}
              {SIZES.map((value) => (
                <option key={value} value={value}>
                  {value.replace('x', ' × ')}
                </option>
              ))}
            </select>
          )}
        </Field>
        <BoundNumber path={[...path, 'parameters', 'resolution', 'width']} label="Width" unit="px" min={16} max={7680} />
        <BoundNumber path={[...path, 'parameters', 'resolution', 'height']} label="Height" unit="px" min={16} max={4320} />
      </div>
      <div class="row">
        <BoundChoice path={[...path, 'format']} label="Codec" choices={room.mediaOut.video.format} same={sameFormat} name={formatName} />
        <BoundNumber path={[...path, 'parameters', 'framerate']} label="Frame rate" unit="fps" min={1} max={120} />
        <BoundNumber path={[...path, 'parameters', 'bitrate']} label="Bitrate" unit="kbit/s" min={1} placeholder="by size and rate" />
        <BoundNumber path={[...path, 'parameters', 'keyFrameInterval']} label="Key frames every" unit="s" min={1} />
      </div>
      <div class="row">
        <BoundNumber path={[...path, 'maxInput']} label="Inputs shown at most" min={1} max={256} />
        <BoundNumber path={[...path, 'motionFactor']} label="Motion factor" hint="On the usual bitrate" step="any" min={0} />
        <ColourField path={[...path, 'bgColor']} label="Background" />
      </div>
      <BoundToggle path={[...path, 'keepActiveInputPrimary']} label="Keep the speaker primary" hint="The loudest input moves to the first region" />
      <details class="layouts">
        <summary>
          <h4>Names, avatars, logo</h4>
        </summary>
        <DecorationFields video={video} path={[...path, 'decoration']} />
      </details>
      <details open={isOpen.value} onToggle={(event) => (isOpen.value = event.currentTarget.open)} class="layouts">
        <summary>
          <h4>Layout</h4>
        </summary>
        <ViewLayouts video={video} onChange={(layout) => editor.set([...path, 'layout'], layout)} />
      </details>
    </>
  );
}
