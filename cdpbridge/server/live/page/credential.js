// The credential leaves the address before anything else happens; what stays in the address is a random name for it.
// A reload finds it in the tab's own storage, which ends with the tab.

const PREFIX = 'cdpbridge live view ';
const path = location.pathname;
const cut = path.lastIndexOf('/') + 1;
const folder = path.slice(0, cut);

function stored(name) {
  try { return sessionStorage.getItem(PREFIX + name) } catch { return null } // storage may be forbidden in a frame
}

function store(name, token) {
  try { sessionStorage.setItem(PREFIX + name, token) } catch { /* a reload will ask for the address again */ }
}

function take() {
  const given = decodeURIComponent(path.slice(cut));
  if (!given) return stored(location.hash.slice(1));
  const name = Array.from(crypto.getRandomValues(new Uint8Array(8)), byte => byte.toString(16).padStart(2, '0')).join('');
  store(name, given);
  history.replaceState(null, '', `${folder}${location.search}#${name}`);
  return given;
}

export const token = take();
export const share = folder.endsWith('/share/');
/** The server's own address, with a slash at its end. */
export const base = new URL(`${folder}../`, location.href).href;
export const socketAddress = new URL(`${folder}socket`, location.href.replace(/^http/, 'ws')).href.replace(/[#?].*$/, '');
