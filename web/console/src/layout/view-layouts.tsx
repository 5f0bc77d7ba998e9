import { useSignal } from '@preact/signals';
import type { BaseTemplate, Template, ViewVideo } from '../model/room.js';
import { addRegion } from '../model/editing.js';
import { choices, flaw, tidied } from '../model/templates.js';
import { Action } from '../ui/buttons.js';
import { Segments } from '../ui/fields.js';
import { Bench } from './bench.js';
import { LayoutPreview } from './preview.js';
import { Thumbnail } from './thumbnail.js';

const BASES: { value: BaseTemplate; label: string }[] = [
  { value: 'fluid', label: 'Fluid' },
  { value: 'lecture', label: 'Lecture' },
  { value: 'void', label: 'None' },
];
const WORDS: Record<BaseTemplate, string> = {
  fluid: 'A grid of equal regions, as large as it has to be.',
  lecture: 'One large region, and small ones right of it and below.',
  void: 'Only the layouts that are drawn here.',
};

interface Props {
  video: ViewVideo;
  onChange: (layout: ViewVideo['layout']) => void;
}

/** All layouts of a view: the built-in ones, and one's own for so many inputs. */
export function ViewLayouts({ video, onChange }: Props) {
  const { layout } = video;
  const { base, custom } = layout.templates;
  /** The one that is open: `built-in-4`, or `custom-0` by its place among the custom ones. */
  const openKey = useSignal('');
  const { width, height } = video.parameters.resolution;
  const aspect = width > 0 && height > 0 ? width / height : 16 / 9;
  const most = Number.isInteger(video.maxInput) ? Math.min(Math.max(video.maxInput, 1), 256) : 16;
  const all = choices(base, custom, most);
  // What the server would leave out, because it is no layout or has no size of its own, is shown although it is no choice.
  const idle = custom.flatMap((template, i) => (all.some((choice) => choice.custom === i) ? [] : [{ template, custom: i }]));
  const strip = [...all, ...idle].map((choice) => ({
    ...choice,
    key: choice.custom === undefined ? `built-in-${choice.template.region.length}` : `custom-${choice.custom}`,
    state: choice.custom === undefined ? 'built-in' : flaw(choice.template) ? 'has errors' : idle.some((one) => one.custom === choice.custom) ? 'not used' : 'custom',
  }));
  const open = strip.find(({ key }) => key === openKey.value);
  const setTemplates = (templates: Partial<ViewVideo['layout']['templates']>) => onChange({ ...layout, templates: { ...layout.templates, ...templates } });
  const replace = (index: number, template: Template) => {
    setTemplates({ custom: custom.map((one, i) => (i === index ? template : one)) });
  };
  const append = (template: Template) => {
    setTemplates({ custom: [...custom, template] });
    openKey.value = `custom-${custom.length}`;
  };
  const fresh = () => {
    const taken = new Set(strip.map(({ template }) => template.region.length));
    let size = 2;
    while (taken.has(size)) size++;
    let template: Template = { region: [] };
    // Side by side, in rows of three at most: a start to be changed.
    const columns = Math.min(3, size);
    const rows = Math.ceil(size / columns);
    for (let i = 0; i < size; i++) {
      template = addRegion(template, {
        left: `${i % columns}/${columns}`,
        top: `${Math.floor(i / columns)}/${rows}`,
        width: `1/${columns}`,
        height: `1/${rows}`,
      });
    }
    append(tidied(template));
  };
  return (
    <div class="view-layouts">
      <div class="layout-options">
        <div class="field">
          <span class="label">Built-in layouts</span>
          <Segments label="Built-in layouts" value={base} onChange={(value) => setTemplates({ base: value as BaseTemplate })} options={BASES} testId="base" />
          <p class="hint">{WORDS[base]}</p>
        </div>
        <div class="field">
          <span class="label">Pictures of another shape</span>
          <Segments
            label="Pictures of another shape"
            value={layout.fitPolicy}
            onChange={(value) => onChange({ ...layout, fitPolicy: value === 'crop' ? 'crop' : 'letterbox' })}
            options={[
              { value: 'letterbox', label: 'Bars' },
              { value: 'crop', label: 'Crop' },
            ]}
            testId="fit"
          />
          <p class="hint">{layout.fitPolicy === 'crop' ? 'Fill their region; what is too much is cut.' : 'Are shown whole, with bars beside them.'}</p>
        </div>
      </div>
      <div class="layouts-and-preview">
        <div class="strip-box">
          <h5>Layouts by number of regions</h5>
          <ul class="strip" data-testid="layouts">
            {strip.map(({ template, key, state }) => {
              const count = template.region.length;
              return (
                <li key={key}>
                  <button type="button" aria-pressed={open?.key === key} onClick={() => (openKey.value = open?.key === key ? '' : key)} data-testid={`layout-${count}`}>
                    <Thumbnail template={template} aspect={aspect} />
                    <span>
                      {count} {count === 1 ? 'region' : 'regions'}
                    </span>
                    <span class={state === 'built-in' ? 'soft' : state === 'custom' ? 'own' : 'flawed'}>{state}</span>
                  </button>
                </li>
              );
            })}
            <li>
              <button type="button" class="fresh" onClick={fresh} data-testid="new-layout">
                <span class="plus" aria-hidden="true">
                  +
                </span>
                <span>New layout</span>
              </button>
            </li>
          </ul>
        </div>
        <LayoutPreview video={video} />
      </div>
      {open && open.custom === undefined && (
        <div class="built-in">
          <p class="soft">The layout of {open.template.region.length} is built in. A copy of it can be changed, and takes its place.</p>
          <Action class="plain" onClick={() => append(tidied(open.template))} testId="customise">
            Change a copy
          </Action>
        </div>
      )}
      {open?.custom !== undefined && (
        <div class="custom-layout">
          <header>
            <h5>Custom layout for {open.template.region.length}</h5>
            <Action
              icon="trash"
              onClick={() => {
                setTemplates({ custom: custom.filter((_, i) => i !== open.custom) });
                openKey.value = '';
              }}
              testId="remove-layout"
            >
              Remove this layout
            </Action>
          </header>
          {open.state === 'not used' && <p class="problem">Another layout has as many regions: this one is not used.</p>}
          {flaw(open.template) && (
            <p class="error" role="alert">
              {flaw(open.template)}
            </p>
          )}
          <Bench
            key={open.custom}
            template={open.template}
            onChange={(template) => replace(open.custom ?? 0, template)}
            aspect={aspect}
            background={video.bgColor}
          />
        </div>
      )}
    </div>
  );
}
