import { CORNERS, type Corner, type Decoration, decorationOf } from '../model/decoration.js';
import type { ViewVideo } from '../model/room.js';
import type { Path } from '../model/draft.js';
import { SelectField, TextField, Toggle } from '../ui/fields.js';
import { BoundNumber, ColourField } from './bound.js';
import { useEditor } from './editor.js';

const BORDER = { r: 0, g: 192, b: 96 };

/** What is drawn over the inputs of a view. A document without it has the defaults. */
export function DecorationFields({ video, path }: { video: ViewVideo; path: Path }) {
  const editor = useEditor();
  const decoration = decorationOf(video);
  const { avatars, avatarPicture = '', captions, activeBorder, clock, logo } = decoration;
  const id = (member: string) => [...path, member].join('.');
  const set = (change: Partial<Decoration>) => {
    const next = { ...decoration, ...change };
    if (!next.avatarPicture) delete next.avatarPicture;
    if (!next.logo?.picture) delete next.logo;
    editor.set(path, next);
  };
  return (
    <>
      <Toggle label="Avatars" hint="Initials or a picture in place of inputs that are muted" value={avatars} onChange={(value) => set({ avatars: value })} testId={id('avatars')} />
      <div class="row wide">
        <TextField
          label="Picture for avatars"
          hint="A file of the mixer-nodes’ pictures; * stands for the participant’s name. Empty: initials"
          value={avatarPicture}
          placeholder="*.png"
          disabled={!avatars}
          onChange={(value) => set({ avatarPicture: value })}
          error={editor.problem(...path, 'avatarPicture')}
          testId={id('avatarPicture')}
        />
        <TextField
          label="Logo"
          hint="A file of the mixer-nodes’ pictures. Empty: none"
          value={logo?.picture ?? ''}
          placeholder="logo.png"
          onChange={(picture) => set({ logo: { corner: 'topLeft', height: 10, ...logo, picture } })}
          error={editor.problem(...path, 'logo', 'picture')}
          testId={id('logo.picture')}
        />
      </div>
      {logo && (
        <div class="row">
          <SelectField label="Corner of the logo" options={CORNERS} value={logo.corner} onChange={(corner) => set({ logo: { ...logo, corner: corner as Corner } })} testId={id('logo.corner')} />
          <BoundNumber path={[...path, 'logo', 'height']} label="Height of the logo" unit="%" min={1} max={50} />
        </div>
      )}
      <Toggle label="Names" hint="Participants’ names in their regions" value={captions} onChange={(value) => set({ captions: value })} testId={id('captions')} />
      <Toggle label="Clock" hint="The time of day (UTC) in the upper right corner" value={clock} onChange={(value) => set({ clock: value })} testId={id('clock')} />
      <Toggle
        label="Border around the speaker"
        value={activeBorder !== false}
        onChange={(on) => set({ activeBorder: on ? BORDER : false })}
        testId={id('activeBorder')}
      />
      <div class="row">
        {activeBorder !== false && <ColourField path={[...path, 'activeBorder']} label="Border" />}
        <BoundNumber path={[...path, 'animation']} label="Changes of the layout take" unit="ms" min={0} max={2000} placeholder="0" />
      </div>
    </>
  );
}
