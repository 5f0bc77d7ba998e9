import { afterAll, beforeAll, it } from 'vitest';
import { Chromium } from '../../harness/browser';
import { RED } from '../../harness/colours';
import { checkPage } from '../../harness/examples';
import { Kaigi } from '../../harness/kaigi';

let kaigi: Kaigi;
let browser: Chromium;

beforeAll(async () => {
  kaigi = await Kaigi.start({ name: 'rest-examples' });
  browser = await Chromium.launch('rest-examples');
  const page = await browser.raw(kaigi, 'Aiko');
  await page.join(kaigi, kaigi.service.room);
  await page.call('publish', { look: RED });
  const mixed = `${kaigi.service.room}-common`;
  await page.moves(await page.call('subscribe', { audio: { from: mixed }, video: { from: mixed } }));
});
afterAll(async () => {
  await browser?.close();
  await kaigi?.stop();
});

it('the examples of the page print what it says', () => checkPage('rest-examples.md', kaigi));
