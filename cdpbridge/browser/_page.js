// What runs in a page, in a world of its own that the page's scripts cannot reach. One object, whose methods wait by themselves.
//
// A method that waits returns {ok: ...}, or when its time is over {failed: which check, detail: what it saw}. `away: true` means
// that nothing was found in this document while it has frames: the caller looks into those too.
(() => {
  "use strict";

  // The next frame. A page in the background draws none, so a timer comes along.
  const next = () => new Promise((done) => {
    let timer = 0;
    const frame = requestAnimationFrame(() => { clearTimeout(timer); done(); });
    timer = setTimeout(() => { cancelAnimationFrame(frame); done(); }, 100);
  });

  // --- selectors ---------------------------------------------------------------------------------------------------

  const roots = function* (root) {
    for (const element of root.querySelectorAll("*")) {
      if (element.shadowRoot) {
        yield element.shadowRoot;
        yield* roots(element.shadowRoot);
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
    if (root.shadowRoot) yield* composed(root.shadowRoot);
    for (const element of root.children) {
      yield element;
      yield* composed(element);
    }
  };

  const below = function* (scope, step) {
    const found = new Set(scope.querySelectorAll(scope instanceof Element ? `:scope ${step}` : step));
    const shadows = scope.shadowRoot ? [scope.shadowRoot, ...roots(scope.shadowRoot)] : [];
    for (const root of [...shadows, ...roots(scope)]) {
      for (const element of root.querySelectorAll(step)) found.add(element);
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
    const found = document.querySelector(selector);  // also says whether it is one
    if (found || roots(document).next().done) return found;
    for (const each of split(selector, /,/)) {
      const inner = through(document, steps(each));
      if (inner) return inner;
    }
    return null;
  };

  const SILENT = new Set(["SCRIPT", "STYLE", "NOSCRIPT", "TEMPLATE", "HEAD"]);
  const BUTTONS = new Set(["submit", "button", "reset"]);
  const normal = (text) => text.replace(/\s+/g, " ").trim();
  const said = (element) =>
    element.tagName === "INPUT" && BUTTONS.has(element.type) ? element.value : element.textContent;

  // The innermost element whose text matches, the first one in the document.
  const innermost = (parent, has, is) => {
    for (const element of parent.children) {
      if (SILENT.has(element.tagName)) continue;
      const text = normal(said(element));
      if (has(text)) {
        const found = innermost(element, has, is);
        if (found) return found;
        if (is(text)) return element;
      } else if (element.querySelector("input")) {
        const found = innermost(element, has, is);
        if (found) return found;
      }
    }
    return null;
  };

  const byText = (wanted) => {
    const quoted = /^(["'])(.*)\1$/s.exec(wanted.trim());
    const text = normal(quoted ? quoted[2] : wanted);
    const has = quoted ? (given) => given.includes(text) : (given) => given.toLowerCase().includes(text.toLowerCase());
    const is = quoted ? (given) => given === text : () => true;
    let found = document.body && innermost(document.body, has, is);
    if (!found) for (const root of roots(document)) if ((found = innermost(root, has, is))) break;
    return found;
  };

  const find = (selector) => {
    if (selector.startsWith("text=")) return byText(selector.slice(5));
    return css(selector.startsWith("css=") ? selector.slice(4) : selector);
  };

  const hasFrames = () => {
    if (document.querySelector("iframe, frame")) return true;
    for (const root of roots(document)) if (root.querySelector("iframe, frame")) return true;
    return false;
  };

  // --- what an element is ------------------------------------------------------------------------------------------

  const name = (element) => {
    const attributes = ["id", "class", "name", "type", "role"]
      .filter((each) => element.getAttribute(each))
      .map((each) => ` ${each}="${element.getAttribute(each).slice(0, 40)}"`);
    return `<${element.localName}${attributes.join("")}>`;
  };

  const up = (node) => node.assignedSlot ?? node.parentNode ?? node.host ?? null;

  const boxOf = (element) => {
    for (const box of element.getClientRects()) if (box.width > 0 && box.height > 0) return box;
    return null;
  };

  const isVisible = (element) =>
    boxOf(element) !== null && element.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: false });

  const disabledBy = (element) => {
    if (element.matches(":disabled")) return "it is disabled";
    for (let node = element; node; node = up(node)) {
      if (node instanceof Element && node.getAttribute("aria-disabled") === "true") {
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
    let hit = document.elementFromPoint(x, y);
    while (hit?.shadowRoot) {
      const inner = hit.shadowRoot.elementFromPoint(x, y);
      if (!inner || inner === hit) break;
      hit = inner;
    }
    return hit;
  };

  const covers = (element, hit) => {
    for (let node = hit; node; node = up(node)) {
      if (node === element || (node.localName === "label" && node.control === element)) return false;
    }
    return true;
  };

  // --- waiting -----------------------------------------------------------------------------------------------------

  // Repeat `attempt` at each frame until it returns {ok}, or the time is over.
  const patiently = async (time, attempt) => {
    const end = performance.now() + time;
    let last;
    for (;;) {
      last = attempt();
      if ("ok" in last || last.away || last.wrong || performance.now() >= end) return last;
      await next();
    }
  };

  // Repeat `act` with the element once it passes the checks.
  const ready = (selector, time, alone, checks, act) => {
    const begin = performance.now();
    let before = null, scrolls = 0, covered = null;
    return patiently(time, () => {
      const element = find(selector);
      if (!element) {
        const away = !alone && performance.now() - begin > 50 && hasFrames();
        return { failed: "attached", detail: "no element matches", away };
      }
      const seen = name(element);
      if (!isVisible(element)) { before = null; return { failed: "visible", detail: `${seen} is not visible` }; }
      if (checks.enabled) {
        const reason = disabledBy(element);
        if (reason) return { failed: "enabled", detail: `${seen}: ${reason}` };
      }
      if (checks.stable) {
        const box = boxOf(element);
        const now = [element, box.left, box.top, box.width, box.height];
        const still = before !== null && now.every((each, at) => each === before[at]);
        before = now;
        if (!still) return covered ?? { failed: "stable", detail: `${seen} is moving` };
        covered = null;
      }
      if (checks.hit) {
        const point = pointOf(element);
        const hit = point && hitAt(point.x, point.y);
        if (!point || !hit || covers(element, hit)) {
          // A bar that stays at an edge may cover it there.
          const block = ["center", "end", "start", "nearest"][scrolls++ % 4];
          element.scrollIntoView({ block, inline: "center", behavior: "instant" });
          const detail = hit ? `${name(hit)} covers ${seen}` : `${seen} is outside of the window`;
          return (covered = { failed: "receives the click", detail });  // it moves now by our own scrolling
        }
        return act(element, point);
      }
      return act(element);
    });
  };

  // --- filling -----------------------------------------------------------------------------------------------------

  const TYPED = new Set(["", "email", "number", "password", "search", "tel", "text", "url"]);
  const SET = new Set(["color", "date", "datetime-local", "month", "range", "time", "week"]);

  const fire = (element) => {
    element.dispatchEvent(new Event("input", { bubbles: true, composed: true }));
    element.dispatchEvent(new Event("change", { bubbles: true }));
  };

  const choose = (element, value) => {
    const options = [...element.options];
    const option = options.find((each) => each.value === value) ?? options.find((each) => normal(each.label) === normal(value));
    if (!option) return { failed: "has the option", detail: `${name(element)} has no option with this value or text` };
    if (option.disabled) return { failed: "enabled", detail: "the option is disabled" };
    if (element.multiple) for (const each of options) each.selected = each === option;
    else element.value = option.value;
    if (!option.selected) element.selectedIndex = option.index;
    fire(element);
    return { ok: "set" };
  };

  const fillable = (given, value) => {
    const element = given.localName === "label" && given.control ? given.control : given;
    const seen = name(element);
    if (element.localName === "select") return choose(element, value);
    if (element.localName === "input" && SET.has(element.type)) {
      if (element.readOnly) return { failed: "editable", detail: `${seen} is read-only` };
      element.focus();
      element.value = value;
      if (element.value !== value && !(element.type === "color" || element.type === "range")) {
        return { wrong: `${seen} does not take this value` };
      }
      fire(element);
      return { ok: "set" };
    }
    const typed = element.localName === "textarea" || (element.localName === "input" && TYPED.has(element.type));
    if (!typed && !element.isContentEditable) return { wrong: `${seen} cannot be filled` };
    if (typed && element.readOnly) return { failed: "editable", detail: `${seen} is read-only` };
    if (element.type === "number" && value.trim() && Number.isNaN(Number(value))) {
      return { wrong: `${seen} takes numbers only` };
    }
    element.focus();
    if (typed) element.select();
    else {
      const range = document.createRange();
      range.selectNodeContents(element);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
    }
    return { ok: "type" };
  };

  return {
    // Where to click.
    point: (selector, time, alone) =>
      ready(selector, time, alone, { enabled: true, stable: true, hit: true }, (_element, point) => ({ ok: point })),

    // Focus an element and select what is in it, or set its value where typing is not how users do it.
    fill: (selector, time, alone, value) =>
      ready(selector, time, alone, { enabled: true }, (element) => fillable(element, value)),

    focus: (selector, time, alone) =>
      ready(selector, time, alone, {}, (element) => { element.focus(); return { ok: true }; }),

    wait: (selector, time, alone, state) => {
      const begin = performance.now();
      return patiently(time, () => {
        const element = find(selector);
        const away = !alone && performance.now() - begin > 50 && hasFrames();
        const shown = element !== null && isVisible(element);
        if (state === "attached" || state === "visible") {
          if (!element) return { failed: "attached", detail: "no element matches", away };
          if (state === "attached" || shown) return { ok: true };
          return { failed: "visible", detail: `${name(element)} is not visible` };
        }
        const there = state === "hidden" ? shown : element !== null;
        if (!there) return alone || !hasFrames() ? { ok: true } : { failed: state, detail: "", away: true };
        return { failed: state, detail: `${name(element)} is ${state === "hidden" ? "visible" : "attached"}` };
      });
    },

    // From a point in the window of one of this document's frames to the point in this window.
    outer: (frame, x, y) => {
      const box = frame.getBoundingClientRect();
      const style = getComputedStyle(frame);
      const scale = frame.offsetWidth ? box.width / frame.offsetWidth : 1;
      const point = {
        x: box.left + (frame.clientLeft + parseFloat(style.paddingLeft) + x) * scale,
        y: box.top + (frame.clientTop + parseFloat(style.paddingTop) + y) * scale,
      };
      const inside = point.x >= 0 && point.y >= 0 && point.x < innerWidth && point.y < innerHeight;
      const hit = inside ? hitAt(point.x, point.y) : null;
      if (hit === frame) return { ok: point };
      frame.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
      const detail = hit ? `${name(hit)} covers ${name(frame)}` : `${name(frame)} is outside of the window`;
      return { failed: "receives the click", detail };
    },
  };
})()
