import type { Webhook } from '../model/admin.js';
import { dateTime } from '../ui/format.js';

/** How a webhook does, as the server tells it: whatever it counts, and when what happened. */
export function WebhookStatus({ hook }: { hook: Webhook }) {
  const entries = Object.entries(hook.status ?? {}).filter(([, value]) => value !== null && value !== undefined && value !== '');
  if (entries.length === 0) return <p class="soft">Nothing has been sent yet.</p>;
  return (
    <dl class="facts" data-testid="webhook-status">
      {entries.map(([name, value]) => (
        <div key={name} class={/error|fail/i.test(name) && value !== 0 ? 'bad' : undefined}>
          <dt>{spaced(name)}</dt>
          <dd>{shown(name, value)}</dd>
        </div>
      ))}
    </dl>
  );
}

/** `lastSuccess` is read as `Last success`. */
export function spaced(name: string): string {
  const words = name.replace(/([a-z])([A-Z])/g, '$1 $2').toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Numbers as large as Unix ms of this century are times. */
function shown(name: string, value: unknown): string {
  if (typeof value === 'number' && value > 1e12 && !/count|total|bytes/i.test(name)) return dateTime(value);
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
