// Signed addresses of files: each answer signs anew, and a new address would load the same file again.

const KEPT_FOR = 4 * 60_000; // they hold for 15 minutes, and are asked for again every 5

/** The address to show a file at: the one it is shown at already, as long as that holds. */
export function steady(address, kept, keptFor = KEPT_FOR) {
  const path = pathOf(address);
  const known = kept.get(path);
  if (known && Date.now() - known.at < keptFor) return known.address;
  if (known?.address !== address) kept.set(path, { address, at: Date.now() });
  return address;
}

/** The next answer's address will be taken. */
export function forget(address, kept) {
  kept.delete(pathOf(address));
}

function pathOf(address) {
  return address.split("?")[0];
}
