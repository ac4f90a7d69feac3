// PURE. An `error` frame as an error.
import { GatewayError } from "./error.js";
import type { ControlFrame } from "./frame.js";

export function refusal(frame: ControlFrame<"error">): GatewayError {
  const { code, message, retryable } = frame.payload;
  return new GatewayError(code, message, retryable, frame.channel ?? null);
}
