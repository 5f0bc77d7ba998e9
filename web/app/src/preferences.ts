/** What is remembered on this device for the next visit. */
export interface Preferences {
  name?: string;
  camera?: string;
  microphone?: string;
  speaker?: string;
}

const KEY = 'kaigi';

/** Storage may be forbidden or hold anything; then nothing is remembered. */
export function loadPreferences(): Preferences {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(KEY) ?? '{}');
    if (typeof stored !== 'object' || stored === null) return {};
    return Object.fromEntries(Object.entries(stored).filter(([, value]) => typeof value === 'string'));
  } catch {
    return {};
  }
}

export function savePreferences(preferences: Preferences): void {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...loadPreferences(), ...preferences }));
  } catch {
    // Remembering is a convenience.
  }
}
