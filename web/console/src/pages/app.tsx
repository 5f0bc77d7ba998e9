import { segments } from '../state/router.js';
import { session } from '../state/session.js';
import { Notices } from '../ui/notices.js';
import { ClusterPage } from './cluster.js';
import { RoomPage } from './room.js';
import { RoomsPage } from './rooms.js';
import { ServicesPage } from './services.js';
import { Shell } from './shell.js';
import { SignInPage } from './sign-in.js';
import { WebhooksPage } from './webhooks.js';

/** The whole page. */
export function App() {
  const now = session.value;
  return (
    <>
      {now === undefined ? <p class="waiting">Signing in…</p> : now === null ? <SignInPage /> : <Shell><Page /></Shell>}
      <Notices />
    </>
  );
}

function Page() {
  const [section = 'rooms', id, tab, ...rest] = segments.value;
  if (section === 'rooms' && id) return <RoomPage key={id} id={id} tab={tab ?? 'live'} rest={rest} />;
  if (section === 'rooms') return <RoomsPage />;
  if (section === 'cluster') return <ClusterPage />;
  if (section === 'services') return <ServicesPage />;
  if (section === 'webhooks') return <WebhooksPage service={id} />;
  return (
    <div class="page">
      <h1 tabIndex={-1}>There is no such page</h1>
      <a href="#/rooms">Rooms</a>
    </div>
  );
}
