// Numbers and times, in words.

/** bit/s: `1.24 Mbit/s`. */
export function bitrate(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return '–';
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} Mbit/s`;
  return `${Math.round(value / 1000)} kbit/s`;
}

/** A share of one: `3.1 %`; small ones with a digit more. */
export function percent(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return '–';
  const share = value * 100;
  return `${share !== 0 && share < 10 ? share.toFixed(1) : Math.round(share)} %`;
}

export function ms(value: number | undefined): string {
  return value === undefined || !Number.isFinite(value) ? '–' : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

export function fps(value: number | undefined): string {
  return value === undefined || !Number.isFinite(value) ? '–' : `${Math.round(value)} fps`;
}

export function size(value: { width: number; height: number } | undefined): string {
  return value ? `${value.width}×${value.height}` : '–';
}

/** Seconds, minutes, hours, days since a time (Unix ms). */
export function ago(time: number, now: number): string {
  const seconds = Math.max(0, Math.round((now - time) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min ago`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h ago`;
}

/** The time of day, with seconds, and the date if that was another day. Unix ms, or RFC 3339. */
export function clock(time: number | string, now = Date.now()): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return '';
  const isToday = date.toDateString() === new Date(now).toDateString();
  return isToday ? date.toLocaleTimeString(undefined, { hour12: false }) : dateTime(time);
}

/** Date and time. Unix ms, or RFC 3339. */
export function dateTime(time: number | string): string {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? '' : date.toLocaleString(undefined, { hour12: false });
}
