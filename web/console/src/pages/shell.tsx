import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { path, segments } from '../state/router.js';
import { isSuper, session, signOut } from '../state/session.js';
import { type Theme, theme } from '../state/theme.js';
import { Icon, type IconName } from '../ui/icons.js';

interface Place {
  to: string;
  label: string;
  icon: IconName;
  superOnly?: boolean;
}

const PLACES: Place[] = [
  { to: 'rooms', label: 'Rooms', icon: 'rooms' },
  { to: 'webhooks', label: 'Webhooks', icon: 'webhooks' },
  { to: 'services', label: 'Services', icon: 'services', superOnly: true },
  { to: 'cluster', label: 'Cluster', icon: 'cluster', superOnly: true },
];

/** What is around every page: where one can go, who one is. */
export function Shell({ children }: { children: ComponentChildren }) {
  const main = useRef<HTMLElement>(null);
  const section = segments.value[0] ?? 'rooms';
  const place = `${section}/${segments.value[1] ?? ''}`;
  const isFirst = useRef(true);
  useEffect(() => {
    const heading = main.current?.querySelector('h1');
    document.title = `${heading?.textContent ?? 'Console'} · Kaigi`;
    // Who went to another page is told its name, and goes on from there.
    if (!isFirst.current) heading?.focus();
    isFirst.current = false;
  }, [place]);
  return (
    <div class="shell">
      <header class="side">
        <a class="skip" href={`#${path.value}`} onClick={(event) => (event.preventDefault(), main.current?.focus())}>
          Skip to the content
        </a>
        <a class="brand" href="#/rooms">
          <img src="icon.svg" alt="" width="30" height="30" />
          <span>
            Kaigi <span class="soft">console</span>
          </span>
        </a>
        <nav aria-label="Sections">
          <ul>
            {PLACES.filter(({ superOnly }) => !superOnly || isSuper.value).map(({ to, label, icon }) => (
              <li key={to}>
                <a href={`#/${to}`} aria-current={section === to ? 'page' : undefined} data-testid={`nav-${to}`}>
                  <Icon name={icon} />
                  <span>{label}</span>
                </a>
              </li>
            ))}
          </ul>
        </nav>
        <div class="who">
          <ThemeSwitch />
          <div class="who-name">
            <span class="soft">Signed in as</span>
            <strong data-testid="service-name">{session.value?.service.name}</strong>
          </div>
          <button type="button" class="plain" onClick={() => signOut()} data-testid="sign-out">
            <Icon name="drop" />
            <span>Sign out</span>
          </button>
        </div>
      </header>
      <main ref={main} tabIndex={-1}>
        {children}
      </main>
    </div>
  );
}

const THEMES: { value: Theme; label: string; icon: IconName }[] = [
  { value: 'auto', label: 'As the system has it', icon: 'auto' },
  { value: 'light', label: 'Light', icon: 'sun' },
  { value: 'dark', label: 'Dark', icon: 'moon' },
];

/** Light, dark, or as the system has it. */
export function ThemeSwitch() {
  return (
    <fieldset class="segments icons" data-testid="theme">
      <legend class="unseen">Colours</legend>
      {THEMES.map(({ value, label, icon }) => (
        <label key={value} title={label}>
          <input type="radio" name="theme" value={value} checked={theme.value === value} onChange={() => (theme.value = value)} aria-label={label} />
          <span>
            <Icon name={icon} />
          </span>
        </label>
      ))}
    </fieldset>
  );
}
