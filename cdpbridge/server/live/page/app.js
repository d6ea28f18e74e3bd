// The page: what the server tells becomes what is seen.

import { Connection } from './connection.js';
import { base, share, token } from './credential.js';
import { watchHands } from './hands.js';
import { watchKeys } from './keys.js';
import { Picture } from './picture.js';
import { Record } from './record.js';
import { showDownloads, showTabs } from './lists.js';

const $ = id => document.getElementById(id);
const { body } = document;
const options = new URLSearchParams(location.search);

// --- theme and options ----------------------------------------------------------------------------------------------

const dark = matchMedia('(prefers-color-scheme: dark)');
function paint() {
  const theme = options.get('theme');
  document.documentElement.dataset.theme = ['light', 'dark'].includes(theme) ? theme : dark.matches ? 'dark' : 'light';
}
dark.addEventListener('change', paint);
paint();
if (options.get('ui') === 'false') body.dataset.ui = 'false';
if (matchMedia('(pointer: coarse)').matches) body.dataset.coarse = '';

// --- state ----------------------------------------------------------------------------------------------------------

let status = { tabs: [], tab: null, following: true, state: 'loading', driving: false, mayDrive: false };
const icons = new Map();
let connected = false;
let ended = null;
let saved = [];

const connection = new Connection({
  picture: (...parts) => picture.take(...parts),
  message: message => handlers[message.type]?.(message),
  lost() {
    connected = false;
    if (status.driving) status = { ...status, driving: false, again: true };
    picture.clear();
    render();
  },
});
const send = message => connection.send(message);
const picture = new Picture($('picture'), $('stage'), {
  shown() {},
  acknowledge: number => send({ type: 'ack', number }),
});

const record = new Record($('record'), path => new URL(path, base).href);
const handlers = {
  status(message) {
    const again = status.again;
    connected = true;
    status = message;
    if (again && message.mayDrive) send({ type: 'drive', on: true }); // as it was before the line was lost
    render();
  },
  icon({ tab, data }) {
    icons.set(tab, data);
    render();
  },
  saved({ files }) {
    saved = files;
    render();
  },
  file({ name, path }) {
    Object.assign(document.createElement('a'), { href: new URL(path, base).href, download: name }).click();
  },
  clipboard({ text }) {
    copy(text);
  },
  notice({ text }) {
    notice(text);
  },
  task(message) {
    record.task(message);
  },
  steps(message) {
    record.steps(message);
  },
  recording({ path }) {
    record.recording(path);
  },
  end(message) {
    ended = message;
    render();
  },
};

// --- driving --------------------------------------------------------------------------------------------------------

function drive(on) {
  send({ type: 'drive', on });
  $('notice').hidden = true;
  if (on) $('keys').focus({ preventScroll: true });
}

function refused() {
  if (!status.mayDrive) return;
  if (body.dataset.ui === 'false') {
    drive(true);
    notice('You are driving. Shift+Esc gives back.');
  } else {
    notice('You are watching.', 'Take over', () => drive(true));
  }
}

watchHands(picture, {
  send,
  refused,
  driving: () => status.driving,
  touched: finger => { if (!finger) $('keys').focus({ preventScroll: true }) },
});
watchKeys($('keys'), {
  send,
  driving: () => status.driving,
  release() {
    if (body.dataset.ui === 'false') drive(false);
    else $('drive').focus();
  },
});
$('keys').addEventListener('focus', () => { body.dataset.held = '' });
$('keys').addEventListener('blur', () => { delete body.dataset.held });
$('keyboard').addEventListener('click', () => $('keys').focus());
$('drive').addEventListener('click', () => drive(!status.driving));
$('follow').addEventListener('click', () => send({ type: 'view', tab: null }));
$('back').addEventListener('click', () => send({ type: 'go', steps: -1 }));
$('forward').addEventListener('click', () => send({ type: 'go', steps: 1 }));
$('reload').addEventListener('click', () => send({ type: 'reload' }));
$('new-tab').addEventListener('click', () => send({ type: 'tab' }));
$('cover-button').addEventListener('click', () => {
  if (!status.driving) drive(true);
  send({ type: status.state === 'empty' ? 'tab' : 'reload' });
});

$('address').addEventListener('focus', () => $('address').select());
$('address').addEventListener('blur', () => render());
$('address-form').addEventListener('submit', event => {
  event.preventDefault();
  const url = $('address').value.trim();
  if (!url || !status.driving) return;
  send({ type: 'go', url });
  $('keys').focus();
});

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    notice('Copied to your clipboard.');
  } catch { // no permission, or no secure context: with a click it may be allowed
    notice('Copied in the browser.', 'Copy to my clipboard', () => {
      const area = document.createElement('textarea');
      area.value = text;
      body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    });
  }
}

// --- questions of the page ------------------------------------------------------------------------------------------

const TITLES = { alert: 'says', confirm: 'asks', prompt: 'asks', beforeunload: 'asks' };
let asked = null;

function showQuestion() {
  const question = ended || !connected ? null : status.dialog;
  const key = JSON.stringify(question);
  if (key === asked) return;
  asked = key;
  $('question').hidden = !question;
  if (!question) return;
  let host = '';
  try { host = new URL(question.url).host } catch { /* about:blank and the like have none */ }
  $('question-title').textContent = `${host || 'The page'} ${TITLES[question.kind] ?? 'asks'}`;
  $('question-text').textContent = question.kind === 'beforeunload' ? 'Leave this page? Changes may be lost.' : question.message;
  $('question-input').hidden = question.kind !== 'prompt';
  $('question-input').value = question.default;
  $('question-no').hidden = question.kind === 'alert';
  $('question-hint').textContent = status.driving ? '' : 'The automation may answer this itself.';
  if (status.driving) (question.kind === 'prompt' ? $('question-input') : $('question-yes')).focus();
}

function answer(accept) {
  send({ type: 'dialog', accept, text: $('question-input').value });
  if (status.driving) $('keys').focus();
}
$('question-form').addEventListener('submit', event => {
  event.preventDefault();
  answer(true);
});
$('question-no').addEventListener('click', () => answer(false));
$('question').addEventListener('keydown', event => { if (event.key === 'Escape') answer(status.dialog?.kind === 'alert') });

$('chooser-yes').addEventListener('click', () => $('files').click());
$('chooser-no').addEventListener('click', () => send({ type: 'files', files: [] }));
$('files').addEventListener('change', async () => {
  const files = await Promise.all(Array.from($('files').files, async file => ({
    name: file.name, kind: file.type, data: await base64(file),
  })));
  $('files').value = '';
  if (files.length) send({ type: 'files', files });
});

function base64(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(',') + 1));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}

// --- what is seen ---------------------------------------------------------------------------------------------------

const ICONS = {
  end: '<svg viewBox="0 0 28 28"><rect x="8" y="8" width="12" height="12" rx="2"/></svg>',
  crashed: '<svg viewBox="0 0 28 28"><path d="M14 4 3 23h22zM14 11v6M14 20v.2"/></svg>',
  empty: '<svg viewBox="0 0 28 28"><rect x="4" y="6" width="20" height="16" rx="2"/><path d="M4 11h20"/></svg>',
};

function cover() {
  if (ended) return { state: 'ended', icon: 'end', title: ended.title, text: ended.text };
  if (token === null) {
    return { state: 'ended', icon: 'end', title: 'Open the address again', text: 'This tab does not know which browser to show any more.' };
  }
  if (!connected) {
    const text = status.tabs.length ? 'The connection was lost. Trying again…' : '';
    return { state: 'connecting', title: 'Connecting', text };
  }
  if (status.state === 'crashed') {
    const button = status.driving ? 'Reload' : status.mayDrive ? 'Take over and reload' : '';
    return { state: 'crashed', icon: 'crashed', title: 'This page has crashed', text: 'The browser runs on; its other tabs are not affected.', button };
  }
  if (status.state === 'empty') {
    return { state: 'empty', icon: 'empty', title: 'No open tabs', text: 'The next one appears here by itself.', button: status.driving ? 'New tab' : '' };
  }
  if (status.state === 'loading') return { state: 'loading', title: 'Waiting for the picture', text: '' };
  return { state: 'live', title: '', text: '' };
}

function render() {
  const { state, icon, title, text, button = '' } = cover();
  const live = connected && !ended;
  const driving = live && status.driving;
  const current = status.tabs.find(tab => tab.id === status.tab);
  if (body.dataset.state !== state) {
    body.dataset.state = state;
    $('cover-icon').innerHTML = ICONS[icon] ?? '';
  }
  $('record').hidden = !ended || record.empty;
  $('cover-title').textContent = title;
  $('cover-text').textContent = text;
  $('cover-button').textContent = button;
  $('cover-button').hidden = !button;
  body.toggleAttribute('data-driving', driving);
  document.title = ended ? `${title} · Live view` : current ? `${current.title || current.url} · Live view` : 'Live view';
  $('picture').setAttribute('aria-label', `Picture of ${current?.title || current?.url || 'the browser'}`);

  showTabs($('tabs'), live ? status : { ...status, tabs: [] }, icons, {
    choose: id => send({ type: 'view', tab: id }),
    close: id => send({ type: 'tab', id }),
  });
  showDownloads($('downloads'), $('download-list'), $('download-count'), {
    downloads: status.downloads ?? [],
    saved,
    mayDrive: live && status.mayDrive,
    fetch: driving ? name => send({ type: 'fetch', name }) : null,
  });
  $('back').disabled = !driving || !status.back;
  $('forward').disabled = !driving || !status.forward;
  $('reload').disabled = !driving || !current;
  $('address').readOnly = !driving;
  if (document.activeElement !== $('address') || !driving) {
    $('address').value = live && current ? readable(current.url) : '';
  }
  $('lock').classList.toggle('on', live && Boolean(current?.url.startsWith('https:')));
  $('busy').hidden = !live || !status.busy;
  $('follow').hidden = !live || status.following;
  $('people').hidden = !live || status.viewers < 2;
  $('people-count').textContent = status.viewers;
  $('people-driving').textContent = status.drivers ? ` · ${status.drivers} driving` : '';
  $('people').title = `${status.viewers} people watch`;
  $('drive').hidden = !live || !status.mayDrive;
  $('drive').setAttribute('aria-checked', String(driving));
  $('drive').title = driving ? 'Give back: your mouse and keyboard leave the browser' : 'Take over: your mouse and keyboard reach the browser';
  $('drive-label').textContent = driving ? 'Driving' : 'Watching';
  $('read-only').hidden = !live || status.mayDrive;
  $('keys').tabIndex = driving ? 0 : -1;
  $('chooser').hidden = !driving || !status.chooser;
  $('files').multiple = status.chooser === 'selectMultiple';
  showQuestion();
}

function readable(url) {
  return url === 'about:blank' ? '' : url.startsWith('data:') && url.length > 300 ? `${url.slice(0, 300)}…` : url;
}

let noticeTimer = 0;
function notice(text, button = '', act = null) {
  $('notice-text').textContent = text;
  $('notice-button').textContent = button;
  $('notice-button').hidden = !button;
  $('notice-button').onclick = () => {
    $('notice').hidden = true;
    act?.();
  };
  $('notice').hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { $('notice').hidden = true }, 5000);
}

render();
if (token !== null) connection.open();
if (share) body.dataset.share = '';
