"use strict";
// MQTT.js against the broker. Each test is named "STORY in VERSION", a cell of docs/clients.md.

const assert = require("node:assert/strict");
const { describe, test } = require("node:test");
const { Broker, Client, VERSIONS, happens } = require("./client.js");

const QOS_LEVELS = [0, 1, 2];
const NO_MATCHING_SUBSCRIBERS = 0x10;
const NOT_AUTHORIZED_OF_3 = 5;
const NOT_AUTHORIZED = 0x87;
const SERVER_SHUTTING_DOWN = 0x8b;
const SESSION_TAKEN_OVER = 0x8e;

/** Options of a client whose session is kept when its connection ends. */
function durable(clientId) {
  return { clientId, clean: false, properties: { sessionExpiryInterval: 60 } };
}

function will(payload, properties) {
  return { topic: "wills", payload: Buffer.from(payload), qos: 1, retain: false, properties };
}

const everyVersion = {
  async connect(t, version) {
    const broker = await Broker.start(t);
    for (const [clean, present] of [[false, false], [false, true], [true, false]]) {
      const client = Client.start(t, broker, version, { ...durable("a"), clean });
      const connack = await client.connacks.get();
      // In version 3.1 there is no such flag.
      assert.equal(connack.sessionPresent, present && version !== "3.1");
      await client.disconnect();
    }
  },

  async refused(t, version) {
    const broker = await Broker.start(t, ["--listener", "PORT 127.0.0.1"]);
    const { code } = await Client.start(t, broker, version).errors.get();
    assert.equal(code, version === "5.0" ? NOT_AUTHORIZED : NOT_AUTHORIZED_OF_3);
  },

  qos_0: (t, version) => arrivesOnceFromEveryVersion(t, version, 0),
  qos_1: (t, version) => arrivesOnceFromEveryVersion(t, version, 1),
  qos_2: (t, version) => arrivesOnceFromEveryVersion(t, version, 2),

  async retained(t, version) {
    const broker = await Broker.start(t);
    const publisher = await Client.connect(t, broker, version);
    await publisher.publish("lamp", "on", { retain: true });
    const early = await Client.connect(t, broker, version);
    await early.subscribe("lamp", { qos: 1 });
    const kept = await early.messages.get();
    assert.deepEqual([kept.payload.toString(), kept.retain], ["on", true]);

    await publisher.publish("lamp", "", { retain: true });
    assert.equal((await early.messages.get()).retain, false, "it was not kept for this one");
    const late = await Client.connect(t, broker, version);
    await late.subscribe("lamp", { qos: 1 });
    await publisher.publish("lamp", "end");
    assert.deepEqual(await late.payloadsUntil("end"), []);
  },

  async will(t, version) {
    const broker = await Broker.start(t);
    const heir = await Client.connect(t, broker, version);
    await heir.subscribe("wills", { qos: 1 });
    const leaving = await Client.connect(t, broker, version, { will: will("left") });
    await leaving.disconnect();
    const mortal = await Client.connect(t, broker, version, { will: will("died") });
    await mortal.drop();
    assert.equal(await heir.payload(), "died");
    await heir.publish("wills", "end");
    assert.deepEqual(await heir.payloadsUntil("end"), []);
  },

  async offline_queue(t, version) {
    const broker = await Broker.start(t);
    const come = () => Client.connect(t, broker, version, durable("durable"));
    let client = await come();
    await client.subscribe("t", { qos: 2 });
    await client.disconnect();
    const publisher = await Client.connect(t, broker, version);
    const numbers = Array.from({ length: 100 }, (_, number) => String(number));
    for (const number of numbers) await publisher.publish("t", number, { qos: 1 + (number % 2) });

    client = await come();
    await publisher.publish("t", "end", { qos: 2 });
    const received = [];
    for (let next; (next = await client.messages.get()).payload.toString() !== "end"; ) {
      received.push(next);
    }
    // MQTT.js hands a message of QoS 2 on when it is released, others at once.
    for (const qos of [1, 2]) {
      const ofThisQos = received.filter((message) => message.qos === qos);
      const inOrder = ofThisQos.map((message) => message.payload.toString());
      assert.deepEqual(inOrder, numbers.filter((number) => 1 + (number % 2) === qos));
    }
    await client.subscribe("acknowledged"); // the broker has all that was said before
    await client.disconnect();

    client = await come();
    await publisher.publish("t", "end", { qos: 2 });
    assert.deepEqual(await client.payloadsUntil("end"), [], "delivered twice");
  },

  async reconnect(t, version) {
    const broker = await Broker.start(t);
    const other = await Client.connect(t, broker, version);
    await other.subscribe("to/other", { qos: 1 });
    const returning = { ...durable("durable"), reconnectPeriod: 200, resubscribe: false };
    const client = await Client.connect(t, broker, version, returning);
    await client.subscribe("to/client", { qos: 2 });
    await client.drop();
    const fromAfar = client.publish("to/other", "from afar", { qos: 2 });
    await other.publish("to/client", "while away", { qos: 2 });
    assert.equal((await client.connacks.get()).sessionPresent, version !== "3.1");
    assert.equal(await client.payload(), "while away");
    await fromAfar;
    assert.equal(await other.payload(), "from afar");
    await other.publish("to/client", "end", { qos: 2 });
    assert.deepEqual(await client.payloadsUntil("end"), []);
  },

  async restart(t, version) {
    const broker = await Broker.start(t);
    const client = await Client.connect(t, broker, version, { reconnectPeriod: 50 });
    await client.subscribe("t", { qos: 1 });
    const closed = happens(client.mqtt, "close");
    await broker.stop();
    await closed;
    await broker.run();
    assert.equal((await client.connacks.get()).sessionPresent, false);
    // It subscribes again by itself; when that is done is not told, so the broker is asked.
    await client.subscribe("asked", { qos: 1 });
    await client.publish("t", "as before");
    assert.equal(await client.payload(), "as before");
  },

  async takeover(t, version) {
    const broker = await Broker.start(t);
    const old = await Client.connect(t, broker, version, durable("twin"));
    await old.subscribe("t", { qos: 1 });
    const closed = happens(old.mqtt, "close");
    const young = await Client.connect(t, broker, version, durable("twin"));
    await closed;
    if (version === "5.0") {
      assert.equal((await old.disconnects.get()).reasonCode, SESSION_TAKEN_OVER);
    }
    await young.publish("t", "to the new one");
    assert.equal(await young.payload(), "to the new one");
  },
};

async function arrivesOnceFromEveryVersion(t, version, published) {
  const broker = await Broker.start(t);
  for (const from of Object.keys(VERSIONS)) {
    const publisher = await Client.connect(t, broker, from);
    for (const subscribed of QOS_LEVELS) {
      const subscriber = await Client.connect(t, broker, version);
      assert.equal(await subscriber.subscribe("t", { qos: subscribed }), subscribed);
      await publisher.publish("t", "ä, 漢", { qos: published });
      await publisher.publish("t", "end", { qos: published });
      const message = await subscriber.messages.get();
      assert.equal(message.payload.toString(), "ä, 漢");
      assert.equal(message.qos, Math.min(published, subscribed));
      assert.equal(message.dup || message.retain, false);
      assert.deepEqual(await subscriber.payloadsUntil("end"), [], "delivered twice");
      await subscriber.disconnect();
    }
  }
}

const version5 = {
  async properties(t) {
    const broker = await Broker.start(t);
    const client = await Client.connect(t, broker, "5.0");
    await client.subscribe("t", { qos: 1 });
    const sent = {
      payloadFormatIndicator: true,
      contentType: "text/plain; charset=utf-8",
      userProperties: { b: ["1", "1"], a: "2" },
    };
    await client.publish("t", "grüezi", { properties: sent });
    const { payload, properties } = await client.messages.get();
    assert.equal(payload.toString(), "grüezi");
    assert.deepEqual({ ...properties, userProperties: { ...properties.userProperties } }, sent);
  },

  async request_response(t) {
    const broker = await Broker.start(t);
    const asking = await Client.connect(t, broker, "5.0");
    const answering = await Client.connect(t, broker, "5.0");
    await asking.subscribe("answers", { qos: 1 });
    await answering.subscribe("service", { qos: 1 });
    const asked = { responseTopic: "answers", correlationData: Buffer.from("7") };
    await asking.publish("service", "ping", { properties: asked });

    const { responseTopic, correlationData } = (await answering.messages.get()).properties;
    await answering.publish(responseTopic, "pong", { properties: { correlationData } });
    const answer = await asking.messages.get();
    assert.equal(answer.payload.toString(), "pong");
    assert.equal(answer.properties.correlationData.toString(), "7");
  },

  async message_expiry(t) {
    const broker = await Broker.start(t);
    const client = await Client.connect(t, broker, "5.0", durable("late"));
    await client.subscribe("t", { qos: 1 });
    await client.disconnect();
    const publisher = await Client.connect(t, broker, "5.0");
    await publisher.publish("t", "short-lived", { properties: { messageExpiryInterval: 1 } });
    await publisher.publish("t", "long-lived", { properties: { messageExpiryInterval: 100 } });
    // Only time itself lets a message expire.
    await new Promise((resolve) => setTimeout(resolve, 2_100));

    const late = await Client.connect(t, broker, "5.0", durable("late"));
    const { payload, properties } = await late.messages.get();
    assert.equal(payload.toString(), "long-lived");
    const left = properties.messageExpiryInterval;
    assert.ok(left >= 80 && left < 99, `${left} seconds left`);
  },

  async subscription_identifier(t) {
    const broker = await Broker.start(t);
    const client = await Client.connect(t, broker, "5.0");
    const identified = (subscriptionIdentifier) => ({
      qos: 1,
      properties: { subscriptionIdentifier },
    });
    await client.subscribe("a/+", identified(7));
    await client.subscribe("a/#", identified(268_435_455));
    await client.publish("a", "x");
    const one = (await client.messages.get()).properties.subscriptionIdentifier;
    assert.equal(one, 268_435_455);
    await client.publish("a/b", "x");
    const both = (await client.messages.get()).properties.subscriptionIdentifier;
    assert.deepEqual(both.toSorted(), [268_435_455, 7]);
  },

  async topic_alias(t) {
    const broker = await Broker.start(t);
    const aliases = { autoAssignTopicAlias: true, properties: { topicAliasMaximum: 10 } };
    const publisher = await Client.connect(t, broker, "5.0", aliases);
    const subscriber = await Client.connect(t, broker, "5.0", aliases);
    await subscriber.subscribe("#", { qos: 1 });
    subscriber.noteArrivals();
    const sent = [];
    publisher.mqtt.on("packetsend", (packet) => sent.push(packet.topic));
    for (const topic of ["long/topic", "other/topic", "long/topic"]) {
      await publisher.publish(topic, "x");
      assert.equal((await subscriber.messages.get()).topic, topic);
    }
    assert.deepEqual(sent, ["long/topic", "other/topic", ""]);
    const arrived = [];
    for (let i = 0; i < 3; i += 1) arrived.push((await subscriber.arrived.get()).topic);
    assert.deepEqual(arrived, ["long/topic", "other/topic", ""]);
  },

  async receive_maximum(t) {
    const broker = await Broker.start(t);
    const limited = { properties: { receiveMaximum: 3 } };
    const subscriber = await Client.connect(t, broker, "5.0", limited);
    await subscriber.subscribe("t", { qos: 1 });
    subscriber.noteArrivals();
    const held = [];
    subscriber.mqtt.handleMessage = (_packet, acknowledge) => held.push(acknowledge);
    const publisher = await Client.connect(t, broker, "5.0");
    const numbers = ["0", "1", "2", "3", "4"];
    for (const number of numbers) await publisher.publish("t", number);

    // The answer to a request comes after all that the broker had to send before.
    const answered = subscriber.subscribe("another");
    const arrived = [];
    for (let next; (next = await subscriber.arrived.get()).cmd !== "suback"; ) {
      arrived.push(next.payload.toString());
    }
    assert.deepEqual(arrived, ["0", "1", "2"]);

    subscriber.mqtt.handleMessage = (_packet, acknowledge) => acknowledge();
    held.forEach((acknowledge) => acknowledge());
    await answered;
    for (const number of numbers) assert.equal(await subscriber.payload(), number);
  },

  async reason_codes(t) {
    const broker = await Broker.start(t, ["-p", "PORT", "--max-qos", "1"]);
    const client = await Client.connect(t, broker, "5.0");
    await client.publish("t", "x");
    assert.equal((await client.pubacks.get()).reasonCode, NO_MATCHING_SUBSCRIBERS);
    assert.equal(await client.subscribe("t", { qos: 2 }), 1);
    await client.publish("t", "x");
    assert.equal((await client.pubacks.get()).reasonCode, 0);
    await broker.stop();
    assert.equal((await client.disconnects.get()).reasonCode, SERVER_SHUTTING_DOWN);
  },

  async session_expiry(t) {
    const broker = await Broker.start(t);
    const heir = await Client.connect(t, broker, "5.0");
    await heir.subscribe("wills", { qos: 1 });
    // A session that ends publishes its will, however long the will's delay: it tells the time.
    const brief = {
      ...durable("brief"),
      properties: { sessionExpiryInterval: 1 },
      will: will("ended", { willDelayInterval: 60 }),
    };
    await (await Client.connect(t, broker, "5.0", brief)).drop();
    const back = Client.start(t, broker, "5.0", brief);
    assert.equal((await back.connacks.get()).sessionPresent, true, "a second has not passed");
    await back.drop();
    assert.equal(await heir.payload(), "ended");
    const late = Client.start(t, broker, "5.0", brief);
    assert.equal((await late.connacks.get()).sessionPresent, false);
  },

  async shared_subscription(t) {
    const broker = await Broker.start(t);
    const members = [];
    for (let i = 0; i < 2; i += 1) {
      members[i] = await Client.connect(t, broker, "5.0");
      await members[i].subscribe("$share/g/t", { qos: 1 });
      await members[i].subscribe("all", { qos: 1 });
    }
    const publisher = await Client.connect(t, broker, "5.0");
    const numbers = Array.from({ length: 20 }, (_, number) => String(number + 10));
    for (const number of numbers) await publisher.publish("t", number);
    await publisher.publish("all", "end");
    const shares = await Promise.all(members.map((member) => member.payloadsUntil("end")));
    assert.ok(shares.every((share) => share.length > 0));
    assert.deepEqual(shares.flat().toSorted(), numbers);
  },

  async will_delay(t) {
    const broker = await Broker.start(t);
    const heir = await Client.connect(t, broker, "5.0");
    await heir.subscribe("wills", { qos: 1 });
    const delay = { willDelayInterval: 1 };
    const returning = { ...durable("returning"), will: will("not yet", delay) };
    await (await Client.connect(t, broker, "5.0", returning)).drop();
    await Client.connect(t, broker, "5.0", returning);
    const patient = { ...durable("patient"), will: will("died", delay) };
    const client = await Client.connect(t, broker, "5.0", patient);
    const dropped = process.hrtime.bigint();
    await client.drop();
    assert.equal(await heir.payload(), "died");
    assert.ok(process.hrtime.bigint() - dropped >= 1_000_000_000n);
  },

  async subscription_options(t) {
    const broker = await Broker.start(t);
    const publisher = await Client.connect(t, broker, "5.0");
    await publisher.publish("kept", "retained", { retain: true });
    const client = await Client.connect(t, broker, "5.0");
    await client.subscribe("#", { qos: 1, nl: true, rap: true, rh: 2 });
    await client.publish("t", "own");
    await publisher.publish("t", "live", { retain: true });
    const message = await client.messages.get();
    assert.deepEqual([message.payload.toString(), message.retain], ["live", true]);

    await client.subscribe("kept", { qos: 1, rh: 1 });
    assert.equal(await client.payload(), "retained");
    await client.subscribe("kept", { qos: 1, rh: 1 });
    await publisher.publish("end", "end");
    assert.deepEqual(await client.payloadsUntil("end"), [], "the second was not new");
  },
};

describe("MQTT.js", { concurrency: 4 }, () => {
  for (const [story, tell] of Object.entries(everyVersion)) {
    for (const version of Object.keys(VERSIONS)) {
      test(`${story} in ${version}`, (t) => tell(t, version));
    }
  }
  for (const [story, tell] of Object.entries(version5)) test(`${story} in 5.0`, tell);
});
