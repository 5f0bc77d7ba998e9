import { computed, signal } from '@preact/signals';
import { Api, type ConsoleConfig, apiBase } from '../api/client.js';
import { ApiError } from '../api/error.js';
import type { Credentials } from '../api/sign.js';
import type { Service } from '../model/admin.js';

/** Who is signed in: the service as the server tells it, and the way to the management API. */
export interface Session {
  service: Service;
  api: Api;
  credentials: Credentials;
  config: ConsoleConfig;
}

const KEY = 'kaigi-console';

/** `undefined` while it is being found out, `null` for nobody. */
export const session = signal<Session | null | undefined>(undefined);
export const isSuper = computed(() => session.value?.service.super === true);

let config: Promise<ConsoleConfig> | undefined;

/** What the portal says about itself; asked once. */
export function readConfig(): Promise<ConsoleConfig> {
  config ??= fetch('config.json', { cache: 'no-store' }).then((response) => {
    if (!response.ok) throw new ApiError(`The server does not tell where its management API is (${response.status}).`, response.status);
    return response.json() as Promise<ConsoleConfig>;
  });
  config.catch(() => (config = undefined));
  return config;
}

/** Where the management API is, for this page. */
export async function managementApi(): Promise<string> {
  return apiBase(await readConfig(), location.hostname);
}

/** Signs in by asking for the service itself; the server's word counts. */
export async function signIn(credentials: Credentials): Promise<void> {
  const found = await readConfig();
  const api = new Api(apiBase(found, location.hostname), credentials);
  const service = await api.get<Service>(`/services/${encodeURIComponent(credentials.id)}`);
  remember(credentials);
  session.value = { service, api: watched(api), credentials, config: found };
}

/** Who is refused while signed in, has another key by now. */
function watched(api: Api): Api {
  api.onUnauthorized = (error) => {
    if (session.value?.api === api) signOut(`You have been signed out: the server refused the key. ${error.message}`);
  };
  return api;
}

/** Forgets everything. `why` is told on the page for signing in. */
export function signOut(why = ''): void {
  forget();
  farewell.value = why;
  session.value = null;
}

/** Why nobody is signed in any more. */
export const farewell = signal('');

/** Signs in with what this tab remembers. */
export async function resume(): Promise<void> {
  const credentials = remembered();
  if (!credentials) return void (session.value = null);
  try {
    await signIn(credentials);
  } catch (failure) {
    signOut(failure instanceof Error ? failure.message : String(failure));
  }
}

/** The service changed its key, or its name. */
export function renew(change: { key?: string; service?: Service }): void {
  const now = session.value;
  if (!now) return;
  const credentials = change.key ? { ...now.credentials, key: change.key } : now.credentials;
  remember(credentials);
  session.value = {
    ...now,
    credentials,
    api: change.key ? watched(new Api(now.api.base, credentials)) : now.api,
    service: change.service ?? now.service,
  };
}

// The tab's own storage: gone with the tab, and no other page's.
function remember(credentials: Credentials): void {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(credentials));
  } catch {
    // Signing in again after a reload is all that it costs.
  }
}

function forget(): void {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // Nothing was remembered.
  }
}

function remembered(): Credentials | undefined {
  try {
    const { id, key } = JSON.parse(sessionStorage.getItem(KEY) ?? '{}') as Partial<Credentials>;
    return id && key ? { id, key } : undefined;
  } catch {
    return undefined;
  }
}

/** The management API of who is signed in; pages behind the sign-in have one. */
export function useApi(): Api {
  const now = session.value;
  if (!now) throw new Error('nobody is signed in');
  return now.api;
}
