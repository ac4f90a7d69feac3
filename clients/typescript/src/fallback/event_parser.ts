// PURE. Server-sent events (HTML Living Standard §9.2.6) from pieces of text.

/** One event, or an id or a delay without data. */
export interface StreamEvent {
  data: string;
  /** The last id so far; null before the first. */
  id: string | null;
  /** The delay that this event names, in milliseconds. */
  retry: number | null;
}

export class EventParser {
  #rest = "";
  #data: string[] = [];
  #id: string | null = null;
  #retry: number | null = null;
  /** A line end of two bytes may be split between two pieces. */
  #endsWithReturn = false;

  /** The events that are complete with this piece. */
  push(piece: string): StreamEvent[] {
    if (piece === "") return [];
    if (this.#endsWithReturn && piece.startsWith("\n")) piece = piece.slice(1);
    this.#endsWithReturn = piece.endsWith("\r");
    const lines = (this.#rest + piece).split(/\r\n|\n|\r/);
    this.#rest = lines.pop()!;
    return lines.flatMap((line) => this.#line(line) ?? []);
  }

  #line(line: string): StreamEvent | null {
    if (line === "") return this.#event();
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line)!;
    if (name === "data") this.#data.push(value!);
    if (name === "id" && !value!.includes("\0")) this.#id = value!;
    if (name === "retry" && /^\d+$/.test(value!)) this.#retry = Number(value);
    return null;
  }

  #event(): StreamEvent {
    const event = { data: this.#data.join("\n"), id: this.#id, retry: this.#retry };
    [this.#data, this.#retry] = [[], null];
    return event;
  }
}
