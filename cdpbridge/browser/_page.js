// What runs in a page, in a world of its own that the page's scripts cannot reach. One object, whose methods wait by themselves.
//
// A method that waits returns {ok: ...}, or when its time is over {failed: which check, detail: what it saw}. `away: true` means
// that nothing was found in this document while it has frames: the caller looks into those too. Only `point` scrolls, and only
// `fill` and `focus` change something, at once or not at all: the caller lets one action at a time do so.
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

  // The innermost elements whose text matches, in the order of the document.
  const innermost = function* (parent, has, is) {
    for (const element of parent.children) {
      if (SILENT.has(element.tagName)) continue;
      const text = normal(said(element));
      const matches = has(text);
      if (!matches && !element.querySelector("input")) continue;
      let inside = false;
      for (const inner of innermost(element, has, is)) { inside = true; yield inner; }
      if (matches && !inside && is(text)) yield element;
    }
  };

  // The first visible one, or the first one.
  const byText = (wanted) => {
    const quoted = /^(["'])(.*)\1$/s.exec(wanted.trim());
    const text = normal(quoted ? quoted[2] : wanted);
    const has = quoted ? (given) => given.includes(text) : (given) => given.toLowerCase().includes(text.toLowerCase());
    const is = quoted ? (given) => given === text : () => true;
    let first = null;
    const parents = function* () { if (document.body) yield document.body; yield* roots(document); };
    for (const parent of parents()) {
      for (const element of innermost(parent, has, is)) {
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

  // Numbers of the calls whose callers still wait.
  const running = new Set();
  let current = 0;

  // Repeat `attempt` at each frame until it returns {ok}, the time is over, or the caller has given up.
  const patiently = async (time, attempt) => {
    const call = current;
    const end = performance.now() + time;
    for (;;) {
      const last = attempt();
      if ("ok" in last || last.away || last.later || last.wrong || performance.now() >= end) return last;
      await next();
      if (!running.has(call)) return last;
    }
  };

  // The element of a selector, or the check that it does not pass.
  const usable = (selector, enabled) => {
    const element = find(selector);
    if (!element) return { failed: "attached", detail: "no element matches" };
    if (!isVisible(element)) return { failed: "visible", detail: `${name(element)} is not visible` };
    const reason = enabled ? disabledBy(element) : null;
    return reason ? { failed: "enabled", detail: `${name(element)}: ${reason}` } : { element };
  };

  // Whether an animation of the element, or of one around it, stands at its beginning until the next frame is painted.
  const willMove = (element) => {
    for (let node = element; node; node = up(node)) {
      if (node.getAnimations?.().some((each) => each.pending && each.playState === "running")) return true;
    }
    return false;
  };

  const active = () => {
    let found = document.activeElement;
    while (found?.shadowRoot?.activeElement) found = found.shadowRoot.activeElement;
    return found;
  };

  const holds = (element, node) => {
    for (let each = node; each; each = up(each)) if (each === element) return true;
    return Boolean(node && element.isContentEditable && node.contains(element));  // the editable host has the focus
  };

  // --- filling -----------------------------------------------------------------------------------------------------

  const TYPED = new Set(["", "email", "number", "password", "search", "tel", "text", "url"]);
  const SET = new Set(["color", "date", "datetime-local", "month", "range", "time", "week"]);

  const fire = (element) => {
    element.dispatchEvent(new Event("input", { bubbles: true, composed: true }));
    element.dispatchEvent(new Event("change", { bubbles: true }));
  };

  const meant = (given) => (given.localName === "label" && given.control ? given.control : given);
  const isSet = (element) =>
    element.localName === "select" || (element.localName === "input" && SET.has(element.type));

  const optionOf = (element, value) => {
    const options = [...element.options];
    return options.find((each) => each.value === value) ?? options.find((each) => normal(each.label) === normal(value));
  };

  // Why an element cannot be filled now, or ever; null when it can. No values: they may be secret.
  const obstacle = (element, value) => {
    const seen = name(element);
    if (element.localName === "select") {
      const option = optionOf(element, value);
      if (!option) return { failed: "has the option", detail: `${seen} has no option with this value or text` };
      return option.disabled ? { failed: "enabled", detail: "the option is disabled" } : null;
    }
    const typed = element.localName === "textarea" || (element.localName === "input" && TYPED.has(element.type));
    if (!typed && !isSet(element) && !element.isContentEditable) return { wrong: `${seen} cannot be filled` };
    if ((typed || isSet(element)) && element.readOnly) return { failed: "editable", detail: `${seen} is read-only` };
    if (typed && element.type === "number" && value.trim() && Number.isNaN(Number(value))) {
      return { wrong: `${seen} takes numbers only` };
    }
    return null;
  };

  // The element that was filled last, and whether a text has reached it.
  let expected = null, landed = false;
  const hear = (event) => { landed ||= event.isTrusted && holds(expected, event.composedPath()[0]); };

  const set = (element, value) => {
    element.focus();
    expected = element;
    element.value = value;
    if (element.value !== value && !(element.type === "color" || element.type === "range")) {
      return { wrong: `${name(element)} does not take this value` };
    }
    return { ok: "set" };
  };

  const choose = (element, value) => {
    const option = optionOf(element, value);
    expected = element;
    if (element.multiple) for (const each of element.options) each.selected = each === option;
    else element.value = option.value;
    if (!option.selected) element.selectedIndex = option.index;
    return { ok: "set" };
  };

  const select = (element) => {
    element.focus();
    if (!holds(element, active())) {
      return { wrong: `the page moved the focus from ${name(element)} to ${name(active() ?? document.body)}; nothing was typed` };
    }
    if ("select" in element) element.select();
    else {
      const range = document.createRange();
      range.selectNodeContents(element);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
    }
    expected = element;
    landed = false;
    addEventListener("input", hear, true);
    return { ok: "type" };
  };

  const methods = {
    // Wait until an action can be tried.
    look: (selector, time, alone, action, value) => {
      const begin = performance.now();
      return patiently(time, () => {
        const { element, ...failure } = usable(selector, action !== "focus");
        if (!element) {
          const missing = failure.failed === "attached";
          return { ...failure, away: missing && !alone && performance.now() - begin > 50 && hasFrames() };
        }
        if (action !== "fill") return { ok: true };
        return obstacle(meant(element), value) ?? { ok: true };
      });
    },

    // Where to click, once the element is still and nothing covers it.
    point: (selector, time) => {
      let before = null, at = 0, scrolls = 0, covered = null, begins = 0, waits = 0;
      return patiently(time, () => {
        const { element, ...failure } = usable(selector, true);
        if (!element) return { ...failure, later: true };
        const box = boxOf(element);
        const now = [element, box.left, box.top, box.width, box.height];
        // Animations move with this clock, frame by frame; it stands still where nothing is painted.
        const clock = document.timeline.currentTime;
        const between = before !== null && clock - at < 4 && waits++ < 3;
        const still = before !== null && !between && now.every((each, index) => each === before[index]);
        if (!between) [before, at] = [willMove(element) && begins++ < 10 ? null : now, clock];
        if (!still || !before) return covered ?? { failed: "stable", detail: `${name(element)} is moving` };
        covered = null;
        const point = pointOf(element);
        const hit = point && hitAt(point.x, point.y);
        if (!point || !hit || covers(element, hit)) {
          // A bar that stays at an edge may cover it there.
          const block = ["center", "end", "start", "nearest"][scrolls++ % 4];
          element.scrollIntoView({ block, inline: "center", behavior: "instant" });
          const detail = hit ? `${name(hit)} covers ${name(element)}` : `${name(element)} is outside of the window`;
          return (covered = { failed: "receives the click", detail });  // it moves now by our own scrolling
        }
        return { ok: point };
      });
    },

    // Focus an element and select what is in it, or set its value where typing is not how users do it; `set` tells the page then.
    fill: (selector, value) => {
      const { element: given, ...failure } = usable(selector, true);
      if (!given) return failure;
      const element = meant(given);
      const reason = obstacle(element, value);
      if (reason) return reason;
      if (element.localName === "select") return choose(element, value);
      return isSet(element) ? set(element, value) : select(element);
    },

    set: () => {
      if (expected !== null) fire(expected);
      return { ok: true };
    },

    // Whether the text has gone where it was to go.
    type: () => {
      removeEventListener("input", hear, true);
      if (expected === null || landed || holds(expected, active())) return { ok: true };
      return { wrong: `${name(expected)} lost the focus before it had the text` };
    },

    focus: (selector) => {
      const { element, ...failure } = usable(selector, false);
      if (!element) return failure;
      const before = active();
      element.focus();
      const now = active();
      if (now === before || holds(element, now)) return { ok: true };
      return { wrong: `the page moved the focus from ${name(element)} to ${name(now ?? document.body)}; no key was pressed` };
    },

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

  return {
    run: (call, method, given) => {
      running.add(call);
      current = call;
      const result = methods[method](...given);
      if (result instanceof Promise) return result.finally(() => running.delete(call));
      running.delete(call);
      return result;
    },
    giveUp: (call) => { running.delete(call); },
    outer: methods.outer,
  };
})()
