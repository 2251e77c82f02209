// The client under test, for the suite's client mode: `client_driver.mjs URL` starts `token-broker serve`
// in front of that server, and a user signs in, connects an account, and calls a tool through it. Where
// no account is needed, the Python SDK's client for the suite calls the server through the broker.
// How it ended is written to `outcome.json` in the folder of the scenario, for judge.py: the suite
// notes no exit codes.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Broker, USER } from './client_broker.mjs';
import { Caller } from './client_caller.mjs';
import { Person } from './client_person.mjs';
import { SCENARIOS } from './client_scenarios.mjs';
import { Forwarder } from './forwarder.mjs';

const { BROKERS, PASSWORD, PYTHON, PYTHON_CLIENT, MCP_CONFORMANCE_SCENARIO: scenario, MCP_CONFORMANCE_PROTOCOL_VERSION: revision } = process.env;
const [upstream] = process.argv.slice(2);
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
// A user connects again this often before giving up.
const PATIENCE = 5;
const CALL = { name: 'test-tool', arguments: {} };

// The policy: everything is allowed; tools may need further scopes of the account.
function policy({ upstreamScopes = [], rules = '' }) {
  return `
[[server.allow]]
tools = ["*"]
scope = "mail:use"
upstream_scopes = ${JSON.stringify(upstreamScopes)}
${rules}
`;
}

class Story {
  connects = 0;

  constructor(plan, broker) {
    Object.assign(this, { plan, broker, person: new Person(broker.origin, broker.target), caller: new Caller(broker, revision) });
  }

  // From the authorization request to the first page after the consent.
  async allow() {
    const signIn = await this.person.open(this.caller.authorization(), 'cross-site');
    if (!signIn.text.includes('name="password"')) throw new Error(`no sign-in page, ${signIn.brief}`);
    const consent = await this.person.submit(signIn, { user: USER, password: PASSWORD });
    if (!consent.text.includes('value="allow"')) throw new Error(`no consent page, ${consent.brief}`);
    return this.person.submit(consent, { decision: 'allow' });
  }

  // Leaves a connect page. Returns the authorization request, or the page that refuses.
  leave(page) {
    if (!page.text.includes('value="connect"')) throw new Error(`no connect page, ${page.brief}`);
    return this.person.submit(page, { action: 'connect' });
  }

  // Goes to the authorization server, which agrees at once, and comes back. Returns the page that follows.
  async connect(page) {
    const leaving = await this.leave(page);
    if (!leaving.location) return leaving;
    this.connects += 1;
    const agreed = await fetch(leaving.location, { redirect: 'manual' });
    const back = agreed.headers.get('location');
    if (!back?.startsWith(`${this.broker.origin}/connect/mail/callback?`)) {
      throw new Error(`the authorization server answered ${agreed.status} with ${back}`);
    }
    return this.person.open(back, 'cross-site');
  }

  // Sends a request, and connects as often as the broker requires it.
  async request(method, params = {}) {
    let [response, retry] = [null, {}];
    for (let attempt = 0; attempt <= PATIENCE; attempt += 1) {
      response = await this.caller.request(method, { ...params, ...retry });
      if (!response.signal) return response;
      const done = await this.connect(await this.person.open(response.signal.url, 'cross-site'));
      if (!done.text.includes('is connected')) throw new Error(`not connected, ${done.brief}`);
      retry = response.signal.retry;
    }
    throw new Error(`still not connected: ${response.text}`);
  }

  async succeed(method, params) {
    const response = await this.request(method, params);
    if (response.status !== 200 || !response.result) throw new Error(`${method}: ${response.status} ${response.text}`);
    return response.result;
  }

  async run() {
    const { ends, page: words, reason } = this.plan;
    const page = await this.allow();
    const back = this.plan.direct ? page : await this.connect(page);
    if (ends === 'refused') {
      if (back.location || !back.text.includes(words)) throw new Error(`not refused by ${words}, ${back.brief}`);
      if (reason && !this.broker.log.includes(reason)) throw new Error(`not in the log: ${reason}`);
      return;
    }
    if (!back.location) throw new Error(`no redirect to the client, ${back.brief}`);
    await this.caller.redeem(back.location);
    if (ends === 'through') return;
    await this.caller.initialize();
    if (ends === 'denied') {
      const { status, error, text } = await this.request('tools/call', CALL);
      if (!error) throw new Error(`not denied: ${status} ${text}`);
      return;
    }
    const { tools } = await this.succeed('tools/list');
    if (tools?.[0]?.name !== 'test-tool') throw new Error(`the tools are ${JSON.stringify(tools)}`);
    const { content } = await this.succeed('tools/call', CALL);
    if (content?.[0]?.text !== 'test') throw new Error(`the tool returned ${JSON.stringify(content)}`);
    const wanted = this.plan.direct ? 0 : this.plan.connects ?? 1;
    if (this.connects !== wanted) throw new Error(`${this.connects} connects, not ${wanted}`);
  }
}

// Where the authorization server supports it, the broker is known by its own metadata document.
async function ownDocument(plan, settings) {
  const broker = await Broker.start(join(BROKERS, 'prepared'), join(folder, 'own'), { ...settings, credential: 'kind = "oauth"' });
  try {
    const story = new Story(plan, broker);
    const leaving = await story.leave(await story.allow());
    const id = new URL(leaving.location).searchParams.get('client_id');
    if (id !== `${broker.origin}/connect/mail/client-metadata.json`) throw new Error(`the client is ${id}`);
    const document = JSON.parse((await story.person.open(id, 'cross-site')).text);
    if (document.client_id !== id || document.redirect_uris.join() !== `${broker.origin}/connect/mail/callback`) {
      throw new Error(`the document is ${JSON.stringify(document)}`);
    }
  } finally {
    await broker.end();
  }
}

// The Python SDK's client cannot sign in here; the forwarder adds the token. How it ends is left to the
// suite's checks: it refuses a result without `resultType`, which one of them requires.
async function callThrough(forwarder, broker, token) {
  Object.assign(forwarder, { target: broker.target, token });
  const child = spawn(PYTHON, [PYTHON_CLIENT, broker.url], { stdio: ['ignore', 'inherit', 'inherit'], timeout: 60_000 });
  const [code] = await once(child, 'exit');
  if (code === null) throw new Error('the client of the user did not end');
}

async function drive(plan) {
  const forwarder = plan.ends === 'through' ? new Forwarder() : null;
  const origin = await forwarder?.listen() ?? plan.origin;
  const own = typeof plan.credential === 'function' ? await plan.credential(upstream, context) : plan.credential;
  const settings = { origin, upstream, rules: policy(plan), secret: plan.secret ?? context.client_secret };
  if (plan.document) await ownDocument(plan, settings);
  const credential = own.includes('kind =') ? own : `kind = "oauth"\n${own}`;
  const broker = await Broker.start(join(BROKERS, 'prepared'), join(folder, 'broker'), { ...settings, credential });
  try {
    const story = new Story(plan, broker);
    await story.run();
    if (forwarder) await callThrough(forwarder, broker, story.caller.token);
  } finally {
    forwarder?.close();
    await broker.end();
    writeFileSync(join(folder, 'log'), broker.log);
  }
}

// The suite starts all scenarios at the same time; this many brokers run at once.
const PLACES = 8;

async function turn() {
  for (;;) {
    for (let number = 0; number < PLACES; number += 1) {
      const place = join(BROKERS, `place-${number}`);
      try {
        mkdirSync(place);
        process.on('exit', () => rmdirSync(place));
        return;
      } catch (error) {
        if (error.code !== 'EEXIST') throw error;
      }
    }
    await sleep(100);
  }
}

const plan = SCENARIOS[scenario];
if (!plan) {
  console.error(`${scenario} is not about a broker`);
  process.exit(2);
}
const folder = join(BROKERS, scenario);
mkdirSync(folder, { recursive: true });
process.on('SIGTERM', () => process.exit(1));
let wrong = null;
try {
  await turn();
  await drive(plan);
} catch (error) {
  wrong = error.message.slice(0, 600);
  console.error(wrong);
}
writeFileSync(join(folder, 'outcome.json'), JSON.stringify({ ends: plan.ends, wrong }));
process.exit(wrong ? 1 : 0);
