// The socket to the server: JSON both ways, and pictures. It comes back by itself unless the server has sent an end message.

import { share, socketAddress, token } from './credential.js';

const PAUSES = [250, 500, 1000, 2000, 4000];

export class Connection {
  #socket = null;
  #over = false;
  #failures = 0;

  /** @param {{message: (m: object) => void, picture: (number: number, width: number, height: number, jpeg: Uint8Array) => void,
   *           lost: () => void}} handlers */
  constructor(handlers) {
    this.handlers = handlers;
  }

  open() {
    const socket = this.#socket = new WebSocket(socketAddress);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => socket.send(JSON.stringify({ type: 'hello', token, share }));
    socket.onmessage = ({ data }) => {
      this.#failures = 0;
      if (typeof data !== 'string') {
        const head = new DataView(data);
        this.handlers.picture(head.getUint32(0), head.getFloat32(4), head.getFloat32(8), new Uint8Array(data, 12));
        return;
      }
      const message = JSON.parse(data);
      if (message.type === 'end') this.#over = true;
      this.handlers.message(message);
    };
    socket.onclose = ({ code }) => {
      if (this.#socket !== socket || this.#over) return;
      if (code === 4404) {
        this.#over = true;
        this.handlers.message({ type: 'end', title: 'Nothing to see here', text: 'The address may be cut off or mistyped.' });
        return;
      }
      this.handlers.lost();
      setTimeout(() => this.open(), PAUSES[Math.min(this.#failures++, PAUSES.length - 1)]);
    };
  }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }
}
