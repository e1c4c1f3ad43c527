// The explorer: what is shown, and what happens on pointer, keys and controls.

import { findGrains, measureEdges, membersOf } from "./grains.js";
import { colorLayer, listLayers, shadeLayer } from "./layers.js";
import { MapView } from "./mapview.js";
import {
  describePosition, escapeHtml, formatPlace, grainPanel, layerKey, swatch, valuesTable,
} from "./panels.js";
import { PatternPanel } from "./patternpanel.js";
import { drawInversePoleFigure, drawPoleFigure } from "./poleview.js";
import { drawProfile, measureProfile } from "./profile.js";
import { turnAboutBeam } from "./rotation.js";
import { Selection } from "./selection.js";

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const GROUNDS = { light: [255, 255, 255], dark: [22, 24, 27] };

export class Explorer {
  // source: null, or what reads patterns ({ has, read, isLive, positions })
  constructor(root, model, source) {
    this.root = root;
    this.model = model;
    this.source = source;
    this.part = {};
    for (const element of root.querySelectorAll("[data-c]")) this.part[element.dataset.c] = element;
    this.layers = listLayers(model);
    this.layer = this.layers.find((layer) => layer.name === "ipf-z") ?? this.layers[0];
    this.state = { position: -1, grain: -1, solution: 0, isTwin: false, line: null, mode: "select" };
    this.edges = measureEdges(model);
    this.grains = findGrains(model, this.edges, Number(this.part.angle.value));
    this.image = new ImageData(model.nx, model.ny);
    this.map = new MapView(this.part.map, model, {
      hover: (position) => this.hover(position),
      select: (position) => this.choose(position),
      line: (from, to) => this.setLine(from, to),
    });
    this.selection = new Selection(this);
    if (source && model.header.simulation) this.pattern = new PatternPanel(this);
    else this.part["pattern-section"].hidden = true;
    this.map.setBoundaries(this.grains.kinds);
    this.fillControls();
    this.listen();
    this.setTheme("auto");
    this.setLayer(this.layer.name);
    this.selection.update();
    this.describeFile();
    this.select(this.firstPosition(), { silent: true });
  }

  // ------------------------------------------------------------------ controls

  fillControls() {
    const { part, model } = this;
    part.layer.innerHTML = this.layers
      .map(({ name, label }) => `<option value="${name}">${escapeHtml(label)}</option>`).join("");
    part.layer.value = this.layer.name;
    part.phases.innerHTML = model.crystals
      .map((c, k) => `<label class="nas-check"><input type="checkbox" data-phase="${k}" checked> ${swatch(c.color)}${escapeHtml(c.name)}</label>`)
      .join("");
    const usable = model.properties.filter((property) => !property.names);
    part["threshold-of"].innerHTML = usable
      .map(({ name, label }) => `<option value="${name}">${escapeHtml(label)}</option>`).join("");
    part["threshold-label"].hidden = !usable.length;
    const families = (model.crystals[0]?.poles ?? []).map(({ label }) => label);
    part["pole-family"].innerHTML = families.map((_, k) => `<option value="${k}">${k + 1}</option>`).join("");
    part["poles-section"].hidden = !families.length;
    this.selection.updateThresholdText();
  }

  listen() {
    const { part, root } = this;
    const on = (name, event, act) => part[name].addEventListener(event, act);
    on("layer", "change", () => this.setLayer(part.layer.value));
    on("zoom-in", "click", () => this.map.zoom(1.5));
    on("zoom-out", "click", () => this.map.zoom(1 / 1.5));
    on("fit", "click", () => this.map.fit());
    for (const mode of ["select", "grain", "line"]) on(`mode-${mode}`, "click", () => this.setMode(mode));
    on("boundaries", "change", () => {
      this.map.boundaries = part.boundaries.checked;
      this.map.draw();
    });
    on("angle", "change", () => this.setAngle(Number(part.angle.value)));
    on("theme", "change", () => this.setTheme(part.theme.value));
    on("help", "click", () => {
      part["help-text"].hidden = !part["help-text"].hidden;
      part.help.setAttribute("aria-expanded", String(!part["help-text"].hidden));
    });
    on("phases", "change", (event) => this.selection.togglePhase(Number(event.target.dataset.phase), event.target.checked));
    on("threshold-of", "change", () => this.selection.setThreshold(Number(part.threshold.value)));
    on("threshold", "input", () => this.selection.setThreshold(Number(part.threshold.value)));
    on("clear", "click", () => this.clearSelection());
    for (const name of ["spots", "labels", "residual"]) on(name, "change", () => this.pattern.setOption(name, part[name].checked));
    on("contrast", "input", () => this.pattern.setOption("contrast", Number(part.contrast.value)));
    on("answers", "click", (event) => {
      const { solution, twin } = event.target.dataset;
      if (solution !== undefined) this.pattern.showAnswer(Number(solution), twin === "1");
    });
    on("ipf-axis", "change", () => this.drawPoles());
    on("pole-family", "change", () => this.drawPoles());
    on("neighbours", "click", (event) => {
      if (event.target.dataset.grain) this.selectGrain(Number(event.target.dataset.grain), { move: true });
    });
    part.map.addEventListener("keydown", (event) => this.press(event));
    window.matchMedia("(prefers-color-scheme: dark)")
      .addEventListener("change", () => this.setTheme(part.theme.value));
    new ResizeObserver(() => this.drawPoles()).observe(root);
  }

  setTheme(choice) {
    const prefersDark = window.matchMedia("(prefers-color-scheme: dark)").matches;
    this.theme = choice === "auto" ? (prefersDark ? "dark" : "light") : choice;
    this.root.dataset.theme = this.theme;
    this.root.dispatchEvent(new CustomEvent("nas-theme", { detail: this.theme, bubbles: true }));
    this.pattern?.setOption("isDark", this.theme === "dark");
    this.paint();
    this.drawPoles();
    this.paintProfile();
  }

  get ink() {
    return this.theme === "dark" ? "#e8eaed" : "#1c1e21";
  }

  setMode(mode) {
    this.state.mode = mode;
    this.map.mode = mode === "line" ? "line" : "select";
    for (const name of ["select", "grain", "line"]) {
      this.part[`mode-${name}`].setAttribute("aria-pressed", String(name === mode));
    }
  }

  // ------------------------------------------------------------------ the map

  setLayer(name) {
    this.layer = this.layers.find((layer) => layer.name === name);
    this.part.layer.value = name;
    this.rgb = colorLayer(this.model, this.layer, this.grains);
    this.part.key.innerHTML = layerKey(this.model, this.layer);
    if (this.layer.axis) this.part["ipf-axis"].value = this.layer.axis;
    this.paint();
    this.drawPoles();
  }

  paint() {
    if (!this.rgb) return;
    this.map.setImage(shadeLayer(this.rgb, this.selection.mask, GROUNDS[this.theme], this.image));
  }

  setAngle(angle) {
    if (!(angle >= 0.5 && angle <= 60)) return;
    this.grains = findGrains(this.model, this.edges, angle);
    this.map.setBoundaries(this.grains.kinds);
    this.state.grain = -1;
    this.setLayer(this.layer.name);
    this.selection.update();
    this.showGrain();
  }

  hover(position) {
    const shown = position >= 0 ? position : this.state.position;
    this.part.readout.textContent = shown >= 0 ? describePosition(this.model, shown) : "";
  }

  firstPosition() {
    const { model, source } = this;
    const middle = Math.floor(model.ny / 2) * model.nx + Math.floor(model.nx / 2);
    let best = -1;
    let least = Infinity;
    for (let i = 0; i < model.n; i++) {
      if (!model.isIndexed(i) || (source && !source.has(i))) continue;
      const distance = Math.hypot((i % model.nx) - (middle % model.nx), Math.floor(i / model.nx) - Math.floor(middle / model.nx));
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }

  choose(position) {
    this.select(position);
    if (this.state.mode === "grain") this.selectGrain(this.grains.label[position]);
  }

  select(position, { silent = false } = {}) {
    if (position < 0) return;
    Object.assign(this.state, { position, solution: 0, isTwin: false });
    this.map.set({ selected: position, shown: position });
    this.map.reveal(position);
    const { model, part } = this;
    part["position-title"].textContent = `Position ${formatPlace(model, position)}`;
    part.values.innerHTML = valuesTable(model, position, this.edges, this.grains);
    this.hover(-1);
    if (!silent) part.live.textContent = describePosition(model, position);
    this.showGrain();
    this.drawPoles();
    return this.pattern?.showAt(position);
  }

  // ------------------------------------------------------------------ orientation

  drawPoles() {
    const { model, part, state } = this;
    const at = this.state.position;
    const crystal = at >= 0 ? model.crystalAt(at) : model.crystals[0];
    if (part["poles-section"].hidden || !this.theme) return;
    const answer = at >= 0 && crystal ? model.rotation(at, this.pattern?.shown === at ? state.solution : 0) : null;
    const orientation = answer && state.isTwin && this.pattern?.shown === at ? turnAboutBeam(answer) : answer;
    const shown = crystal ?? model.crystals[0];
    shown.poles.forEach(({ label }, k) => {
      const option = part["pole-family"].options[k];
      if (option) option.textContent = label;
    });
    const axis = part["ipf-axis"].value;
    const direction = drawInversePoleFigure(part.ipf, shown, orientation, axis, this.ink);
    const family = Number(part["pole-family"].value || 0);
    const others = this.grainOf(at);
    drawPoleFigure(part.pole, shown, family, orientation, others, this.ink);
    const name = escapeHtml(shown.name);
    const text = direction ? `${axis.toUpperCase()} lies along [${direction.map((v) => v.toFixed(2)).join(" ")}] of ${name} (Cartesian, in the sector). ` : "";
    part["poles-note"].textContent = `${text}Dots: poles of the grain's positions.`;
    part.ipf.setAttribute("aria-label", `Inverse pole figure of ${name}. ${text}`);
    part.pole.setAttribute("aria-label", `Pole figure of ${name}, family ${shown.poles[family]?.label ?? ""}`);
  }

  grainOf(position) {
    if (position < 0 || this.grains.label[position] < 0) return [];
    const members = membersOf(this.grains, this.grains.label[position]);
    const step = Math.max(1, Math.ceil(members.length / 400));
    return Array.from(members)
      .filter((_, k) => k % step === 0)
      .map((i) => this.model.rotation(i));
  }

  // ------------------------------------------------------------------ selection

  selectGrain(grain, { move = false } = {}) {
    if (grain < 0) return;
    this.state.grain = grain;
    if (move) {
      const members = membersOf(this.grains, grain);
      this.select(members[members.length >> 1]);
    }
    this.selection.update();
    this.showGrain();
  }

  clearSelection() {
    this.state.grain = -1;
    this.state.line = null;
    this.map.set({ line: null });
    this.paintProfile();
    this.selection.clear();
  }

  showGrain() {
    const { part, grains, state } = this;
    const grain = state.grain >= 0 ? state.grain : grains.label[state.position] ?? -1;
    part["grain-section"].hidden = grain < 0;
    if (grain < 0 || (grain === this.described?.grain && grains === this.described.of)) return;
    const { info, rows, neighbours } = grainPanel(this.model, grains, grain);
    this.described = { grain, of: grains, info };
    part["grain-title"].textContent = `Grain ${grain + 1} of ${grains.sizes.length}`;
    part.grain.innerHTML = rows;
    part.neighbours.innerHTML = neighbours;
  }

  // ------------------------------------------------------------------ line

  setLine(from, to) {
    this.state.line = [from, to];
    this.map.set({ line: [from, to] });
    this.part.clear.disabled = false;
    this.paintProfile();
  }

  paintProfile() {
    const { part, state, model } = this;
    part.profile.hidden = !state.line;
    if (!state.line) {
      part["profile-note"].textContent = "Choose Line and drag over the map.";
      return;
    }
    this.profile = measureProfile(model, ...state.line);
    const [first, before] = this.theme === "dark" ? ["#6cb8f5", "#ff9f5a"] : ["#0067b1", "#b34a00"];
    drawProfile(part.profile, model, this.profile, { ink: this.ink, first, before });
    const steps = this.profile.filter((point) => point.toBefore > this.grains.threshold);
    const largest = Math.max(0, ...this.profile.map((p) => p.toBefore).filter(Number.isFinite));
    part["profile-note"].textContent = `From A ${formatPlace(model, state.line[0])} to B ${formatPlace(model, state.line[1])}: full line, angle to A; dashed, angle to the position before (circle: a 180° twin about the beam). ${steps.length} ${steps.length === 1 ? "boundary" : "boundaries"}, largest step ${largest.toFixed(1)}°. Gaps: other phase or none.`;
  }

  // ------------------------------------------------------------------ keys

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = STEPS[event.key] ? () => this.step(STEPS[event.key], event.shiftKey ? 10 : 1) : this.keys[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation(); // notebooks have shortcuts of their own
    act();
  }

  step([dx, dy], by) {
    const { nx, ny } = this.model;
    const at = Math.max(0, this.state.position);
    const column = Math.min(nx - 1, Math.max(0, (at % nx) + dx * by));
    const row = Math.min(ny - 1, Math.max(0, Math.floor(at / nx) + dy * by));
    this.select(row * nx + column);
  }

  get keys() {
    const { state, part, model } = this;
    const next = (by) => () => {
      if (!this.pattern) return;
      let k = state.solution;
      do k = (k + by + model.nSolutions) % model.nSolutions; while (k && this.pattern.isRepeated(k));
      this.pattern.showAnswer(k, false);
      part.live.textContent = `${k ? `answer ${k + 1}` : "best answer"}: ${part["pattern-note"].textContent}`;
    };
    const toggle = (name) => () => {
      part[name].checked = !part[name].checked;
      this.pattern?.setOption(name, part[name].checked);
      part.live.textContent = `${name} ${part[name].checked ? "on" : "off"}`;
    };
    return {
      "+": () => this.map.zoom(1.5),
      "=": () => this.map.zoom(1.5),
      "-": () => this.map.zoom(1 / 1.5),
      0: () => this.map.fit(),
      n: next(1),
      b: next(-1),
      t: () => this.pattern?.showAnswer(state.solution, !state.isTwin),
      i: toggle("labels"),
      d: toggle("spots"),
      r: toggle("residual"),
      s: () => this.setMode("select"),
      g: () => (state.grain >= 0 ? this.clearSelection() : this.selectGrain(this.grains.label[state.position])),
      l: () => {
        if (this.lineFrom === undefined) {
          this.lineFrom = state.position;
          part.live.textContent = "Line starts here; move and press l again";
        } else {
          this.setLine(this.lineFrom, state.position);
          this.lineFrom = undefined;
          part.live.textContent = part["profile-note"].textContent;
        }
      },
      Escape: () => this.clearSelection(),
    };
  }

  // ------------------------------------------------------------------ what the file holds

  describeFile() {
    const { model, part } = this;
    const { patterns, simulation } = model.header;
    const texts = [];
    if (patterns) {
      const [h, w] = patterns.shape;
      const [ny, nx] = simulation.detector_shape;
      const size = patterns.factor > 1 ? `${w} × ${h} of ${nx} × ${ny} pixels (means of ${patterns.factor} × ${patterns.factor})` : `${w} × ${h} pixels`;
      const many = patterns.n === patterns.n_all ? `All ${patterns.n} patterns are` : `${patterns.n} of ${patterns.n_all} patterns are`;
      texts.push(`${many} in this file, ${size}, square root of the counts in ${patterns.levels} steps, brightness of the direct beam cut.`);
    } else if (this.source?.isLive) texts.push("Patterns are read from the scan when they are clicked.");
    if (simulation) texts.push(`Spots: kinematical, ${simulation.beam_energy} kV, precession ${simulation.precession_angle.toFixed(2)}°.`);
    texts.push(`Orientations are kept to ${model.header.precision.rotation_deg}°, probabilities and the like to 1/254 of their range.`);
    part.about.textContent = texts.join(" ");
  }
}
