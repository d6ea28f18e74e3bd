// Chromium asks here when no DevTools client has answered a challenge, in place of a dialog.
chrome.webRequest.onAuthRequired.addListener(
  (_challenge, answer) => answer({ cancel: true }),
  { urls: ["<all_urls>"] },
  ["asyncBlocking"],
);
