// Starts the explorer in a page that holds its data.

import { decodeBase64, embeddedSource, openContainer } from "./container.js";
import { Explorer } from "./explorer.js";
import { makeModel } from "./model.js";

async function startPage() {
  const block = (name) => document.querySelector(`script[data-explorer="${name}"]`);
  const { header, arrays } = await openContainer(decodeBase64(block("map").textContent));
  const source = header.patterns
    ? embeddedSource(header.patterns, arrays, (k) => decodeBase64(block(`patterns-${k}`).textContent))
    : null;
  const root = document.querySelector(".nas-explorer");
  root.innerHTML = TEMPLATE;
  root.addEventListener("nas-theme", (event) => {
    document.documentElement.dataset.theme = event.detail; // the report below follows
  });
  window.nasExplorer = new Explorer(root, makeModel({ header, arrays }), source);
  requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("nas-explorer-drawn")));
}

startPage().catch((error) => {
  document.querySelector(".nas-explorer").textContent =
    `The explorer did not start: ${error.message}. It needs a browser of 2023 or later.`;
  throw error;
});
