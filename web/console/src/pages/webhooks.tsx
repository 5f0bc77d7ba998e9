import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { ApiError, explain } from '../api/error.js';
import type { Webhook } from '../model/admin.js';
import { tell } from '../state/notices.js';
import { session, useApi } from '../state/session.js';
import { Action } from '../ui/buttons.js';
import { Confirm, Dialog } from '../ui/dialog.js';
import { Toggle } from '../ui/fields.js';
import { Icon } from '../ui/icons.js';
import { Secret } from '../ui/secret.js';
import { WebhookForm } from './webhook-form.js';
import { WebhookStatus } from './webhook-status.js';

type Doing =
  | { what: 'create' }
  | { what: 'edit' | 'delete' | 'secret'; hook: Webhook }
  | { what: 'show'; secret: string };

/** Where a service's events are sent to: its own, or for a super service any. */
export function WebhooksPage({ service }: { service?: string | undefined }) {
  const api = useApi();
  const id = service ?? session.value?.service.id ?? '';
  const base = `/services/${encodeURIComponent(id)}/webhooks`;
  const hooks = useSignal<Webhook[] | undefined>(undefined);
  const error = useSignal('');
  const doing = useSignal<Doing | undefined>(undefined);
  const round = useSignal(0);
  useEffect(() => {
    const load = async () => {
      const listed = await api.get<Webhook[]>(base);
      // The list may be short: each is asked for its status.
      hooks.value = await Promise.all(listed.map((hook) => api.get<Webhook>(`${base}/${hook.id}`).catch(() => hook)));
      error.value = '';
    };
    load().catch((failure: unknown) => {
      error.value = failure instanceof ApiError && failure.isAbsent ? 'This server has no webhooks.' : explain(failure);
    });
  }, [api, base, round.value]);
  const again = () => (round.value += 1);
  const close = () => (doing.value = undefined);
  const now = doing.value;

  const renewSecret = async (hook: Webhook) => {
    const { secret = '' } = await api.call<{ secret?: string }>('POST', `${base}/${hook.id}/secret`, { body: {} });
    setTimeout(() => (doing.value = { what: 'show', secret }));
  };

  return (
    <div class="page">
      <header class="page-head">
        <h1 tabIndex={-1}>Webhooks</h1>
        <div class="page-tools">
          <Action class="plain" icon="refresh" label="Look again" onClick={again} />
          <button type="button" class="primary" disabled={!hooks.value} onClick={() => (doing.value = { what: 'create' })} data-testid="create-webhook">
            <Icon name="plus" />
            New webhook
          </button>
        </div>
      </header>
      <p class="soft">
        What happens in the rooms of {service && service !== session.value?.service.id ? <code>{service}</code> : 'this service'} is sent to these addresses, signed as the Standard Webhooks specification has it.
      </p>
      {error.value && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      {hooks.value?.length === 0 && <p class="empty">There is no webhook yet.</p>}
      <ul class="cards wide" data-testid="webhooks">
        {hooks.value?.map((hook) => (
          <li class="card hook" key={hook.id} data-testid="webhook">
            <div class="hook-head">
              <h2>{hook.url}</h2>
              <Toggle
                compact
                label={`${hook.url} gets events`}
                value={hook.active !== false}
                onChange={(active) => void api.call('PUT', `${base}/${hook.id}`, { body: { active } }).then(again, (failure: unknown) => (error.value = explain(failure)))}
                testId="webhook-active"
              />
            </div>
            <p class="chips">
              {(hook.events?.length ? hook.events : ['all events']).map((type) => (
                <span class="badge" key={type}>
                  {type}
                </span>
              ))}
            </p>
            {hook.deactivated && <p class="problem">Switched off: {hook.deactivated}</p>}
            <WebhookStatus hook={hook} />
            <div class="buttons">
              <Action
                what="Ping"
                testId="webhook-ping"
                onClick={async () => {
                  await api.call('POST', `${base}/${hook.id}/ping`, { body: {} });
                  tell('A ping is on its way.');
                  setTimeout(again, 1500);
                }}
              >
                Ping
              </Action>
              <button type="button" class="plain" onClick={() => (doing.value = { what: 'edit', hook })} data-testid="webhook-edit">
                Edit
              </button>
              <button type="button" class="plain" onClick={() => (doing.value = { what: 'secret', hook })}>
                New secret
              </button>
              <button type="button" class="plain icon-only" title="Delete" aria-label={`Delete ${hook.url}`} onClick={() => (doing.value = { what: 'delete', hook })} data-testid="webhook-delete">
                <Icon name="trash" />
              </button>
            </div>
          </li>
        ))}
      </ul>
      {(now?.what === 'create' || now?.what === 'edit') && (
        <WebhookForm
          hook={now.what === 'edit' ? now.hook : undefined}
          base={base}
          onClose={close}
          onSaved={(saved) => {
            again();
            doing.value = saved.secret ? { what: 'show', secret: saved.secret } : undefined;
          }}
        />
      )}
      {now?.what === 'show' && (
        <Dialog title="The webhook’s secret" onClose={close} testId="secret-dialog">
          <div class="stack">
            <p class="problem">It is shown this once. The receiver checks with it that an event comes from here.</p>
            <Secret label="Secret" text={now.secret} testId="new-secret" />
            <div class="buttons end">
              <button type="button" class="primary" onClick={close}>
                Done
              </button>
            </div>
          </div>
        </Dialog>
      )}
      {now?.what === 'secret' && (
        <Confirm title="A new secret?" action="Make a new secret" onConfirm={() => renewSecret(now.hook)} onClose={close}>
          <p>Events are signed with the new one at once; the receiver has to know it.</p>
        </Confirm>
      )}
      {now?.what === 'delete' && (
        <Confirm
          title="Delete the webhook?"
          action="Delete the webhook"
          onConfirm={async () => {
            await api.call('DELETE', `${base}/${now.hook.id}`);
            again();
          }}
          onClose={close}
        >
          <p>
            <code>{now.hook.url}</code> gets no events any more; those that wait are lost.
          </p>
        </Confirm>
      )}
    </div>
  );
}
