// localStorage and IndexedDB of one origin, both ways, in the form of Playwright's storage_state: records that are plain
// JSON as they are, others in the encoding that Playwright's reader knows. Run in a page of that origin.
(() => {
  const TYPED = {
    i8: Int8Array, ui8: Uint8Array, ui8c: Uint8ClampedArray, i16: Int16Array, ui16: Uint16Array, i32: Int32Array,
    ui32: Uint32Array, f32: Float32Array, f64: Float64Array, bi64: BigInt64Array, bui64: BigUint64Array,
  };
  const NUMBERS = { NaN: NaN, Infinity: Infinity, '-Infinity': -Infinity, '-0': -0 };
  const tag = value => Object.prototype.toString.call(value).slice(8, -1);

  function isPlain(value) {
    if (value === null || typeof value === 'string' || typeof value === 'boolean') return true;
    if (typeof value === 'number') return Number.isFinite(value) && !Object.is(value, -0);
    if (typeof value !== 'object') return false;
    if (Array.isArray(value)) return Object.keys(value).length === value.length && value.every(isPlain);
    return tag(value) === 'Object' && Object.values(value).every(isPlain);
  }

  // A value with a cycle is not plain JSON: what looks for one would not end.
  function hasCycle(value, above = new Set()) {
    if (value === null || typeof value !== 'object') return false;
    if (above.has(value)) return true;
    if (!Array.isArray(value) && tag(value) !== 'Object') return false;
    above.add(value);
    const found = Object.values(value).some(each => hasCycle(each, above));
    above.delete(value);
    return found;
  }

  function bytesToText(buffer, offset = 0, length = buffer.byteLength) {
    const parts = [];
    for (let at = 0; at < length; at += 0x8000) {
      parts.push(String.fromCharCode(...new Uint8Array(buffer, offset + at, Math.min(0x8000, length - at))));
    }
    return btoa(parts.join(''));
  }

  const textToBytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

  function encode(value, seen = new Map()) {
    if (value === undefined) return { v: 'undefined' };
    if (value === null) return { v: 'null' };
    if (typeof value === 'bigint') return { bi: String(value) };
    if (typeof value === 'number') {
      return isPlain(value) ? value : { v: Object.is(value, -0) ? '-0' : String(value) };
    }
    if (typeof value !== 'object') return value;
    if (seen.has(value)) return { ref: seen.get(value) };
    if (value instanceof Date) return { d: Number.isNaN(value.getTime()) ? 'invalid' : value.toJSON() };
    if (value instanceof RegExp) return { r: { p: value.source, f: value.flags } };
    if (value instanceof Error) return { e: { n: value.name, m: value.message, s: value.stack ?? '' } };
    if (value instanceof ArrayBuffer) return { ab: { b: bytesToText(value) } };
    for (const [k, type] of Object.entries(TYPED)) {
      if (value instanceof type) return { ta: { b: bytesToText(value.buffer, value.byteOffset, value.byteLength), k } };
    }
    const id = seen.size + 1;
    seen.set(value, id);
    const pairs = entries => Array.from(entries, ([k, v]) => ({ k: encode(k, seen), v: encode(v, seen) }));
    if (Array.isArray(value)) return { a: Array.from(value, each => encode(each, seen)), id };
    if (value instanceof Map) return { m: pairs(value), id };
    if (value instanceof Set) return { s: Array.from(value, each => encode(each, seen)), id };
    if (tag(value) !== 'Object') throw new TypeError(`a ${tag(value)} cannot leave the browser`);
    return { o: Object.entries(value).map(([k, v]) => ({ k, v: encode(v, seen) })), id };
  }

  function decode(value, known = new Map()) {
    if (typeof value !== 'object' || value === null) return value;
    if ('ref' in value) return known.get(value.ref);
    if ('v' in value) return value.v === 'undefined' ? undefined : value.v === 'null' ? null : NUMBERS[value.v];
    if ('bi' in value) return BigInt(value.bi);
    if ('d' in value) return new Date(value.d);
    if ('u' in value) return new URL(value.u);
    if ('r' in value) return new RegExp(value.r.p, value.r.f);
    if ('e' in value) return Object.assign(new Error(value.e.m), { name: value.e.n, stack: value.e.s });
    if ('ab' in value) return textToBytes(value.ab.b).buffer;
    if ('ta' in value) return new TYPED[value.ta.k](textToBytes(value.ta.b).buffer);
    const keep = made => { known.set(value.id, made); return made; };
    if ('a' in value) {
      const made = keep([]);
      for (const each of value.a) made.push(decode(each, known));
      return made;
    }
    if ('m' in value) {
      const made = keep(new Map());
      for (const { k, v } of value.m) made.set(decode(k, known), decode(v, known));
      return made;
    }
    if ('s' in value) {
      const made = keep(new Set());
      for (const each of value.s) made.add(decode(each, known));
      return made;
    }
    if ('o' in value) {
      const made = keep({});
      for (const { k, v } of value.o) Object.defineProperty(made, k, { value: decode(v, known), writable: true, enumerable: true, configurable: true });
      return made;
    }
    throw new TypeError('an encoded value of an unknown kind');
  }

  const packed = (name, value) =>
    !hasCycle(value) && isPlain(value) ? { [name]: value } : { [`${name}Encoded`]: encode(value) };
  const unpacked = (name, record) => (name in record ? record[name] : decode(record[`${name}Encoded`]));
  const pathOf = ({ keyPath }) =>
    Array.isArray(keyPath) ? { keyPathArray: keyPath } : keyPath === null ? {} : { keyPath };
  const answer = request => new Promise((done, failed) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });

  async function readStore(store, lost) {
    const [keys, values] = await Promise.all([answer(store.getAllKeys()), answer(store.getAll())]);
    const records = [];
    const reasons = new Map();
    keys.forEach((key, at) => {
      try {
        records.push({ ...(store.keyPath === null ? packed('key', key) : {}), ...packed('value', values[at]) });
      } catch (error) {
        reasons.set(error.message, (reasons.get(error.message) ?? 0) + 1);
      }
    });
    for (const [reason, count] of reasons) lost.push(`${count} records of the store ${store.name}: ${reason}`);
    const indexes = Array.from(store.indexNames, name => store.index(name)).map(index => ({
      name: index.name, ...pathOf(index), multiEntry: index.multiEntry, unique: index.unique,
    }));
    return { name: store.name, ...pathOf(store), autoIncrement: store.autoIncrement, indexes, records };
  }

  async function readDatabase({ name, version }) {
    const lost = [];
    const database = await answer(indexedDB.open(name));
    try {
      const names = Array.from(database.objectStoreNames);
      const transaction = names.length ? database.transaction(names) : null;
      const stores = await Promise.all(names.map(each => readStore(transaction.objectStore(each), lost)));
      return { database: { name, version, stores }, lost };
    } finally {
      database.close();
    }
  }

  function create(upgraded, stores) {
    for (const { name, keyPath, keyPathArray, autoIncrement, indexes } of stores) {
      const store = upgraded.createObjectStore(name, { keyPath: keyPathArray ?? keyPath ?? null, autoIncrement });
      for (const index of indexes ?? []) {
        store.createIndex(index.name, index.keyPathArray ?? index.keyPath, { unique: index.unique, multiEntry: index.multiEntry });
      }
    }
  }

  function opened(name, version, stores) {
    return new Promise((done, failed) => {
      const removal = indexedDB.deleteDatabase(name);
      removal.onblocked = () => failed(new Error('another page has it open'));
      removal.onerror = () => failed(removal.error);
      removal.onsuccess = () => {
        const request = indexedDB.open(name, version);
        request.onupgradeneeded = () => create(request.result, stores);
        request.onsuccess = () => done(request.result);
        request.onerror = () => failed(request.error);
      };
    });
  }

  return {
    readItems: () =>
      Array.from({ length: localStorage.length }, (_, at) => localStorage.key(at)).map(name => ({
        name, value: localStorage.getItem(name),
      })),

    databases: async () => (await indexedDB.databases()).map(({ name, version }) => ({ name, version })),

    readDatabase,

    writeItems(items) {
      let kept = 0;
      for (const { name, value } of items) {
        try {
          localStorage.setItem(name, value);
        } catch { // over its quota; told by the count
          continue;
        }
        kept += localStorage.getItem(name) === value;
      }
      return kept;
    },

    /** Replaces the database of that name; the reasons of what could not be stored. */
    async writeDatabase({ name, version, stores }) {
      const reasons = new Map();
      const database = await opened(name, version, stores);
      try {
        if (!stores.length) return [];
        const transaction = database.transaction(stores.map(store => store.name), 'readwrite');
        const over = new Promise((done, failed) => {
          transaction.oncomplete = done;
          transaction.onabort = () => failed(transaction.error ?? new Error('the transaction was ended'));
        });
        over.catch(() => {}); // it is awaited below; a refusal before that is not one that nobody handles
        for (const { name: storeName, keyPath, keyPathArray, records } of stores) {
          const inline = (keyPathArray ?? keyPath ?? null) !== null;
          const note = error => {
            const reason = `store ${storeName}: ${error.message}`;
            reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
          };
          for (const record of records) {
            try {
              const value = unpacked('value', record);
              const store = transaction.objectStore(storeName);
              const request = inline ? store.put(value) : store.put(value, unpacked('key', record));
              request.onerror = event => { // this record alone, not the transaction
                event.preventDefault();
                event.stopPropagation();
                note(request.error);
              };
            } catch (error) {
              note(error);
            }
          }
        }
        await over;
      } finally {
        database.close();
      }
      return Array.from(reasons, ([reason, count]) => `${count} records of the ${reason}`);
    },
  };
})()
