// @tidegate/client/store: what survives the page: messages that wait to be published, and positions.
import { bytesOf } from "./codec.js";
import { isPosition, type Position } from "./position.js";
import type { QueuedMessage } from "./publish_queue.js";
import type { QueueStore } from "./publisher.js";

/** `localStorage`, `sessionStorage`, or anything like them. */
export type TextStorage = Pick<Storage, "getItem" | "setItem">;

/**
 * Keeps the queue of a client under a key. With `sessionStorage` it survives a page that is loaded again. With
 * `localStorage` it survives the browser, and only one tab may use the key.
 */
export function queueStore(storage: TextStorage, key = "tidegate.queue"): QueueStore {
  return {
    load: () => read<StoredMessage[]>(storage, key, []).map(unpack),
    save: (messages) => storage.setItem(key, JSON.stringify(messages.map(pack))),
  };
}

/** The positions that a page has reached, by channel or pattern. */
export interface PositionStore {
  /** The position to subscribe from; null if there is none. */
  get(channel: string): Position | null;
  /** Everything up to here is dealt with. */
  set(channel: string, position: Position): void;
}

export function positionStore(storage: TextStorage, key = "tidegate.positions"): PositionStore {
  const positions = new Map(Object.entries(read<Record<string, unknown>>(storage, key, {})));
  return {
    get(channel) {
      const position = positions.get(channel);
      return isPosition(position) ? position : null;
    },
    set(channel, position) {
      positions.set(channel, position);
      storage.setItem(key, JSON.stringify(Object.fromEntries(positions)));
    },
  };
}

/** What is not JSON was written by somebody else, and is not used. */
function read<T>(storage: TextStorage, key: string, otherwise: T): T {
  try {
    return JSON.parse(storage.getItem(key) ?? "null") ?? otherwise;
  } catch {
    return otherwise;
  }
}

type StoredMessage = QueuedMessage & { bytes?: string };

function pack(message: QueuedMessage): StoredMessage {
  const bytes = bytesOf(message.payload);
  if (bytes === null) return message;
  const { payload: _, ...rest } = message;
  return { ...rest, bytes: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) };
}

function unpack({ bytes, ...message }: StoredMessage): QueuedMessage {
  if (bytes === undefined) return message;
  return { ...message, payload: Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0)) };
}
