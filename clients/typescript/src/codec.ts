// PURE. Frames as JSON text and as binary messages.
import type { ClientFrame, ServerFrame } from "./frame.js";
import { BINARY_HEADER_BYTES_MAX } from "./protocol.js";

const VERSION = 1;
const PREFIX_BYTES = 3;

/** The bytes of a payload that is bytes. */
export function bytesOf(payload: unknown): Uint8Array | null {
  if (payload instanceof ArrayBuffer) return new Uint8Array(payload);
  if (!ArrayBuffer.isView(payload)) return null;
  return new Uint8Array(payload.buffer, payload.byteOffset, payload.byteLength);
}

/** A frame as it is sent: text, or a binary message if its payload is bytes. */
export function encode(frame: ClientFrame): string | Uint8Array<ArrayBuffer> {
  const bytes = bytesOf(frame.payload);
  if (bytes === null) return JSON.stringify(frame);
  const header = new TextEncoder().encode(JSON.stringify({ ...frame, payload: undefined }));
  if (header.length > BINARY_HEADER_BYTES_MAX) throw new RangeError("the header of a binary message is too long");
  const message = new Uint8Array(PREFIX_BYTES + header.length + bytes.length);
  message.set([VERSION, header.length >> 8, header.length & 0xff]);
  message.set(header, PREFIX_BYTES);
  message.set(bytes, PREFIX_BYTES + header.length);
  return message;
}

/** A frame as it was received, or null if it is none that this version knows. */
export function decode(data: string | ArrayBuffer | Uint8Array): ServerFrame | null {
  if (typeof data === "string") return parse(data);
  const bytes = bytesOf(data)!;
  const end = PREFIX_BYTES + ((bytes[1]! << 8) | bytes[2]!);
  if (bytes[0] !== VERSION || !(bytes.length >= end)) return null;
  const frame = parse(new TextDecoder().decode(bytes.subarray(PREFIX_BYTES, end)));
  return frame && ({ ...frame, payload: bytes.slice(end) } as ServerFrame);
}

function parse(text: string): ServerFrame | null {
  try {
    const frame = JSON.parse(text);
    return typeof frame?.type === "string" ? frame : null;
  } catch {
    return null;
  }
}
