"use strict";
// A broker for one test, and MQTT.js clients whose events fill queues, so that a test waits for
// events and never sleeps. MIDGE is the broker's binary.

const { spawn } = require("node:child_process");
const { once } = require("node:events");
const net = require("node:net");
const mqtt = require("mqtt");
const mqttPacket = require("mqtt-packet");

const HOST = "127.0.0.1";
const PATIENCE = 10_000; // milliseconds to wait for anything that has to happen

/** What MQTT.js has to be told to speak a version. */
const VERSIONS = {
  "3.1": { protocolVersion: 3, protocolId: "MQIsdp" },
  "3.1.1": { protocolVersion: 4 },
  "5.0": { protocolVersion: 5 },
};

function happens(emitter, event) {
  return once(emitter, event, { signal: AbortSignal.timeout(PATIENCE) });
}

class Queue {
  items = [];
  waiting = [];

  put(item) {
    const waiting = this.waiting.shift();
    if (waiting) waiting.resolve(item);
    else this.items.push(item);
  }

  get() {
    if (this.items.length > 0) return Promise.resolve(this.items.shift());
    const waiting = Promise.withResolvers();
    const timer = setTimeout(() => waiting.reject(new Error("nothing came")), PATIENCE);
    this.waiting.push(waiting);
    return waiting.promise.finally(() => clearTimeout(timer));
  }
}

class Broker {
  /** Stopped at the end of the test. `flags` may have PORT in them. */
  static async start(test, flags = ["-p", "PORT"]) {
    const broker = new Broker();
    broker.port = await freePort();
    broker.flags = flags.map((flag) => flag.replace("PORT", broker.port));
    test.after(() => broker.process.kill("SIGKILL"));
    await broker.run();
    return broker;
  }

  /** Also again, after its end, on the same port. */
  async run() {
    this.process = spawn(process.env.MIDGE, this.flags, { stdio: "ignore" });
    const end = Date.now() + PATIENCE;
    while (!(await this.accepts())) {
      if (this.process.exitCode !== null || Date.now() > end) throw new Error("no broker");
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async accepts() {
    const probe = net.connect(this.port, HOST);
    try {
      await happens(probe, "connect");
      return true;
    } catch {
      return false;
    } finally {
      probe.destroy();
    }
  }

  async stop() {
    this.process.kill("SIGTERM");
    await happens(this.process, "exit");
  }
}

async function freePort() {
  const probe = net.createServer().listen(0, HOST);
  await happens(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await happens(probe, "close");
  return port;
}

class Client {
  /** Connected; `options` are those of MQTT.js. */
  static async connect(test, broker, version, options = {}) {
    const client = Client.start(test, broker, version, options);
    await client.connacks.get();
    return client;
  }

  static start(test, broker, version, options = {}) {
    const client = new Client();
    client.connacks = new Queue();
    client.messages = new Queue();
    client.errors = new Queue();
    client.disconnects = new Queue();
    client.pubacks = new Queue();
    client.arrived = new Queue();
    const given = { host: HOST, port: broker.port, reconnectPeriod: 0, ...VERSIONS[version] };
    client.mqtt = mqtt.connect({ ...given, ...options });
    client.mqtt.on("connect", (connack) => client.connacks.put(connack));
    client.mqtt.on("message", (topic, _, packet) => client.messages.put({ ...packet, topic }));
    client.mqtt.on("error", (error) => client.errors.put(error));
    client.mqtt.on("disconnect", (packet) => client.disconnects.put(packet));
    client.mqtt.on("packetreceive", (packet) => {
      if (packet.cmd === "puback") client.pubacks.put(packet);
    });
    test.after(() => client.mqtt.end(true));
    return client;
  }

  /** What the broker granted. */
  async subscribe(filter, options) {
    const [granted] = await this.mqtt.subscribeAsync(filter, options);
    return granted.qos;
  }

  /** At QoS 1 and 2 until it is acknowledged. */
  publish(topic, payload, options = { qos: 1 }) {
    return this.mqtt.publishAsync(topic, payload, { qos: 1, ...options });
  }

  async payload() {
    return (await this.messages.get()).payload.toString();
  }

  /** All payloads before this one, which a test publishes as the last. */
  async payloadsUntil(last) {
    const before = [];
    for (let next; (next = await this.payload()) !== last; ) before.push(next);
    return before;
  }

  /** Takes note of packets when they arrive, which may be before MQTT.js looks at them. */
  noteArrivals() {
    const parser = mqttPacket.parser({ protocolVersion: 5 });
    parser.on("packet", (packet) => this.arrived.put(packet));
    this.mqtt.stream.on("data", (bytes) => parser.parse(bytes));
  }

  disconnect() {
    return this.mqtt.endAsync();
  }

  /** Loses the connection, without a DISCONNECT. */
  async drop() {
    const closed = happens(this.mqtt, "close");
    this.mqtt.stream.destroy();
    await closed;
  }
}

module.exports = { Broker, Client, VERSIONS, happens };
