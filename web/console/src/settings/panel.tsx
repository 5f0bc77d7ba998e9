import type { ComponentType } from 'preact';
import { useRef } from 'preact/hooks';
import { explain } from '../api/error.js';
import { complain, tell } from '../state/notices.js';
import { go, link } from '../state/router.js';
import { ConflictDialog } from './conflict.js';
import { useEditor } from './editor.js';
import { GeneralSection } from './general.js';
import { JsonSection } from './json.js';
import { MediaSection } from './media.js';
import { RolesSection } from './roles.js';
import { SipSection } from './sip.js';
import { ViewsSection } from './views.js';

interface Section {
  id: string;
  label: string;
  /** The attributes that are set there. */
  attributes: string[];
  content: ComponentType;
}

const SECTIONS: Section[] = [
  { id: 'general', label: 'General', attributes: ['name', 'inputLimit', 'participantLimit', 'autoMix', 'selectActiveAudio', 'enableBandwidthAdaptation', 'notifying'], content: GeneralSection },
  { id: 'views', label: 'Views and layouts', attributes: ['views'], content: ViewsSection },
  { id: 'roles', label: 'Roles', attributes: ['roles'], content: RolesSection },
  { id: 'media', label: 'Media', attributes: ['mediaIn', 'mediaOut', 'transcoding'], content: MediaSection },
  { id: 'sip', label: 'SIP', attributes: ['sip'], content: SipSection },
  { id: 'json', label: 'JSON', attributes: [], content: JsonSection },
];

/** Every setting of the room. What is changed is kept while one looks around, and saved at once. */
export function SettingsPanel({ section }: { section: string }) {
  const editor = useEditor();
  const bar = useRef<HTMLDivElement>(null);
  const room = editor.base.value;
  const current = SECTIONS.find(({ id }) => id === section) ?? SECTIONS[0];
  const isDirty = editor.isDirty.value;
  const problems = Object.entries(editor.problems.value);

  const save = async () => {
    if (!editor.isDirty.value) return;
    try {
      if (await editor.save()) tell('Saved. A room that runs takes it up when it starts anew.');
      else if (!editor.conflict.value) showFirstProblem();
    } catch (failure) {
      complain('Saving', explain(failure));
    }
  };
  /** Goes to the field that is wrong first. */
  const showFirstProblem = () => {
    const first = Object.keys(editor.problems.value)[0];
    if (!first) return;
    const owner = SECTIONS.find(({ attributes }) => attributes.includes(first.split('.')[0] ?? ''));
    if (owner && owner.id !== current?.id) go(link('rooms', room._id, 'settings', owner.id));
    setTimeout(() => document.querySelector<HTMLElement>('[aria-invalid=true]')?.focus(), 50);
  };

  if (!current) return null;
  const Content = current.content;
  return (
    <form
      class="settings"
      noValidate
      onKeyDown={(event) => {
        if (event.key.toLowerCase() !== 's' || !(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        void save();
      }}
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <nav class="sections" aria-label="Settings">
        <ul>
          {SECTIONS.map(({ id, label, attributes }) => (
            <li key={id}>
              <a href={link('rooms', room._id, 'settings', id)} aria-current={id === current.id ? 'page' : undefined} data-testid={`section-${id}`}>
                {label}
                {editor.changed.value.some((name) => attributes.includes(name)) && <span class="dot" role="img" aria-label="changed" />}
                {editor.isFlawed(...attributes) && <span class="flaw" role="img" aria-label="has errors" />}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <div class="section-content">
        <h2 class="unseen">{current.label}</h2>
        {editor.refused.value[''] && (
          <p class="error" role="alert" data-testid="save-error">
            {editor.refused.value['']}
          </p>
        )}
        <Content />
      </div>
      <div class={isDirty ? 'save-bar card shown' : 'save-bar card'} ref={bar} role="group" aria-label="Changes" data-testid="save-bar" hidden={!isDirty}>
        <p role="status">
          {problems.length > 0 ? (
            <span class="bad">{problems.length === 1 ? 'One setting is not right.' : `${problems.length} settings are not right.`}</span>
          ) : (
            <>
              Changed: <strong>{editor.changed.value.join(', ')}</strong>
            </>
          )}
        </p>
        <div class="buttons">
          <button type="button" class="plain" onClick={() => editor.revert()} data-testid="revert">
            Revert
          </button>
          <button type="submit" class="primary" aria-busy={editor.isSaving.value || undefined} data-testid="save">
            Save
          </button>
        </div>
      </div>
      {editor.conflict.value && <ConflictDialog editor={editor} />}
    </form>
  );
}
