// Elements as values, and a patch that brings the page up to date without losing focus, selection or scroll position.

/** An element: `h("button.primary", {onclick, key}, "Stop")`. Text is always text, never markup. */
export function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const { key, class: more, ...rest } = properties ?? {};
  if (more) classes.push(more);
  return { name, key, classes: classes.join(" "), properties: rest, children: flat(children), namespace: null };
}

/** The same for drawings. */
export function svg(tag, properties = {}, ...children) {
  return { ...h(tag, properties, ...children), namespace: "http://www.w3.org/2000/svg" };
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Make the children of `parent` equal to `children`. */
export function patch(parent, children) {
  const wanted = flat(Array.isArray(children) ? children : [children]);
  const keyed = new Map();
  for (const node of parent.childNodes) if (node.key !== undefined) keyed.set(node.key, node);
  let at = parent.firstChild;
  for (const child of wanted) {
    let node = typeof child === "object" && child.key !== undefined ? keyed.get(child.key) : at;
    if (node && !same(node, child)) node = null;
    if (node && node === at) at = at.nextSibling;
    else if (node) parent.insertBefore(node, at);
    else {
      node = create(child);
      parent.insertBefore(node, at);
      if (at && (typeof child !== "object" || child.key === undefined) && at.key === undefined) {
        const old = at;
        at = at.nextSibling;
        old.remove();
      }
    }
    update(node, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function same(node, child) {
  if (typeof child !== "object") return node.nodeType === Node.TEXT_NODE;
  return node.nodeType === Node.ELEMENT_NODE && node.localName === child.name && node.key === child.key;
}

function create(child) {
  if (typeof child !== "object") return document.createTextNode(String(child));
  const node = child.namespace ? document.createElementNS(child.namespace, child.name) : document.createElement(child.name);
  if (child.key !== undefined) node.key = child.key;
  node.given = new Set();
  return node;
}

function update(node, child) {
  if (typeof child !== "object") {
    if (node.data !== String(child)) node.data = String(child);
    return;
  }
  if ((node.getAttribute("class") ?? "") !== child.classes) node.setAttribute("class", child.classes);
  for (const [name, value] of Object.entries(child.properties)) set(node, name, value);
  for (const name of node.given) if (!(name in child.properties)) set(node, name, null);
  node.given = new Set(Object.keys(child.properties));
  patch(node, child.children);
}

function set(node, name, value) {
  if (name.startsWith("on")) node[name] = value;
  else if (name === "initial") {
    // What a field holds until the user changes it; then it is left alone.
    if (!node.given.has(name)) node.value = value;
  } else if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value === true ? "" : value)) node.setAttribute(name, value === true ? "" : value);
}
