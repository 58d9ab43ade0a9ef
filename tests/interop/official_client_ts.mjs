// The official TypeScript client, driven line by line by official_client_ts.py.
//
//   <- {"id":1,"do":"call","with":["add",{"a":1,"b":2}]}      -> {"id":1,"result":{...}} or {"id":1,"error":{...}}
//   <- {"cancel":1}                                             aborts that call
//   -> {"tell":"progress","id":1,"params":{...}}                what the server said
//   -> {"ask":1,"method":"elicit","params":{...}}             <- {"answer":1,"result":{...}}
//
// Arguments: the folder with node_modules, the transport, then the command or the URL.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [home, transportName, ...words] = process.argv.slice(2);
const require = createRequire(`${home}/package.json`);
const sdk = (path) => require(`@modelcontextprotocol/sdk/${path}`);
const { Client } = sdk("client/index.js");
const types = sdk("types.js");

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const calls = new Map(); // id -> AbortController
const questions = new Map(); // number -> resolve
let asked = 0;

function ask(method, params) {
  asked += 1;
  say({ ask: asked, method, params });
  return new Promise((resolve) => questions.set(asked, resolve));
}

function transport() {
  if (transportName === "stdio") {
    const { StdioClientTransport } = sdk("client/stdio.js");
    return new StdioClientTransport({ command: words[0], args: words.slice(1) });
  }
  if (transportName === "http") {
    return new (sdk("client/streamableHttp.js").StreamableHTTPClientTransport)(new URL(words[0]));
  }
  return new (sdk("client/sse.js").SSEClientTransport)(new URL(words[0]));
}

const capabilities = { sampling: {}, elicitation: {}, roots: {} };
const client = new Client({ name: "walk", version: "1" }, { capabilities });
client.setRequestHandler(types.ElicitRequestSchema, ({ params }) => ask("elicit", params));
client.setRequestHandler(types.CreateMessageRequestSchema, ({ params }) => ask("sample", params));
client.setRequestHandler(types.ListRootsRequestSchema, () => ask("roots", {}));
client.setNotificationHandler(types.LoggingMessageNotificationSchema, ({ params }) => say({ tell: "log", params }));
client.setNotificationHandler(types.ResourceUpdatedNotificationSchema, ({ params }) => say({ tell: "updated", params }));

const actions = {
  call: (id, name, args) => {
    const controller = new AbortController();
    calls.set(id, controller);
    const onprogress = (params) => say({ tell: "progress", id, params });
    return client.callTool({ name, arguments: args }, undefined, { onprogress, signal: controller.signal });
  },
  tools: () => client.listTools(),
  resources: () => client.listResources(),
  templates: () => client.listResourceTemplates(),
  read: (id, uri) => client.readResource({ uri }),
  prompts: () => client.listPrompts(),
  prompt: (id, name, args) => client.getPrompt({ name, arguments: args }),
  complete: (id, ref, argument) => client.complete({ ref, argument }),
  set_level: (id, level) => client.setLoggingLevel(level),
  subscribe: (id, uri) => client.subscribeResource({ uri }),
  ping: () => client.ping(),
};

async function act({ id, do: name, with: args }) {
  try {
    say({ id, result: await actions[name](id, ...args) });
  } catch (error) {
    say({ id, error: { code: error.code ?? null, message: String(error.message) } });
  }
}

const wire = transport();
// The SDK tells the revision to HTTP transports only; every transport may ask for it.
let revision = null;
wire.setProtocolVersion = ((told) => (version) => {
  revision = version;
  told?.call(wire, version);
})(wire.setProtocolVersion);
await client.connect(wire);
say({ revision });
createInterface({ input: process.stdin })
  .on("line", (line) => {
    const message = JSON.parse(line);
    if (message.cancel !== undefined) calls.get(message.cancel)?.abort();
    else if (message.answer !== undefined) questions.get(message.answer)(message.result);
    else act(message);
  })
  .on("close", () => client.close().finally(() => process.exit(0)));
