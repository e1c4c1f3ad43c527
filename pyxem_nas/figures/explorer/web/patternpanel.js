// The part of the page with the pattern: which one, which of its answers, what is said of it.

import { formatPlace, phaseNameAt } from "./panels.js";
import { PatternView } from "./patternview.js";
import { turnAboutBeam } from "./rotation.js";

export class PatternPanel {
  constructor(explorer) {
    this.explorer = explorer;
    this.model = explorer.model;
    this.source = explorer.source;
    this.part = explorer.part;
    this.shown = -1; // position whose pattern is shown
    this.view = new PatternView(this.part.pattern, this.model.header.simulation);
  }

  setOption(name, value) {
    this.view.options[name] = value;
    this.view.draw();
    this.note();
  }

  // The embedded pattern that is nearest, in the same grain if it has one near.
  nearestPattern(position) {
    const { source, model } = this;
    const { grains } = this.explorer;
    if (source.has(position)) return position;
    const [x, y] = [position % model.nx, Math.floor(position / model.nx)];
    let best = -1;
    let least = Infinity;
    for (const other of source.positions) {
      const distance = (x - (other % model.nx)) ** 2 + (y - Math.floor(other / model.nx)) ** 2;
      const isSame = grains.label[other] === grains.label[position];
      const cost = distance + (isSame ? 0 : model.n);
      if (cost < least) [best, least] = [other, cost];
    }
    return best;
  }

  async showAt(position) {
    const shown = this.nearestPattern(position);
    this.shown = shown;
    this.explorer.map.set({ shown });
    let pattern;
    try {
      pattern = await this.source.read(shown);
    } catch (error) {
      this.part["pattern-note"].textContent = `The pattern could not be read: ${error.message}`;
      return;
    }
    if (this.shown !== shown) return; // another one was chosen meanwhile
    this.current = pattern;
    this.showAnswer(0, false);
  }

  showAnswer(solution, isTwin) {
    if (!this.current) return;
    Object.assign(this.explorer.state, { solution, isTwin });
    const { model, shown } = this;
    const crystal = model.crystalAt(shown);
    const answer = crystal && model.rotation(shown, solution);
    this.view.show(this.current, crystal, answer && (isTwin ? turnAboutBeam(answer) : answer));
    const correlation = this.view.comparison.correlation;
    this.part.answers.innerHTML = crystal ? this.answerButtons() : "";
    this.note();
    const name = phaseNameAt(model, shown);
    this.part["pattern-title"].textContent = `Pattern of ${formatPlace(model, shown)}: ${name}`;
    this.part.pattern.setAttribute(
      "aria-label",
      `Pattern of ${formatPlace(model, shown)}, ${name}, ${this.view.spots.length} simulated spots, correlation ${correlation.toFixed(2)}`,
    );
    this.explorer.drawPoles();
  }

  answerButtons() {
    const { solution, isTwin } = this.explorer.state;
    const buttons = [];
    for (let k = 0; k < this.model.nSolutions; k++) {
      if (k && this.isRepeated(k)) continue;
      buttons.push([k, false, k ? `answer ${k + 1}` : "best answer"]);
    }
    buttons.push([solution, true, "its 180° twin"]);
    return buttons.map(([k, twin, label]) =>
      `<button type="button" data-solution="${k}" data-twin="${twin ? 1 : 0}" aria-pressed="${k === solution && twin === isTwin}">${label}</button>`).join("");
  }

  // A missing runner-up repeats the best solution.
  isRepeated(k) {
    const [a, b] = [this.model.rotation(this.shown), this.model.rotation(this.shown, k)];
    return Math.abs(a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]) > 1 - 1e-7;
  }

  note() {
    const { view, shown } = this;
    if (!view.comparison) return;
    const parts = shown === this.explorer.state.position ? [] : [this.noteDistance()];
    if (view.spots.length) {
      const { correlation, unexplained } = view.comparison;
      parts.push(`${view.spots.length} spots simulated; correlation with the pattern shown ${correlation.toFixed(2)}; ${(100 * unexplained).toFixed(0)} % of what stands out of its background lies off the spots.`);
    }
    if (view.options.residual) parts.push("Residual: orange is measured and not simulated, blue is simulated and not measured.");
    this.part["pattern-note"].textContent = parts.join(" ");
  }

  noteDistance() {
    const { model, shown } = this;
    const { state, grains } = this.explorer;
    const { nx } = model;
    const across = (shown % nx) - (state.position % nx);
    const down = Math.floor(shown / nx) - Math.floor(state.position / nx);
    const isSame = grains.label[shown] === grains.label[state.position];
    return `The pattern of ${formatPlace(model, state.position)} is not in this file; this is the nearest one that is, ${Math.hypot(across, down).toFixed(1)} positions away, in ${isSame ? "the same" : "another"} grain.`;
  }
}
