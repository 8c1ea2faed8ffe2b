// A client by the package ws: `node client.js '{"url": "ws://..."}'`. The settings are in peer_ws.py.

"use strict";

const fs = require("node:fs");
const { WebSocket } = require("ws");
const { obey, say, told } = require("./connection.js");

const settings = JSON.parse(process.argv[2]);

const options = { headers: settings.headers, perMessageDeflate: settings.compress };
if (settings.ca) options.ca = fs.readFileSync(settings.ca);
if (settings.origin) options.origin = settings.origin;
if (settings.maxSize) options.maxPayload = settings.maxSize;

for (let id = 0; id < settings.connections; id++) {
  const ws = new WebSocket(settings.url, settings.subprotocols, options);
  let headers;
  ws.on("upgrade", (response) => (headers = response.headers));
  ws.on("unexpected-response", async (_, response) => {
    const chunks = await response.toArray();
    const body = Buffer.concat(chunks).toString();
    say({ id, event: "refused", status: response.statusCode, headers: response.headers, body });
  });
  ws.on("open", () => {
    const { protocol, extensions } = ws;
    say({ id, event: "open", protocol, extensions, headers, target: "" });
  });
  told(id, ws);
}
obey();
