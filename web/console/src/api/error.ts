/** A request that came to nothing. `message` is for people. */
export class ApiError extends Error {
  override readonly name = 'ApiError';

  constructor(
    message: string,
    /** Of HTTP; 0 if there was no answer. */
    readonly status: number,
    /** Of the management API, such as 1003. */
    readonly code = 0,
  ) {
    super(message);
  }

  /** Nothing answered. */
  get isOffline(): boolean {
    return this.status === 0;
  }

  /** The credentials are not good, or not any more. */
  get isUnauthorized(): boolean {
    return this.status === 401;
  }

  /** What was to be changed has been changed by someone else meanwhile. */
  get isConflict(): boolean {
    return this.status === 409 || this.status === 412;
  }

  /** The server does not have this (yet): an unknown path, or a service that is not there. */
  get isAbsent(): boolean {
    return this.code === 1001 || this.status === 501 || /is not available$|^Not implemented$/.test(this.message);
  }
}

const PLAIN: Record<number, string> = {
  401: 'The service id or the key is not right.',
  403: 'This service may not do that.',
  413: 'That is more than the server takes at once.',
};

/** Reads the body of an error: `{"error": {"code", "message"}}`, or any text. */
export function readError(status: number, body: string): ApiError {
  let code = 0;
  let message = '';
  try {
    const { error } = JSON.parse(body) as { error?: { code?: unknown; message?: unknown } };
    if (typeof error?.code === 'number') code = error.code;
    if (typeof error?.message === 'string') message = error.message;
  } catch {
    message = body.slice(0, 300);
  }
  if (status === 401) message = explainUnauthorized(message);
  return new ApiError(message || PLAIN[status] || `The server answered ${status}.`, status, code);
}

/** Wrong credentials are told in words; of a token that is not of now, the clock is to blame. */
function explainUnauthorized(message: string): string {
  if (/expired|not good yet/.test(message)) return 'The clock of this computer and that of the server differ: set it, and try again.';
  return PLAIN[401] ?? message;
}

/** The words for any failure. */
export function explain(failure: unknown): string {
  return failure instanceof Error ? failure.message : String(failure);
}
