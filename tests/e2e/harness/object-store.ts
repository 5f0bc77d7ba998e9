// An object store on loopback that speaks S3.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import S3rver from 's3rver';
import { freePort } from './live-server';

/** Of whoever may write to it. */
const KEYS = { AWS_ACCESS_KEY_ID: 'S3RVER', AWS_SECRET_ACCESS_KEY: 'S3RVER' };

/** A store with one bucket, which can be away. */
export class ObjectStore {
  #server: S3rver | undefined;

  private constructor(
    readonly bucket: string,
    readonly port: number,
    private readonly folder: string,
  ) {}

  /** One that is away at first. */
  static async make(bucket: string): Promise<ObjectStore> {
    return new ObjectStore(bucket, await freePort(), mkdtempSync(path.join(tmpdir(), 'kaigi-store-')));
  }

  /** With which a process finds and may use it. */
  get env(): Record<string, string> {
    return { ...KEYS, AWS_REGION: 'eu-central-1', AWS_ENDPOINT: `http://127.0.0.1:${this.port}`, AWS_ALLOW_HTTP: 'true' };
  }

  async run(): Promise<void> {
    this.#server = new S3rver({ port: this.port, address: '127.0.0.1', silent: true, directory: this.folder, configureBuckets: [{ name: this.bucket, configs: [] }] });
    await this.#server.run();
  }

  async stop(): Promise<void> {
    await this.#server?.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** What is kept under a key; `undefined` if nothing is. */
  async get(key: string): Promise<Buffer | undefined> {
    const answer = await fetch(`http://127.0.0.1:${this.port}/${this.bucket}/${key}`).catch(() => undefined);
    return answer?.status === 200 ? Buffer.from(await answer.arrayBuffer()) : undefined;
  }
}
