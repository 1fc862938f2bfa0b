// What MQTT.js is asked to do. usage: node features.mjs 4|5 mqtt|ws|wss PORT
import { createRequire } from 'node:module';

// The library lies in build/, beside the copy of this file that is run.
const mqtt = createRequire(import.meta.url)('mqtt');
const [version, scheme, port] = process.argv.slice(2).map((word) => Number(word) || word);
const url = `${scheme}://127.0.0.1:${port}/mqtt`;
const prefix = `js-${version}-${scheme}`;
const TIMEOUT_MS = 20000;

class Connection {
  static async open(id, clean, willTopic) {
    const made = new Connection();
    const options = {
      protocolVersion: version, clientId: `${prefix}-${id}`, clean, reconnectPeriod: 0,
    };
    if (version === 5 && !clean) options.properties = { sessionExpiryInterval: 600 };
    if (willTopic) options.will = { topic: willTopic, payload: Buffer.from('gone'), qos: 1, retain: false };
    made.messages = [];
    made.waiting = [];
    made.client = mqtt.connect(url, options);
    made.client.on('message', (topic, payload, packet) => {
      made.messages.push(`${packet.qos} ${packet.retain} ${payload}`);
      made.waiting.splice(0).forEach((wake) => wake());
    });
    made.present = await new Promise((resolve, reject) => {
      made.client.once('connect', (packet) => resolve(packet.sessionPresent));
      made.client.once('error', reject);
    });
    return made;
  }

  subscribe(filter, qos) {
    return this.client.subscribeAsync(filter, { qos });
  }

  publish(topic, payload, qos, retain = false) {
    return this.client.publishAsync(topic, payload, { qos, retain });
  }

  async take() {
    const deadline = Date.now() + TIMEOUT_MS;
    while (this.messages.length === 0 && Date.now() < deadline) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, deadline - Date.now());
        this.waiting.push(() => { clearTimeout(timer); resolve(); });
      });
    }
    return this.messages.shift();
  }

  async expect(...wanted) {
    const found = [];
    for (const _ of wanted) found.push(await this.take());
    if (JSON.stringify(found) !== JSON.stringify(wanted)) {
      throw new Error(`wanted ${JSON.stringify(wanted)}, got ${JSON.stringify(found)}`);
    }
  }

  end() {
    return this.client.endAsync();
  }

  drop() {
    this.client.stream.destroy();
  }
}

const features = {
  async connect() {
    const one = await Connection.open('connect', true);
    if (one.present) throw new Error('session present after a clean start');
    await one.end();
  },
  async session() {
    let away = await Connection.open('away', false);
    await away.subscribe(`${prefix}/session`, 2);
    await away.end();
    const other = await Connection.open('other', true);
    await other.publish(`${prefix}/session`, 'one', 1);
    await other.publish(`${prefix}/session`, 'three', 1);
    await other.end();
    away = await Connection.open('away', false);
    if (!away.present) throw new Error('no session present');
    await away.expect('1 false one', '1 false three');
    await away.end();
  },
  async retained() {
    const one = await Connection.open('retained', true);
    await one.publish(`${prefix}/retained`, 'kept', 1, true);
    await one.subscribe(`${prefix}/retained`, 1);
    await one.expect('1 true kept');
    await one.publish(`${prefix}/retained`, '', 1, true);
    await one.expect('1 false ');
    await one.end();
  },
  async will() {
    const witness = await Connection.open('witness', true);
    await witness.subscribe(`${prefix}/will`, 1);
    const mortal = await Connection.open('mortal', true, `${prefix}/will`);
    mortal.drop();
    await witness.expect('1 false gone');
    await witness.end();
  },
  async shared() {
    const members = [await Connection.open('first', true), await Connection.open('second', true)];
    for (const member of members) await member.subscribe(`$share/group/${prefix}/shared`, 1);
    const publisher = await Connection.open('publisher', true);
    for (let n = 0; n < 20; n++) await publisher.publish(`${prefix}/shared`, `m${n}`, 1);
    const deadline = Date.now() + TIMEOUT_MS;
    const all = () => members.flatMap((member) => member.messages);
    while (all().length < 20 && Date.now() < deadline) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, deadline - Date.now());
        for (const member of members) member.waiting.push(() => { clearTimeout(timer); resolve(); });
      });
    }
    const found = all().sort().join();
    const wanted = Array.from({ length: 20 }, (_, n) => `1 false m${n}`).sort().join();
    if (found !== wanted) throw new Error(`wanted ${wanted}, got ${found}`);
    for (const one of [...members, publisher]) await one.end();
  },
};
for (const qos of [0, 1, 2]) {
  features[`qos${qos}`] = async () => {
    const one = await Connection.open(`qos${qos}`, true);
    await one.subscribe(`${prefix}/qos${qos}`, qos);
    for (let n = 0; n < 5; n++) await one.publish(`${prefix}/qos${qos}`, `m${n}`, qos);
    await one.expect(...[0, 1, 2, 3, 4].map((n) => `${qos} false m${n}`));
    await one.end();
  };
}

for (const [name, run] of Object.entries(features)) {
  try {
    await run();
    console.log(`ok ${name}`);
  } catch (failure) {
    console.log(`not ok ${name} ${String(failure).replaceAll('\n', ' ')}`);
  }
}
process.exit(0);
