// Mouse, wheel and touch on the picture, while driving.

const BUTTONS = ['left', 'middle', 'right', 'back', 'forward'];
const MAC = /Mac|iPhone|iPad/.test(navigator.platform);

export function modifiers(event) {
  const { altKey, ctrlKey, metaKey, shiftKey } = event;
  // A Mac's Command is what Control is on the watched machine.
  const control = ctrlKey || (MAC && metaKey);
  return (altKey ? 1 : 0) | (control ? 2 : 0) | (metaKey && !MAC ? 4 : 0) | (shiftKey ? 8 : 0);
}

export function watchHands(picture, { send, driving, refused, touched }) {
  const { canvas } = picture;
  let move = null;
  let pressed = 0;
  let exact = null;

  // Mouse events are rounded to whole pixels, which are several of a picture that is shown small; pointer events, which come
  // just before them, are not.
  for (const name of ['pointerdown', 'pointermove', 'pointerup']) {
    window.addEventListener(name, event => { exact = event }, { capture: true });
  }
  function place(event) {
    const near = exact && Math.abs(exact.clientX - event.clientX) < 1 && Math.abs(exact.clientY - event.clientY) < 1;
    return picture.place(near ? exact : event);
  }

  function flush() {
    if (move) send(move);
    move = null;
  }

  function mouse(event, kind) {
    const button = kind === 'move' ? 'none' : BUTTONS[event.button] ?? 'left';
    return {
      type: 'mouse', kind, ...place(event), button,
      buttons: event.buttons & 31, clicks: kind === 'move' ? 0 : event.detail, modifiers: modifiers(event),
    };
  }

  canvas.addEventListener('mousedown', event => {
    event.preventDefault(); // keeps the focus where keys are read
    if (!driving()) return refused();
    touched();
    flush();
    pressed += 1;
    send(mouse(event, 'down'));
  });
  window.addEventListener('mouseup', event => {
    if (!pressed) return;
    pressed = event.buttons ? pressed - 1 : 0;
    flush();
    if (driving()) send(mouse(event, 'up'));
  });
  window.addEventListener('mousemove', event => {
    if (!driving() || (event.target !== canvas && !pressed)) return;
    if (!move) requestAnimationFrame(flush);
    move = mouse(event, 'move');
  });
  canvas.addEventListener('contextmenu', event => { if (driving()) event.preventDefault() });
  canvas.addEventListener('auxclick', event => event.preventDefault());

  let wheel = null;
  canvas.addEventListener('wheel', event => {
    if (!driving()) return;
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 32 : event.deltaMode === 2 ? picture.height : 1;
    if (!wheel) {
      requestAnimationFrame(() => {
        send(wheel);
        wheel = null;
      });
    }
    wheel = {
      type: 'wheel', ...picture.place(event), modifiers: modifiers(event),
      dx: (wheel?.dx ?? 0) + event.deltaX * unit, dy: (wheel?.dy ?? 0) + event.deltaY * unit,
    };
  }, { passive: false });

  for (const [name, kind] of [['touchstart', 'start'], ['touchmove', 'move'], ['touchend', 'end'], ['touchcancel', 'cancel']]) {
    canvas.addEventListener(name, event => {
      if (!driving()) {
        if (kind === 'end') refused();
        return;
      }
      event.preventDefault(); // no mouse events from it
      if (kind === 'start') touched(true);
      const points = Array.from(event.targetTouches, (touch, index) => ({ id: index, ...picture.place(touch) }));
      // Fingers are lifted one by one; the page learns of the others by the next move.
      const all = kind === 'end' && points.length ? 'move' : kind;
      send({ type: 'touch', kind: all, points: all === 'end' ? [] : points, modifiers: modifiers(event) });
    }, { passive: false });
  }
}
