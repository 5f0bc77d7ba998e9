import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page, Request } from 'playwright-core';
import type { Chromium, PageOptions } from './browser';
import type { Kaigi } from './kaigi';
import type { Credentials } from './rest';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** Sizes of the screens that operators have. */
export const DESK: PageOptions = { width: 1280, height: 900 };
export const PHONE: PageOptions = { width: 390, height: 844 };

interface Violation {
  id: string;
  impact: string | null;
  nodes: { html: string }[];
}

/** The management console in a page. What is looked for has a `data-testid`. */
export class Console {
  /** All that the page asked for. */
  readonly requests: Request[] = [];
  /** What the browser complained of: uncaught errors, and what the page's policy forbids. */
  readonly complaints: string[] = [];

  private constructor(
    readonly page: Page,
    private readonly kaigi: Kaigi,
  ) {
    page.on('request', (request) => this.requests.push(request));
    page.on('pageerror', (error) => this.complaints.push(error.message));
    page.on('console', (message) => /Content Security Policy|TrustedTypes/i.test(message.text()) && this.complaints.push(message.text()));
  }

  static async open(kaigi: Kaigi, browser: Chromium, who: string, options: PageOptions = DESK): Promise<Console> {
    const page = await browser.page('about:blank', who, options);
    const console = new Console(page, kaigi);
    await page.goto(`${kaigi.url}/console/`);
    await console.get('sign-in').waitFor();
    return console;
  }

  get(testId: string) {
    return this.page.getByTestId(testId);
  }

  async signIn({ id, key }: Credentials): Promise<void> {
    await this.get('service-id').fill(id);
    await this.get('service-key').fill(key);
    await this.page.keyboard.press('Enter');
  }

  /** Goes to a page by its address, and waits until it shows `testId`. */
  async go(path: string, testId: string): Promise<void> {
    await this.page.evaluate((to) => void (location.hash = to), path);
    await this.get(testId).first().waitFor();
  }

  async reload(): Promise<void> {
    await this.page.goto(`${this.kaigi.url}/console/`);
  }

  /** What keeps people from using the page that is shown (WCAG A and AA, and good practice), of weight. */
  async barriers(): Promise<string[]> {
    await this.page.evaluate(AXE);
    const found = await this.page.evaluate(async () => {
      const axe = (window as unknown as { axe: { run(what: Document, options: object): Promise<{ violations: Violation[] }> } }).axe;
      return (await axe.run(document, { resultTypes: ['violations'] })).violations;
    });
    const heavy = found.filter(({ impact }) => impact === 'serious' || impact === 'critical');
    return heavy.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' … ')}`);
  }

  hasHorizontalScroll(): Promise<boolean> {
    return this.page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  }

  /** Does something that saves, and gives what the page sent for it. */
  async saves(act: () => Promise<void>): Promise<{ method: string; body: unknown; ifMatch: string | undefined }> {
    const [request] = await Promise.all([
      this.page.waitForRequest((one) => ['PUT', 'PATCH'].includes(one.method())),
      act(),
    ]);
    await request.response();
    return { method: request.method(), body: request.postDataJSON() as unknown, ifMatch: request.headers()['if-match'] };
  }
}
