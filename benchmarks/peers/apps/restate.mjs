// A job as a Restate service: submit it, wait for the signed callback, return the outcome.
//
// The process also takes the provider's callbacks. It checks the token of the path and gives the
// outcome to the waiting job by Restate's HTTP API.

import { createHmac, timingSafeEqual } from "node:crypto";
import http from "node:http";
import * as restate from "@restatedev/restate-sdk";

const { SERVICE_PORT, CALLBACK_PORT, INGRESS_PORT, PROVIDER_PORT, SECRET } = process.env;
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
let completed = 0;

const token = (id) => createHmac("sha256", SECRET).update(id).digest("hex");

function post(port, path, body) {
  const data = Buffer.from(JSON.stringify(body));
  const headers = { "Content-Type": "application/json", "Content-Length": data.length };
  const options = { host: "127.0.0.1", port, path, method: "POST", headers, agent };
  return new Promise((resolve, reject) => {
    const request = http.request(options, (answer) => {
      let text = "";
      answer.on("data", (part) => (text += part));
      answer.on("error", reject);
      answer.on("end", () =>
        answer.statusCode < 300 ? resolve(text) : reject(new Error(`${answer.statusCode} ${text}`)),
      );
    });
    request.on("error", reject);
    request.end(data);
  });
}

const jobs = restate.service({
  name: "jobs",
  handlers: {
    run: async (ctx, { prompt }) => {
      const { id, promise } = ctx.awakeable();
      const task = await ctx.run("submit", async () => {
        const callback_url = `http://127.0.0.1:${CALLBACK_PORT}/callbacks/${id}/${token(id)}`;
        const body = { model: "nano-banana-2-lite", prompt, callback_url };
        return JSON.parse(await post(PROVIDER_PORT, "/v1/images/generations", body)).id;
      });
      const outcome = await promise;
      completed += 1;
      return { task, status: outcome.status, error: outcome.error };
    },
  },
});

http
  .createServer((request, answer) => {
    if (request.url === "/completed") return answer.end(String(completed));
    const [, , id, given] = request.url.split("/");
    const expected = Buffer.from(token(id));
    const mac = Buffer.from(given ?? "");
    if (mac.length !== expected.length || !timingSafeEqual(mac, expected)) {
      return answer.writeHead(404, { "Content-Length": 0 }).end();
    }
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", async () => {
      try {
        const body = JSON.parse(Buffer.concat(parts));
        await post(INGRESS_PORT, `/restate/awakeables/${id}/resolve`, body);
        answer.writeHead(200, { "Content-Length": 2 }).end("ok");
      } catch (error) {
        answer.writeHead(503, { "Content-Length": 0 }).end();
      }
    });
  })
  .listen(Number(CALLBACK_PORT), "127.0.0.1");

restate.serve({ services: [jobs], port: Number(SERVICE_PORT) });
