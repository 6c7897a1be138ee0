// Try the snippet of README.md, as it is printed there, in a real browser against a running `traceflow up`:
//   npm install playwright-core rrweb; apt-get install chromium
//   traceflow up --ready-file ready.json
//   node try_snippet.mjs ready.json [/usr/bin/chromium]
// The page comes from a server of its own on localhost (from a public address Chromium asks the user before it lets a page
// speak to this machine), rrweb from node_modules. It prints each request with its answer, then what the database has of
// the session, and ends with 1 if something is missing.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const root = new URL("../../", import.meta.url);
const require = createRequire(join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const [readyFile, executablePath = "/usr/bin/chromium"] = process.argv.slice(2);
const { gateway, project_key, database_url } = JSON.parse(readFileSync(readyFile, "utf8"));
const rrweb = readFileSync(join(dirname(require.resolve("rrweb")), "rrweb.js"));
const snippet = readFileSync(new URL("README.md", root), "utf8").match(/```js\n(import { record }.*?)```/s)[1];
const placed = snippet.replace("http://127.0.0.1:8100", gateway).replace("tfk_…", project_key);

const page = `<!doctype html><meta charset="utf-8"><title>A page that records itself</title>
<script type="importmap">{"imports": {"rrweb": "/rrweb.js"}}</script>
<script type="module">${placed}</script>
<h1>A page that records itself</h1>
<button id="works" onclick="this.textContent = 'Worked ' + Date.now()">Works</button>
<button id="dead">Does nothing</button>
<button id="fails" onclick="undefined.price">Fails</button>
<a id="grow" href="?again" onclick="document.body.append('ä'.repeat(50_000))">Grow by 100 kB and leave</a>`;
const server = createServer((request, answer) => {
  const [type, body] = request.url === "/rrweb.js" ? ["text/javascript", rrweb] : ["text/html", page];
  answer.setHeader("Content-Type", type).end(body);
});
await new Promise((resolve) => server.listen(0, "localhost", resolve));

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const context = await browser.newContext();
const requests = []; // in the order of their answers
let refuse = 1;
await context.route(`${gateway}/**`, async (route) => {
  const isRefused = route.request().url().includes("/recordings") && refuse-- > 0;
  await (isRefused ? route.fulfill({ status: 503, headers: { "Access-Control-Allow-Origin": "*" } }) : route.continue());
});
const tell = (request, status) => {
  const { pathname, searchParams } = new URL(request.url());
  if (!pathname.startsWith("/v1/")) return;
  const body = request.postData() ?? "";
  requests.push({ what: pathname, window: searchParams.get("window_id"), seq: searchParams.get("seq"), status, body });
  console.log(status, pathname, searchParams.get("seq") ?? "", `${Buffer.byteLength(body)} B`);
};
context.on("response", (response) => tell(response.request(), response.status()));
context.on("requestfailed", (request) => tell(request, request.failure().errorText));

const tab = await context.newPage();
tab.on("console", (message) => message.type() === "error" && console.log("console:", message.text()));
await tab.goto(`http://localhost:${server.address().port}/`);
await tab.click("#works");
await tab.click("#fails");
await tab.waitForTimeout(5000); // the first chunk is refused once, and sent again
for (let n = 0; n < 5; n++) await tab.click("#dead", { delay: 30 });
await tab.waitForTimeout(4000);
await tab.click("#grow"); // more than keepalive takes: the next page of the tab sends it
await tab.waitForTimeout(5000);
const session = await tab.evaluate(() => sessionStorage.tf_session);
await tab.click("#works");
await tab.close({ runBeforeUnload: true }); // the last chunk goes with keepalive
await sleep(1000);
await browser.close();
server.close();

const chunks = requests.filter(({ what }) => what === "/v1/recordings");
const refused = chunks.findIndex(({ status }) => status === 503);
assert(chunks.slice(refused + 1).some(({ status, body }) => status === 202 && body === chunks[refused].body), "retried");
assert(chunks.some(({ status, body }) => status === 202 && Buffer.byteLength(body) > 100_000), "carried to the next page");

const traceflow = new URL(".venv/bin/traceflow", root).pathname;
const ask = (query) =>
  JSON.parse(execFileSync(traceflow, ["sql", "--json", query], { env: { ...process.env, TRACEFLOW_DATABASE_URL: database_url } }));
const findings = `SELECT event_type, element_selector, error_message, metadata->>'referrer' AS referrer
  FROM traceflow_events WHERE session_id = '${session}' ORDER BY timestamp`;
const deadline = Date.now() + 40_000; // the last clicks are settled after the flush grace of 10 s
let events = [];
const has = (kind, element) => events.some((row) => row.event_type === kind && (row.element_selector ?? "").includes(element));
while (!(has("rage_click", "dead") && has("dead_click", "dead") && has("error_click", "fails")) && Date.now() < deadline) {
  await sleep(500);
  events = ask(findings);
}
console.table(events);
const stored = ask(`SELECT window_id, seq, event_count FROM session_recording_chunks
  WHERE session_id = '${session}' ORDER BY window_id, seq`);
console.table(stored);
const places = stored.map(({ window_id, seq }) => `${window_id} ${seq}`);
assert(chunks.every(({ window, seq }) => places.includes(`${window} ${seq}`)), "each chunk is stored");
// the closed tab's own last chunk is only seen here
for (const { window_id, seq } of stored) assert(seq === 0 || places.includes(`${window_id} ${seq - 1}`), "no chunk is missing");
assert.equal(new Set(places).size, places.length, "no chunk is stored twice");
const count = (kind) => events.filter((row) => row.event_type === kind).length;
assert.deepEqual(["pageview", "error", "page_leave"].map(count), [2, 1, 2], "each event is stored once");
for (const kind of ["rage_click", "dead_click"]) assert(has(kind, "dead"), kind);
assert(has("error_click", "fails"), "error_click");
assert(!has("dead_click", "works") && !has("dead_click", "grow"), "what answers is not dead");
console.log("the snippet works: every event and chunk once, findings in place");
