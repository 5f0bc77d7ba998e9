import { useRef } from 'preact/hooks';

export interface Tab {
  id: string;
  label: string;
  count?: number;
  /** Something in it needs a look. */
  flawed?: boolean;
}

interface TabsProps {
  tabs: Tab[];
  current: string;
  onSelect: (id: string) => void;
  label: string;
}

/** Tabs with one stop for the Tab key; arrows move between them (WAI-ARIA, "Tabs"). The panel has the id `panel-<tab>`. */
export function Tabs({ tabs, current, onSelect, label }: TabsProps) {
  const list = useRef<HTMLDivElement>(null);
  const step = (event: KeyboardEvent) => {
    const index = tabs.findIndex((tab) => tab.id === current);
    const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    if (!next) return;
    onSelect(next.id);
    list.current?.querySelector<HTMLElement>(`#tab-${next.id}`)?.focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label={label} ref={list} onKeyDown={step}>
      {tabs.map((tab) => (
        <button
          key={tab.id}
          type="button"
          role="tab"
          id={`tab-${tab.id}`}
          aria-selected={tab.id === current}
          aria-controls={tab.id === current ? `panel-${tab.id}` : undefined}
          tabIndex={tab.id === current ? 0 : -1}
          onClick={() => onSelect(tab.id)}
        >
          {tab.label}
          {tab.count !== undefined && <span class="badge">{tab.count}</span>}
          {tab.flawed && <span class="flaw" role="img" aria-label="has errors" />}
        </button>
      ))}
    </div>
  );
}
