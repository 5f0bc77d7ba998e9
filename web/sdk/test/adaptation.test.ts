import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Adaptation, choose, ENLARGE_AFTER_MS, fills, PAUSE_AFTER_MS, REDUCE_AFTER_MS, type Viewport } from '../src/adaptation.js';
import { ConferenceError } from '../src/errors.js';
import type { Resolution } from '../src/wire.js';

beforeEach(() => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] }));
afterEach(() => vi.useRealTimers());

const size = (width: number, height: number): Resolution => ({ width, height });
const view = (width: number, height: number, fit: Viewport['fit'] = 'contain'): Viewport => ({ width, height, fit });

const LARGE = size(1280, 720);
const MIDDLE = size(640, 360);
const SMALL = size(320, 180);
const OFFERED = [LARGE, SMALL, MIDDLE];

describe('a picture', () => {
  it('that is contained fills its element when one side does, that covers it when both do', () => {
    expect(fills(MIDDLE, view(640, 640))).toBe(true);
    expect(fills(MIDDLE, view(640, 640, 'cover'))).toBe(false);
    expect(fills(MIDDLE, view(640, 360, 'cover'))).toBe(true);
    expect(fills(MIDDLE, view(700, 400))).toBe(false);
  });
});

describe('the resolution that is chosen', () => {
  it.each([
    [view(100, 60), SMALL],
    [view(320, 180), SMALL],
    [view(321, 181), MIDDLE],
    [view(320, 400, 'cover'), LARGE],
    [view(1280, 720), LARGE],
    [view(1920, 1080), LARGE],
  ])('for %o is the smallest that fills it', (viewport, expected) => {
    expect(choose(OFFERED, viewport)).toEqual(expected);
  });

  it('stays while the smaller one would only just do', () => {
    expect(choose(OFFERED, view(318, 178), MIDDLE)).toEqual(MIDDLE);
    expect(choose(OFFERED, view(280, 150), MIDDLE)).toEqual(SMALL);
  });

  it('of nothing is nothing', () => {
    expect(choose([], view(100, 100))).toBeUndefined();
  });
});

/** An adaptation that begins at the large picture, and what it asks for. */
function adapting(request = async (_: Resolution): Promise<void> => {}) {
  const asked: string[] = [];
  const adaptation = new Adaptation({
    offered: () => OFFERED,
    request: (resolution) => {
      asked.push(`${resolution.width}x${resolution.height}`);
      return request(resolution);
    },
    hide: (hidden) => void asked.push(hidden ? 'hide' : 'show'),
  });
  adaptation.reset(LARGE);
  return { adaptation, asked };
}

describe('a video', () => {
  it('that becomes smaller is asked for smaller when it has settled', async () => {
    const { adaptation, asked } = adapting();
    adaptation.show('a', view(280, 150), true);
    await vi.advanceTimersByTimeAsync(REDUCE_AFTER_MS - 1);
    expect(asked).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(asked).toEqual(['320x180']);
  });

  it('that becomes larger is asked for larger soon', async () => {
    const { adaptation, asked } = adapting();
    adaptation.reset(SMALL);
    adaptation.show('a', view(600, 300), true);
    await vi.advanceTimersByTimeAsync(ENLARGE_AFTER_MS);
    expect(asked).toEqual(['640x360']);
  });

  it('that is resized to and fro is left alone', async () => {
    const { adaptation, asked } = adapting();
    for (let time = 0; time < 20; time++) {
      adaptation.show('a', view(200, 100), true);
      await vi.advanceTimersByTimeAsync(REDUCE_AFTER_MS / 2);
      adaptation.show('a', view(1200, 700), true);
      await vi.advanceTimersByTimeAsync(ENLARGE_AFTER_MS * 2);
    }
    expect(asked).toEqual([]);
  });

  it('that is dragged larger step by step is asked for once it rests a moment', async () => {
    const { adaptation, asked } = adapting();
    adaptation.reset(SMALL);
    for (let width = 330; width <= 1000; width += 50) adaptation.show('a', view(width, (width * 9) / 16), true);
    await vi.advanceTimersByTimeAsync(ENLARGE_AFTER_MS);
    expect(asked).toEqual(['1280x720']);
  });

  it('in several places has what the largest needs', async () => {
    const { adaptation, asked } = adapting();
    adaptation.show('thumbnail', view(100, 60), true);
    adaptation.show('stage', view(560, 300), true);
    await vi.advanceTimersByTimeAsync(REDUCE_AFTER_MS);
    expect(asked).toEqual(['640x360']);
    adaptation.remove('stage');
    await vi.advanceTimersByTimeAsync(REDUCE_AFTER_MS);
    expect(asked).toEqual(['640x360', '320x180']);
  });

  it('that nobody sees is paused after a moment and resumed at once', async () => {
    const { adaptation, asked } = adapting();
    adaptation.show('a', view(1280, 720), true);
    adaptation.show('a', view(1280, 720), false);
    await vi.advanceTimersByTimeAsync(PAUSE_AFTER_MS - 1);
    adaptation.show('a', view(1280, 720), true);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked).toEqual([]);
    adaptation.show('a', view(1280, 720), false);
    await vi.advanceTimersByTimeAsync(PAUSE_AFTER_MS);
    expect(asked).toEqual(['hide']);
    adaptation.show('a', view(1280, 720), true);
    expect(asked).toEqual(['hide', 'show']);
  });

  it('is not asked for again in a resolution that was refused, until what is offered changes', async () => {
    const { adaptation, asked } = adapting(async ({ width }) => {
      if (width === 320) throw new ConferenceError('refused', 'Resolution is not acceptable');
    });
    adaptation.show('a', view(100, 60), true);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked).toEqual(['320x180', '640x360']);
    adaptation.reset(MIDDLE);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked).toEqual(['320x180', '640x360', '320x180']);
  });

  it('is asked for again later after a failure', async () => {
    let failures = 0;
    const { adaptation, asked } = adapting(async () => {
      if (failures++ < 2) throw new ConferenceError('timeout', 'no answer');
    });
    adaptation.show('a', view(100, 60), true);
    await vi.advanceTimersByTimeAsync(REDUCE_AFTER_MS + 1_000);
    expect(asked).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked).toEqual(['320x180', '320x180', '320x180']);
  });

  it('that is gone asks for nothing', async () => {
    const { adaptation, asked } = adapting();
    adaptation.show('a', view(100, 60), false);
    adaptation.close();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked).toEqual([]);
  });
});
