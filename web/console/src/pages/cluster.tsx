import { useSignal } from '@preact/signals';
import { ApiError, explain } from '../api/error.js';
import { type ClusterNode, taskCount } from '../model/admin.js';
import { usePolling } from '../state/polling.js';
import { useApi } from '../state/session.js';
import { ago, percent } from '../ui/format.js';

/** Ms between two looks. */
const INTERVAL = 2000;

const PURPOSES: [string, string, string][] = [
  ['portal', 'Portals', 'Signaling, pages and management'],
  ['conference', 'Conference agents', 'Rooms'],
  ['access', 'Access nodes', 'Media to and from clients'],
  ['mixer', 'Mixer nodes', 'Mixed pictures and sounds'],
];

/** The processes of the cluster. */
export function ClusterPage() {
  const api = useApi();
  const nodes = useSignal<ClusterNode[] | undefined>(undefined);
  const error = useSignal('');
  const now = useSignal(Date.now());
  usePolling(
    async (signal) => {
      try {
        nodes.value = await api.get<ClusterNode[]>('/cluster/nodes', signal);
        error.value = '';
        now.value = Date.now();
      } catch (failure) {
        if (signal.aborted) return true;
        error.value = failure instanceof ApiError && failure.isAbsent ? 'This server does not tell about its processes.' : explain(failure);
        if (failure instanceof ApiError && (failure.isAbsent || failure.status === 403)) return false;
      }
      return true;
    },
    INTERVAL,
    true,
    api,
  );
  const all = nodes.value;
  const others = [...new Set(all?.map((node) => node.purpose))].filter((purpose) => !PURPOSES.some(([known]) => known === purpose));
  return (
    <div class="page">
      <header class="page-head">
        <h1 tabIndex={-1}>Cluster</h1>
        {all && <p class="soft">{all.length} processes</p>}
      </header>
      {error.value && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      {!all && !error.value && <p class="waiting">Loading…</p>}
      <div class="purposes">
        {all &&
          [...PURPOSES, ...others.map((purpose): [string, string, string] => [purpose, purpose, ''])].map(([purpose, title, what]) => (
            <PurposeSection key={purpose} title={title} what={what} nodes={all.filter((node) => node.purpose === purpose)} now={now.value} />
          ))}
      </div>
    </div>
  );
}

function PurposeSection({ title, what, nodes, now }: { title: string; what: string; nodes: ClusterNode[]; now: number }) {
  return (
    <section class="section">
      <h2>
        {title} <span class="badge">{nodes.length}</span>
      </h2>
      <p class="soft">{nodes.length === 0 ? `None: ${what.toLowerCase()} are not served.` : what}</p>
      <ul class="cards">
        {nodes.map((node) => (
          <NodeCard key={node.id} node={node} now={now} />
        ))}
      </ul>
    </section>
  );
}

const RESOURCES: Record<string, string> = {
  cpu: 'Cores',
  packets: 'Packets a second',
  encoders: 'Encoders',
  pipelines: 'Recordings, broadcasts, streams in',
  connections: 'Connections',
};

function amount(number: number): string {
  return number < 10 ? String(Math.round(number * 10) / 10) : Math.round(number).toLocaleString('en');
}

function NodeCard({ node, now }: { node: ClusterNode; now: number }) {
  const most = node.maxLoad ?? 1;
  const state = node.load >= most ? 'full' : node.load >= most * 0.75 ? 'high' : 'good';
  return (
    <li class="card node" data-testid="node" data-purpose={node.purpose}>
      <div class="node-head">
        <h3>
          <code>{node.id}</code>
        </h3>
        {node.draining && <span class="badge warning">draining</span>}
        {node.secure && <span class="badge">TLS</span>}
      </div>
      <div class="load">
        <span>Load</span>
        <div class={`bar ${state}`} role="meter" aria-label={`Load of ${node.id}`} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(node.load * 100)}>
          <div style={{ width: `${Math.min(1, node.load) * 100}%` }} />
          {/* Beyond it, it gets no new tasks. */}
          <span class="most" style={{ left: `${Math.min(1, most) * 100}%` }} />
        </div>
        <strong>{percent(node.load)}</strong>
      </div>
      <dl class="facts">
        <Fact name="Tasks" value={String(taskCount(node))} />
        {(node.resources ?? []).map((resource) => (
          <Fact key={resource.name} name={RESOURCES[resource.name] ?? resource.name} value={`${amount(resource.used)} of ${amount(resource.capacity)}`} />
        ))}
        <Fact name="Since" value={node.since ? ago(node.since, now) : ''} />
        <Fact name="Takes work up to" value={percent(most)} />
        <Fact name="Clients" value={node.publicAddress} />
        <Fact name="Endpoint" value={node.endpoint?.replace(/^https?:\/\//, '')} />
        <Fact name="Regions" value={node.regions?.join(', ')} />
        <Fact name="ISPs" value={node.isps?.join(', ')} />
      </dl>
    </li>
  );
}

function Fact({ name, value }: { name: string; value: string | undefined }) {
  if (!value) return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
