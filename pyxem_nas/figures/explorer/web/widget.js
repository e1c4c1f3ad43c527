// The explorer in Jupyter: the map from the widget's state, patterns by messages.

import { openContainer } from "./container.js";
import { Explorer } from "./explorer.js";
import { makeModel } from "./model.js";

const RECENT = 64; // patterns kept in the browser

function liveSource(widget) {
  const waiting = new Map();
  const known = new Map();
  widget.on("msg:custom", (message, buffers) => {
    const answer = waiting.get(message.position);
    if (!answer) return;
    waiting.delete(message.position);
    if (message.error) return answer.reject(new Error(message.error));
    const data = buffers[0];
    const levels = new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength);
    answer.resolve({ ...message.pattern, levels });
  });
  return {
    isLive: true,
    positions: [],
    has: () => true,
    read(position) {
      if (!known.has(position)) {
        if (known.size >= RECENT) known.delete(known.keys().next().value);
        const promise = new Promise((resolve, reject) => waiting.set(position, { resolve, reject }));
        known.set(position, promise);
        widget.send({ position });
      }
      return known.get(position);
    },
  };
}

async function render({ model: widget, el }) {
  const view = widget.get("container");
  const bytes = new Uint8Array(view.buffer ?? view, view.byteOffset ?? 0, view.byteLength);
  const { header, arrays } = await openContainer(bytes);
  el.classList.add("nas-explorer");
  el.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes b for "insert a cell below"
  el.innerHTML = TEMPLATE;
  const source = header.simulation ? liveSource(widget) : null;
  const explorer = new Explorer(el, makeModel({ header, arrays }), source);
  el.nasExplorer = explorer;
}
