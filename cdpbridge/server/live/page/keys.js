// The keyboard, while driving: keys as keys, and what is no key (dead keys, input methods, phones) as text.

import { modifiers } from './hands.js';

const EMPTY = '\u200b'; // so that a phone's backspace has something to delete
const MAC = /Mac|iPhone|iPad/.test(navigator.platform);

function written({ key, ctrlKey, metaKey, altKey }, altGraph) {
  if (key === 'Enter') return '\r';
  if ([...key].length !== 1) return '';
  return altGraph || !(ctrlKey || metaKey || (altKey && !MAC)) ? key : '';
}

export function watchKeys(field, { send, driving, release }) {
  let composing = false;

  function reset() {
    field.value = EMPTY;
    field.setSelectionRange(1, 1);
  }

  function key(event, kind) {
    const altGraph = event.getModifierState('AltGraph');
    return {
      type: 'key', kind, key: event.key, code: event.code, keyCode: event.keyCode, location: event.location,
      repeat: event.repeat, text: kind === 'down' ? written(event, altGraph) : '',
      modifiers: altGraph ? modifiers(event) & ~3 : modifiers(event),
    };
  }

  function elsewhere(event) {
    return !driving() || composing || event.isComposing || event.keyCode === 229 || event.key === 'Dead' || event.key === 'Unidentified';
  }

  field.addEventListener('keydown', event => {
    if (event.key === 'Escape' && event.shiftKey) {
      event.preventDefault();
      release();
      return;
    }
    if (elsewhere(event)) return;
    const command = (event.ctrlKey || (MAC && event.metaKey)) && !event.altKey;
    const letter = event.key.toLowerCase();
    if (command && letter === 'v') return; // the paste event comes
    if (event.shiftKey && event.key === 'Insert') return;
    event.preventDefault();
    if (command && (letter === 'c' || letter === 'x')) send({ type: 'copy' });
    send(key(event, 'down'));
  });
  field.addEventListener('keyup', event => {
    if (elsewhere(event)) return;
    event.preventDefault();
    send(key(event, 'up'));
  });
  field.addEventListener('paste', event => {
    event.preventDefault();
    const text = event.clipboardData?.getData('text/plain') ?? '';
    if (driving() && text) send({ type: 'paste', text });
  });
  field.addEventListener('compositionstart', () => { composing = true });
  field.addEventListener('compositionupdate', ({ data }) => {
    if (driving()) send({ type: 'compose', text: data, start: data.length, end: data.length });
  });
  field.addEventListener('compositionend', ({ data }) => {
    composing = false;
    if (driving()) send(data ? { type: 'text', text: data } : { type: 'compose', text: '', start: 0, end: 0 });
    reset();
  });
  field.addEventListener('input', event => {
    if (composing || event.isComposing) return;
    if (driving()) {
      const text = field.value.replaceAll(EMPTY, '');
      if (text) send({ type: 'text', text });
      else if (event.inputType?.startsWith('delete')) {
        const back = { type: 'key', key: 'Backspace', code: 'Backspace', keyCode: 8 };
        send({ ...back, kind: 'down' });
        send({ ...back, kind: 'up' });
      }
    }
    reset();
  });
  reset();
}
