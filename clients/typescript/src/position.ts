// PURE. Positions: `generation-offset`, two unsigned integers of 64 bits.

/** The place of a message in its scope, as the gateway writes it. Opaque, but for their order. */
export type Position = string;

const SHAPE = /^\d{1,20}-\d{1,20}$/;
const PART_MAX = 2n ** 64n - 1n;

function parts(position: Position): bigint[] {
  return position.split("-").map(BigInt);
}

export function isPosition(text: unknown): text is Position {
  return typeof text === "string" && SHAPE.test(text) && parts(text).every((part) => part <= PART_MAX);
}

/** Negative if `a` is older than `b`, 0 if they are the same, positive if `a` is newer. */
export function comparePositions(a: Position, b: Position): number {
  const [left, right] = [parts(a), parts(b)];
  const at = left[0] === right[0] ? 1 : 0;
  return left[at]! < right[at]! ? -1 : left[at]! > right[at]! ? 1 : 0;
}

/** Whether `position` is newer than `held`. Everything is newer than nothing. */
export function isNewer(position: Position, held: Position | null): boolean {
  return held === null || comparePositions(position, held) > 0;
}

/** The larger of two positions, of which either may be missing. */
export function newest(a: Position | null, b: Position | null): Position | null {
  return b !== null && isNewer(b, a) ? b : a;
}

/** Whether two positions are of one history. */
export function isSameGeneration(a: Position, b: Position): boolean {
  return parts(a)[0] === parts(b)[0];
}
