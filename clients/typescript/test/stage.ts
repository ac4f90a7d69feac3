// A client on a virtual machine, before a scripted gateway.
import assert from "node:assert/strict";

import { connect, type Client, type ConnectOptions } from "../src/client.js";
import type { ConnectionState } from "../src/state.js";
import { ScriptedTransport } from "./scripted_transport.js";
import { settle, VirtualEnvironment } from "./virtual_environment.js";

export interface Stage {
  client: Client;
  environment: VirtualEnvironment;
  transport: ScriptedTransport;
  states: ConnectionState[];
  errors: unknown[];
}

/** A client that has begun to connect: its first link is open, and waits for `welcome`. */
export async function stage(options: Partial<ConnectOptions> = {}, before?: (client: Client) => void): Promise<Stage> {
  const environment = (options.environment as VirtualEnvironment | undefined) ?? new VirtualEnvironment();
  const transport = new ScriptedTransport();
  const client = connect("ws://gateway.test/ws", { token: async () => "token", transport, environment, ...options });
  const states: ConnectionState[] = [];
  const errors: unknown[] = [];
  client.on("state", (state) => states.push(state));
  client.on("error", (error) => errors.push(error));
  before?.(client);
  await settle();
  return { client, environment, transport, states, errors };
}

/** The state of the client, which must be this one. */
export function inState<N extends ConnectionState["name"]>(client: Client, name: N): Extract<ConnectionState, { name: N }> {
  const state: ConnectionState = client.state;
  assert.equal(state.name, name);
  return state as Extract<ConnectionState, { name: N }>;
}
