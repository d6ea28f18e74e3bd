import { h } from "../dom.js";
import { problem } from "../parts.js";

export function signInView(state, actions) {
  const busy = state.busy.has("sign in");
  return h(
    "main.sign-in",
    { key: "sign-in" },
    h(
      "form",
      {
        onsubmit(event) {
          event.preventDefault();
          const field = event.target.elements.namedItem("key");
          actions.signIn(field.value);
          field.value = "";
        },
      },
      h("img", { src: "console/static/icon.svg", alt: "", width: 44, height: 44 }),
      h("h1", {}, "cdpbridge console"),
      h("p", {}, "Sign in with an API key of this server. It is exchanged for a cookie and not kept in this page."),
      h("label", { for: "key" }, "API key"),
      h("input", { id: "key", name: "key", type: "password", required: true, autocomplete: "current-password", autofocus: true, spellcheck: "false" }),
      problem(state),
      h("button.primary", { type: "submit", "aria-disabled": busy ? "true" : null }, busy ? "Signing in..." : "Sign in"),
    ),
  );
}
