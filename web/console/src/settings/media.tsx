import { Toggle } from '../ui/fields.js';
import { BoundToggle } from './bound.js';
import { useEditor } from './editor.js';
import { FormatList } from './formats.js';
import { Group } from './group.js';
import { ValueList } from './values.js';

const SIZE = /^(?:x\d+\/\d+|r\d+x\d+|xga|s?vga|hvga|q?cif|qvga|hd720p|hd1080p)$/;

function whole(text: string): number | undefined {
  return /^\d{1,6}$/.test(text) && Number(text) > 0 ? Number(text) : undefined;
}

/** What may be published and subscribed, and what is converted for it. */
export function MediaSection() {
  return (
    <>
      <Group title="Publications" hint="In which formats streams may be sent to the room, the preferred ones first.">
        <div class="row wide">
          <FormatList path={['mediaIn', 'audio']} kind="audio" label="Audio in" />
          <FormatList path={['mediaIn', 'video']} kind="video" label="Video in" />
        </div>
      </Group>
      <Group title="Subscriptions" hint="What clients may ask for. The formats of views are among these.">
        <div class="row wide">
          <FormatList path={['mediaOut', 'audio']} kind="audio" label="Audio out" />
          <FormatList path={['mediaOut', 'video', 'format']} kind="video" label="Video out" />
        </div>
        <div class="row wide">
          <ValueList path={['mediaOut', 'video', 'parameters', 'resolution']} label="Sizes" hint="A name such as hd720p, x1/2 of the source, or r640x360" read={(text) => (SIZE.test(text) ? text : undefined)} />
          <ValueList path={['mediaOut', 'video', 'parameters', 'framerate']} label="Frame rates" hint="Frames per second" read={whole} />
        </div>
        <div class="row wide">
          <ValueList path={['mediaOut', 'video', 'parameters', 'bitrate']} label="Bitrates" hint="Factors on the usual bitrate, such as x0.8" read={(text) => (/^x\d+(\.\d+)?$/.test(text) ? text : undefined)} />
          <ValueList path={['mediaOut', 'video', 'parameters', 'keyFrameInterval']} label="Key frame intervals" hint="Seconds" read={whole} />
        </div>
      </Group>
      <TranscodingGroup />
    </>
  );
}

const FLAGS = { resolution: true, framerate: true, bitrate: true, keyFrameInterval: true };

/** `transcoding.video` and its `parameters` may be `false` as a whole. */
function TranscodingGroup() {
  const editor = useEditor();
  const video = editor.draft.value.transcoding.video;
  const set = (value: unknown) => editor.set(['transcoding', 'video'], value);
  return (
    <Group title="Transcoding" hint="Which conversions are offered to those who subscribe.">
      <BoundToggle path={['transcoding', 'audio']} label="Audio codecs" />
      <Toggle label="Video" value={video !== false} onChange={(on) => set(on ? { format: true, parameters: FLAGS } : false)} testId="transcoding.video" />
      {video && (
        <div class="nested stack">
          <BoundToggle path={['transcoding', 'video', 'format']} label="Codecs" />
          <Toggle label="Parameters" value={video.parameters !== false} onChange={(on) => editor.set(['transcoding', 'video', 'parameters'], on && FLAGS)} testId="transcoding.video.parameters" />
          {video.parameters && (
            <div class="nested stack">
              <BoundToggle path={['transcoding', 'video', 'parameters', 'resolution']} label="Size" />
              <BoundToggle path={['transcoding', 'video', 'parameters', 'framerate']} label="Frame rate" />
              <BoundToggle path={['transcoding', 'video', 'parameters', 'bitrate']} label="Bitrate" />
              <BoundToggle path={['transcoding', 'video', 'parameters', 'keyFrameInterval']} label="Key frame interval" />
            </div>
          )}
        </div>
      )}
    </Group>
  );
}
