// One WebSocket of the package ws: does what commands say, and says what happens to it.

"use strict";

const { createInterface } = require("node:readline");

const connections = new Map();

// An event is a line of JSON on stdout.
function say(event) {
  process.stdout.write(JSON.stringify(event) + "\n");
}

function told(id, ws) {
  const connection = { ws, echo: false };
  connections.set(id, connection);
  ws.on("message", (data, binary) => {
    if (connection.echo) ws.send(data, { binary });
    else say({ id, event: "message", data: data.toString("base64"), binary });
  });
  ws.on("pong", (data) => say({ id, event: "pong", data: data.toString("base64") }));
  ws.on("close", (code, reason) => say({ id, event: "close", code, reason: String(reason) }));
  ws.on("error", (error) => say({ id, event: "error", message: error.message }));
}

// A command is a line of JSON on stdin, whose end is ours.
function obey() {
  const lines = createInterface({ input: process.stdin });
  lines.on("close", () => process.exit(0));
  lines.on("line", (line) => {
    const { id, command, data, ...rest } = JSON.parse(line);
    const connection = connections.get(id);
    const { ws } = connection;
    const payload = Buffer.from(data ?? "", "base64");
    if (command === "send") ws.send(payload, rest);
    else if (command === "ping") ws.ping(payload);
    else if (command === "echo") {
      connection.echo = true;
      say({ id, event: "echoing" });
    } else if (command === "close") ws.close(rest.code, rest.reason);
    else if (command === "terminate") ws.terminate();
    else throw new Error(`no command ${command}`);
  });
}

module.exports = { obey, say, told };
