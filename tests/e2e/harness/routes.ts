/** An operation of the management API as its tests know it. */
export interface Route {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** With the names of its parameters in braces. */
  path: string;
  /** A body of the right form, for those that need one. */
  body?: unknown;
  /** About one room. */
  room: boolean;
  /** Whose lists are shortened, rather than that the route is refused, for tokens that are good for some rooms alone. */
  filtered: boolean;
  /** For the super service alone. */
  superOnly: boolean;
  /** Its answer does not end. */
  endless: boolean;
}

const VERSIONS = ['/v1', '/v1.1'];
const MEDIA = { audio: { from: 'a' }, video: false };
const patch = (path: string, value: unknown): unknown => [{ op: 'replace', path, value }];

type Given = [method: Route['method'], path: string, body?: unknown];

/** Below a room. */
const OF_ROOM: Given[] = [
  ['GET', ''],
  ['PUT', '', { inputLimit: 5 }],
  ['PATCH', '', { inputLimit: 5 }],
  ['DELETE', ''],
  ['GET', '/participants'],
  ['GET', '/participants/{participant}'],
  ['PATCH', '/participants/{participant}', patch('/permission/publish', true)],
  ['DELETE', '/participants/{participant}'],
  ['GET', '/streams'],
  ['GET', '/streams/{stream}'],
  ['PATCH', '/streams/{stream}', patch('/media/audio/status', 'active')],
  ['DELETE', '/streams/{stream}'],
  ['GET', '/streams/{stream}/stats'],
  ['GET', '/stats'],
  ['GET', '/subscriptions'],
  ['GET', '/subscriptions/{subscription}'],
  ['POST', '/tokens', { user: 'Aiko', role: 'presenter' }],
  ['GET', '/streaming-ins'],
  ['POST', '/streaming-ins', { connection: { url: 'rtsp://127.0.0.1:9/x' }, media: { audio: 'auto', video: 'auto' } }],
  ['DELETE', '/streaming-ins/{stream}'],
  ['GET', '/streaming-outs'],
  ['POST', '/streaming-outs', { protocol: 'rtmp', url: 'rtmp://127.0.0.1:9/x', media: MEDIA }],
  ['PATCH', '/streaming-outs/{id}', patch('/media/audio/from', 'a')],
  ['DELETE', '/streaming-outs/{id}'],
  ['GET', '/recordings'],
  ['POST', '/recordings', { container: 'auto', media: MEDIA }],
  ['PATCH', '/recordings/{id}', patch('/media/audio/from', 'a')],
  ['DELETE', '/recordings/{id}'],
  ['GET', '/analytics'],
  ['POST', '/analytics', { algorithm: 'a', media: { audio: false, video: { from: 'a' } } }],
  ['DELETE', '/analytics/{id}'],
  ['GET', '/algorithms'],
  ['GET', '/sipcalls'],
  ['POST', '/sipcalls', { peerURI: 'a@b', mediaIn: { audio: true, video: false }, mediaOut: MEDIA }],
  ['PATCH', '/sipcalls/{id}', patch('/output/media/audio/from', 'a')],
  ['DELETE', '/sipcalls/{id}'],
  ['POST', '/cascading', { options: { evIP: '127.0.0.1', evPort: 9, room: 'a', token: 'b' } }],
  ['GET', '/bridges'],
];

const OF_SERVICES: Given[] = [
  ['GET', '/{service}'],
  ['PUT', '/{service}', { name: 'other' }],
  ['POST', '/{service}/key', {}],
  ['GET', '/{service}/webhooks'],
  ['POST', '/{service}/webhooks', { url: 'http://127.0.0.1:9/' }],
  ['GET', '/{service}/webhooks/{webhook}'],
  ['PUT', '/{service}/webhooks/{webhook}', { active: false }],
  ['DELETE', '/{service}/webhooks/{webhook}'],
  ['POST', '/{service}/webhooks/{webhook}/secret'],
  ['POST', '/{service}/webhooks/{webhook}/ping'],
];

/** Below OWT's stream engine, which Kaigi has not. */
const OF_STREAM_ENGINE: Given[] = [
  ['GET', '/nodes'],
  ['POST', '/tokens', {}],
  ...['publications', 'subscriptions', 'processors', 'participants'].flatMap((list): Given[] => [
    ['GET', `/${list}`],
    ['POST', `/${list}`, {}],
    ['GET', `/${list}/{id}`],
    ['DELETE', `/${list}/{id}`],
  ]),
  ['PATCH', '/publications/{id}', []],
  ['PATCH', '/subscriptions/{id}', []],
];

const route = ([method, path, body]: Given, more: Partial<Route> = {}): Route => ({ method, path, body, room: false, filtered: false, superOnly: false, endless: false, ...more });

/** All operations that need a proof of who asks. */
export const ROUTES: Route[] = [
  ...VERSIONS.flatMap((version) => [
    route(['POST', `${version}/rooms`, { name: 'room' }]),
    route(['GET', `${version}/rooms`], { filtered: true }),
    ...OF_ROOM.map(([method, path, body]) => route([method, `${version}/rooms/{room}${path}`, body], { room: true })),
  ]),
  route(['GET', '/services'], { superOnly: true }),
  route(['POST', '/services', { name: 'service' }], { superOnly: true }),
  route(['DELETE', '/services/{service}'], { superOnly: true }),
  ...OF_SERVICES.map(([method, path, body]) => route([method, `/services${path}`, body])),
  ...OF_STREAM_ENGINE.map(([method, path, body]) => route([method, `/v1.1/stream-engine${path}`, body])),
  route(['GET', '/cluster/nodes'], { superOnly: true }),
  route(['POST', '/cluster/nodes/{node}/drain'], { superOnly: true }),
  route(['GET', '/cluster/can-fit'], { superOnly: true }),
  route(['GET', '/v1/events'], { filtered: true, endless: true }),
];

/** A route's path with these in the place of its parameters; an id that names nothing for those that are not given. */
export function fill(path: string, parameters: Record<string, string> = {}): string {
  return path.replace(/\{(\w+)\}/g, (_, name: string) => parameters[name] ?? 'f'.repeat(24));
}

/** For the names of tests. */
export const named = (routes: Route[]): [string, Route][] => routes.map((one) => [`${one.method} ${one.path}`, one]);
