// A server by the package ws: `node server.js '{"port": 0}'`. The settings are in peer_ws.py.

"use strict";

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { WebSocketServer } = require("ws");
const { obey, say, told } = require("./connection.js");

const settings = JSON.parse(process.argv[2]);

const server = settings.cert
  ? https.createServer({
      cert: fs.readFileSync(settings.cert),
      key: fs.readFileSync(settings.key),
    })
  : http.createServer();

const options = { server, perMessageDeflate: settings.compress };
if (settings.maxSize) options.maxPayload = settings.maxSize;
if (settings.subprotocols.length) {
  options.handleProtocols = (offered) =>
    settings.subprotocols.find((subprotocol) => offered.has(subprotocol)) ?? false;
}
if (settings.refusal) {
  const { status, body, headers } = settings.refusal;
  options.verifyClient = (_, refuse) => refuse(false, status, body, headers);
}

let opened = 0;
const connections = new WebSocketServer(options);
connections.on("headers", (headers) => {
  for (const [name, value] of Object.entries(settings.headers)) headers.push(`${name}: ${value}`);
});
connections.on("connection", (ws, request) => {
  const id = opened++;
  told(id, ws);
  for (const text of settings.greeting) ws.send(text);
  const { protocol, extensions } = ws;
  say({ id, event: "open", protocol, extensions, headers: request.headers, target: request.url });
});

const where = settings.path ? { path: settings.path } : { port: 0, host: "127.0.0.1" };
server.listen(where, () => say({ event: "listening", port: server.address().port ?? 0 }));
obey();
