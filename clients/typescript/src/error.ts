// The errors that the library reports. Those of the gateway have a class each, in protocol.ts.

/** Every error of this library. `code` is the gateway's code, or one of the library's own. */
export class TidegateError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
    this.name = "TidegateError";
  }
}

/** The gateway refused something: its `error` frame. A later gateway may have further codes. */
export class GatewayError extends TidegateError {
  /** Whether the same, sent again later, may succeed. */
  readonly retryable: boolean;
  readonly channel: string | null;

  constructor(code: string, message: string, retryable = false, channel: string | null = null) {
    super(code, message);
    this.retryable = retryable;
    this.channel = channel;
  }
}

/** A class of refusals: `error instanceof ForbiddenError`. Each error code has one, in protocol.ts. */
export interface RefusalClass<C extends string> {
  [Symbol.hasInstance](value: unknown): value is GatewayError & { readonly code: C };
}

export function refusalClass<C extends string>(code: C): RefusalClass<C> {
  const is = (value: unknown): value is GatewayError & { readonly code: C } => value instanceof GatewayError && value.code === code;
  return Object.defineProperty(function () {} as never, Symbol.hasInstance, { value: is });
}

/** It is not known whether a message was stored: no answer came within the time in which its id is known. */
export class UnknownOutcomeError extends TidegateError {
  declare readonly code: "unknown_outcome";
  /** The id under which the message was published. */
  readonly id: string;

  constructor(id: string) {
    super("unknown_outcome", "no answer came in time: the message may or may not have been stored");
    this.id = id;
  }
}

/** The queue of messages that wait to be published is full: this message was not sent. */
export class QueueFullError extends TidegateError {
  declare readonly code: "queue_full";

  constructor() {
    super("queue_full", "too many messages wait to be published");
  }
}

/** The client was closed: this was not sent. */
export class ClosedError extends TidegateError {
  declare readonly code: "closed";

  constructor(message = "the client is closed") {
    super("closed", message);
  }
}
