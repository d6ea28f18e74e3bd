// How elements are found in a document, and what they are: for `_page.js`, in the same world.
() => {
  "use strict";

  // --- nodes -------------------------------------------------------------------------------------------------------

  // A member of nodes by its prototype: a field of a form that is called `children`, or an image that is called `body`, hides the
  // member of the form or of the document itself. Undefined for a node of another kind.
  const member = (name, ...kinds) => {
    const found = kinds.map((kind) => {
      const { get, value } = Object.getOwnPropertyDescriptor(kind.prototype, name);
      return [kind, get ?? value];
    });
    return (node, ...given) => {
      for (const [kind, of] of found) if (node instanceof kind) return of.apply(node, given);
      return undefined;
    };
  };
  const PARENTS = [Element, DocumentFragment, Document];
  const queryAll = member("querySelectorAll", ...PARENTS);
  const query = member("querySelector", ...PARENTS);
  const childrenOf = member("children", ...PARENTS);
  const nodesOf = member("childNodes", Node);
  const textOf = member("textContent", Node);
  const parentOf = member("parentNode", Node);
  const contains = member("contains", Node);
  const hostOf = member("host", ShadowRoot);
  const shadowOf = member("shadowRoot", Element);
  const slotOf = member("assignedSlot", Element, Text);
  const nameOf = member("localName", Element);
  const attribute = member("getAttribute", Element);
  const matches = member("matches", Element);
  const boxesOf = member("getClientRects", Element);
  const checkVisibility = member("checkVisibility", Element);
  const animationsOf = member("getAnimations", Element);
  const scrollIntoView = member("scrollIntoView", Element);
  const isEditable = member("isContentEditable", HTMLElement);
  const focus = member("focus", HTMLElement, SVGElement, MathMLElement);
  const dispatch = member("dispatchEvent", EventTarget);
  const hitIn = member("elementFromPoint", Document, ShadowRoot);
  const activeIn = member("activeElement", Document, ShadowRoot);
  const bodyOf = member("body", Document);
  const rootOf = member("documentElement", Document);
  const timelineOf = member("timeline", Document);
  const createElement = member("createElement", Document);
  const createRange = member("createRange", Document);
  const listen = member("addEventListener", EventTarget);
  const listenNoMore = member("removeEventListener", EventTarget);

  // --- selectors ---------------------------------------------------------------------------------------------------

  const roots = function* (root) {
    for (const element of queryAll(root, "*")) {
      const shadow = shadowOf(element);
      if (shadow) {
        yield shadow;
        yield* roots(shadow);
      }
    }
  };

  // Split at `separators` outside of brackets and quotes.
  const split = (text, separators) => {
    const parts = [];
    let part = "", depth = 0, quote = "";
    for (let at = 0; at < text.length; at++) {
      const sign = text[at];
      if (sign === "\\") { part += sign + (text[++at] ?? ""); continue; }
      if (quote) { if (sign === quote) quote = ""; }
      else if (sign === '"' || sign === "'") quote = sign;
      else if (sign === "(" || sign === "[") depth++;
      else if (sign === ")" || sign === "]") depth--;
      else if (!depth && separators.test(sign)) { parts.push(part); part = ""; continue; }
      part += sign;
    }
    parts.push(part);
    return parts.map((each) => each.trim()).filter(Boolean);
  };

  // The steps of a selector from ancestor to descendant; `>`, `+` and `~` stay within a step.
  const steps = (selector) => split(selector, /\s/).reduce((found, part) => {
    const last = found.at(-1);
    if (last !== undefined && (/^[>+~]/.test(part) || /[>+~]$/.test(last))) found[found.length - 1] = `${last} ${part}`;
    else found.push(part);
    return found;
  }, []);

  // Elements in the order of the page: those of a shadow root right behind its host.
  const composed = function* (root) {
    const shadow = shadowOf(root);
    if (shadow) yield* composed(shadow);
    for (const element of childrenOf(root)) {
      yield element;
      yield* composed(element);
    }
  };

  const below = function* (scope, step) {
    const found = new Set(queryAll(scope, scope instanceof Element ? `:scope ${step}` : step));
    const shadow = shadowOf(scope);
    const shadows = shadow ? [shadow, ...roots(shadow)] : [];
    for (const root of [...shadows, ...roots(scope)]) {
      for (const element of queryAll(root, step)) found.add(element);
    }
    if (found.size < 2) yield* found;
    else for (const element of composed(scope)) if (found.has(element)) yield element;
  };

  const through = (scope, [step, ...rest]) => {
    for (const element of below(scope, step)) {
      if (!rest.length) return element;
      const found = through(element, rest);
      if (found) return found;
    }
    return null;
  };

  const css = (selector) => {
    const found = query(document, selector);  // also says whether it is one
    if (found || roots(document).next().done) return found;
    for (const each of split(selector, /,/)) {
      const inner = through(document, steps(each));
      if (inner) return inner;
    }
    return null;
  };

  const SILENT = ["script", "style", "noscript", "template", "head"];
  const BUTTONS = new Set(["submit", "button", "reset"]);
  const normal = (text) => text.replace(/\s+/g, " ").trim();

  // What a node shows, without the text of scripts and the like.
  const said = (node) => {
    if (nameOf(node) === "input") return BUTTONS.has(node.type) ? node.value : "";
    if (node instanceof Text || !query(node, SILENT.join())) return textOf(node);
    return [...nodesOf(node)]
      .filter((each) => each instanceof Text || (each instanceof Element && !SILENT.includes(nameOf(each))))
      .map(said).join("");
  };

  // The texts between the elements in a node.
  const runs = (node) => [...nodesOf(node)].reduce((found, each) => {
    if (each instanceof Text) found[found.length - 1] += each.data;
    else if (each instanceof Element) found.push("");
    return found;
  }, [""]).map(normal).filter(Boolean);

  // The innermost elements whose text matches, in the order of the document; the host for text that stands in a shadow root itself.
  const innermost = function* (node, has, is) {
    // With what scripts say, too: that is quick, and most nodes do not have it anyway.
    const maybe = has(normal(nameOf(node) === "input" ? said(node) : textOf(node)));
    if (!maybe && !query(node, "input")) return;
    let inside = false;
    for (const element of childrenOf(node)) {
      if (SILENT.includes(nameOf(element))) continue;
      for (const inner of innermost(element, has, is)) { inside = true; yield inner; }
    }
    if (!maybe || inside) return;
    const text = normal(said(node));
    if (has(text) && (is(text) || runs(node).some(is))) yield hostOf(node) ?? node;
  };

  // The first visible one, or the first one.
  const byText = (wanted) => {
    const quoted = /^(["'])(.*)\1$/s.exec(wanted.trim());
    const text = normal(quoted ? quoted[2] : wanted);
    const has = quoted ? (given) => given.includes(text) : (given) => given.toLowerCase().includes(text.toLowerCase());
    const is = quoted ? (given) => given === text : () => true;
    let first = null;
    const tops = function* () {
      const top = bodyOf(document) ?? rootOf(document);
      if (top) yield top;
      yield* roots(document);
    };
    for (const top of tops()) {
      for (const element of innermost(top, has, is)) {
        if (isVisible(element)) return element;
        first ??= element;
      }
    }
    return first;
  };

  const find = (selector) => {
    if (selector.startsWith("text=")) return byText(selector.slice(5));
    return css(selector.startsWith("css=") ? selector.slice(4) : selector);
  };

  const hasFrames = () => {
    if (query(document, "iframe, frame")) return true;
    for (const root of roots(document)) if (query(root, "iframe, frame")) return true;
    return false;
  };

  // --- what an element is ------------------------------------------------------------------------------------------

  const name = (element) => {
    const attributes = ["id", "class", "name", "type", "role"]
      .filter((each) => attribute(element, each))
      .map((each) => ` ${each}="${attribute(element, each).slice(0, 40)}"`);
    return `<${nameOf(element)}${attributes.join("")}>`;
  };

  const up = (node) => slotOf(node) ?? parentOf(node) ?? hostOf(node) ?? null;

  const boxOf = (element) => {
    for (const box of boxesOf(element)) if (box.width > 0 && box.height > 0) return box;
    return null;
  };

  const isVisible = (element) =>
    boxOf(element) !== null && checkVisibility(element, { visibilityProperty: true, contentVisibilityAuto: false });

  const disabledBy = (element) => {
    if (matches(element, ":disabled")) return "it is disabled";
    for (let node = element; node; node = up(node)) {
      if (attribute(node, "aria-disabled") === "true") {
        return node === element ? "it is disabled (aria-disabled)" : `${name(node)} around it is disabled (aria-disabled)`;
      }
    }
    return null;
  };

  // The middle of what is in the window.
  const pointOf = (element) => {
    const box = boxOf(element);
    if (box === null) return null;
    const left = Math.max(box.left, 0), right = Math.min(box.right, innerWidth);
    const top = Math.max(box.top, 0), bottom = Math.min(box.bottom, innerHeight);
    return right - left < 1 || bottom - top < 1 ? null : { x: (left + right) / 2, y: (top + bottom) / 2 };
  };

  const hitAt = (x, y) => {
    let hit = hitIn(document, x, y);
    while (shadowOf(hit)) {
      const inner = hitIn(shadowOf(hit), x, y);
      if (!inner || inner === hit) break;
      hit = inner;
    }
    return hit;
  };

  const covers = (element, hit) => {
    for (let node = hit; node; node = up(node)) {
      if (node === element || (nameOf(node) === "label" && node.control === element)) return false;
    }
    return true;
  };

  return {
    activeIn, animationsOf, attribute, bodyOf, boxOf, contains, covers, createElement, createRange, disabledBy,
    dispatch, find, focus, hasFrames, hitAt, isEditable, isVisible, listen, listenNoMore, name, nameOf, normal, pointOf,
    scrollIntoView, shadowOf, timelineOf, up,
  };
}
