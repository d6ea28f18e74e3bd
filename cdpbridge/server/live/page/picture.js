// The picture: decoded off the main thread, newest first; acknowledged when it is on the canvas, so that a slow device gets
// fewer pictures and not later ones. Positions are in CSS pixels of the watched page.

const MAX_SCALE = 1.6; // larger, a picture is only blurred

export class Picture {
  width = 0;
  height = 0;
  #waiting = null;
  #decoding = false;
  #held = []; // numbers that are acknowledged when the page is looked at again

  constructor(canvas, stage, { shown, acknowledge }) {
    this.canvas = canvas;
    this.stage = stage;
    this.shown = shown;
    this.acknowledge = acknowledge;
    this.context = canvas.getContext('2d', { alpha: false });
    new ResizeObserver(() => this.fit()).observe(stage);
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) for (const number of this.#held.splice(0)) this.acknowledge(number);
    });
  }

  take(number, width, height, jpeg) {
    if (this.#waiting) this.#done(this.#waiting.number);
    this.#waiting = { number, width, height, jpeg };
    if (!this.#decoding) this.#decode();
  }

  clear() {
    this.#waiting = null;
    this.#held = [];
  }

  async #decode() {
    this.#decoding = true;
    while (this.#waiting) {
      const { number, width, height, jpeg } = this.#waiting;
      this.#waiting = null;
      try {
        const bitmap = await createImageBitmap(new Blob([jpeg], { type: 'image/jpeg' }));
        const { canvas } = this;
        if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
          canvas.width = bitmap.width;
          canvas.height = bitmap.height;
        }
        this.context.drawImage(bitmap, 0, 0);
        bitmap.close();
        if (width !== this.width || height !== this.height) {
          this.width = width;
          this.height = height;
          this.fit();
        }
        this.shown();
      } catch (error) {
        console.warn('a picture could not be shown', error);
      }
      this.#done(number);
    }
    this.#decoding = false;
  }

  #done(number) {
    if (document.hidden) this.#held.push(number);
    else this.acknowledge(number);
  }

  fit() {
    if (!this.width) return;
    const bare = document.body.dataset.ui === 'false';
    const margin = bare ? 0 : Math.min(20, this.stage.clientWidth / 40) * 2;
    const wide = (this.stage.clientWidth - margin) / this.width;
    const high = (this.stage.clientHeight - margin) / this.height;
    const scale = Math.max(0.05, Math.min(wide, high, MAX_SCALE));
    this.canvas.style.width = `${this.width * scale}px`;
    this.canvas.style.height = `${this.height * scale}px`;
  }

  /** Where a pointer is on the watched page. */
  place({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    const x = (clientX - box.left) / box.width * this.width;
    const y = (clientY - box.top) / box.height * this.height;
    return { x: Math.round(x * 100) / 100, y: Math.round(y * 100) / 100 };
  }

  /** Page pixels in a pixel of ours. */
  get ratio() {
    return this.width / (this.canvas.getBoundingClientRect().width || 1);
  }
}
