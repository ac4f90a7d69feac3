// The dev page: two plain WebSocket clients and their messages. No library, no build step.

const LOG_MAX = 200;
const BACKOFF_MS = { min: 250, max: 5_000 };

/** Whether a client should reconnect after a close code: docs/protocol.md, "Close codes". */
const shouldReconnect = (code) =>
  code === 1001 || code === 1005 || code === 1006 || (code >= 1011 && code <= 1013) || (code >= 4000 && code <= 4499);

/** Whether `a` is newer than `b`. Positions are `generation-offset`, and both may be too large for a Number. */
const isBehind = (a, b) => {
  if (!b) return true;
  const [ag, ao] = a.split("-").map(BigInt);
  const [bg, bo] = b.split("-").map(BigInt);
  return ag > bg || (ag === bg && ao > bo);
};

const offset = (position) => position.split("-")[1];

/** Whether a subscription to `pattern` matches `channel`. */
const matches = (pattern, channel) =>
  pattern === channel || (pattern.endsWith(":*") && channel.startsWith(pattern.slice(0, -1)));

/** A connection that reconnects by itself and resumes from its last positions. */
class Client {
  constructor(user, view) {
    this.user = user;
    this.view = view;
    this.channels = new Map(); // channel or pattern → the last position seen in it
    this.attempt = 0;
    this.wanted = true;
    this.answers = new Map();
  }

  async connect() {
    this.view.state("connecting");
    const token = await this.token();
    if (!this.wanted) return; // disconnected meanwhile
    if (!token) return this.later();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws`, "tidegate.v1");
    this.socket = socket;
    socket.onopen = () => {
      const channels = [...this.channels].map(([channel, position]) => ({ channel, position }));
      this.send({ type: "hello", payload: { token, session_id: this.session, channels } });
    };
    socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    socket.onclose = (event) => this.closed(socket, event);
  }

  async token() {
    try {
      const answer = await fetch(`/dev/token?user=${this.user}`, { method: "POST" });
      return answer.ok ? (await answer.text()).trim() : null;
    } catch {
      return null; // the gateway does not answer; try again later
    }
  }

  send(frame) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  receive(frame) {
    const { type, channel, payload, position, correlation_id: id } = frame;
    if ("timestamp" in frame) {
      for (const pattern of this.channels.keys()) if (matches(pattern, channel)) this.seen(pattern, position);
      return this.view.message(frame, this.openedAt);
    }
    if (id && this.answers.has(id)) {
      this.answers.get(id)(frame);
      this.answers.delete(id);
    }
    switch (type) {
      case "welcome":
        this.attempt = 0;
        this.session = payload.session_id; // the next connection continues this session
        this.openedAt = Date.now();
        this.view.welcome(payload);
        return;
      case "subscribed":
        if (position) this.channels.set(channel, position);
        if (payload.degraded) this.view.note(`${channel} waits for Redis`);
        else this.view.note(payload.resumed ? `resumed ${channel} after ${offset(position)}` : `subscribed ${channel}`);
        return this.view.held(this.channels);
      case "unsubscribed":
        this.channels.delete(channel);
        return this.view.held(this.channels);
      case "position":
        this.seen(channel, position);
        return this.view.held(this.channels);
      case "gap":
        if (payload.upto) this.seen(channel, payload.upto);
        return this.view.note(`gap in ${channel}: ${payload.reason}; reload what you show`, "gap");
      case "error":
        if (id) return; // the answer to a publish
        this.view.note(`${payload.code}: ${payload.message}`, "error");
        // A channel that was refused now would be refused after the next reconnect too.
        if (channel && !payload.retryable && payload.code !== "already_subscribed") this.channels.delete(channel);
        return this.view.held(this.channels);
      case "degraded":
        if (payload.degraded) return this.view.note("this instance lost Redis: messages may be late");
        return this.view.note("this instance is connected to Redis again");
      case "reconnect":
        this.moveAfter = payload.after_ms;
        return this.view.note(`asked to reconnect in ${payload.after_ms} ms`);
      case "notice":
        return this.view.note(`${payload.event}: ${JSON.stringify(payload.payload)}`);
      // Other frames answer requests that the page does not send, or are not known yet.
    }
  }

  seen(channel, position) {
    if (position && isBehind(position, this.channels.get(channel))) this.channels.set(channel, position);
  }

  closed(socket, { code, reason }) {
    if (socket !== this.socket) return;
    for (const resolve of this.answers.values()) resolve(null);
    this.answers.clear();
    this.view.note(`connection ended: ${code} ${reason || (code === 1006 ? "without a close frame" : "")}`);
    if (!this.wanted) return;
    if (shouldReconnect(code)) return this.later();
    this.wanted = false;
    this.view.state("off");
    this.view.note("reconnecting without a change cannot help", "error");
  }

  /** Reconnects with full jitter, so that the clients of a lost instance reconnect at different times. */
  later() {
    const ceiling = Math.min(BACKOFF_MS.max, BACKOFF_MS.min * 2 ** this.attempt++);
    const delay = this.moveAfter ?? Math.random() * ceiling;
    this.moveAfter = undefined;
    this.view.state("away");
    this.timer = setTimeout(() => this.connect(), delay);
  }

  cut() {
    this.wanted = false;
    clearTimeout(this.timer);
    this.socket?.close(1000, "disconnected on the page");
    this.view.state("off");
  }

  mend() {
    this.wanted = true;
    this.connect();
  }

  /** Without a connection, only `channels` changes: the next connection subscribes to it. */
  subscribe(channel) {
    if (!this.channels.has(channel)) this.channels.set(channel, null);
    this.send({ type: "subscribe", channel });
    this.view.held(this.channels);
  }

  unsubscribe(channel) {
    if (this.send({ type: "unsubscribe", channel })) return;
    this.channels.delete(channel);
    this.view.held(this.channels);
  }

  /** Resolves with the `ack` or `error` frame, undefined without a connection, null if it ended before the answer. */
  publish(channel, event, payload) {
    return new Promise((resolve) => {
      const id = crypto.randomUUID?.() ?? String(Math.random());
      this.answers.set(id, resolve);
      if (!this.send({ type: "publish", channel, event, payload, correlation_id: id })) {
        this.answers.delete(id);
        resolve(undefined);
      }
    });
  }
}

/** The card of one client on the page. */
class View {
  constructor(user) {
    const template = document.getElementById("client-template").content.cloneNode(true);
    this.root = template.querySelector(".client");
    this.root.dataset.user = user;
    this.name = user[0].toUpperCase() + user.slice(1);
    this.find(".name").textContent = this.name;
    document.getElementById("clients").append(template);
    this.latencies = [];
    this.counts = { received: 0, resumed: 0 };
  }

  find(selector) {
    return this.root.querySelector(selector);
  }

  attach(client) {
    this.client = client;
    this.find(".cut").addEventListener("click", () => (client.wanted ? client.cut() : client.mend()));
    this.find(".subscribe").addEventListener("submit", (event) => {
      event.preventDefault();
      client.subscribe(this.find(".wanted").value.trim());
      this.find(".wanted").value = "";
    });
  }

  state(state) {
    const names = { connecting: "connecting", open: "connected", away: "reconnecting", off: "disconnected" };
    const badge = this.find(".state");
    badge.textContent = names[state];
    badge.className = `state ${state}`;
    this.root.dataset.state = state;
    this.find(".cut").textContent = state === "off" ? "Connect" : "Disconnect";
    if (this.home) this.find(".where").textContent = `${state === "open" ? "on" : "was on"} ${this.home}`;
  }

  welcome({ instance, session_id, tenant }) {
    this.root.dataset.instance = instance;
    this.home = `${instance} · tenant ${tenant} · session ${session_id.slice(0, 8)}`;
    this.state("open");
  }

  /** Changes items in place, because an item that is replaced under the pointer loses the click. */
  held(channels) {
    const list = this.find(".held");
    for (const item of [...list.children]) if (!channels.has(item.dataset.channel)) item.remove();
    for (const [channel, position] of channels) {
      const old = [...list.children].find((item) => item.dataset.channel === channel);
      const item = old ?? this.heldItem(channel);
      if (!old) list.append(item);
      item.querySelector("small").textContent = position ? `at ${offset(position)}` : "";
    }
  }

  heldItem(channel) {
    const item = document.createElement("li");
    item.dataset.channel = channel;
    const drop = document.createElement("button");
    drop.textContent = "×";
    drop.title = `Unsubscribe ${channel}`;
    drop.addEventListener("click", () => this.client.unsubscribe(channel));
    item.append(channel, document.createElement("small"), drop);
    return item;
  }

  message({ type, channel, payload, position, timestamp }, openedAt) {
    // A message that was published before this connection opened was replayed from history.
    const late = Date.parse(timestamp) < openedAt;
    const latency = Math.max(0, Date.now() - Date.parse(timestamp));
    this.counts.received += 1;
    if (late) this.counts.resumed += 1;
    this.find(".received").textContent = this.counts.received;
    this.find(".resumed").textContent = this.counts.resumed;
    if (!late) {
      this.latencies.push(latency);
      if (this.latencies.length > LOG_MAX) this.latencies.shift();
      const sorted = this.latencies.toSorted((a, b) => a - b);
      this.find(".latency").textContent = `${latency} ms`;
      this.find(".median").textContent = `${sorted[sorted.length >> 1]} ms`;
    }
    this.log([type, channel, JSON.stringify(payload)], late ? "late" : "", position);
    this.held(this.client.channels);
  }

  note(text, kind = "note") {
    this.log([text], kind);
  }

  log(texts, kind, position) {
    const part = (name, text) => Object.assign(document.createElement(name), { textContent: text });
    const item = document.createElement("li");
    if (kind) item.className = kind;
    const what = document.createElement("span");
    what.className = "what";
    what.append(...texts.flatMap((text) => [part("span", text), " "]));
    item.append(what);
    if (position) {
      item.dataset.position = position;
      item.append(part("small", offset(position)));
    }
    const log = this.find(".log");
    log.prepend(item);
    while (log.childElementCount > LOG_MAX) log.lastElementChild.remove();
  }
}

const clients = {};
for (const user of ["alice", "bob"]) {
  const view = new View(user);
  const client = new Client(user, view);
  client.channels.set("collection:42:*", null);
  client.channels.set("system:*", null);
  client.channels.set(`user:${user}:*`, null);
  view.attach(client);
  clients[user] = client;
  client.connect();
}

const answer = document.getElementById("publish-answer");
const showResult = (text, bad) => {
  answer.textContent = text;
  answer.className = bad ? "bad" : "";
};

async function publish(times) {
  const value = (id) => document.getElementById(id).value.trim();
  let payload;
  try {
    payload = JSON.parse(value("payload"));
  } catch (error) {
    return showResult(`the payload is not JSON: ${error.message}`, true);
  }
  const [channel, client] = [value("channel"), clients[value("as")]];
  const frames = [];
  for (let n = 1; n <= times; n += 1) {
    const body = times > 1 ? { ...payload, n } : payload;
    frames.push(client.publish(channel, value("event"), body));
  }
  const answers = await Promise.all(frames);
  const last = answers.find((frame) => frame?.type !== "ack") ?? answers.at(-1);
  if (last === undefined) return showResult(`${client.view.name} is not connected; publish as a connected client`, true);
  if (last === null) return showResult("the connection ended before the answer; the message may be published", true);
  if (last.type === "error") return showResult(`${last.payload.code}: ${last.payload.message}`, true);
  const isReceived = Object.values(clients).some((each) => [...each.channels.keys()].some((held) => matches(held, channel)));
  const hint = isReceived ? "" : `; no client on this page is subscribed to it: subscribe one to ${channel}`;
  showResult(`${last.payload.level} at ${last.position}${hint}`);
}

document.getElementById("publish").addEventListener("submit", (event) => {
  event.preventDefault();
  publish(1);
});
document.getElementById("burst").addEventListener("click", () => publish(10));
document.querySelector(".picker").addEventListener("click", ({ target }) => {
  if (target.matches("button")) document.getElementById("channel").value = target.textContent;
});
