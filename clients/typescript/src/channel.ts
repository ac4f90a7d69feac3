// PURE. Channels and patterns: `collection:42:ops`, `collection:42:*`.

const head = (pattern: string) => pattern.slice(0, -1);
const isPattern = (name: string) => name.endsWith("*");

/** Whether a subscription to `pattern` (a pattern or a channel) gets the messages of `channel`. */
export function matches(pattern: string, channel: string): boolean {
  if (!isPattern(pattern)) return pattern === channel;
  return channel.length >= pattern.length && channel.startsWith(head(pattern));
}

/** Whether a message exists that both subscriptions get. */
export function overlap(a: string, b: string): boolean {
  if (!isPattern(a)) return matches(b, a);
  if (!isPattern(b)) return matches(a, b);
  return head(a).startsWith(head(b)) || head(b).startsWith(head(a));
}
