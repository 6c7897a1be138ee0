// Try snippet.html in a real browser, by hand, against a running `traceflow up`:
//   npm install playwright-core rrweb; apt-get install chromium
//   node try_snippet.mjs http://127.0.0.1:8100 tfk_… [/usr/bin/chromium]
// The page comes from a server of its own on localhost (from a public address Chromium asks the user before it lets a page
// speak to this machine), rrweb from node_modules. It prints each request with its answer, then what to ask.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const [gateway, key, executablePath = "/usr/bin/chromium"] = process.argv.slice(2);
const snippet = readFileSync(new URL("snippet.html", import.meta.url), "utf8").replace("http://127.0.0.1:8100", gateway).replace("tfk_…", key);
const rrweb = join(dirname(require.resolve("rrweb")), "rrweb.js");

const server = createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end(snippet));
await new Promise((resolve) => server.listen(0, "localhost", resolve));
const page = `http://localhost:${server.address().port}/`;
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const context = await browser.newContext();
await context.route("https://cdn.jsdelivr.net/**", (route) => route.fulfill({ contentType: "text/javascript", path: rrweb }));
const tell = async (response) => {
  const url = new URL(response.url());
  if (url.pathname.startsWith("/v1/")) console.log(response.status(), url.pathname, url.searchParams.get("seq") ?? "", await response.text().catch(() => "(page gone)"));
};
context.on("response", tell);

const tab = await context.newPage();
tab.on("console", (message) => message.type() === "error" && console.log("console:", message.text()));
await tab.goto(page);
await tab.click("#works");
await tab.click("#fails");
await tab.waitForTimeout(2500);
for (let n = 0; n < 5; n++) await tab.click("#dead", { delay: 30 });
await tab.waitForTimeout(4000);
await tab.click("a"); // another page of the same tab: the last chunk goes with keepalive
await tab.waitForTimeout(2500);
const session = await tab.evaluate(() => sessionStorage.tf_session);
await tab.close({ runBeforeUnload: true });
await new Promise((resolve) => setTimeout(resolve, 1000));
await browser.close();
server.close();
console.log(`\ntraceflow sql "SELECT event_type, element_selector, error_message FROM traceflow_events WHERE session_id = '${session}' ORDER BY timestamp"`);
console.log(`traceflow sql "SELECT window_id, seq, event_count FROM session_recording_chunks WHERE session_id = '${session}' ORDER BY 1, 2"`);
