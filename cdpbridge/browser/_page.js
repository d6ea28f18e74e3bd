// What runs in a page, in a world of its own that the page's scripts cannot reach. One object, whose methods wait by themselves.
//
// A method that waits returns {ok: ...}, or when its time is over {failed: which check, detail: what it saw}. `away: true` means
// that nothing was found in this document while it has frames: the caller looks into those too. Only `point` scrolls, and only
// `fill` and `focus` change something, at once or not at all: the caller lets one action at a time do so.
(found) => {
  "use strict";

  const {
    activeIn, animationsOf, attribute, bodyOf, boxOf, contains, covers, createElement, createRange, disabledBy,
    dispatch, find, focus, hasFrames, hitAt, isEditable, isVisible, listen, listenNoMore, name, nameOf, normal, pointOf,
    scrollIntoView, shadowOf, timelineOf, up,
  } = found;

  // The next frame. A page in the background draws none, so a timer comes along.
  const next = () => new Promise((done) => {
    let timer = 0;
    const frame = requestAnimationFrame(() => { clearTimeout(timer); done(); });
    timer = setTimeout(() => { cancelAnimationFrame(frame); done(); }, 100);
  });

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
      if (animationsOf(node)?.some((each) => each.pending && each.playState === "running")) return true;
    }
    return false;
  };

  const active = () => {
    let found = activeIn(document);
    for (let inner = found; inner; inner = activeIn(shadowOf(inner))) found = inner;
    return found;
  };

  const holds = (element, node) => {
    for (let each = node; each; each = up(each)) if (each === element) return true;
    return Boolean(node && isEditable(element) && contains(node, element));  // the editable host has the focus
  };

  // --- filling -----------------------------------------------------------------------------------------------------

  const TYPED = new Set(["", "email", "number", "password", "search", "tel", "text", "url"]);
  // Inputs whose value is set, and how such a value is written.
  const SET = {
    color: "#ff8800", date: "2026-11-28", "datetime-local": "2026-11-28T14:30", month: "2026-11", range: "7", time: "14:30",
    week: "2026-W48",
  };

  const fire = (element) => {
    dispatch(element, new Event("input", { bubbles: true, composed: true }));
    dispatch(element, new Event("change", { bubbles: true }));
  };

  const meant = (given) => (nameOf(given) === "label" && given.control ? given.control : given);
  const isSet = (element) =>
    nameOf(element) === "select" || (nameOf(element) === "input" && Object.hasOwn(SET, element.type));

  // What the input makes of a value: dates that are none become "", numbers the nearest that it has.
  const taken = (element, value) => {
    const probe = createElement(document, "input");
    probe.type = element.type;
    for (const each of ["min", "max", "step", "value", "alpha", "colorspace"]) {
      const given = attribute(element, each);
      if (given !== null) probe.setAttribute(each, given);
    }
    probe.value = value;
    return probe.value;
  };

  // Why a value is none of this input; null when it is one.
  const unfit = (element, value) => {
    const found = taken(element, value);
    if (element.type === "number") return value && !found ? "takes numbers only" : null;
    const written = `write it like ${SET[element.type]}`;
    if (element.type === "range") {
      if (value && Number(found) === Number(value)) return null;
      const { min, max, step } = element;
      const steps = step === "any" ? "" : ` in steps of ${step || 1}`;
      return `does not take this value: it takes numbers from ${min || 0} to ${max || 100}${steps}`;
    }
    if (element.type === "color") return found.toLowerCase() === value.toLowerCase() ? null : `does not take this value: ${written}`;
    return value && !found ? `does not take this value: ${written}` : null;
  };

  const optionOf = (element, value) => {
    const options = [...element.options];
    return options.find((each) => each.value === value) ?? options.find((each) => normal(each.label) === normal(value));
  };

  // Why an element cannot be filled now, or ever; null when it can. No values: they may be secret.
  const obstacle = (element, value) => {
    const seen = name(element);
    if (nameOf(element) === "select") {
      const option = optionOf(element, value);
      if (!option) return { failed: "has the option", detail: `${seen} has no option with this value or text` };
      return option.disabled ? { failed: "enabled", detail: "the option is disabled" } : null;
    }
    const typed = nameOf(element) === "textarea" || (nameOf(element) === "input" && TYPED.has(element.type));
    if (!typed && !isSet(element) && !isEditable(element)) return { wrong: `${seen} cannot be filled` };
    if ((typed || isSet(element)) && element.readOnly) return { failed: "editable", detail: `${seen} is read-only` };
    const reason = isSet(element) || (typed && element.type === "number") ? unfit(element, value.trim()) : null;
    return reason ? { wrong: `${seen} ${reason}` } : null;
  };

  // The element that was filled last, and whether a text has reached it.
  let expected = null, landed = false;
  const hear = (event) => { landed ||= event.isTrusted && holds(expected, event.composedPath()[0]); };

  const set = (element, value) => {
    focus(element);
    expected = element;
    element.value = value;
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

  // Focus an element; return what is wrong when the page has moved the focus on.
  const moved = (element) => {
    focus(element);
    const now = active();
    return holds(element, now) ? null : `the page moved the focus from ${name(element)} to ${name(now ?? bodyOf(document))}`;
  };

  const select = (element) => {
    const elsewhere = moved(element);
    if (elsewhere) return { wrong: `${elsewhere}; nothing was typed` };
    if (nameOf(element) === "input" || nameOf(element) === "textarea") element.select();
    else {
      const range = createRange(document);
      range.selectNodeContents(element);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
    }
    expected = element;
    landed = false;
    listen(window, "input", hear, true);
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
        const clock = timelineOf(document).currentTime;
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
          scrollIntoView(element, { block, inline: "center", behavior: "instant" });
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
      if (nameOf(element) === "select") return choose(element, value);
      return isSet(element) ? set(element, value) : select(element);
    },

    set: () => {
      if (expected !== null) fire(expected);
      return { ok: true };
    },

    // Whether the text has gone where it was to go.
    type: () => {
      listenNoMore(window, "input", hear, true);
      if (expected === null || landed || holds(expected, active())) return { ok: true };
      return { wrong: `${name(expected)} lost the focus before it had the text` };
    },

    focus: (selector) => {
      const { element, ...failure } = usable(selector, false);
      if (!element) return failure;
      const before = active();
      const elsewhere = moved(element);
      if (!elsewhere || active() === before) return { ok: true };
      return { wrong: `${elsewhere}; no key was pressed` };
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
      scrollIntoView(frame, { block: "center", inline: "center", behavior: "instant" });
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
}
