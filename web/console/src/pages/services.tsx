import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { explain } from '../api/error.js';
import type { Service } from '../model/admin.js';
import { link } from '../state/router.js';
import { tell } from '../state/notices.js';
import { renew, session, useApi } from '../state/session.js';
import { Confirm, Dialog, FormEnd } from '../ui/dialog.js';
import { TextField } from '../ui/fields.js';
import { Icon } from '../ui/icons.js';
import { Secret } from '../ui/secret.js';

type Doing = { what: 'create' } | { what: 'delete' | 'rotate'; service: Service } | { what: 'show'; service: Service; title: string };

/** The tenants: a super service makes and removes them. */
export function ServicesPage() {
  const api = useApi();
  const services = useSignal<Service[] | undefined>(undefined);
  const error = useSignal('');
  const doing = useSignal<Doing | undefined>(undefined);
  const round = useSignal(0);
  useEffect(() => {
    api.get<Service[]>('/services').then(
      (found) => (services.value = found),
      (failure: unknown) => (error.value = explain(failure)),
    );
  }, [api, round.value]);
  const close = () => (doing.value = undefined);
  const now = doing.value;

  const rotate = async (service: Service) => {
    const made = await api.call<Service>('POST', `/services/${service.id}/key`, { body: {} });
    if (service.id === session.value?.service.id && made.key) renew({ key: made.key });
    // After the question has been closed.
    setTimeout(() => (doing.value = { what: 'show', service: made, title: `The new key of “${service.name}”` }));
  };
  const remove = async (service: Service) => {
    await api.call('DELETE', `/services/${service.id}`);
    tell(`“${service.name}” is deleted.`);
    round.value += 1;
  };

  return (
    <div class="page">
      <header class="page-head">
        <h1 tabIndex={-1}>Services</h1>
        <button type="button" class="primary" onClick={() => (doing.value = { what: 'create' })} data-testid="create-service">
          <Icon name="plus" />
          New service
        </button>
      </header>
      <p class="soft">Each service has its own rooms and a key with which its servers sign their requests.</p>
      {error.value && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      {services.value && (
        <ul class="cards" data-testid="services">
          {services.value.map((service) => (
            <li class="card service" key={service.id} data-testid="service">
              <h2>
                {service.name} {service.super && <span class="badge">super</span>}
              </h2>
              <code class="soft">{service.id}</code>
              <p class="soft">{service.rooms.length === 1 ? '1 room' : `${service.rooms.length} rooms`}</p>
              <div class="buttons">
                <a class="plain" href={link('webhooks', service.id)}>
                  Webhooks
                </a>
                <button type="button" class="plain" onClick={() => (doing.value = { what: 'rotate', service })} data-testid="rotate-key" aria-label={`New key for ${service.name}`}>
                  New key
                </button>
                {!service.super && (
                  <button type="button" class="plain icon-only" title="Delete" aria-label={`Delete ${service.name}`} onClick={() => (doing.value = { what: 'delete', service })} data-testid="delete-service">
                    <Icon name="trash" />
                  </button>
                )}
              </div>
            </li>
          ))}
        </ul>
      )}
      {now?.what === 'create' && (
        <CreateService
          onClose={close}
          onMade={(service) => {
            doing.value = { what: 'show', service, title: `The key of “${service.name}”` };
            round.value += 1;
          }}
        />
      )}
      {now?.what === 'show' && (
        <Dialog title={now.title} onClose={close} testId="key-dialog">
          <div class="stack">
            <p class="problem">It is shown this once. Keep it where your server finds it, and nobody else does.</p>
            <Secret label="Service id" text={now.service.id} />
            <Secret label="Key" text={now.service.key ?? ''} testId="new-key" />
            <div class="buttons end">
              <button type="button" class="primary" onClick={close}>
                Done
              </button>
            </div>
          </div>
        </Dialog>
      )}
      {now?.what === 'rotate' && (
        <Confirm title={`A new key for “${now.service.name}”?`} action="Make a new key" onConfirm={() => rotate(now.service)} onClose={close}>
          <p>The old key is void at once: servers that sign with it are refused until they have the new one.</p>
        </Confirm>
      )}
      {now?.what === 'delete' && (
        <Confirm title={`Delete “${now.service.name}”?`} action="Delete the service" typed={now.service.name} onConfirm={() => remove(now.service)} onClose={close}>
          <p>Its key is void at once. Its rooms stay, and are yours to delete.</p>
        </Confirm>
      )}
    </div>
  );
}

function CreateService({ onClose, onMade }: { onClose: () => void; onMade: (service: Service) => void }) {
  const api = useApi();
  const name = useSignal('');
  const error = useSignal('');
  const submit = async (event: Event) => {
    event.preventDefault();
    if (!name.value.trim()) {
      error.value = 'A service needs a name.';
      return;
    }
    try {
      onMade(await api.call<Service>('POST', '/services', { body: { name: name.value.trim() } }));
    } catch (failure) {
      error.value = explain(failure);
    }
  };
  return (
    <Dialog title="New service" onClose={onClose} testId="create-service-dialog">
      <form class="stack" onSubmit={(event) => void submit(event)}>
        <TextField label="Name" value={name.value} onChange={(value) => (name.value = value)} error={error.value || undefined} testId="new-service-name" />
        <FormEnd onClose={onClose} action="Create" testId="new-service-create" />
      </form>
    </Dialog>
  );
}
