// puppeteer-core: its Connection and CDPSession, without the pages on top.
import path from "node:path";

export class Client {
  constructor(require, folder) {
    this.puppeteer = require("puppeteer-core");
    const file = "node_modules/puppeteer-core/lib/cjs/puppeteer/node/NodeWebSocketTransport.js";
    this.transport = require(path.join(folder, file)).NodeWebSocketTransport;
  }

  async open(url) {
    this.connection = new this.puppeteer.Connection(url, await this.transport.create(url));
  }

  async attach(targetId = "PAGE") {
    return this.connection._createSession({ targetId, type: "page" });
  }

  async newTab() {
    const { targetId } = await this.connection.send("Target.createTarget", { url: "about:blank" });
    return this.attach(targetId);
  }

  on(session, method, handler) {
    session.on(method, handler);
  }

  sendWithin(session, method, seconds) {
    return session.send(method, undefined, { timeout: seconds * 1000 });
  }

  async close() {
    this.connection.dispose();
  }
}
