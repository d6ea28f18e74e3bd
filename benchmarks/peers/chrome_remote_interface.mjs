// chrome-remote-interface, the usual CDP client of Node.
export class Client {
  constructor(require) {
    this.CDP = require("chrome-remote-interface");
  }

  async open(url) {
    this.client = await this.CDP({ target: url, local: true });
  }

  async attach(targetId = "PAGE") {
    const { sessionId } = await this.client.send("Target.attachToTarget", { targetId, flatten: true });
    return { id: sessionId, send: (method, params) => this.client.send(method, params, sessionId) };
  }

  async newTab() {
    const { targetId } = await this.client.send("Target.createTarget", { url: "about:blank" });
    return this.attach(targetId);
  }

  on(session, method, handler) {
    this.client.on(`${method}.${session.id}`, handler);
  }

  async close() {
    await this.client.close();
  }
}
