// Draws the timeline of a pull request with Chart.js, from the JSON beside its canvas. Kinds are
// told apart by lane and shape; colours only help.
const POINTS = {
  changes_requested: { pointStyle: "rectRot", pointRadius: 8, colour: "bad" },
  approved: { pointStyle: "triangle", pointRadius: 8, colour: "good" },
  commented: { pointStyle: "circle", pointRadius: 6, colour: "ink" },
  dismissed: { pointStyle: "star", pointRadius: 7, colour: "ink" },
  comment: { pointStyle: "rectRounded", pointRadius: 4, colour: "ink" },
  commit: { pointStyle: "circle", pointRadius: 4, colour: "ink" },
  failed: { pointStyle: "crossRot", pointRadius: 6, colour: "bad" },
  passed: { pointStyle: "circle", pointRadius: 3, colour: "good" },
  other: { pointStyle: "triangle", pointRadius: 6, rotation: 180, colour: "ink" },
};
const SPANS = { draft: 12, checking: 2 };
const MOST_LINES = 8;

function readColours(box) {
  const style = getComputedStyle(box);
  return Object.fromEntries(
    ["ink", "quiet", "line", "good", "bad"].map((name) => [
      name,
      style.getPropertyValue(`--${name}`).trim(),
    ]),
  );
}

function paint(dataset, colours) {
  if (dataset.kind in SPANS) {
    dataset.borderColor = colours.quiet;
    return;
  }
  const colour = colours[POINTS[dataset.kind].colour];
  Object.assign(dataset, { borderColor: colour, backgroundColor: colour });
}

// Spans are pairs of times; a point without a place ends one line and begins the next.
function makeLines(lane, data) {
  return data.flatMap(([start, end]) => [{ x: start, y: lane }, { x: end, y: lane }, { x: NaN, y: NaN }]);
}

// Points are a time and the places of who and what in the list of words.
function makePoints(lane, data, words) {
  return data.map(([x, who, what]) => {
    const when = new Date(x).toISOString().slice(0, 16).replace("T", " ");
    return { x, y: lane, text: `${when} ${words[who]} ${words[what]}` };
  });
}

function makeDataset({ kind, label, lane, data }, index, words) {
  if (kind in SPANS) {
    return {
      kind, label, data: makeLines(lane, data), type: "line", order: 100, clip: 12,
      borderWidth: SPANS[kind], pointRadius: 0, pointHitRadius: 0, pointStyle: "line",
    };
  }
  const { colour, ...style } = POINTS[kind];
  // The first kinds are drawn last, on top of the others.
  return {
    kind, label, data: makePoints(lane, data, words), ...style,
    clip: 12, pointHoverRadius: style.pointRadius + 2, borderWidth: 2, order: index,
  };
}

function makeOptions(data, colours) {
  return {
    animation: false,
    maintainAspectRatio: false,
    interaction: { mode: "point", intersect: true },
    scales: {
      x: {
        type: "time", min: data.min, max: data.max,
        adapters: { date: { zone: "utc", locale: "en-GB" } },
        time: { displayFormats: { minute: "HH:mm", hour: "d MMM HH:mm", day: "d MMM" } },
        ticks: { color: colours.ink, maxRotation: 0, autoSkipPadding: 24, major: { enabled: true } },
        grid: { color: colours.line },
      },
      y: {
        min: -0.5, max: data.lanes.length - 0.5, reverse: true,
        afterBuildTicks: (axis) => {
          axis.ticks = data.lanes.map((_, value) => ({ value }));
        },
        ticks: { color: colours.ink, autoSkip: false, callback: (value) => data.lanes[value] },
        grid: { color: colours.line },
      },
    },
    plugins: {
      legend: { position: "bottom", labels: { color: colours.ink, usePointStyle: true } },
      tooltip: {
        filter: (item) => Boolean(item.raw.text),
        callbacks: {
          title: () => "",
          label: (item) => {
            const place = item.chart.tooltip.dataPoints?.indexOf(item) ?? 0;
            return place < MOST_LINES ? item.raw.text : null;
          },
          footer: (items) =>
            items.length > MOST_LINES ? `and ${items.length - MOST_LINES} more` : "",
        },
      },
      zoom: {
        limits: { x: { min: data.first, max: data.last, minRange: 60_000 } },
        zoom: {
          mode: "x",
          drag: { enabled: true },
          wheel: { enabled: true, modifierKey: "ctrl" },
        },
      },
    },
  };
}

function drawTimeline(box) {
  const data = JSON.parse(document.getElementById("timeline-data").textContent);
  const colours = readColours(box);
  Chart.defaults.font.family = "Inter";
  const datasets = data.datasets.map((one, index) => makeDataset(one, index, data.words));
  datasets.forEach((dataset) => paint(dataset, colours));
  const options = makeOptions(data, colours);
  const chart = new Chart(box.querySelector("canvas"), { type: "scatter", data: { datasets }, options });

  const step = () => chart.chartArea.width / 4;
  const actions = {
    in: () => chart.zoom({ x: 1.5 }),
    out: () => chart.zoom({ x: 0.67 }),
    earlier: () => chart.pan({ x: step() }),
    later: () => chart.pan({ x: -step() }),
    reset: () => chart.resetZoom(),
  };
  document.querySelectorAll("[data-zoom]").forEach((button) => {
    button.addEventListener("click", () => actions[button.dataset.zoom]());
  });

  // The reader may switch between light and dark.
  new MutationObserver(() => {
    const now = readColours(box);
    datasets.forEach((dataset) => paint(dataset, now));
    Object.values(chart.options.scales).forEach((scale) => {
      scale.ticks.color = now.ink;
      scale.grid.color = now.line;
    });
    chart.options.plugins.legend.labels.color = now.ink;
    chart.update();
  }).observe(document.documentElement, { attributeFilter: ["class"] });
}

window.addEventListener("load", () => {
  document.querySelectorAll("[data-timeline]").forEach(drawTimeline);
});
