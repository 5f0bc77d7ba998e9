import http from 'node:http';
import https from 'node:https';

export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  text: string;
}

export interface Request {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
  /** Ends the request with an error after so many ms without an answer. */
  timeout?: number;
}

/** One HTTP(S) request. Certificates are not checked: those of the tests are self-signed. */
export function request(url: string, { method = 'GET', headers = {}, body, timeout = 10_000 }: Request = {}): Promise<Answer> {
  const client = url.startsWith('https:') ? https : http;
  return new Promise((resolve, reject) => {
    const outgoing = client.request(url, { method, headers, rejectUnauthorized: false, agent: false, timeout }, (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.on('error', reject);
      incoming.on('end', () =>
        resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, text: Buffer.concat(chunks).toString('utf8') }),
      );
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`${method} ${url}: no answer within ${timeout} ms`)));
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
