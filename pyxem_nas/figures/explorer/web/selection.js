// Which positions are selected, by phase, least value and grain, and the numbers of those.

import { MISSING, formatValue } from "./model.js";
import { edgesTable, statisticsTable } from "./panels.js";

export class Selection {
  constructor(explorer) {
    this.explorer = explorer;
    this.phases = new Set(explorer.model.crystals.keys());
    this.threshold = 0; // level of the property that is chosen
    this.mask = null; // 1 where selected; null: everywhere
  }

  clear() {
    const { model, part } = this.explorer;
    this.phases = new Set(model.crystals.keys());
    for (const box of part.phases.querySelectorAll("input")) box.checked = true;
    this.setThreshold(0);
  }

  togglePhase(k, isOn) {
    this.phases[isOn ? "add" : "delete"](k);
    this.update();
  }

  setThreshold(level) {
    this.threshold = level;
    this.explorer.part.threshold.value = level;
    this.updateThresholdText();
    this.update();
  }

  updateThresholdText() {
    const property = this.explorer.model.property(this.explorer.part["threshold-of"].value);
    if (!property) return;
    const { low, high } = property;
    this.explorer.part["threshold-value"].textContent = formatValue(property, low + ((high - low) * this.threshold) / 254);
  }

  update() {
    const { model, state, grains, part } = this.explorer;
    const isAll = this.phases.size === model.crystals.length && !this.threshold && state.grain < 0;
    const property = model.property(part["threshold-of"].value);
    this.mask = null;
    if (!isAll) {
      this.mask = new Uint8Array(model.n);
      for (let i = 0; i < model.n; i++) {
        this.mask[i] = this.phases.has(model.phase[i]) &&
          (!this.threshold || (property.levels[i] !== MISSING && property.levels[i] >= this.threshold)) &&
          (state.grain < 0 || grains.label[i] === state.grain) ? 1 : 0;
      }
    }
    const { html, total } = statisticsTable(model, this.mask, grains);
    part.statistics.innerHTML = html;
    part.edges.innerHTML = edgesTable(model, grains, this.mask);
    part["edges-note"].textContent = `Between neighbours of more than ${grains.threshold}°, high above 15°; Σ3 by Brandon's criterion, in cubic phases. The 180° twin about the beam is one that patterns often cannot tell: it parts no grain.`;
    part["selected-grain"].textContent = state.grain < 0
      ? (isAll ? "All positions." : `${total} positions selected.`)
      : `Grain ${state.grain + 1}: ${total} positions selected.`;
    part.clear.disabled = isAll && !state.line;
    if (!isAll) part.live.textContent = part["selected-grain"].textContent;
    this.explorer.paint();
  }
}
