// Tabs and downloads. Elements are kept and changed, not made anew, so that focus and hover stay.

const BLANK = '<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="6"/><path d="M2 8h12M8 2c2 2 2 10 0 12M8 2c-2 2-2 10 0 12"/></svg>';
const CROSS = '<svg viewBox="0 0 10 10" aria-hidden="true"><path d="m1 1 8 8M9 1 1 9"/></svg>';

export function showTabs(list, { tabs, tab: current }, icons, { choose, close }) {
  const known = new Map(Array.from(list.children, item => [item.dataset.id, item]));
  for (const [place, tab] of tabs.entries()) {
    let item = known.get(tab.id);
    known.delete(tab.id);
    if (!item) {
      item = document.createElement('li');
      item.dataset.id = tab.id;
      item.innerHTML = `<button class="tab" type="button">${BLANK}<span></span></button><button class="close" type="button">${CROSS}</button>`;
      item.children[0].addEventListener('click', () => choose(tab.id));
      item.children[1].addEventListener('click', () => close(tab.id));
    }
    if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null);
    const [button, cross] = item.children;
    const title = tab.title || tab.url || 'New tab';
    button.querySelector('span').textContent = title;
    button.title = title;
    cross.setAttribute('aria-label', `Close ${title}`);
    showIcon(button, icons.get(tab.id));
    const isCurrent = tab.id === current;
    if (isCurrent && !item.classList.contains('current')) bringIntoView(list, item);
    item.classList.toggle('current', isCurrent);
    if (isCurrent) button.setAttribute('aria-current', 'page');
    else button.removeAttribute('aria-current');
  }
  for (const [id, item] of known) {
    item.remove();
    icons.delete(id);
  }
}

/** Scrolls the list alone: `scrollIntoView` would also scroll a page that this one is a frame of. */
function bringIntoView(list, item) {
  const [all, at] = [list, item].map(element => element.getBoundingClientRect());
  if (at.left < all.left) list.scrollLeft -= all.left - at.left;
  else if (at.right > all.right) list.scrollLeft += at.right - all.right;
}

function showIcon(button, data) {
  const old = button.firstElementChild;
  const shown = old.tagName === 'IMG' ? old.getAttribute('src') : '';
  if (shown === (data ?? '')) return;
  if (data) {
    const image = document.createElement('img');
    image.src = data;
    image.alt = '';
    old.replaceWith(image);
  } else {
    old.outerHTML = BLANK;
  }
}

/** What the browser loads, and what it has saved; `fetch` gives a saved file to who drives, and is null for others. */
export function showDownloads(button, list, count, { downloads, saved, mayDrive, fetch }) {
  const names = new Set(saved.map(({ name }) => name));
  const loading = downloads.filter(({ name, state, elsewhere }) => elsewhere || !(state === 'completed' && names.has(name))).toReversed();
  const shown = JSON.stringify([loading, saved, mayDrive, Boolean(fetch)]);
  if (list.dataset.shown === shown) return; // made anew, they would lose the focus
  list.dataset.shown = shown;
  const amount = loading.length + saved.length;
  button.hidden = !amount;
  button.setAttribute('aria-label', `Downloads: ${amount}`);
  count.textContent = amount || '';
  if (button.hidden) list.hidden = true;
  const items = loading.map(({ name, received, total, state, elsewhere }) => entry(name, state === 'completed'
    ? `${size(received)}, ${elsewhere ? 'in a folder that the automation has chosen' : 'done'}`
    : state === 'canceled' ? 'Not kept by the browser'
    : total ? `${size(received)} of ${size(total)}` : `${size(received)}…`, state));
  for (const { name, size: bytes } of saved) {
    const item = entry(name, size(bytes), 'completed');
    if (fetch) {
      const save = document.createElement('button');
      save.type = 'button';
      save.textContent = 'Save';
      save.setAttribute('aria-label', `Save ${name}`);
      save.onclick = () => fetch(name);
      item.append(save);
    }
    items.push(item);
  }
  if (!fetch && mayDrive) items.push(entry('', 'Take over to save files to your device.', 'hint'));
  list.replaceChildren(...items);
  if (!button.onclick) {
    button.onclick = () => {
      list.hidden = !list.hidden;
      button.setAttribute('aria-expanded', String(!list.hidden));
    };
    const close = () => {
      list.hidden = true;
      button.setAttribute('aria-expanded', 'false');
    };
    button.parentElement.addEventListener('keydown', event => {
      if (event.key !== 'Escape' || list.hidden) return;
      close();
      button.focus();
    });
    document.addEventListener('mousedown', event => { if (!button.parentElement.contains(event.target)) close() });
  }
}

function entry(name, detail, kind) {
  const item = document.createElement('li');
  const text = document.createElement('span');
  const small = document.createElement('small');
  item.className = kind;
  text.textContent = name;
  small.textContent = detail;
  text.append(small);
  item.append(text);
  return item;
}

function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
