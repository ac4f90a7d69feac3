// The page behind dev mode: two plain WebSocket clients, and what they see. No library, no build step.

const LOG_MAX = 200;
const BACKOFF_MS = { min: 250, max: 5_000 };

/** Whether a client should come back after a close code: docs/protocol.md, "Close codes". */
const shouldReconnect = (code) =>
  code === 1001 || code === 1005 || code === 1006 || (code >= 1011 && code <= 1013) || (code >= 4000 && code <= 4499);

/** Positions are `generation-offset`; both are integers beyond what a Number holds. */
const isBehind = (a, b) => {
  if (!b) return true;
  const [ag, ao] = a.split("-").map(BigInt);
  const [bg, bo] = b.split("-").map(BigInt);
  return ag > bg || (ag === bg && ao > bo);
};

/** Whether a subscription to `pattern` hears `channel`. */
const hears = (pattern, channel) =>
  pattern === channel || (pattern.endsWith(":*") && channel.startsWith(pattern.slice(0, -1)));

/** A connection that comes back by itself and resumes where it was. */
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
    if (!token) return this.later();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws`, "tidegate.v1");
    this.socket = socket;
    socket.onopen = () => {
      const channels = [...this.channels].map(([channel, position]) => (position ? { channel, position } : { channel }));
      this.send({ type: "hello", payload: { token, channels } });
    };
    socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    socket.onclose = (event) => this.closed(socket, event);
  }

  async token() {
    try {
      const answer = await fetch(`/dev/token?user=${this.user}`);
      return answer.ok ? (await answer.text()).trim() : null;
    } catch {
      return null; // the gateway is away; try again later
    }
  }

  send(frame) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  receive(frame) {
    const { type, channel, payload, position, correlation_id: id } = frame;
    if (id && this.answers.has(id)) {
      this.answers.get(id)(frame);
      this.answers.delete(id);
    }
    switch (type) {
      case "welcome":
        this.attempt = 0;
        this.openedAt = Date.now();
        this.view.state("open");
        this.view.welcome(payload);
        return;
      case "subscribed":
        if (position) this.channels.set(channel, position);
        this.view.note(payload.resumed ? `resumed ${channel} behind ${position}` : `subscribed ${channel}`);
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
        if (channel && !id) this.channels.delete(channel);
        if (!id) this.view.note(`${payload.code}: ${payload.message}`, "error");
        return;
      case "degraded":
        return this.view.note(payload.degraded ? "Redis is away: only this instance is heard" : "Redis is back");
      case "reconnect":
        this.moveAfter = payload.after_ms;
        return this.view.note(`asked to come back in ${payload.after_ms} ms`);
      case "ack":
      case "bye":
      case "pong":
      case "refreshed":
        return;
      default:
        for (const pattern of this.channels.keys()) if (hears(pattern, channel)) this.seen(pattern, position);
        this.view.message(frame, this.openedAt);
    }
  }

  seen(channel, position) {
    if (position && isBehind(position, this.channels.get(channel))) this.channels.set(channel, position);
  }

  closed(socket, { code, reason }) {
    if (socket !== this.socket) return;
    this.view.state(this.wanted ? "away" : "off");
    this.view.note(`connection ended: ${code}${reason ? ` ${reason}` : ""}`);
    if (!this.wanted) return;
    if (shouldReconnect(code)) this.later();
    else this.view.note("coming back unchanged cannot help", "error");
  }

  /** Full jitter: everybody who lost the same instance comes back at another moment. */
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
    this.socket?.close(1000, "cut on the page");
  }

  mend() {
    this.wanted = true;
    this.connect();
  }

  subscribe(channel) {
    this.send({ type: "subscribe", channel });
  }

  unsubscribe(channel) {
    this.send({ type: "unsubscribe", channel });
  }

  /** Resolves with the `ack` or `error` frame, or null when nobody is there to answer. */
  publish(channel, event, payload) {
    return new Promise((resolve) => {
      const id = crypto.randomUUID?.() ?? String(Math.random());
      this.answers.set(id, resolve);
      if (!this.send({ type: "publish", channel, event, payload, correlation_id: id })) {
        this.answers.delete(id);
        resolve(null);
      }
    });
  }
}

/** One client's card. */
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
    });
  }

  state(state) {
    const names = { connecting: "connecting", open: "connected", away: "coming back", off: "cut" };
    const badge = this.find(".state");
    badge.textContent = names[state];
    badge.className = `state ${state}`;
    this.find(".cut").textContent = this.client?.wanted === false ? "Mend the line" : "Cut the line";
  }

  welcome({ instance, session_id, tenant }) {
    this.root.dataset.instance = instance;
    this.find(".where").textContent = `on ${instance} · tenant ${tenant} · session ${session_id.slice(0, 8)}`;
  }

  held(channels) {
    const items = [...channels].map(([channel, position]) => {
      const item = document.createElement("li");
      const where = document.createElement("small");
      where.textContent = position ? `at ${position.split("-")[1]}` : "";
      const drop = document.createElement("button");
      drop.textContent = "×";
      drop.title = `Unsubscribe ${channel}`;
      drop.addEventListener("click", () => this.client.unsubscribe(channel));
      item.append(channel, where, drop);
      return item;
    });
    this.find(".held").replaceChildren(...items);
  }

  message({ type, channel, payload, position, timestamp }, openedAt) {
    // What was published before this connection opened was missed by the last one and has been replayed.
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
    this.log(`${type}  ${channel}  ${JSON.stringify(payload)}`, late ? "late" : "", position);
    this.held(this.client.channels);
  }

  note(text, kind = "note") {
    this.log(text, kind);
  }

  log(text, kind, position) {
    const item = document.createElement("li");
    if (kind) item.className = kind;
    if (position) item.dataset.position = position;
    const what = document.createElement("span");
    what.className = "what";
    what.textContent = text;
    item.append(what);
    if (position) {
      const where = document.createElement("small");
      where.textContent = position.split("-")[1];
      item.append(where);
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
  view.attach(client);
  clients[user] = client;
  client.connect();
}

const answer = document.getElementById("publish-answer");
const say = (text, bad) => {
  answer.textContent = text;
  answer.className = bad ? "bad" : "";
};

async function publish(times) {
  const value = (id) => document.getElementById(id).value.trim();
  let payload;
  try {
    payload = JSON.parse(value("payload"));
  } catch (error) {
    return say(`the payload is not JSON: ${error.message}`, true);
  }
  const client = clients[value("as")];
  const frames = [];
  for (let n = 1; n <= times; n += 1) {
    const body = times > 1 ? { ...payload, n } : payload;
    frames.push(client.publish(value("channel"), value("event"), body));
  }
  const last = (await Promise.all(frames)).at(-1);
  if (!last) say(`${client.view.name} is not connected; publish as somebody who is`, true);
  else if (last.type === "error") say(`${last.payload.code}: ${last.payload.message}`, true);
  else say(`${last.payload.level} at ${last.position}`);
}

document.getElementById("publish").addEventListener("submit", (event) => {
  event.preventDefault();
  publish(1);
});
document.getElementById("burst").addEventListener("click", () => publish(10));
