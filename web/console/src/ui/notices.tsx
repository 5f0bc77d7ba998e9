import { dismiss, notices } from '../state/notices.js';
import { Icon } from './icons.js';

/** What went well, and what did not: read out by screen readers as it comes. */
export function Notices() {
  return (
    <div class="notices" role="status" aria-live="polite" data-testid="notices">
      {notices.value.map((notice) => (
        <div key={notice.id} class={`notice ${notice.kind}`}>
          <Icon name={notice.kind === 'good' ? 'check' : 'warning'} />
          <p>{notice.text}</p>
          <button type="button" class="plain icon-only" aria-label="Dismiss" onClick={() => dismiss(notice.id)}>
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}
