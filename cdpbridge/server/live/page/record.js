// What an ended session did: its tasks with their steps and outputs, and its recording. Text is set as text, never as markup.

const STATES = { finished: 'Finished', stopped: 'Stopped', stopping: 'Stopped', paused: 'Paused', started: 'Running' };

export class Record {
  #root;
  #address;
  #lists = new Map();
  empty = true;

  /** @param {HTMLElement} root
   *  @param {(path: string) => string} address makes a whole address of a relative one */
  constructor(root, address) {
    this.#root = root;
    this.#address = address;
  }

  task({ id, task, llm, status, output, success, seconds }) {
    const article = element('article');
    const verdict = success === true ? 'Successful' : success === false ? 'Not successful' : '';
    const facts = [STATES[status] ?? status, verdict, llm, seconds === null ? '' : `${Math.max(1, Math.round(seconds))} s`];
    article.append(element('h2', task || 'A task whose content was removed'), element('p', facts.filter(Boolean).join(' · '), 'facts'));
    const list = element('ol');
    article.append(list);
    if (output) article.append(element('h3', 'Output'), element('pre', output));
    this.#lists.set(id, list);
    this.#root.append(article);
    this.empty = false;
  }

  steps({ task, steps }) {
    for (const { number, evaluation, memory, goal, url, actions, seconds, screenshot } of steps) {
      const item = element('li');
      item.value = number;
      if (screenshot) item.append(this.#picture(screenshot, number));
      const words = element('div');
      words.append(element('strong', goal || `Step ${number}`), element('p', `${url || 'about:blank'} · ${seconds.toFixed(1)} s`, 'facts'));
      for (const text of [evaluation, memory]) if (text) words.append(element('p', text));
      for (const action of actions) words.append(element('code', action));
      item.append(words);
      this.#lists.get(task)?.append(item);
    }
  }

  recording(path) {
    const video = element('video');
    Object.assign(video, { src: this.#address(path), controls: true, preload: 'metadata' });
    this.#root.prepend(element('h2', 'Recording'), video);
    this.empty = false;
  }

  #picture(path, number) {
    const picture = element('img');
    Object.assign(picture, { loading: 'lazy', alt: `Screenshot of step ${number}` });
    // Its address is valid for some minutes; a reload of the page brings new ones.
    picture.addEventListener('error', () => picture.replaceWith(element('p', 'Reload this page to see the screenshot.', 'facts')));
    picture.src = this.#address(path);
    return picture;
  }
}

function element(name, text = '', kind = '') {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
