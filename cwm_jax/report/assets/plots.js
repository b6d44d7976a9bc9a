// Values under the pointer or, with the plot focused, under a cursor that the arrow keys move.
for (const figure of document.querySelectorAll(".plot")) {
  const stops = JSON.parse(figure.querySelector("script").textContent);
  const tip = figure.querySelector(".tip");
  const SVG = "http://www.w3.org/2000/svg";
  let at = 0;

  const clear = () => {
    tip.hidden = true;
    figure.querySelectorAll(".cursor, .dot").forEach((mark) => mark.remove());
  };

  const show = (svg, index) => {
    clear();
    at = Math.min(Math.max(index, 0), stops.length - 1);
    const [x, label, rows] = stops[at];
    const area = svg.querySelector("g");
    const width = +area.dataset.width, height = +area.dataset.height;
    const draw = (tag, attributes) => {
      const mark = area.appendChild(document.createElementNS(SVG, tag));
      for (const [name, value] of Object.entries(attributes)) mark.setAttribute(name, value);
    };
    draw("path", { class: "cursor", d: `M${x * width} 0V${height}` });
    const title = document.createElement("b");
    title.textContent = label;
    tip.replaceChildren(title);
    for (const [series, name, value, y] of rows) {
      if (y !== null) draw("circle", { class: `dot s${series}`, cx: x * width, cy: y * height, r: 4 });
      const swatch = document.createElement("i");
      swatch.className = `s${series}`;
      tip.append(swatch, `${name} ${value}`, document.createElement("br"));
    }
    tip.hidden = false;
    const frame = figure.getBoundingClientRect(), box = area.getScreenCTM();
    const left = box.e - frame.left + x * width * box.a;
    const beside = left + 14 + tip.offsetWidth < frame.width ? left + 14 : left - 14 - tip.offsetWidth;
    tip.style.transform = `translate(${Math.max(0, beside)}px, ${box.f - frame.top + 6}px)`;
  };

  for (const svg of figure.querySelectorAll("svg")) {
    svg.addEventListener("pointermove", (event) => {
      const area = svg.querySelector("g"), box = area.getScreenCTM();
      const x = (event.clientX - box.e) / box.a / +area.dataset.width;
      let nearest = 0;
      stops.forEach((stop, index) => {
        if (Math.abs(stop[0] - x) < Math.abs(stops[nearest][0] - x)) nearest = index;
      });
      show(svg, nearest);
    });
    svg.addEventListener("pointerleave", clear);
    svg.addEventListener("blur", clear);
    svg.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (move === undefined) return;
      event.preventDefault();
      show(svg, at + move);
    });
  }
}
