"use strict";
// The trace browser: see report/traces.py for the data. Texts reach the page as text nodes only.
(() => {
  const WINDOW = 300; // frames drawn at once; a run of 10,000 frames stays quick
  const LENGTHS = [[1, 8], [9, 16], [17, 32], [33, 64], [65, Infinity]];
  const { UNCHANGED, make, painted, fill, fullLocals, nearestLine } = Frames;

  let active = null; // the viewer that arrow keys step when nothing has the focus

  class Viewer {
    constructor(root) {
      const data = JSON.parse(root.querySelector("script").textContent);
      this.root = root;
      this.items = data.items;
      this.pool = data.frames.map(([event, source, locals, value]) => ({ event, source, locals, value }));
      this.part = Object.fromEntries([...root.querySelectorAll("[data-role]")].map((node) => [node.dataset.role, node]));
      active ??= this;
      for (const event of ["pointerdown", "focusin"]) root.addEventListener(event, () => { active = this; });
      root.addEventListener("keydown", (event) => this.key(event));
      this.wire();
      if (this.part.set) this.wireChooser();
      this.open(0);
    }

    wire() {
      const { part } = this;
      const click = (role, action) => part[role].addEventListener("click", action);
      click("first", () => this.go(0));
      click("back", () => this.go(this.at - 1));
      click("step", () => this.go(this.at + 1));
      click("last", () => this.go(Infinity));
      click("mismatch", () => this.go(this.wrong));
      part.slider.addEventListener("input", () => this.go(+part.slider.value));
      part.rows.addEventListener("click", (event) => {
        const row = event.target.closest("[data-frame]");
        if (row) this.go(+row.dataset.frame);
      });
    }

    key(event) {
      const keys = { ArrowLeft: this.at - 1, ArrowRight: this.at + 1, Home: 0, End: Infinity };
      if (event.target === this.part.rows) Object.assign(keys, { ArrowUp: this.at - 1, ArrowDown: this.at + 1 });
      if (this.wrong !== null) keys.m = this.wrong;
      const typing = event.target.matches?.("select, input");
      if (typing || event.ctrlKey || event.altKey || event.metaKey || !(event.key in keys)) return;
      event.preventDefault();
      this.go(keys[event.key]);
    }

    wireChooser() {
      const { part, items } = this;
      const sets = [...new Set(items.map((item) => item.set))];
      const count = (test) => items.filter(test).length;
      fill(part.set, [["", `all (${items.length})`],
        ...sets.map((set) => [set, `${set} (${count((item) => item.set === set)})`])]);
      fill(part.kind, [["", "exact and wrong"], ["exact", "exact"], ["wrong", "wrong"]]);
      fill(part.length, [["", "any"], ...LENGTHS.map(([low, high], index) =>
        [index, high === Infinity ? `${low} frames or more` : `${low} to ${high} frames`])]);
      for (const role of ["set", "kind", "length"]) part[role].addEventListener("change", () => this.choose());
      part.item.addEventListener("change", () => this.open(+part.item.value));
      part.earlier.addEventListener("click", () => this.move(-1));
      part.later.addEventListener("click", () => this.move(1));
      this.choose(null);
      const follow = () => {
        const match = location.hash.match(/^#(.+)-(\d+)$/);
        if (match?.[1] !== this.root.dataset.anchor || !items[+match[2]]) return;
        for (const role of ["set", "kind", "length"]) part[role].value = "";
        this.choose(+match[2]);
        this.root.scrollIntoView();
        active = this;
      };
      addEventListener("hashchange", follow);
      queueMicrotask(follow);
    }

    /** Lists the programs that the filters let through and opens `wanted`, or the first of them. */
    choose(wanted) {
      const { part } = this;
      const [low, high] = LENGTHS[part.length.value] ?? [0, Infinity];
      const listed = this.items.map((item, index) => [item, index]).filter(([item]) =>
        (!part.set.value || item.set === part.set.value) &&
        (!part.kind.value || item.exact === (part.kind.value === "exact")) &&
        item.actual.length >= low && item.actual.length <= high);
      const mark = { true: "✓", false: "✗" };
      fill(part.item, listed.map(([item, index]) =>
        [index, `${mark[item.exact] ?? ""} ${item.name}, ${item.actual.length} frames`]));
      part.item.disabled = !listed.length;
      if (!listed.length) fill(part.item, [["", "none passes these filters"]]);
      if (wanted !== null && listed.length) this.open(wanted ?? listed[0][1]);
      this.allowMoves();
    }

    move(by) {
      const select = this.part.item;
      const option = select.options[select.selectedIndex + by];
      if (option) this.open(+option.value);
    }

    allowMoves() {
      const { earlier, later, item } = this.part;
      earlier.disabled = item.selectedIndex <= 0;
      later.disabled = item.selectedIndex >= item.options.length - 1;
    }

    open(index) {
      const { part } = this;
      const item = this.item = this.items[index];
      const frames = (numbers) => numbers.map((number) => this.pool[number]);
      this.real = frames(item.actual);
      this.ours = item.predicted && frames(item.predicted);
      this.realStates = fullLocals(this.real);
      this.ourStates = this.ours && fullLocals(this.ours);
      this.length = Math.max(this.real.length, this.ours?.length ?? 0);
      this.checks = Array.from({ length: this.length }, (_, frame) => this.real[frame] === this.ours?.[frame]);
      this.wrong = this.ours && this.checks.includes(false) ? this.checks.indexOf(false) : null;
      if (part.item) { part.item.value = index; this.allowMoves(); }
      this.drawProgram();
      this.drawVerdict();
      this.root.classList.toggle("alone", !this.ours);
      part.slider.max = Math.max(0, this.length - 1);
      part.mismatch.hidden = this.wrong === null;
      part.head.replaceChildren(make("span"), make("span"),
        ...(this.ours ? [make("span", "", "predicted"), make("span", "", "real")] : [make("span", "", "frame")]));
      this.drawn = null;
      this.at = -1;
      this.go(this.wrong ?? 0);
    }

    drawProgram() {
      const text = this.item.context.replace(/[ \t]*# << START_OF_TRACE[ \t]*$/gm, "");
      this.program = text.replace(/\n$/, "").split("\n");
      this.lineNodes = this.program.map((line) => make("div", "", make("code", "", ...painted(line))));
      this.part.source.replaceChildren(...this.lineNodes);
      let near = 0;
      this.ourLines = this.ours?.map((frame) => (near = nearestLine(this.program, frame.source, near)));
    }

    drawVerdict() {
      const { part, item } = this;
      part.verdict.replaceChildren(make("b", "", item.name), item.set !== item.name ? ` · ${item.set}` : "");
      if (this.ours) {
        const right = this.checks.filter(Boolean).length;
        const text = this.wrong === null ? `✓ exact in all ${this.length} frames`
          : `✗ ${right} of ${this.length} frames exact, first mismatch at frame ${this.wrong + 1}`;
        part.verdict.append(" ", make("span", this.wrong === null ? "good" : "bad", text));
      }
      const stops = [];
      this.checks.forEach((exact, frame) => {
        if (this.checks[frame - 1] !== exact) stops.push([exact, frame]);
      });
      const share = (frame) => `${100 * frame / this.length}%`;
      part.strip.style.background = `linear-gradient(to right, ${stops.map(([exact, frame], index) =>
        `var(${exact ? "--good" : "--bad"}) ${share(frame)} ${share(stops[index + 1]?.[1] ?? this.length)}`)})`;
    }

    go(frame) {
      const { part } = this;
      const at = Math.max(0, Math.min(frame, this.length - 1));
      if (at === this.at) return;
      this.at = at;
      if (!this.drawn || at < this.drawn[0] || at >= this.drawn[1]) this.drawRows();
      part.rows.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
      const row = part.rows.querySelector(`[data-frame="${at}"]`);
      if (row) {
        row.setAttribute("aria-selected", "true");
        part.rows.setAttribute("aria-activedescendant", row.id);
        this.reveal(part.rows, row);
      }
      part.slider.value = at;
      part.position.textContent = this.length ? `${at + 1} / ${this.length}` : "no frames";
      part.first.disabled = part.back.disabled = at <= 0;
      part.step.disabled = part.last.disabled = at >= this.length - 1;
      this.drawLine();
      this.drawState();
    }

    /** Scrolls `box` (which is positioned), and never the page, until `node` shows with some room around it. */
    reveal(box, node) {
      const room = Math.min(80, box.clientHeight / 4);
      const above = node.offsetTop - room;
      const below = node.offsetTop + node.offsetHeight + room - box.clientHeight;
      if (box.scrollTop > above) box.scrollTop = above;
      else if (box.scrollTop < below) box.scrollTop = below;
    }

    drawRows() {
      const low = Math.max(0, Math.min(this.at - WINDOW / 2, this.length - WINDOW));
      const high = Math.min(this.length, low + WINDOW);
      this.drawn = [low, high];
      const rows = [];
      if (low > 0) rows.push(this.more(low - 1, `… ${low} earlier frames`));
      for (let frame = low; frame < high; frame++) rows.push(this.row(frame));
      if (high < this.length) rows.push(this.more(high, `… ${this.length - high} later frames`));
      this.part.rows.replaceChildren(...rows);
    }

    more(frame, text) {
      const row = make("div", "more", text);
      row.dataset.frame = frame;
      return row;
    }

    row(frame) {
      const ours = this.ours?.[frame], real = this.real[frame];
      const exact = this.checks[frame];
      const row = make("div", "row", make("span", "number", String(frame + 1)));
      if (this.ours) {
        const mark = make("span", exact ? "mark good" : "mark bad", exact ? "✓" : "✗");
        mark.setAttribute("aria-label", exact ? "exact" : "wrong");
        row.append(mark, this.cell(ours, real, "predicted"), this.cell(real, ours, "real"));
        row.classList.add(exact ? "exact" : "wrong");
        if (frame === this.wrong) row.classList.add("first-wrong");
      } else {
        row.append(make("span"), this.cell(real, real, ""));
      }
      row.dataset.frame = frame;
      row.id = `${this.root.dataset.anchor}-frame-${frame}`;
      row.setAttribute("role", "option");
      row.setAttribute("aria-selected", "false");
      return row;
    }

    /** One frame as the trace tells it; what differs from `other` is marked. */
    cell(frame, other, label) {
      const cell = make("span", `cell ${label}`);
      if (label) cell.dataset.label = label;
      if (!frame) return cell.append(make("em", "", label === "real" ? "the run had ended" : "no frame")), cell;
      const differs = (same) => (other && !same ? " differs" : "");
      const trimmed = frame.source.trim();
      const indented = frame.source !== other?.source && trimmed === other?.source.trim(); // all that differs
      cell.append(
        make("span", `event ${frame.event}${differs(frame.event === other?.event)}`, frame.event),
        make("code", `text${differs(frame.source === other?.source)}`, indented ? frame.source.trimEnd() : trimmed));
      const theirs = new Map(other?.locals ?? []);
      for (const [name, value] of frame.locals ?? []) {
        const same = !other?.locals || theirs.get(name) === value;
        if (value !== UNCHANGED || !same) {
          const shown = value === UNCHANGED ? "unchanged" : value;
          cell.append(make("code", `chip${differs(same)}`, make("b", "", name), ` = ${shown}`));
        }
      }
      if (frame.value !== null) {
        const same = other?.value === frame.value || other?.value === null;
        cell.append(make("code", `chip value${differs(same)}`, `→ ${frame.value}`));
      }
      return cell;
    }

    drawLine() {
      for (const node of this.lineNodes) node.className = "";
      const frame = this.real[this.at];
      const real = this.item.lines[this.at] ?? (frame ? nearestLine(this.program, frame.source, 0) : null);
      const ours = this.ourLines?.[this.at] ?? null;
      const mark = (line, name) => {
        const node = this.lineNodes[line - 1];
        if (node) { node.classList.add(name); this.reveal(this.part.source, node); }
      };
      if (ours !== null && ours !== real) mark(ours, "predicted");
      mark(real ?? ours, "current");
    }

    drawState() {
      const { part, at } = this;
      part["state-title"].textContent = `State at frame ${at + 1}`;
      const columns = this.ours ? [[this.ours, this.ourStates, "predicted"], [this.real, this.realStates, "real"]]
        : [[this.real, this.realStates, "value"]];
      const cells = columns.map(([frames, states]) => {
        const frame = frames[at];
        if (!frame) return new Map();
        return frame.value !== null ? new Map([[frame.event, frame.value]]) : states[at];
      });
      const names = [...new Set(cells.flatMap((state) => [...state.keys()]))];
      const table = make("table", "", make("thead", "", make("tr", "", make("th", "", "name"),
        ...columns.map(([, , label]) => make("th", "", label)))));
      const body = table.appendChild(make("tbody"));
      for (const name of names) {
        const values = cells.map((state) => state.get(name));
        const row = make("tr", values.some((value) => value !== values[0]) ? "wrong" : "", make("th", "", make("code", "", name)));
        columns.forEach(([, states], index) => {
          const fresh = values[index] !== undefined && states[at - 1]?.get(name) !== values[index];
          row.append(make("td", fresh ? "fresh" : "", make("code", "", values[index] ?? "–")));
        });
        body.append(row);
      }
      part.state.replaceChildren(names.length ? table : make("p", "", "no locals"));
    }
  }

  for (const root of document.querySelectorAll(".traces")) new Viewer(root);
  addEventListener("keydown", (event) => {
    const stepping = ["ArrowLeft", "ArrowRight", "m"].includes(event.key);
    if (stepping && document.activeElement === document.body) active?.key(event);
  });
})();
