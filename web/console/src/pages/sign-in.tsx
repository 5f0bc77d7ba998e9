import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { ApiError, explain } from '../api/error.js';
import { farewell, managementApi, signIn } from '../state/session.js';
import { Field } from '../ui/fields.js';
import { ThemeSwitch } from './shell.js';

/** Who are you? */
export function SignInPage() {
  const id = useSignal('');
  const key = useSignal('');
  const error = useSignal(farewell.value);
  const unreachable = useSignal('');
  const isBusy = useSignal(false);
  const first = useRef<HTMLInputElement>(null);
  useEffect(() => {
    document.title = 'Sign in · Kaigi console';
    first.current?.focus();
  }, []);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (isBusy.value) return;
    error.value = '';
    unreachable.value = '';
    if (!id.value.trim() || !key.value.trim()) {
      error.value = 'Both the service id and the key are needed.';
      return;
    }
    isBusy.value = true;
    try {
      await signIn({ id: id.value.trim(), key: key.value.trim() });
    } catch (failure) {
      error.value = explain(failure);
      if (failure instanceof ApiError && failure.isOffline) unreachable.value = await managementApi().catch(() => '');
    } finally {
      isBusy.value = false;
    }
  };
  return (
    <main class="sign-in">
      <form class="card stack" onSubmit={(event) => void submit(event)} noValidate>
        <div class="sign-in-head">
          <img src="icon.svg" alt="" width="48" height="48" />
          <div>
            <h1>Kaigi console</h1>
            <p class="soft">Rooms, people and streams, for those who run them.</p>
          </div>
        </div>
        <Field label="Service id">
          {(props) => (
            <input {...props} ref={first} name="username" autocomplete="username" autocapitalize="none" spellcheck={false} value={id} onInput={(event) => (id.value = event.currentTarget.value)} data-testid="service-id" />
          )}
        </Field>
        <Field label="Key" hint="It stays in this tab: requests are signed here, the key itself is never sent.">
          {(props) => (
            <input {...props} type="password" name="password" autocomplete="current-password" value={key} onInput={(event) => (key.value = event.currentTarget.value)} data-testid="service-key" />
          )}
        </Field>
        {error.value && (
          <p class="error" role="alert" data-testid="sign-in-error">
            {error}
            {unreachable.value.startsWith('https:') && (
              <>
                {' '}
                If its certificate is self-signed, <a href={unreachable} target="_blank" rel="noreferrer">open it once</a> and accept the certificate there.
              </>
            )}
          </p>
        )}
        <button type="submit" class="primary" aria-busy={isBusy.value || undefined} data-testid="sign-in">
          {isBusy.value ? 'Signing in…' : 'Sign in'}
        </button>
        <p class="hint">
          <code>kaigi service show</code> on the server tells the id and the key of the first service.
        </p>
        {!globalThis.isSecureContext && <p class="problem">This page came without encryption: whoever is on the way could change it. Use https outside of a trusted network.</p>}
      </form>
      <ThemeSwitch />
    </main>
  );
}
