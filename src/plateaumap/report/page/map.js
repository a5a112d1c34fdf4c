// The interactive map of a report: the packed table, the picture, tooltips and curves.
"use strict";
const PlateauPage = (() => {
  const meta = JSON.parse(document.getElementById("meta").textContent);
  const { losses, measures, further, picture } = meta;
  const cells = picture.height * picture.width, panels = meta.panels;
  const blocks = new Map(), state = { loss: 0, measure: 0, places: further.map(() => 0) };
  const LONGEST = 2_000_000;
  let model = null;

  async function unpacked(text) {
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // The bytes were written plane by plane, the lowest bytes first, which compresses better.
  function joined(bytes, width) {
    const size = bytes.length / width, out = new Uint8Array(bytes.length);
    for (let plane = 0; plane < width; plane++) {
      for (let i = 0, j = plane, k = plane * size; i < size; i++, j += width) out[j] = bytes[k + i];
    }
    return out.buffer;
  }

  // Return a column of one loss over all panels and cells.
  function block(column, loss) {
    const id = `block-${column}-${loss}`;
    if (!blocks.has(id)) {
      const kind = meta.columns[column].kind;
      blocks.set(id, unpacked(document.getElementById(id).textContent).then((bytes) => {
        if (kind === "code") return new Uint8Array(bytes.buffer);
        if (kind === "float") return new Float64Array(joined(bytes, 8));
        return new Int32Array(joined(bytes, 4));
      }));
    }
    return blocks.get(id);
  }

  const number = (column, raw) =>
    meta.columns[column].kind === "int" && raw < 0 ? NaN : raw;

  const panel = () => state.places.reduce((sum, place, i) => sum * further[i].titles.length + place, 0);

  async function fill() {
    const measure = measures[state.measure], first = panel() * cells;
    const pair = measure.ratio ?? [state.loss];
    const [values, ...others] = await Promise.all(pair.map((loss) => block(measure.column, loss)));
    const statuses = await Promise.all(pair.map((loss) => block(meta.status, loss)));
    const image = model.image.data.image[0], cover = model.cover.data.image[0];
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < cells; i++) {
      let value = number(measure.column, values[first + i]);
      if (others.length) value /= number(measure.column, others[0][first + i]);
      if (measure.scale !== "linear" && !(value > 0)) value = NaN;
      image[i] = value;
      // A ratio takes the status of the first of its two runs that has no length.
      const status = statuses.map((codes) => codes[first + i]).find((code) => code > 0) ?? 0;
      cover[i] = Number.isNaN(value) ? Math.min(1 + status, meta.looks.length - 1) : 0;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    paint(measure.scale, low, high);
    if (model.dots !== null) {
      model.dots.data = { ...model.dots.data, value: Array.from(image) };
    }
    if (model.cloud !== null) {
      const code = Array.from(cover, (c) => c === 0 ? NaN : c);
      model.cloud.data = { ...model.cloud.data, value: Array.from(image), code };
    }
    legend(new Set(cover));
    document.getElementById("caption").textContent = caption();
  }

  function paint(scale, low, high) {
    if (!(low <= high)) [low, high] = [1, 10];
    if (scale === "ratio") {
      const reach = Math.max(high, 1 / low, 1.0001);
      [low, high] = [1 / reach, reach];
    } else if (low === high) {
      high = scale === "log" ? low * 10 : low + 1;
    }
    for (const [name, { mapper, bar, renderer }] of Object.entries(model.scales)) {
      if (mapper === null) continue;
      if (name === scale) mapper.setv({ low, high });
      bar.visible = renderer.visible = name === scale;
    }
    model.image.change.emit();
    model.cover.change.emit();
  }

  function caption() {
    const measure = measures[state.measure];
    const where = further.map((axis, i) => axis.titles[state.places[i]]);
    const whose = measure.ratio ? "" : `${losses[state.loss]}: `;
    return [`${whose}${measure.label}`, ...where, meta.fixed].filter(Boolean).join("; ");
  }

  function legend(codes) {
    const list = document.getElementById("legend");
    list.replaceChildren();
    meta.looks.forEach(({ label, colour }, i) => {
      if (i === 0 || !codes.has(i)) return;
      const sample = document.createElement("span");
      sample.style.background = colour;
      const item = document.createElement("li");
      item.append(sample, model.dots === null ? label : `not drawn: ${label}`);
      list.append(item);
    });
  }

  function nearest(edges, value) {
    if (!(value >= edges[0] && value <= edges[edges.length - 1])) return -1;
    let cell = 0;
    while (cell < edges.length - 2 && value >= edges[cell + 1]) cell++;
    return cell;
  }

  // Return the dot of a cloud that is closest on the screen, or null if none is close.
  function dotAt({ x, y }, px, py) {
    const { x_range, y_range } = model.plot;
    const [width, height] = [x_range, y_range].map((r) => Math.abs(r.end - r.start));
    let column = -1, least = 0.02 ** 2;
    for (let i = 0; i < x.length; i++) {
      const far = ((x[i] - px) / width) ** 2 + ((y[i] - py) / height) ** 2;
      if (far < least) [column, least] = [i, far];
    }
    return column < 0 ? null : { row: 0, column };
  }

  function cellAt(px, py) {
    if (picture.cloud !== null) return dotAt(picture.cloud, px, py);
    const column = nearest(picture.x_edges, px);
    const row = picture.y_edges === null ? 0 : nearest(picture.y_edges, py);
    return column < 0 || row < 0 ? null : { row, column };
  }

  // Return the coordinates of a cell and its row under every loss.
  async function record({ row, column }) {
    const at = panel() * cells + row * picture.width + column;
    const point = { ...meta.point };
    const take = (names, place) => names.forEach(({ name, values }) => { point[name] = values[place]; });
    take(picture.x_names, column);
    take(picture.y_names, row);
    further.forEach((axis, i) => take(axis.names, state.places[i]));
    const rows = await Promise.all(losses.map(async (loss, l) => {
      const record = { loss };
      for (const [c, { name, kind, words }] of meta.columns.entries()) {
        const raw = (await block(c, l))[at];
        record[name] = kind === "code" ? words[raw] ?? null : number(c, raw);
      }
      return record;
    }));
    return { point, rows };
  }

  const shown = (value) => {
    if (typeof value !== "number") return value ?? "–";
    if (Number.isNaN(value)) return "–";
    return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(6)));
  };

  // Return the lines of a table: a name, followed by one value per loss.
  function lines({ point, rows }) {
    return [
      ["loss", ...rows.map((row) => row.loss)],
      ...Object.entries(point).map(([name, value]) => [name, ...rows.map(() => shown(value))]),
      ...meta.columns.map(({ name }) => [name, ...rows.map((row) => shown(row[name]))]),
    ];
  }

  let latest = 0;
  async function hover(px, py) {
    const cell = cellAt(px, py), turn = ++latest;
    if (cell === null) return Tooltip.hide();
    const cellRecord = await record(cell);
    if (turn === latest) Tooltip.show(lines(cellRecord));
  }

  function leave() {
    latest++;
    Tooltip.hide();
  }

  // Return the number of epochs to draw: past T90 of the slower loss, or the latest known epoch.
  function reach(rows) {
    const known = rows.map((row) => {
      if (row.tenth_epochs > 0) return 1.1 * row.tenth_epochs;
      if (row.plateau_epochs > 0) return 2 * row.plateau_epochs;
      return row.epochs_run > 0 ? row.epochs_run : 20;
    });
    return Math.max(20, ...known.map(Math.ceil));
  }

  async function tap(px, py) {
    const cell = cellAt(px, py);
    if (cell === null) return null;
    const chosen = await record(cell);
    Tooltip.fill(document.getElementById("chosen"), lines(chosen));
    curves(chosen);
    return chosen;
  }

  function curves({ point, rows }) {
    if (model.curves.length === 0) return;
    const without = [];
    const whole = reach(rows), last = Math.min(whole, LONGEST);
    const marks = rows.map((row) => row.plateau_epochs).filter((n) => n > 0);
    rows.forEach((row, l) => {
      const { activation, losses: names } = meta.dynamics;
      const drawn = names[l] === null ? null : Neuron.curve(activation, names[l], point, last, marks);
      if (drawn === null) without.push(losses[l]);
      model.curves[l].data = drawn ?? { epoch: [], loss: [], output: [], w: [], b: [] };
    });
    const cut = whole > last ? ` of ${whole.toLocaleString("en")}` : "";
    const start = Object.entries(point).map(([name, value]) => `${name} = ${shown(value)}`);
    document.getElementById("curves-caption").textContent =
      `${start.join(", ")}: epochs 0 to ${last.toLocaleString("en")}${cut}, computed in this page.`
      + (without.length ? ` No curve of ${without.join(", ")}: this custom loss is not in the page; `
        + "call plateaumap.simulate in the script that defines it." : "");
  }

  function control(label, id, options, choose) {
    const field = document.createElement("label"), select = document.createElement("select");
    select.id = id;
    options.forEach((text, i) => select.add(new Option(text, i)));
    select.addEventListener("change", () => { choose(Number(select.value)); fill(); });
    field.append(label, select);
    document.getElementById("controls").append(field);
  }

  function attach(doc) {
    const named = (name) => doc.get_model_by_name(name);
    model = {
      image: named("image"), cover: named("cover"), dots: named("dots"), cloud: named("cloud"),
      plot: named("map"), scales: {},
      curves: losses.map((_, l) => named(`curve-${l}`)).filter((source) => source !== null),
    };
    for (const scale of ["log", "linear", "ratio"]) {
      model.scales[scale] = {
        mapper: named(`mapper-${scale}`), bar: named(`bar-${scale}`), renderer: named(`map-${scale}`),
      };
    }
  }

  async function start() {
    control("loss", "loss", losses, (i) => { state.loss = i; });
    control("measure", "measure", measures.map((m) => m.label), (i) => { state.measure = i; });
    further.forEach((axis, i) =>
      control(axis.label, `axis-${i}`, axis.titles, (place) => { state.places[i] = place; }));
    const frame = () => new Promise(requestAnimationFrame);
    while (!(Bokeh.documents.length && Bokeh.documents[0].get_model_by_name("cover"))) await frame();
    attach(Bokeh.documents[0]);
    await fill();
    while (!Bokeh.documents[0].is_idle) await frame();
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
    await tap(...meta.first);
    document.documentElement.dataset.curves = String(Math.round(performance.now()));
  }

  window.addEventListener("DOMContentLoaded", start);
  return { tap, hover, leave, cellAt, state, model: () => model };
})();
