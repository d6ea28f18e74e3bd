// An extension of Robot Framework's Browser library, which gives Playwright no other options than a timeout: an address that ends in
// the mark is that of a browser that sees this machine's files, itself or through a tunnel.
const MARK = "#cdpbridge-local";
const { chromium } = require.main.require("playwright");
const connect = chromium.connectOverCDP;

chromium.connectOverCDP = function (endpoint, options) {
  if (typeof endpoint !== "string" || !endpoint.endsWith(MARK)) return connect.call(this, endpoint, options);
  return connect.call(this, endpoint.slice(0, -MARK.length), { ...options, isLocal: true });
};
