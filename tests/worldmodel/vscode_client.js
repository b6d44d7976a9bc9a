// Drives the debug adapter with the client that VS Code's own adapters are tested with: node vscode_client.js COMMAND FILE
const { DebugClient } = require("@vscode/debugadapter-testsupport");

const [command, path] = process.argv.slice(2);
const client = new DebugClient("sh", command, "cwm");
const thread = { threadId: 1 };
const moved = (request, reason, line) => Promise.all([request, client.assertStoppedLocation(reason, { path, line })]);

(async () => {
  await client.start();
  await client.hitBreakpoint({ program: path, stopOnEntry: false }, { path, line: 5 });
  const { body: { stackFrames } } = await client.stackTraceRequest(thread);
  const { body: { scopes } } = await client.scopesRequest({ frameId: stackFrames[0].id });
  const { body: { variables } } = await client.variablesRequest(scopes[0]);
  await moved(client.nextRequest(thread), "step", 3);
  await moved(client.stepBackRequest(thread), "step", 5);
  await moved(client.stepOutRequest(thread), "step", 17);
  await moved(client.reverseContinueRequest(thread), "breakpoint", 5);
  await client.setBreakpointsRequest({ source: { path }, breakpoints: [] });
  await Promise.all([client.continueRequest(thread), client.waitForEvent("stopped")]);
  await Promise.all([client.continueRequest(thread), client.waitForEvent("terminated")]);
  await client.stop();
  console.log(JSON.stringify({
    stack: stackFrames.map(({ name, line }) => [name, line]),
    locals: Object.fromEntries(variables.map(({ name, value }) => [name, value])),
  }));
})().catch((error) => { console.error(error); process.exit(1); });
