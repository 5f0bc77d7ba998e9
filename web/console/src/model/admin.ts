// Services, their webhooks, and the cluster, as the management API tells them.

export interface Service {
  id: string;
  _id?: string;
  name: string;
  super: boolean;
  publicKey?: string | null;
  rooms: string[];
  /** Told once, when it is made. */
  key?: string;
}

export interface ClusterNode {
  id: string;
  purpose: 'portal' | 'conference' | 'access' | 'mixer' | string;
  endpoint?: string;
  publicAddress?: string;
  secure?: boolean;
  /** 0 to 1. */
  load: number;
  maxLoad?: number;
  /** What the load is the largest share of. */
  resources?: { name: 'cpu' | 'packets' | 'encoders' | 'pipelines' | 'connections' | string; used: number; capacity: number }[];
  tasks: number | string[];
  isps?: string[];
  regions?: string[];
  draining?: boolean;
  /** Unix ms. */
  since?: number;
}

export interface Webhook {
  id: string;
  url: string;
  events?: string[];
  active?: boolean;
  /** Why it is not active, if its endpoint has ended it. */
  deactivated?: string;
  status?: Record<string, unknown>;
  /** Told once, when it is made. */
  secret?: string;
}

/** How many tasks a process has, however it is told. */
export function taskCount(node: ClusterNode): number {
  return Array.isArray(node.tasks) ? node.tasks.length : node.tasks;
}
