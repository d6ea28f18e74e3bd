// What the forms for browsers, sessions and tasks have in common: profile, country, size of the screen.

import { h } from "./dom.js";
import { short } from "./format.js";
import { field } from "./parts.js";

export function profileField(profiles) {
  const options = profiles.map((profile) => h("option", { key: profile.id, value: profile.id }, nameOf(profile, profiles)));
  return field("profile", "Profile", ["select", {}, h("option", { value: "" }, "None: nothing is saved"), options]);
}

/** The name of a profile; with the beginning of its id where another one has the same name. */
export function nameOf(profile, profiles) {
  if (profile.name === null) return short(profile.id);
  const twins = profiles.filter((other) => other.name === profile.name).length > 1;
  return twins ? `${profile.name} (${short(profile.id)})` : profile.name;
}

export function countryField(account) {
  const options = account.countries.map((country) => h("option", { key: country, value: country }, country));
  return field("country", "Proxy country", ["select", {}, h("option", { value: "" }, "The server's default"), h("option", { value: "none" }, "No proxy"), options]);
}

export function screenFields() {
  const number = (most) => ["input", { type: "number", min: 320, max: most, step: 1, placeholder: "default" }];
  return h("div.pair", { key: "screen" }, field("width", "Screen width", number(6144)), field("height", "Screen height", number(3456)));
}

export function startUrlField() {
  return field("startUrl", "Start page", ["input", { inputmode: "url", placeholder: "https://example.com", maxlength: 10_000 }]);
}

/** What was filled in, as the API has it; fields left empty are left out. */
export function orderOf(values) {
  const body = {};
  if (values.get("profile")) body.profileId = values.get("profile");
  if (values.get("country")) body.proxyCountryCode = values.get("country") === "none" ? null : values.get("country");
  if (values.get("width")) body.browserScreenWidth = Number(values.get("width"));
  if (values.get("height")) body.browserScreenHeight = Number(values.get("height"));
  return body;
}
